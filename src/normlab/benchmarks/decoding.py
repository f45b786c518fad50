"""How long finished models take to translate a test set."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from normlab.benchmarks.profiling import by_operator, profiled
from normlab.benchmarks.timing import interleave
from normlab.errors import UserError
from normlab.reports.benchmarks import CONTROL
from normlab.runs import components
from normlab.runs.loaded import load_run, load_translator
from normlab.tasks.translation.task import Translation
from normlab.tasks.translation.translator import Translator


def benchmark(
    run_dirs: list[str], beams: list[int], sentences: int, blocks: int, device: torch.device
) -> dict[str, Any]:
    """Returns a record for each beam: the runs translate the first `sentences` of a test set.

    The sentences are those that the first run was tested on. With it a profile of the first run,
    with the last beam. Raises UserError when two of `run_dirs` have one name.
    """
    names = [Path(folder).resolve().name for folder in run_dirs]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise UserError(
            f"Two runs are called {twice[0]}, and rows are named by folder: rename one."
        )
    translators = {
        name: load_translator(folder, device=device.type)
        for name, folder in zip(names, run_dirs, strict=True)
    }
    translators[CONTROL] = load_translator(run_dirs[0], device=device.type)
    source = first_test_sources(Path(run_dirs[0]))[:sentences]
    baseline = next(iter(translators))
    records = decoding_times(translators, baseline, source, beams, blocks, device)
    again = partial(translators[baseline], source, beam=beams[-1])
    return {
        "name": "decode",
        "title": "Translation of a test set",
        "records": records,
        "notes": [
            "The runs are models trained apart: how long their translations are counts too.",
            f"At the end: where the time of {baseline} goes with a beam of {beams[-1]}.",
        ],
        "profile": by_operator(profiled(again, device), device),
    }


def decoding_times(
    translators: Mapping[str, Translator],
    baseline: str,
    source: list[str],
    beams: Sequence[int],
    blocks: int,
    device: torch.device,
) -> list[dict[str, Any]]:
    """Returns a record for each beam: the seconds in which each of `translators` does `source`.

    One of them is the A/A control: the baseline, loaded a second time.
    """
    records = []
    for beam in beams:
        variants: dict[str, Any] = {
            name: partial(translator, source, beam=beam) for name, translator in translators.items()
        }
        records.append(
            {
                "title": f"beam {beam}, {len(source)} sentences",
                "baseline": baseline,
                "work": {"count": len(source), "of": "sentences"},
                "times": interleave(variants, blocks, device, warmup=1),
            }
        )
    return records


def first_test_sources(run_dir: Path) -> list[str]:
    """Returns the source sentences of the first test set of the run in `run_dir`."""

    task = components.build_task(load_run(run_dir, device="cpu").config)
    if not isinstance(task, Translation):
        raise UserError(f"{run_dir} holds no translation model.")
    return list(next(iter(task.corpus.test.values())).src)

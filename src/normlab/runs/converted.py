"""A converted run: a directory with a finished run's data and its weights in another form."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from normlab.errors import UserError
from normlab.files import write_json
from normlab.runs import components
from normlab.runs.config import parse_config
from normlab.runs.directory import open_directory
from normlab.runs.identity import owner
from normlab.runs.loaded import LoadedRun, load_run


def convert_run(run_dir: Path, to: str, out: Path, checkpoint: str = "") -> dict[str, Any]:
    """Makes `out` a run directory whose best weights are those of `run_dir`, converted.

    checkpoint: as in `load_run`.
    to: prermsnorm or precrmsnorm (analysis/conversion.py). Returns its summary. Raises UserError
    for a run that cannot be converted, and when there is a run in `out` already.
    """
    from normlab.analysis import conversion
    from normlab.training.checkpoint import Checkpoints

    if to not in conversion.KINDS:
        raise UserError(f"to={to} is unknown: use {' or '.join(conversion.KINDS)}.")
    run = load_run(run_dir, checkpoint, device="cpu")
    data = run.directory.stored_data()
    assert data is not None  # load_run has read it
    plain = _config(run, to)
    config = parse_config(OmegaConf.create(plain))
    target = components.build_model(config, data["model_arguments"]).eval()
    conversion.convert(run.model, target)  # type: ignore[arg-type]
    with open_directory(out) as directory:
        if directory.has_progress():
            raise UserError(f"{out} holds a run already: choose another --out.")
        directory.record(config.plain(), [])
        write_json(directory.data, data)
        shutil.copyfile(run_dir / "tokenizer.json", out / "tokenizer.json")
        owned = owner(config.plain(), data["contents"])
        Checkpoints(directory.checkpoints, owner=owned).save_weights("best", target.state_dict())
        summary = _summary(run, config.names.norm, to, target)
        write_json(directory.summary, summary)
    return summary


@contextmanager
def both_ways(run_dir: Path, checkpoint: str = "") -> Iterator[dict[str, Path]]:
    """Yields run directories with `run_dir` converted, by target; they are removed afterwards."""
    from normlab.analysis import conversion

    with tempfile.TemporaryDirectory() as folder:
        runs = {to: Path(folder) / to for to in conversion.KINDS}
        for to, out in runs.items():
            convert_run(run_dir, to, out, checkpoint)
        yield runs


def _config(run: LoadedRun, to: str) -> dict[str, Any]:
    from normlab.analysis import conversion

    plain = run.config.plain()
    norm, model = conversion.arguments(to, conversion.check(run.model))  # type: ignore[arg-type]
    plain["norm"], plain["model"] = norm, plain["model"] | model
    plain["names"]["norm"] = conversion.KINDS[to][1]  # type: ignore[index]
    plain["names"]["run"] = f"{plain['names']['run']}_{to}"
    return plain


def _summary(run: LoadedRun, norm: str, to: str, model: Any) -> dict[str, Any]:
    """Returns what the new directory says of itself: nothing was trained or tested in it."""
    there = run.directory.stored_summary() or {}
    kept = ("task", "init_mean", "model", "data", "seed", "precision", "item", "contents")
    return {
        "status": "converted",
        "converted_to": to,
        "converted_from": str(run.directory.path),
        "checkpoint": run.checkpoint,
        "norm": norm,
        **{key: there[key] for key in kept if key in there},
        "parameters": sum(p.numel() for p in model.parameters()),
        "parameters_before": sum(p.numel() for p in run.model.parameters()),
    }

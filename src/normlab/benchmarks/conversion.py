"""What converting a pre-norm LayerNorm network to RMSNorm or CRMSNorm saves: steps and decoding.

Jiang et al. 2023 (arXiv 2305.14858) report 1 to 10 % on GPUs. Each network stands beside its own
kind of implementation, so that a difference is the norm's and not the kernel's.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from normlab.benchmarks.decoding import decoding_times, first_test_sources
from normlab.benchmarks.steps import Variant, step_times, workload
from normlab.errors import UserError
from normlab.norms import Norm
from normlab.reports.benchmarks import CONTROL
from normlab.runs.converted import both_ways
from normlab.runs.loaded import load_translator

BASELINE = "layernorm native"
IMPLEMENTATIONS = ("composed", "native", "fused")
NOTES = [
    "`prermsnorm` and `precrmsnorm` are the converted networks: no gain, no bias, a main branch",
    "of mean zero, of d and d - 1 entries. In training `prermsnorm` subtracts the mean of what",
    "enters the branch, as dropout breaks it; in decoding it need not. `precrmsnorm` never does:",
    "its missing entry is minus the sum of the others. `recentred` is RMSNorm with a bias that",
    "trains exactly as LayerNorm does. `none` has no norm and says what all cost. In training the",
    "softmax matrix is a parameter of its own in every row.",
]


def variants() -> dict[str, Variant]:
    """Returns the networks to train, by name and implementation; not every norm has each."""
    untied = "model.tie_softmax=false"
    networks = {
        "layernorm": ["norm=layernorm"],
        "prermsnorm": ["norm=rmsnorm", "norm.gain=false", "model.main_branch=zero_mean"],
        "precrmsnorm": ["norm=crmsnorm", "norm.gain=false", "model.main_branch=compressed"],
        "recentred": ["norm=rmsnorm", "norm.bias=true", "model.main_branch=recentred"],
    }
    return {
        "none": Variant(["norm=none", untied]),
        **{
            f"{name} {impl}": Variant([*overrides, untied, f"norm.impl={impl}"])
            for name, overrides in networks.items()
            for impl in IMPLEMENTATIONS
        },
    }


def benchmark(
    conf: Path,
    overrides: Sequence[str],
    run_dir: Path,
    beams: Sequence[int],
    blocks: int,
    device: torch.device,
) -> dict[str, Any]:
    """Returns the records of training steps under `overrides` and of translating with `run_dir`.

    `run_dir` holds a pre-norm LayerNorm run; its first test set is translated.
    """
    work = workload(conf, overrides, variants(), 8, device)
    records = [step_times(work, f"training steps, {work.precision}", blocks, device)]
    source = first_test_sources(run_dir)
    with both_ways(run_dir) as runs:
        translators = {
            f"{name} {impl}": found
            for name, path in {"layernorm": run_dir, **runs}.items()
            for impl in IMPLEMENTATIONS
            if (found := _translator(path, impl, device)) is not None
        }
        translators[CONTROL] = _translator(run_dir, BASELINE.partition(" ")[2], device)
    fewer = max(5, blocks // 5)
    records += decoding_times(translators, BASELINE, source, beams, fewer, device)
    return {
        "name": "conversion",
        "title": "LayerNorm and the RMSNorm networks that it is converted to",
        "records": records,
        "notes": NOTES,
    }


def _translator(run_dir: Path, impl: str, device: torch.device) -> Any:
    """Returns what translates with norms of implementation `impl`; None where there is none."""
    translate = load_translator(run_dir, device=device.type)
    for module in translate.model.modules():
        if isinstance(module, Norm):
            if impl not in module.implementations:
                return None
            module.impl = impl  # type: ignore[assignment]
            try:
                module.implementation(device)
            except UserError:  # no fused kernels here
                return None
    return translate

"""How the norm's share of a training step changes with the width of the model.

A norm costs O(d_model) a position, the matrices around it O(d_model^2): what a cheaper norm saves
should fade as models grow.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from normlab.benchmarks.steps import step_times, variants, workload

WIDTHS = (128, 256, 512, 1024)
VARIANTS = (
    "none",
    "layernorm composed",
    "layernorm native",
    "layernorm fused",
    "rmsnorm composed",
    "rmsnorm native",
    "rmsnorm fused",
)
BATCHES = 2
HEAD = 32  # the width of an attention head, at every width of the model


def benchmark(
    conf: Path, overrides: Sequence[str], widths: Sequence[int], blocks: int, device: torch.device
) -> dict[str, Any]:
    """Returns a record of Transformer steps for each of `widths`, d_ff being four times as wide.

    `blocks` are those of the widest; a narrower model has as many more as it is narrower, since its
    steps are short.
    """
    every = variants(compiled=False, recurrent=False)
    chosen = {name: every[name] for name in VARIANTS}
    records, precision = [], ""
    for width in widths:
        heads = width // HEAD
        sizes = [f"model.d_model={width}", f"model.d_ff={4 * width}", f"model.heads={heads}"]
        work = workload(conf, [*sizes, *overrides], chosen, BATCHES, device)
        precision = work.precision
        record = step_times(work, f"d_model {width}", blocks * max(widths) // width, device)
        records.append({**record, "d_model": width})
    given = ", ".join(overrides) or "nothing else"
    return {
        "name": f"widths_{precision}",
        "title": f"Training steps by width, {precision}",
        "records": records,
        "notes": [
            "A step is the trainer's: forward, backward, clipping, optimiser. Heads are 32 wide,",
            f"d_ff is four times d_model; of the default config differs: {given}. The optimiser's",
            "share, which no norm changes, is larger the fewer tokens a batch has.",
        ],
    }

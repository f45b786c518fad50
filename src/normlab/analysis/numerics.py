"""How many digits a norm loses as its inputs' mean grows against their spread.

Inputs are offset + N(0, 1), rounded to a dtype; a norm in that dtype is compared with itself in
float64 on the same rounded inputs, so that what is measured is its arithmetic. LayerNorm subtracts
two large numbers, RMSNorm none; but what RMSNorm gives then is nearly constant, with the spread in
its last digits. So two errors are given: of the output, relative to it; and of what differs from
entry to entry. An error that a whole row shares, as of a rounded mean, counts in the first only.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from normlab import markdown
from normlab.norms.base import Norm

ROWS, WIDTH = 64, 512
OFFSETS = [0.0, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Errors(NamedTuple):
    """Root mean square errors; None where an input or a result is not finite."""

    output: float | None  # relative to the output
    spread: float | None  # of the deviations of a row's entries from their mean, relative to these


def inputs(offset: float, dtype: torch.dtype) -> Tensor:
    """Returns offset + N(0, 1), (1, ROWS, WIDTH), rounded to `dtype`."""
    random = torch.Generator().manual_seed(0)
    return (offset + torch.randn(1, ROWS, WIDTH, generator=random, dtype=torch.float64)).to(dtype)


@torch.no_grad()
def errors(
    compute: Callable[[Tensor], Tensor], exact: Callable[[Tensor], Tensor], x: Tensor
) -> Errors:
    """Returns the errors of compute(x) against exact(x in float64).

    Inputs that rounding has made all equal give outputs without a spread.
    """
    got, expected = compute(x).double(), exact(x.double())
    if not (x.isfinite().all() and got.isfinite().all()):
        return Errors(None, None)
    wrong = got - expected
    spread = _deviations(expected).norm()
    return Errors(
        (wrong.norm() / expected.norm()).item() if expected.norm() else None,
        (_deviations(wrong).norm() / spread).item() if spread > 1e-12 * expected.norm() else None,
    )


def _deviations(y: Tensor) -> Tensor:
    return y - y.mean(-1, keepdim=True)


def one_pass_layer_norm(x: Tensor, eps: float = 1e-6) -> Tensor:
    """LayerNorm with the variance as mean(a^2) - mean(a)^2, in fp32: one reading of the inputs."""
    a = x if x.dtype == torch.float64 else x.float()
    mean = a.mean(-1, keepdim=True)
    variance = (a.square().mean(-1, keepdim=True) - mean.square()).clamp(min=0)
    return ((a - mean) * torch.rsqrt(variance + eps)).to(x.dtype)


def measure(
    variants: Mapping[str, tuple[Norm, Norm]], offsets: Iterable[float] = OFFSETS
) -> list[dict[str, Any]]:
    """Returns a record for each variant, dtype and offset; a variant is a norm, and one in float64.

    Norms are in training mode. "layernorm one-pass" is measured beside them.
    """
    functions: dict[str, tuple[Callable, Callable]] = dict(variants)
    functions["layernorm one-pass"] = (one_pass_layer_norm, functions["layernorm composed"][1])
    records = []
    for name, (compute, exact) in functions.items():
        for dtype_name, dtype in DTYPES.items():
            for offset in offsets:
                found = errors(compute, exact, inputs(offset, dtype))
                records.append(
                    {"norm": name, "dtype": dtype_name, "offset": offset, **found._asdict()}
                )
    return records


def table(records: Iterable[Mapping[str, Any]], dtype: str) -> str:
    """Returns the records of one dtype as Markdown: "error / error against the spread"."""
    rows: dict[str, dict[float, str]] = {}
    for record in records:
        if record["dtype"] == dtype:
            cell = f"{_digits(record['output'])} / {_digits(record['spread'])}"
            rows.setdefault(record["norm"], {})[record["offset"]] = cell
    offsets = list(next(iter(rows.values())))
    head = ["norm", *(f"{offset:g}" for offset in offsets)]
    return "\n".join(
        markdown.table(head, [[name, *cells.values()] for name, cells in rows.items()])
    )


def _digits(value: float | None) -> str:
    return "-" if value is None else f"{value:.0e}"


# Of the page that scripts/analyze.py writes.
HEAD = """\
# Digits: norms whose inputs' mean is large against their spread

Written by `python scripts/analyze.py numerics` (torch {torch}, CPU). Inputs offset + N(0, 1),
rounded to the dtype; each column is an offset. A cell is the root mean square error against float64
on the same inputs: of the output, relative to it / of its entries' deviations from their row's
mean, relative to these. "-": overflow, or nothing left to compare with.

What the tables say. Of what differs from entry to entry, which is all of a row but one number, our
LayerNorm and the composed one keep seven digits in fp32 up to an offset of 1,000, torch's own loses
one for every factor of ten from 100 on, and RMSNorm one for every factor of ten: it keeps the
offset, beside which the rest is small. Where outputs are bf16 or fp16 that costs more: at an offset
of 100 RMSNorm's error is 0.2 or 0.02 of what differs, LayerNorm's 0.002 or 0.0002 as without an
offset. Of its output as a whole RMSNorm keeps seven digits at these offsets and LayerNorm loses one
for every factor of ten, by a number that a whole row shares, for the mean that it subtracts is
rounded. So where means are large re-centring keeps more of what differs within a row, not less. A
variance computed in one pass, mean(a^2) - mean(a)^2, loses two digits for every factor of ten and
is wrong from about 10^4 on; of bf16 and fp16 inputs it has lost one digit and two at 10^3 where two
passes have lost none, for statistics are fp32 there too. torch's fp16 LayerNorm is wrong at 10^4,
by a number that a row shares, where ours is not.

"""
REAL = """
## Does a real network come near?

Not near 10^4: the largest |mean| / spread of what enters any norm of the tiny Transformer before
training, by the centre of its weights (a mean over positions for each norm). With LayerNorm it is
34, which costs its output one to two digits of seven in fp32 and nothing of what differs, in a
one-pass variance three of both; with RMSNorm it is 114, which costs two digits of what differs in
fp32, and in bf16 leaves an error of a fifth of it. `python scripts/analyze.py hidden RUN_DIR`
gives it for a trained run.

"""

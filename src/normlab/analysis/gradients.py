"""Equations 8-10, verified: what re-scaling weights or inputs does to a norm's gradients.

A layer v = Norm(W x) with gain g and bias b, y = tanh(v), L = <c, y> for fixed random c, in float64
with eps = 0. Closed forms are those of Zhang & Sennrich 2019, section 4.2, summed over cases:

    dL/db = dL/dv                                                                      (8)
    dL/dg = dL/dv * W x / RMS(W x)                                                     (8)
    dL/dW = R (g * dL/dv) x^T,  R = (I - (W x)(W x)^T / (n RMS(W x)^2)) / RMS(W x)     (9, 10)

R becomes R / delta when W or x is multiplied by delta > 0; x^T takes the factor back, W does not.
So dL/dW does not change with the scale of the data, and falls as 1 / delta with that of the
weights: the larger a matrix has grown, the smaller its steps are. Nor does a gradient have a
component along W, for whatever is invariant to a factor: each step of plain gradient descent makes
W longer.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from normlab import markdown
from normlab.analysis import invariance
from normlab.norms import functional
from normlab.norms.base import Norm, NormFactory

CASES, INPUTS, UNITS = 24, 10, 128
EXACT = 1e-9


class Layer(NamedTuple):
    """What a layer is made of and trained for, in float64."""

    weight: Tensor  # (UNITS, INPUTS)
    data: Tensor  # (1, CASES, INPUTS)
    gain: Tensor  # (UNITS,)
    bias: Tensor  # (UNITS,)
    loss: Tensor  # (1, CASES, UNITS): the c of L = <c, y>


class Gradients(NamedTuple):
    """Gradients of L; None for parameters that a norm has not."""

    weight: Tensor
    gain: Tensor | None
    bias: Tensor | None


def layer(seed: int = 0) -> Layer:
    """Returns a random layer."""
    random = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    weight = draw(UNITS, INPUTS) / math.sqrt(INPUTS)
    data, gain = draw(1, CASES, INPUTS) + 0.5, 1 + 0.3 * draw(UNITS)
    return Layer(weight, data, gain, 0.3 * draw(UNITS), draw(1, CASES, UNITS))


def gradients(factory: NormFactory, of: Layer, initial: Tensor | None = None) -> Gradients:
    """Returns what automatic differentiation gives; `initial`: see `invariance.layer`."""
    made, learned = invariance.layer(factory, of.weight if initial is None else initial, of.weight)
    norm = made[1]
    assert isinstance(norm, Norm)
    with torch.no_grad():
        for parameter, value in ((norm.weight, of.gain), (norm.bias, of.bias)):
            if parameter is not None and parameter.shape == value.shape:
                parameter.copy_(value)
    (torch.tanh(made(of.data)) * of.loss).sum().backward()
    gain, bias = (None if p is None else p.grad for p in (norm.weight, norm.bias))
    assert learned.grad is not None
    return Gradients(learned.grad, gain, bias)


def closed_forms(of: Layer) -> Gradients:
    """Returns RMSNorm's gradients as Eq. 8-10 write them, case by case."""
    d_weight, d_gain = torch.zeros_like(of.weight), torch.zeros_like(of.gain)
    d_bias = torch.zeros_like(of.bias)
    for x, c in zip(of.data[0], of.loss[0], strict=True):
        a = of.weight @ x  # (UNITS,)
        rms = a.square().mean().sqrt()
        v = functional.rms_norm(a, of.gain, of.bias, eps=0.0)
        d_v = c * (1 - torch.tanh(v).square())
        r = (torch.eye(UNITS, dtype=a.dtype) - a.outer(a) / (UNITS * rms**2)) / rms
        d_bias += d_v
        d_gain += d_v * a / rms
        d_weight += (r @ (of.gain * d_v)).outer(x)
    return Gradients(d_weight, d_gain, d_bias)


def residuals(factory: NormFactory, delta: float = 3.0, seed: int = 0) -> dict[str, float | None]:
    """Returns how far a norm is from what Eq. 8-10 imply, relative to each gradient's length.

    `gain, W`: of gain and bias when W is multiplied by `delta`; `gain, x`: when the data are;
    `dW, x`: of dL/dW when the data are; `dW, W`: of dL/dW from dL/dW / delta when W is. `along W`:
    the cosine of dL/dW and W. None where a norm has no gain or bias.
    """
    plain = layer(seed)
    before = gradients(factory, plain)
    by_weight = gradients(
        factory, plain._replace(weight=delta * plain.weight), initial=plain.weight
    )
    by_data = gradients(factory, plain._replace(data=delta * plain.data))
    along = (before.weight * plain.weight).sum() / before.weight.norm() / plain.weight.norm()
    return {
        "gain, W": _of_parameters(before, by_weight),
        "gain, x": _of_parameters(before, by_data),
        "dW, x": _relative(by_data.weight, before.weight),
        "dW, W": _relative(delta * by_weight.weight, before.weight),
        "along W": abs(along.item()),
    }


def against_closed_forms(factory: NormFactory, seed: int = 0) -> dict[str, float]:
    """Returns the distance of automatic differentiation of RMSNorm from Eq. 8-10, relative."""
    of = layer(seed)
    pairs = zip(Gradients._fields, gradients(factory, of), closed_forms(of), strict=True)
    return {name: _relative(a, b) for name, a, b in pairs if a is not None and b is not None}


def _of_parameters(before: Gradients, after: Gradients) -> float | None:
    pairs = [(a, b) for a, b in zip(before[1:], after[1:], strict=True) if a is not None]
    return max((_relative(b, a) for a, b in pairs if b is not None), default=None)


def _relative(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


def page(
    measured: Mapping[str, Mapping[str, float | None]], closed: Mapping[str, float], delta: float
) -> str:
    """Returns the residuals of every norm as a Markdown page."""
    lines = [HEAD.format(delta=delta)]
    lines += [f"- dL/d{name}: {_shown(value)}" for name, value in closed.items()]
    columns = list(next(iter(measured.values())))
    rows = [[name, *(_shown(of[c]) for c in columns)] for name, of in measured.items()]
    lines += ["", TABLE, *markdown.table(["norm", *columns], rows)]
    return "\n".join(lines) + "\n"


def _shown(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1g}" if value >= EXACT else f"< {EXACT:.0e}"


HEAD = """\
# Equations 8-10: gradients under re-scaling

Written by `python scripts/analyze.py gradients`: one layer tanh(Norm(W x)), 128 units, 24 cases,
float64, eps = 0, factor {delta:g}. RMSNorm's closed forms against automatic differentiation, as
distance over length:
"""
TABLE = """\
What they imply, for every norm: the gradients of gain and bias change neither with the scale of W
(`gain, W`) nor with that of the data (`gain, x`); dL/dW does not change with the data's (`dW, x`)
and falls as 1 / factor with that of W (`dW, W`); it has no component along W (`along W`, a cosine).
A number is the distance from that, relative; "-": neither gain nor bias. What is invariant to the
scale of the weight matrix in Table 1 has the last two, what is invariant to that of the data
`dW, x`. Under WeightNorm W is the learned matrix of directions.
"""

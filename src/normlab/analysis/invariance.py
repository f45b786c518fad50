"""Table 1, measured: which changes of weights or data leave a norm's output as it was.

A layer y = Norm(W x) reads a data set: sentences of positions. Each change is made to W or to the
data, and the residual is |y' - y| / |y| over all outputs, in float64 with eps = 0, where an
invariant output moves by rounding only. Factors are positive: a negative one turns every sign. The
changes are those of Ba et al. 2016 (arXiv 1607.06450, Table 1), to which Zhang & Sennrich 2019 add
RMSNorm and pRMSNorm.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from normlab import markdown
from normlab.norms.base import NormFactory, reparameterise

SENTENCES, POSITIONS, INPUTS, UNITS = 4, 6, 10, 128
EXACT = 1e-9  # a residual below is rounding; what is not invariant moves by 1e-2 and more
PAPER = {  # change -> column of the paper's table (experiments/table1/paper.csv)
    "weight matrix re-scaled": "weight_matrix_rescaling",
    "weight matrix re-centred": "weight_matrix_recentering",
    "weight vector re-scaled": "weight_vector_rescaling",
    "data set re-scaled": "dataset_rescaling",
    "data set re-centred": "dataset_recentering",
    "single case re-scaled": "single_case_rescaling",
}
CHANGES = (*PAPER, "single position re-scaled")  # a case is a sentence: the paper has no positions
Residuals = dict[str, float]  # by change
Marks = Mapping[str, Mapping[str, str]]  # method -> column -> "1", invariant, or "0"


def residuals(norm: NormFactory, delta: float = 3.0, seed: int = 0) -> Residuals:
    """Returns how much each of CHANGES moves the layer's output, relative to the output.

    `delta` is the factor of a re-scaling and the length of a re-centring; inputs are N(0.5, 1),
    weights N(0, 1 / INPUTS). The layer is in training mode: BatchNorm reads its batch.
    """
    random = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    weight = draw(UNITS, INPUTS) / math.sqrt(INPUTS)
    data = draw(SENTENCES, POSITIONS, INPUTS) + 0.5
    to_weight, to_data = (delta * c / c.norm() for c in draw(2, INPUTS))
    one_unit, one_case, one_position = weight.clone(), data.clone(), data.clone()
    one_unit[0] *= delta
    one_case[1] *= delta
    one_position[1, 2] *= delta
    changed = {
        "weight matrix re-scaled": (delta * weight, data),
        "weight matrix re-centred": (weight + to_weight, data),  # W + 1 c^T: c to every unit's row
        "weight vector re-scaled": (one_unit, data),
        "data set re-scaled": (weight, delta * data),
        "data set re-centred": (weight, data + to_data),
        "single case re-scaled": (weight, one_case),
        "single position re-scaled": (weight, one_position),
    }
    plain = output(norm, weight, weight, data)
    moved = {name: output(norm, weight, *changed[name]) - plain for name in CHANGES}
    return {name: (moved[name].norm() / plain.norm()).item() for name in CHANGES}


@torch.no_grad()
def output(norm: NormFactory, initial: Tensor, weight: Tensor, data: Tensor) -> Tensor:
    """Returns Norm(W x) (SENTENCES, POSITIONS, UNITS); for the weights see `layer`."""
    made, _ = layer(norm, initial, weight)
    return made(data)


def layer(norm: NormFactory, initial: Tensor, weight: Tensor) -> tuple[nn.Sequential, nn.Parameter]:
    """Returns x -> Norm(W x) in float64 that began with W = `initial`, and its learned matrix.

    That matrix becomes `weight`, both are (units, inputs). It is W itself, except under WeightNorm,
    where W is made of learned lengths, those of `initial`, and of the learned matrix's directions.
    """
    units, inputs = weight.shape
    linear = nn.Linear(inputs, units, bias=False, dtype=torch.float64)
    made = nn.Sequential(linear, norm(units).double())
    with torch.no_grad():
        linear.weight.copy_(initial)
        reparameterise(made)
        (learned,) = (p for p in linear.parameters() if p.shape == weight.shape)
        learned.copy_(weight)
    return made, learned


def disagreements(measured: Mapping[str, Residuals], marks: Marks) -> list[tuple[str, str]]:
    """Returns (method, change) wherever a residual and the paper's mark say different things."""
    return [
        (name, change)
        for name in marks
        for change, column in PAPER.items()
        if (measured[name][change] < EXACT) != (marks[name][column] == "1")
    ]


def claim(measured: Mapping[str, Residuals]) -> tuple[bool, str]:
    """Returns whether RMSNorm's properties are those of Eq. 5-7, and the numbers that say so."""
    of = measured["rmsnorm"]
    kept = ("weight matrix re-scaled", "data set re-scaled", "single case re-scaled")
    lost = ("weight matrix re-centred", "data set re-centred", "weight vector re-scaled")
    still, least = max(of[name] for name in kept), min(of[name] for name in lost)
    evidence = (
        f"with all weights, the data or one case re-scaled it moves by less than {EXACT:.0e}, "
        f"with weights or data re-centred or one unit's weights re-scaled by {least:.2f} or more, "
        "relative"
    )
    return still < EXACT and least > 1e-2, evidence


def page(measured: Mapping[str, Residuals], with_eps: Mapping[str, float], marks: Marks) -> str:
    """Returns the table as a Markdown page; `with_eps` as `eps_matters` gives it."""
    rows = []
    for name, of in measured.items():
        cells = []
        for change in CHANGES:
            moved = f"no, {of[change]:.1g}" if of[change] >= EXACT else f"**yes**, < {EXACT:.0e}"
            mark = marks.get(name, {}).get(PAPER.get(change, ""), "")
            paper = {"": "", "1": " (paper: yes)", "0": " (paper: no)"}[mark]
            cells.append(f"{moved}{paper}")
        rows.append([name, *cells])
    lines = [HEAD, *markdown.table(["norm", *CHANGES], rows)]
    differ = disagreements(measured, marks)
    total = len(marks) * len(PAPER)
    lines += ["", f"Of the paper's {total} marks {total - len(differ)} agree."]
    lines += [f"- not so: {name}, {change}" for name, change in differ]
    small = [(name, f"{max(value, EXACT):.1g}") for name, value in with_eps.items()]
    lines += ["", EPS, *markdown.table(["norm", "weights 1/1000 of their size"], small)]
    return "\n".join(lines) + "\n"


def eps_matters(norms: Mapping[str, NormFactory]) -> dict[str, float]:
    """Returns the residual of a weight matrix re-scaled by 1/1000 for norms that have an eps."""
    return {
        name: residuals(norm, 1e-3)["weight matrix re-scaled"]
        for name, norm in norms.items()
        if norm(UNITS).eps
    }


HEAD = """\
# Table 1: which changes leave a norm's output as it was

Written by `python scripts/analyze.py invariance`. A layer y = Norm(W x) in float64, eps = 0; in
each cell whether the output stays, and the residual |y' - y| / |y|. Re-scaled: times 3.
Re-centred: a vector of length 3 added to every unit's weights, or to every input. A case is a
sentence of six positions, all of them real. Norms that the paper does not have carry no mark of
it, nor does the last column: the paper's cases have no positions.
"""
EPS = f"""\
Why no eps: its root is a size below which summed inputs count as zero. With the eps of
`conf/norm` the weight matrix in this layer made 1000 times smaller, summed inputs of about 0.001,
leaves residuals (of {EXACT:.0e} at least, what is below is rounding):
"""

"""What an encoder's output, before any training, still says of its tokens.

Random sentences of equal length go through a freshly initialised encoder. Its output h (sentences,
positions, width) is split into what is the same for all sentences, and the rest, which comes from
the tokens: h - mean of h over sentences, position by position. What survives of a token is the
length of the rest relative to all of h.
"""

import itertools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from normlab import markdown
from normlab.models.rnnsearch import RNNSearch
from normlab.models.seq2seq import Seq2Seq

SENTENCES, POSITIONS = 64, 12


class Shares(NamedTuple):
    """Root mean squares relative to that of the whole output, so 1 is everything."""

    token: float  # what differs from sentence to sentence at the same position
    apart: float  # of that, what lies outside (1, ..., 1): more than one number a token
    uniform: float  # what lies along (1, ..., 1), the direction that LayerNorm removes


@torch.no_grad()
def shares(model: Seq2Seq, vocab: int, seed: int = 0) -> Shares:
    """Returns the shares of the output of `model`'s encoder, in fp64; its memory has `features`.

    In fp32 shares below 1e-7 would be rounding. The model runs in training mode, so that BatchNorm
    reads its batch: build it without dropout.
    """
    memory = model.double().train().encode(*random_sentences(vocab, seed))
    return of_features(memory.features)


@torch.no_grad()
def annotation_shares(model: RNNSearch, vocab: int, seed: int = 0) -> Shares:
    """Returns the shares of RNNSearch's annotations, in fp64."""
    memory = model.double().eval().encode(*random_sentences(vocab, seed))
    return of_features(memory.annotations)


def random_sentences(vocab: int, seed: int) -> tuple[Tensor, Tensor]:
    """Returns ids (SENTENCES, POSITIONS) of sentences of equal length, and their lengths."""
    random = torch.Generator().manual_seed(seed)
    src = torch.randint(4, vocab, (SENTENCES, POSITIONS), generator=random)
    return src, torch.full((SENTENCES,), POSITIONS)


def recentre_embeddings(model: Any) -> None:
    """Subtracts from now on the mean of each vector that enters a Transformer's encoder."""

    def without_mean(_: nn.Module, inputs: tuple) -> tuple:
        x, *others = inputs
        return (x - x.mean(-1, keepdim=True), *others)

    model.encoder[0].register_forward_pre_hook(without_mean)


def of_features(h: Tensor) -> Shares:
    """Returns the shares of h (sentences, positions, width)."""
    whole, token = h.square().mean().sqrt(), h - h.mean(0)
    parts = (token, token - token.mean(-1, keepdim=True), h.mean(-1))
    return Shares(*((part.square().mean().sqrt() / whole).item() for part in parts))


def measure(
    build: Callable[..., tuple[Seq2Seq, int]],
    norms: Sequence[str],
    placements: Sequence[str],
    means: Sequence[float],
    seeds: Sequence[int],
) -> list[dict[str, Any]]:
    """Returns a record for each norm, placement and mean: shares as means over `seeds`.

    `build(norm, placement, mean, seed)` gives an initialised model and its vocabulary's size.
    """
    records: list[dict[str, Any]] = []
    for norm, placement, mean in itertools.product(norms, placements, means):
        found = [shares(*build(norm, placement, mean, seed), seed) for seed in seeds]
        values = torch.tensor(found, dtype=torch.float64).mean(0).tolist()
        names = {"norm": norm, "placement": placement, "mean": mean}
        records.append(names | dict(zip(Shares._fields, values, strict=True)))
    return records


def table(records: Sequence[Mapping[str, Any]], columns: Sequence[str] = Shares._fields) -> str:
    """Returns the records as Markdown, one row a norm and placement."""
    means = list(dict.fromkeys(record["mean"] for record in records))
    shown = [(share, mean) for share in columns for mean in means]
    head = ["norm", "placement", *(f"{share}, mean {mean:g}" for share, mean in shown)]
    rows = []
    for norm, placement in dict.fromkeys((r["norm"], r["placement"]) for r in records):
        of = {r["mean"]: r for r in records if (r["norm"], r["placement"]) == (norm, placement)}
        rows.append([norm, placement, *(f"{of[mean][share]:.4f}" for share, mean in shown)])
    return "\n".join(markdown.table(head, rows))


class Trained(NamedTuple):
    """A training run from one of the starts that were measured."""

    norm: str
    placement: str
    mean: float
    nll: float  # dev NLL at its end; infinite for a run that diverged


def prediction(records: Sequence[Mapping[str, Any]], runs: Sequence[Trained]) -> str:
    """Returns a table of starts and the runs from them, and their rank correlations."""
    # Rounded: what is equal in theory must tie, and not be ranked by its last digits.
    shares = {(r["norm"], r["placement"], r["mean"]): float(f"{r['apart']:.6g}") for r in records}
    nlls: dict[tuple[str, str, float], list[float]] = {}
    for run in runs:
        if run.norm != "none" or run.placement == "post":  # without a norm it is one network
            nlls.setdefault(run[:3], []).append(run.nll)
    rows = sorted((shares[key], sum(of) / len(of), *key) for key, of in nlls.items())[::-1]
    cells = []
    for share, nll, norm, placement, mean in rows:
        end = f"{nll:.2f}" if math.isfinite(nll) else "diverged"
        cells.append([f"{share:.5f}", end, norm, placement, f"{mean:g}"])
    lines = markdown.table(["apart", "dev NLL", "norm", "placement", "mean"], cells)
    for title, kept in (
        ("all starts", rows),
        ("those whose runs ended", [row for row in rows if math.isfinite(row[1])]),
    ):
        rho = spearmanr([row[0] for row in kept], [-row[1] for row in kept]).statistic
        lines += ["", f"Rank correlation of share and -NLL, {title}: {rho:.2f}, n={len(kept)}."]
    return "\n".join(lines)


class Annotated(NamedTuple):
    """What the annotations of one run say, before and after it."""

    shifted: str  # init.apply_to
    norm: str
    untrained: Shares
    trained: Shares | None  # None without its checkpoints
    nll: float  # dev NLL at the end


def annotation_table(runs: Sequence[Annotated]) -> str:
    """Returns a Markdown row for each shift and norm: medians over runs, dev NLLs as means."""
    head = ["init.apply_to", "norm", "token, untrained", "apart, untrained", "runs"]
    head += ["token, trained", "apart, trained", "runs", "dev NLL"]
    rows = []
    arms = {(run.shifted, run.norm) for run in runs}
    for shifted, norm in sorted(arms, key=lambda arm: (arm[0] != "nothing", arm)):
        of = [run for run in runs if (run.shifted, run.norm) == (shifted, norm)]
        cells = [shifted, norm]
        for found in ([r.untrained for r in of], [r.trained for r in of if r.trained]):
            for share in ("token", "apart"):
                middle = [getattr(each, share) for each in found]
                cells.append(f"{statistics.median(middle):.2g}" if middle else "-")
            cells.append(f"{len(found)}")
        rows.append([*cells, f"{statistics.mean(run.nll for run in of):.2f}"])
    return "\n".join(markdown.table(head, rows))


# Of the pages that scripts/analyze.py writes.
ANNOTATIONS = """\
# What RNNSearch's annotations say of their tokens

Written by `python scripts/analyze.py annotations RUN_DIR ...` from the runs of [Figure
4](unconfounded/table.md): as each began, and at its last step where its checkpoints were still
there. 64 random sentences of 12 subwords, in fp64. `token`: the root mean square of what differs
between sentences at one position, over that of all annotations; `apart`: of that, what lies outside
the uniform vector (1, ..., 1). Medians over runs; dev NLL: the mean.

"""
HEAD = """\
# What is left of a token at initialisation

Written by `python scripts/analyze.py signal`; [why](README.md). The tiny Transformer's encoder,
untrained, on 64 random sentences of 12 subwords; means over three seeds. `token`: the root mean
square of what differs between sentences at one position, over that of the whole output; `apart`:
of that, what lies outside the uniform vector (1, ..., 1). `table.json` has the part along it too.

![apart, by norm, placement and mean](figure.png)

`apart`, of five of these; the table has the others.

"""
PREDICTION = """
## Does it predict which runs learn?

The earlier, exploratory runs of the [centre sweep](../centre/multi30k/table.md), two seeds of 500
steps each on Multi30k, beside `apart` of their start, the largest first:

"""

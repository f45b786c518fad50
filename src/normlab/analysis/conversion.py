"""From a pre-norm LayerNorm Transformer to an RMSNorm or CRMSNorm network that computes the same.

Jiang, Gu, Zhu & Pan 2023, arXiv 2305.14858. Such a network reads its main branch through LayerNorms
only, which subtract the mean, so the mean may as well never enter: embeddings, positions and what
each sublayer adds are re-centred, in the weights. On vectors of mean zero LayerNorm is RMSNorm
(prermsnorm), and a vector's last entry is minus the sum of the others, so it need not be kept
(precrmsnorm). Gains and biases go into the linear maps that read the norms.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from normlab import markdown
from normlab.errors import UserError
from normlab.models.transformer import DecoderLayer, Transformer
from normlab.norms import CRMSNorm, LayerNorm, RMSNorm

Target = Literal["prermsnorm", "precrmsnorm"]
KINDS = {  # target: (kind of norm, its name in conf/norm, main_branch of the model)
    "prermsnorm": (RMSNorm, "rmsnorm", "zero_mean"),
    "precrmsnorm": (CRMSNorm, "crmsnorm", "compressed"),
}


def arguments(to: Target, eps: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns what changes in the config: the `norm` group, and fields of `model`."""
    kind, _, main_branch = KINDS[to]
    norm = {"_target_": f"normlab.norms.{kind.__name__}", "eps": eps, "gain": False, "bias": False}
    model = {"main_branch": main_branch, "tie_softmax": False, "decoder_norm": None}
    return {**norm, "impl": "auto"}, model


def check(model: nn.Module) -> float:
    """Returns the eps of the model's LayerNorms; raises UserError for what cannot be converted."""
    if not isinstance(model, Transformer):
        raise UserError(f"only a Transformer can be converted, not {type(model).__name__}.")
    if not model.pre_norm:
        raise UserError(
            "only a pre-norm Transformer can be converted: in post-norm the main branch is what a "
            "norm's gain and bias make of it, and its mean is not 0."
        )
    if model.main_branch != "free":
        raise UserError(f"the main branch is {model.main_branch}: this model is converted already.")
    norms = [norm for norm, _ in readers(model)]
    if others := {type(norm).__name__ for norm in norms if type(norm) is not LayerNorm}:
        raise UserError(
            f"the model has {', '.join(sorted(others))}, and only LayerNorm is an RMSNorm in "
            "disguise: convert a run of norm=layernorm."
        )
    if len(found := {norm.eps for norm in norms}) > 1:
        raise UserError(f"all norms must have one eps, these have {found}.")
    return found.pop()


@torch.no_grad()
def convert(source: Transformer, target: Transformer) -> None:
    """Makes `target`, built with `arguments`, compute what `source` does; both in one dtype.

    Everything is done in float64 and rounded once.
    """
    check(source)
    width = target.width
    target.load_state_dict(_unchanged(source, target), strict=False)
    for new, old in zip(_embeddings(target), _embeddings(source), strict=True):
        new.weight.copy_(_without_mean(old.weight, -1)[:, :width])
    weight, bias = source.output_layer()
    assert source.decoder_norm is not None and target.softmax is not None
    _read(target.softmax, weight, bias, source.decoder_norm, width)
    for (norm, linears), (_, targets) in zip(readers(source), readers(target), strict=True):
        for theirs, ours in zip(linears, targets, strict=True):
            _read(ours, theirs.weight, theirs.bias, norm, width)
    for ours, theirs in zip(writers(target), writers(source), strict=True):
        ours.weight.copy_(_without_mean(theirs.weight, 0)[:width])
        ours.bias.copy_(_without_mean(theirs.bias, 0)[:width])


def readers(model: Transformer) -> list[tuple[Any, list[nn.Linear]]]:
    """Returns each norm of the main branches with the linear maps that read it (softmax apart)."""
    found: list[tuple[Any, list[nn.Linear]]] = []
    for layer in _layers(model):
        found.append((layer.self_residual.norm, [layer.self_attention.qkv]))
        if isinstance(layer, DecoderLayer):
            found.append((layer.cross_residual.norm, [layer.cross_attention.query]))
        found.append((layer.feed_forward_residual.norm, [layer.feed_forward[0]]))
    memory: list[Any] = [layer.cross_attention.key_value for layer in model.decoder]
    return [*found, (model.encoder_norm, memory), (model.decoder_norm, [])]


def writers(model: Transformer) -> list[nn.Linear]:
    """Returns the linear maps whose outputs are added to a main branch."""
    found: list[nn.Linear] = []
    for layer in _layers(model):
        found += [layer.self_attention.out, layer.feed_forward[-1]]
        if isinstance(layer, DecoderLayer):
            found.append(layer.cross_attention.out)
    return found


def _layers(model: Transformer) -> list[Any]:
    return [*model.encoder, *model.decoder]


def _embeddings(model: Transformer) -> list[nn.Embedding]:
    return list(dict.fromkeys((model.tgt_embedding, model.src_embedding)))


def _unchanged(source: Transformer, target: Transformer) -> dict[str, Tensor]:
    """Returns the weights of equal shape: those inside sublayers, and all that is overwritten."""
    there, here = source.state_dict(), target.state_dict()
    alike = [name for name in here if name in there and here[name].shape == there[name].shape]
    return {name: there[name] for name in alike}


def _read(ours: nn.Linear, weight: Tensor, bias: Tensor | None, norm: Any, width: int) -> None:
    """Sets `ours` to the linear map (weight, bias) after the gain and bias of `norm`.

    A compressed vector lacks x_d = -(x_1 + ...): A x = sum over i < d of (A_i - A_d) x_i.
    """
    a = weight.double()
    b = torch.zeros(len(a), dtype=a.dtype, device=a.device) if bias is None else bias.double()
    if norm.bias is not None:
        b = b + a @ norm.bias.double()
    if norm.weight is not None:
        a = a * norm.weight.double()
    if width < a.shape[1]:
        a = a[:, :width] - a[:, width:]
    ours.weight.copy_(a)
    ours.bias.copy_(b)


def _without_mean(weight: Tensor, axis: int) -> Tensor:
    return weight.double() - weight.double().mean(axis, keepdim=True)


ROUNDING = 1e-4  # of the logits' spread: what fp32 makes of one function computed in two ways


@dataclass(frozen=True)
class Converted:
    """What a conversion left of a trained network; the first of several is the source itself."""

    name: str
    parameters: int
    logits: float  # widest gap to the source's, over the spread of those
    differ: Mapping[int, int]  # beam -> sentences that are translated otherwise
    bleu: Mapping[int, float]  # beam -> SacreBLEU


@torch.inference_mode()
def logits_apart(source: Transformer, target: Transformer, batches: Iterable[Any]) -> float:
    """Returns the largest difference of two models' logits, over the standard deviation of one's.

    At the real target positions of `batches`, the right words before them given.
    """
    source.eval()
    target.eval()
    widest, squares, count = 0.0, 0.0, 0
    for batch in batches:
        ours, theirs = (
            F.linear(hidden.flatten(0, 1)[batch.positions], *model.output_layer())
            for model in (target, source)
            for hidden in [model.decode(model.encode(batch.src, batch.src_lengths), batch.tgt_in)]
        )
        widest = max(widest, (ours - theirs).abs().max().item())
        squares += (theirs - theirs.mean()).double().square().sum().item()
        count += theirs.numel()
    return widest / (squares / count) ** 0.5


def claim(rows: Sequence[Converted], sentences: int) -> tuple[bool, str]:
    """Returns whether all logits agree up to fp32 rounding, and the numbers that say so."""
    differ = max(count for row in rows for count in row.differ.values())
    gap = max(row.logits for row in rows)
    return gap < ROUNDING, (
        f"logits at most {gap:.0e} of their spread apart, {differ} of {sentences} sentences "
        "translated otherwise"
    )


def page(
    rows: Sequence[Converted], test_set: str, sentences: int, summary: Mapping[str, Any]
) -> str:
    """Returns the Markdown page of one run's conversions; `summary` is the run's."""
    beams = list(rows[0].differ)
    head = ["network", "parameters", "largest gap of a logit"]
    head += [f"beam {b}: {what}" for b in beams for what in ("sentences that differ", "BLEU")]
    about = HEAD.format(
        steps=summary.get("steps"),
        commit=summary.get("commit"),
        data=summary.get("data"),
        test_set=test_set,
        sentences=sentences,
    )
    cells = [
        [row.name, f"{row.parameters:,}", f"{row.logits:.1g}"]
        + [cell for b in beams for cell in (str(row.differ[b]), f"{row.bleu[b]:.2f}")]
        for row in rows
    ]
    return "\n".join([about, *markdown.table(head, cells)]) + "\n"


HEAD = """\
# One trained network as LayerNorm, RMSNorm and CRMSNorm

Written by `python scripts/analyze.py conversion RUN_DIR`; the conversion is Jiang et al.'s
(arXiv 2305.14858). A pre-norm Transformer was trained with LayerNorm for {steps} steps ({data},
commit {commit}); `scripts/convert.py` then took the mean out of all that its main branches hold,
so that RMSNorm does LayerNorm's work, and in `precrmsnorm` dropped the last entry of every vector
too. Beside it, on the {sentences} sentences of {test_set}: how many are translated otherwise. A
gap is relative to the standard deviation of all logits, in fp32, on the dev set. The converted
softmax matrix is its own, no longer the target embedding: hence more parameters.
What it does to [time](../benchmarks/conversion.md).

"""

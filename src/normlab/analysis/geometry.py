"""How hidden vectors lie to the uniform vector 1 = (1, ..., 1), before and after each norm.

LayerNorm removes a vector's component along 1 and re-scales the rest; RMSNorm re-scales only. Where
vectors are orthogonal to 1 by themselves the removal does nothing; in large language models trained
with RMSNorm they are found to be (Gupta et al. 2024, arXiv 2409.12951). Here are, over real
positions, the angle of what enters a norm to the line along 1, its length, its rotation by the norm
(gain and bias included), and how far its mean is from 0 in units of its spread, |cot| of the angle.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from normlab import markdown
from normlab.errors import UserError
from normlab.models.seq2seq import Seq2Seq
from normlab.models.transformer import Transformer
from normlab.norms.base import Norm

COLUMNS = {  # what is averaged over vectors, and how the table calls it
    "cos_before": "|cos| to 1 before",
    "cos_after": "after",
    "angle_before": "angle to that line before (0 to 90 degrees)",
    "angle_after": "after",
    "length_before": "length before",
    "length_after": "after",
    "rotation": "rotation (degrees)",
    "offset": "|mean| / spread before",
}


def chance(width: int) -> float:
    """Returns the mean |cos| of a random direction to 1: sqrt(2 / (pi width)), for large widths."""
    return math.sqrt(2 / (math.pi * width))


def of_vectors(x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Returns COLUMNS, (vectors,) each, for x (vectors, n) before a norm and y after it.

    A vector of length 0 has no direction and gives NaN.
    """
    x, y = x.double(), y.double()
    cos = {"before": _cos_to_uniform(x), "after": _cos_to_uniform(y)}
    turned = nn.functional.cosine_similarity(x, y, dim=-1, eps=0.0).clamp(-1, 1)
    return {
        **{f"cos_{side}": value.abs() for side, value in cos.items()},
        **{f"angle_{side}": torch.rad2deg(value.abs().acos()) for side, value in cos.items()},
        "length_before": x.norm(dim=-1),
        "length_after": y.norm(dim=-1),
        "rotation": torch.rad2deg(turned.acos()),
        "offset": x.mean(-1).abs() / x.std(-1, correction=0),
    }


class RandomBatch(NamedTuple):
    """Sentences that say nothing, for models that know nothing yet."""

    src: Tensor
    src_lengths: Tensor
    tgt_in: Tensor
    tgt_out: Tensor
    positions: Tensor

    def to(self, device: torch.device) -> "RandomBatch":
        """Returns this batch on `device`."""
        return RandomBatch(*(tensor.to(device) for tensor in self))


def random_batch(vocab: int = 1500, sentences: int = 32, length: int = 12) -> RandomBatch:
    """Returns random tokens, the same ones each time."""
    random = torch.Generator().manual_seed(0)
    src, tgt = torch.randint(4, vocab, (2, sentences, length), generator=random)
    lengths = torch.full((sentences,), length)
    return RandomBatch(src, lengths, tgt, tgt, torch.arange(sentences * length))


def check(model: Seq2Seq) -> None:
    """Raises UserError for a model whose norms do not see whole sentences."""
    if not isinstance(model, Transformer):
        raise UserError(f"geometry is measured in a Transformer, not in {type(model).__name__}.")


@torch.no_grad()
def geometry(
    model: Seq2Seq, batches: Iterable[Callable[[], Any]], device: torch.device
) -> dict[str, dict[str, float]]:
    """Returns for each norm of the main branch the means of COLUMNS, and `width`.

    Over all real positions of `batches`, without dropout. Leaves `model` in evaluation mode. Raises
    UserError for a model whose norms do not see whole sentences.
    """
    check(model)
    model.eval()
    sums: dict[str, dict[str, float]] = {}
    with _watched(model, sums) as real:
        for make in batches:
            batch = make().to(device)
            target = torch.zeros(batch.tgt_out.numel(), dtype=torch.bool, device=device)
            target[batch.positions] = True
            positions = torch.arange(batch.src.shape[1], device=device)
            real["encoder"] = positions < batch.src_lengths[:, None]
            real["decoder"] = target.view_as(batch.tgt_out)
            model.decode(model.encode(batch.src, batch.src_lengths), batch.tgt_in)
    return {
        name: {key: value / of["count"] if key in COLUMNS else value for key, value in of.items()}
        for name, of in sums.items()
    }


@contextmanager
def _watched(model: nn.Module, sums: dict[str, dict[str, float]]) -> Iterator[dict[str, Tensor]]:
    """Adds to `sums` what passes each norm; yields where to put which positions are real."""
    real: dict[str, Tensor] = {}

    def watch(name: str) -> Callable[..., None]:
        def hook(norm: Norm, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            kept = real[name.partition(".")[0].partition("_")[0]]
            found = of_vectors(inputs[0][kept], output[kept])
            of = sums.setdefault(name, {"count": 0, "width": norm.dim})
            of["count"] += int(kept.sum())
            for key, values in found.items():
                of[key] = of.get(key, 0.0) + values.sum().item()

        return hook

    norms = [
        (n, m) for n, m in model.named_modules() if isinstance(m, Norm) and "attention" not in n
    ]
    hooks = [norm.register_forward_hook(watch(name)) for name, norm in norms]
    try:
        with torch.compiler.set_stance("force_eager"):
            yield real
    finally:
        for each in hooks:
            each.remove()


def metrics(measured: dict[str, dict[str, float]]) -> dict[str, float]:
    """Returns `hidden/<norm>/<column>`, and the mean over norms as `hidden/all/<column>`.

    Four digits: more only make the file longer. Without a norm there is one that does nothing.
    """
    every = {key: sum(of[key] for of in measured.values()) / len(measured) for key in COLUMNS}
    return {
        f"hidden/{name}/{key}": float(f"{of[key]:.4g}")
        for name, of in {"all": every, **measured}.items()
        for key in COLUMNS
    }


def table(measured: dict[str, dict[str, float]]) -> str:
    """Returns what `geometry` gives as Markdown, a row for each norm, and the level of chance."""
    rows = [[name, *(f"{of[key]:.3g}" for key in COLUMNS)] for name, of in measured.items()]
    lines = markdown.table(["norm", *COLUMNS.values()], rows)
    widths = sorted({int(of["width"]) for of in measured.values()})
    levels = ", ".join(f"{chance(width):.3g} at width {width}" for width in widths)
    return "\n".join([*lines, "", f"|cos| of a random direction to 1: {levels}."])


def _cos_to_uniform(x: Tensor) -> Tensor:
    return (x.sum(-1) / (x.norm(dim=-1) * math.sqrt(x.shape[-1]))).clamp(-1, 1)

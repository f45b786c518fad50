"""Order violation, its contrastive loss, and how well it ranks."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

ROWS = 2**26  # numbers alive at a time when all pairs of a fold are compared
DEPTHS = (1, 5, 10)


def violation(captions: Tensor, targets: Tensor) -> Tensor:
    """Returns E (captions, targets): |max(0, caption - target)|^2 (Vendrov et al. 2016, Eq. 2).

    Rows (n, d) are embeddings; E is 0 where the caption lies below the target everywhere.
    """
    return (captions[:, None] - targets[None]).clamp(min=0).square().sum(-1)


def contrastive_losses(penalties: Tensor, same: Tensor, margin: float) -> Tensor:
    """Returns how far each pair (batch,) fails to beat all others, a sum over these (Eq. 5).

    penalties (batch, batch) is `violation` with true pairs on the diagonal: each should be `margin`
    below the other targets of its caption, and the other captions of its target. `same` (batch,
    batch) bool says which are true pairs, as two captions of one image give.
    """
    true = penalties.diagonal()
    by_caption = (margin + true[:, None] - penalties).clamp(min=0)
    by_target = (margin + true[None] - penalties).clamp(min=0)
    return by_caption.masked_fill(same, 0).sum(1) + by_target.masked_fill(same, 0).sum(0)


def recall(captions: Tensor, targets: Tensor, fold: int) -> tuple[dict[str, float], np.ndarray]:
    """Returns the metrics of both directions, means over folds, and each caption's best target.

    captions (c, d), targets (t, d), c a multiple of t; caption i describes target i // (c / t). A
    fold is `fold` targets with their captions, or all there are; what is left over is not used,
    and its captions have the best target -1. Keys: `image_*` finds the target of a caption,
    `caption_*` a caption of a target, with `r1`, `r5`, `r10` (percent of ranks up to that),
    `median_rank` and `mean_rank`, ranks from 1.
    """
    per = len(captions) // len(targets)
    fold = min(fold, len(targets))
    best = np.full(len(captions), -1)
    folds = []
    for start in range(0, len(targets) - fold + 1, fold):
        rows = slice(start * per, (start + fold) * per)
        penalties = _violations(captions[rows], targets[start : start + fold])
        best[rows] = start + penalties.argmin(1).cpu().numpy()
        folds.append(_directions(penalties, per))
    return {key: float(np.mean([f[key] for f in folds])) for key in folds[0]}, best


def _directions(penalties: Tensor, per: int) -> dict[str, float]:
    """Returns the metrics of one fold from its penalties (captions, targets)."""
    captions, targets = penalties.shape
    owner = torch.arange(captions, device=penalties.device) // per
    true = penalties.gather(1, owner[:, None])  # (captions, 1)
    # Ties count against the true one: embeddings that are all alike find nothing.
    image = (~(penalties > true)).sum(1)
    best = true.view(targets, per).amin(1)  # of each target's own captions, the nearest
    other = owner[:, None] != torch.arange(targets, device=penalties.device)
    caption = 1 + (~(penalties > best) & other).sum(0)
    return {**_summary("caption", caption), **_summary("image", image)}


def _summary(name: str, ranks: Tensor) -> dict[str, float]:
    found = ranks.cpu().numpy()
    return {
        **{f"{name}_r{depth}": 100 * float(np.mean(found <= depth)) for depth in DEPTHS},
        f"{name}_median_rank": float(np.median(found)),
        f"{name}_mean_rank": float(np.mean(found)),
    }


def mean_recall(metrics: Mapping[str, float]) -> float:
    """Returns the mean of R@1, R@5 and R@10 in both directions, in percent."""
    keys = [f"{name}_r{depth}" for name in ("caption", "image") for depth in DEPTHS]
    return sum(metrics[key] for key in keys) / len(keys)


def _violations(captions: Tensor, targets: Tensor) -> Tensor:
    size = max(1, ROWS // targets.numel())
    return torch.cat([violation(part, targets) for part in captions.split(size)])

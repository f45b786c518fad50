"""The training objective, as sums that are divided once after every reduction."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK_ELEMENTS = {"cpu": 2**20, "cuda": 2**28}  # logits alive at a time: about a CPU core's L2


def token_loss(
    features: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, smoothing: float
) -> tuple[Tensor, Tensor]:
    """Returns two sums over tokens, in nats: the label-smoothed cross entropy and the plain NLL.

    features (tokens, width), weight (vocab, width), bias (vocab,) or None, labels (tokens,) int64;
    logits are features @ weight.T + bias. The target distribution gives `smoothing` to the uniform
    distribution over the vocabulary and the rest to the label (Szegedy et al. 2016). Matrix
    products run in the autocast dtype, everything else in fp32 (fp64 for fp64 inputs).
    """
    # Inside the function autograd is off, and parameters "need" gradients in evaluation as well.
    training = torch.is_grad_enabled()
    return _TokenLoss.apply(features, weight, bias, labels, smoothing, training)


class _TokenLoss(torch.autograd.Function):
    """Projection and loss together, some rows at a time, so that all logits never exist at once.

    The logits are by far the largest tensor of a small model, and a CPU step spends more time on
    fetching fresh memory for them and their gradient than on the arithmetic. Gradients are made in
    the forward pass, while a chunk's logits are in the cache; backward only scales them.
    """

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        smoothing: float,
        training: bool,
    ) -> tuple[Tensor, Tensor]:
        device = features.device.type
        dtype = features.dtype
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
        wide = torch.promote_types(dtype, torch.float32)
        x, w = features.to(dtype), weight.to(dtype)
        tokens, vocab = len(x), len(w)
        rows = max(1, CHUNK_ELEMENTS.get(device, 2**20) // vocab)
        if training:
            d_x = torch.empty_like(x)
            d_w = torch.zeros_like(weight, dtype=wide)
            d_b = None if bias is None else torch.zeros_like(bias, dtype=wide)
        nll = torch.zeros((), dtype=wide, device=x.device)
        uniform = torch.zeros_like(nll)  # cross entropy with the uniform distribution
        with torch.autocast(device, enabled=False):
            for start in range(0, tokens, rows):
                part = slice(start, start + rows)
                label = labels[part, None]
                logits = F.linear(x[part], w).to(wide)  # (rows, vocab)
                if bias is not None:
                    logits += bias
                picked, mean = logits.gather(1, label), logits.mean(1, keepdim=True)
                top = logits.amax(1, keepdim=True)
                exponentials = logits.sub_(top).exp_()
                z = exponentials.sum(1, keepdim=True)
                log_z = z.log() + top
                nll += (log_z - picked).sum()
                uniform += (log_z - mean).sum()
                if training:  # d loss / d logits = probabilities - target distribution
                    d_logits = exponentials.div_(z).sub_(smoothing / vocab)
                    d_logits.scatter_add_(1, label, (smoothing - 1) * torch.ones_like(z))
                    if bias is not None:
                        d_b += d_logits.sum(0)
                    d_logits = d_logits.to(dtype)
                    torch.mm(d_logits, w, out=d_x[part])
                    if dtype == wide:
                        d_w.addmm_(d_logits.t(), x[part])
                    else:
                        d_w += d_logits.t() @ x[part]
        if training:
            ctx.save_for_backward(d_x.to(features.dtype), d_w, d_b)
        ctx.mark_non_differentiable(nll)
        return (1 - smoothing) * nll + smoothing * uniform, nll

    @staticmethod
    def backward(  # type: ignore[override]
        ctx: Any, grad: Tensor, _: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None, None, None, None]:
        d_x, d_w, d_b = ctx.saved_tensors
        return d_x * grad, d_w * grad, None if d_b is None else d_b * grad, None, None, None

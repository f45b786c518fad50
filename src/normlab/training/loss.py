"""The training objective, as sums that are divided once after every reduction."""

import torch
from torch import Tensor


def label_smoothed(logits: Tensor, labels: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """Returns two sums over tokens, in nats: the smoothed cross entropy and the plain one (NLL).

    logits (tokens, vocab), labels (tokens,) int64. The target distribution gives `smoothing` to the
    uniform distribution over the vocabulary and the rest to the label (Szegedy et al. 2016). Sums are
    in fp32 or wider.
    """
    return _LabelSmoothed.apply(logits, labels, smoothing)


class _LabelSmoothed(torch.autograd.Function):
    """One exponential per logit forward and one backward, instead of a stored log-softmax.

    The logits are the largest tensor of a small model: what is read and written of them decides
    the speed of a CPU step.
    """

    @staticmethod
    def forward(ctx, logits, labels, smoothing):
        log_z = torch.logsumexp(logits.float(), dim=-1, keepdim=True)  # (tokens, 1)
        picked = logits.gather(1, labels[:, None]).float()
        nll = (log_z - picked).sum()
        uniform = (log_z[:, 0] - logits.mean(-1, dtype=log_z.dtype)).sum()
        ctx.save_for_backward(logits, labels, log_z)
        ctx.smoothing = smoothing
        ctx.mark_non_differentiable(nll)
        return (1 - smoothing) * nll + smoothing * uniform, nll

    @staticmethod
    def backward(ctx, grad, _):
        logits, labels, log_z = ctx.saved_tensors
        vocab = logits.shape[1]
        d_logits = (logits - log_z).exp_().sub_(ctx.smoothing / vocab)  # probabilities - target
        d_logits.scatter_add_(
            1, labels[:, None], d_logits.new_full((len(labels), 1), ctx.smoothing - 1)
        )
        return (d_logits.mul_(grad)).to(logits.dtype), None, None

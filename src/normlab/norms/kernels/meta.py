"""Shapes of the fused operators, so that torch.compile sees one node for each."""

import torch


def _statistics(x, centre):
    rows = x.numel() // x.shape[-1]
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    return x.new_empty((2, rows) if centre else (rows,), dtype=dtype)


@torch.library.register_fake("normlab::norm")
def _norm(x, gain, bias, eps, k, centre):
    return x.new_empty(x.shape), _statistics(x, centre)


@torch.library.register_fake("normlab::add_norm")
def _add_norm(x, residual, gain, bias, eps, k, centre):
    return x.new_empty(x.shape), x.new_empty(x.shape), _statistics(x, centre)


@torch.library.register_fake("normlab::norm_backward")
def _norm_backward(dy, x, gain, statistics, k, centre, has_bias):
    n = x.shape[-1]
    return x.new_empty(x.shape), statistics.new_empty((2, n) if has_bias else (n,))

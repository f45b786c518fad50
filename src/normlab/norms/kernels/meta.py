"""Shapes of what the fused operators return: all that torch.compile asks of a node."""

import torch
from torch import Tensor


def statistics(x: Tensor, centre: bool) -> Tensor:
    """Returns an empty (rows,) tensor for r, or (2, rows) for r and mean with `centre`."""
    rows = x.numel() // x.shape[-1]
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    return x.new_empty((2, rows) if centre else (rows,), dtype=dtype)


def norm(x, gain, bias, eps, k, centre):
    return x.new_empty(x.shape), statistics(x, centre)


def add_norm(x, residual, gain, bias, eps, k, centre):
    return x.new_empty(x.shape), x.new_empty(x.shape), statistics(x, centre)


def norm_backward(dy, x, gain, statistics, k, centre, has_bias):
    n = x.shape[-1]
    return x.new_empty(x.shape), statistics.new_empty((2, n) if has_bias else (n,))


def gru(s, x_gates, x_candidate, h, *_):
    acc = torch.float64 if s.dtype == torch.float64 else torch.float32
    acts = s.new_empty(s.shape, dtype=acc)
    return h.new_empty(h.shape), acts, acts.new_empty((4, len(s)))


def gru_backward(d, s, h, acts, statistics, gates_gain, gates_bias, *_):
    rows, n = h.shape
    ds, dh = s.new_empty(s.shape), h.new_empty(h.shape)
    parameters = acts.new_empty((3 * n,) if gates_bias is None else (2, 3 * n))
    return ds, s.new_empty((rows, 2 * n)), s.new_empty((rows, n)), dh, parameters

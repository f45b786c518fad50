"""Tensors on their way to a device, and the precision in which it computes."""

import torch
from torch import Tensor


def move(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Returns `tensor` on `device`; a copy to a GPU runs beside the computation."""
    pin = torch.device(device).type == "cuda" and tensor.device.type == "cpu"
    return (tensor.pin_memory() if pin else tensor).to(device, non_blocking=pin)


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Returns the context in which a model runs at `precision`, fp32 or bf16."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")

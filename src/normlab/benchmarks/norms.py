"""How long the norms take by themselves: forward, backward and both, against a measured copy."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from normlab.benchmarks.timing import cache_flusher, interleave
from normlab.errors import UserError
from normlab.norms import LayerNorm, PRMSNorm, RMSNorm
from normlab.reports.benchmarks import CONTROL

KINDS: dict[str, Any] = {"layernorm": LayerNorm, "rmsnorm": RMSNorm, "prmsnorm": PRMSNorm}
BASELINE = "layernorm native"
SHAPES = {  # [rows, width] by device type
    "cpu": ["64x384", "2048x128", "4096x256", "4096x512"],
    "cuda": ["4096x128", "4096x512", "65536x512", "65536x1024"],
}
PASSES = {"forward": 2, "backward": 3, "both": 5}  # tensors of (rows, width) read or written


def benchmark(
    shapes: list[str] | None,
    dtypes: list[str],
    device: torch.device,
    *,
    blocks: int,
    compiled: bool,
    cold: bool,
) -> dict[str, Any]:
    """Returns the records of all norms at `shapes` ("ROWSxWIDTH") and `dtypes`, with notes."""
    records = []
    for shape in shapes or SHAPES[device.type]:
        if not re.fullmatch(r"[1-9]\d*x[1-9]\d*", shape):
            raise UserError(f"--shapes {shape}: write ROWSxWIDTH, as in 2048x512.")
        rows, width = map(int, shape.split("x"))
        for dtype in dtypes:
            records += norm_times(
                rows,
                width,
                getattr(torch, dtype),
                device,
                blocks=blocks,
                compiled=compiled,
                cold=cold,
            )
    caches = "emptied before each call" if cold else "filled by an untimed call of the same"
    notes = [
        f"Caches {caches}. Times include autograd's; `both` is forward and backward.",
        "`native` is torch's own operator: F.layer_norm, F.rms_norm. It and other libraries have",
        "gain and bias in the dtype of x, their quickest way; ours keep these in fp32. Bandwidth",
        "counts each tensor of [rows, width] once: x and y forward, x, dy and dx backward. Memory",
        "is the most that forward and backward hold at once beyond x and dy, in such tensors.",
    ]
    return {
        "name": "norms" if cold else "norms_warm",
        "title": "Norms by themselves",
        "records": records,
        "notes": notes,
    }


def norm_times(
    rows: int,
    width: int,
    dtype: torch.dtype,
    device: torch.device,
    *,
    blocks: int,
    compiled: bool,
    cold: bool,
) -> list[dict[str, Any]]:
    """Returns a record for each pass: the times of every norm and implementation, and bytes moved.

    All norms read the same x (rows, width) and dy. `cold` empties the caches before each call;
    otherwise an untimed call of the same variant fills them.
    """
    generator = torch.Generator().manual_seed(0)
    x, dy = (torch.randn(rows, width, generator=generator).to(device, dtype) for _ in range(2))
    x.requires_grad_()
    layers = _layers(width, device, dtype, compiled)
    records = []
    flush = cache_flusher(device) if cold else None

    def before(call: Callable[[], object]) -> None:
        (flush or call)()

    for which, tensors in PASSES.items():
        variants = {name: _pass(which, layer, x, dy) for name, layer in layers.items()}
        variants["copy"] = partial(torch.empty_like(x).detach().copy_, x.detach().clone())
        records.append(
            {
                "title": f"{which}, [{rows}, {width}], {str(dtype).removeprefix('torch.')}",
                "baseline": BASELINE,
                "bytes": tensors * x.numel() * x.element_size(),
                "copy_bytes": 2 * x.numel() * x.element_size(),
                "times": interleave(variants, blocks, device, before=before),
            }
        )
    records[-1]["peak"] = {  # of `both`, the last: nothing is kept from before
        name: peak_memory(_pass("both", layer, x, dy), device) for name, layer in layers.items()
    }
    return records


def peak_memory(call: Callable[[], Any], device: torch.device) -> int:
    """Returns the most bytes of tensors that `call` holds at once beyond those there before it."""
    call()  # what is allocated once and stays
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    held = peak = 0
    for event in profiler.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            held += event.nbytes()  # below 0 when freed
            peak = max(peak, held)
    return peak


def _layers(
    width: int, device: torch.device, dtype: torch.dtype, compiled: bool
) -> dict[str, Callable]:
    if compiled:  # else after 8 versions of a norm, of other shapes, the next are eager
        torch._dynamo.reset()
    layers: dict[str, Callable] = {}
    for name, kind in KINDS.items():
        for impl in kind.implementations:
            layer = kind(width, impl=impl).to(device, dtype if impl == "native" else None)
            try:
                layer.implementation(device)
            except UserError:  # no fused kernels here
                continue
            layers[f"{name} {impl}"] = layer
        if compiled:
            layers[f"{name} compiled"] = torch.compile(kind(width, impl="composed").to(device))
    layers[CONTROL] = LayerNorm(width, impl="native").to(device, dtype)
    for name, layer in _others(width, device, dtype).items():
        layers[name] = layer
    return layers


def _others(width: int, device: torch.device, dtype: torch.dtype) -> dict[str, Callable]:
    """Returns the kernels of other libraries that are installed and run on `device`."""
    if device.type != "cuda":
        return {}
    found: dict[str, Callable] = {}
    try:
        from liger_kernel.transformers import LigerRMSNorm

        found["rmsnorm liger"] = LigerRMSNorm(width, in_place=False).to(device, dtype)
    except ImportError:
        pass
    try:
        from apex.normalization import FusedRMSNorm

        found["rmsnorm apex"] = FusedRMSNorm(width).to(device, dtype)
    except ImportError:
        pass
    return found


def _pass(which: str, layer: Callable, x: torch.Tensor, dy: torch.Tensor) -> Callable[[], Any]:
    inputs = [x, *(layer.parameters() if isinstance(layer, torch.nn.Module) else ())]
    if which == "forward":
        # with a graph, as in training: what the backward pass needs is saved
        return lambda: layer(x)
    if which == "both":
        return lambda: torch.autograd.grad(layer(x), inputs, dy)
    y = layer(x)
    return lambda: torch.autograd.grad(y, inputs, dy, retain_graph=True)

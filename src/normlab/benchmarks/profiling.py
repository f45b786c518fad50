"""Where the time of a training step goes: by operator, and how much the matrix products need."""

import math
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from normlab.benchmarks.steps import Workload, described
from normlab.benchmarks.timing import interleave

WARMUP = 3
BLOCKS = 5
PRODUCTS = {  # operator -> which of its inputs is the first factor
    "aten::mm": 0,
    "aten::bmm": 0,
    "aten::addmm": 1,
    "aten::addmm_": 1,
    "aten::baddbmm": 1,
}
Shape = tuple[int, ...]
Products = Mapping[tuple[Shape, Shape], int]  # (..., m, k) times (..., k, n) -> how often


def benchmark(work: Workload, overrides: Sequence[str], device: torch.device) -> dict[str, Any]:
    """Returns the profile of the only variant of `work`, built with `overrides`: no records."""
    model, title = described(work, overrides)
    (step,) = work.steps.values()

    def steps() -> None:
        for _ in work.batches:
            step()

    for _ in range(WARMUP):
        step()
    profiler = profiled(steps, device)
    found = products(profiler)
    alone = by_themselves(found, work.precision, device)
    times = interleave({"steps": steps, "alone": alone}, BLOCKS, device, warmup=1)
    seconds = {name: statistics.median(t) / len(work.batches) for name, t in times.items()}
    gflop = floating_point_operations(found) / len(work.batches) / 1e9
    return {
        "name": f"profile_{model}_{work.precision}",
        "title": f"Profile of {title}",
        "records": [],
        "profile": by_operator(profiler, device),
        "notes": [
            "Matrix products, those inside attention's own operator and convolutions apart, are",
            f"{gflop:.2f} GFLOP of a step. By themselves, in {work.precision}, on contiguous",
            "matrices of these shapes that may stay in the caches, they take",
            f"{1000 * seconds['alone']:.1f} ms, {gflop / seconds['alone']:.0f} GFLOP/s; a step",
            f"takes {1000 * seconds['steps']:.1f} ms, so that it reaches",
            f"{seconds['alone'] / seconds['steps']:.0%} of that rate (medians of {BLOCKS} blocks,",
            f"one process). {len(work.batches)} steps, by the operators' own time:",
        ],
    }


def profiled(call: Callable[[], Any], device: torch.device) -> profile:
    """Returns the profile of a call, with the shapes of its operators' inputs."""
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")
    with profile(activities=activities, record_shapes=True) as profiler:
        call()
    return profiler


def by_operator(profiler: profile, device: torch.device) -> list[str]:
    """Returns a page's lines: operators by the time that is their own, the longest first."""
    sort = "self_cuda_time_total" if device.type == "cuda" else "self_cpu_time_total"
    table = profiler.key_averages().table(sort_by=sort, row_limit=25, max_name_column_width=50)
    return ["```", table, "```"]


def products(profiler: profile) -> Products:
    """Returns the matrix products of a profile that recorded shapes; convolutions are not."""
    found: Counter[tuple[Shape, Shape]] = Counter()
    for event in profiler.key_averages(group_by_input_shape=True):
        if event.key in PRODUCTS:
            first = PRODUCTS[event.key]
            a, b = (tuple(shape) for shape in event.input_shapes[first : first + 2])
            found[a, b] += event.count
    return found


def floating_point_operations(found: Products) -> int:
    """Returns the multiplications and additions of all products."""
    return sum(2 * math.prod(a) * b[-1] * calls for (a, b), calls in found.items())


def by_themselves(found: Products, precision: str, device: torch.device) -> Callable[[], None]:
    """Returns a function that computes all products on random matrices, and nothing else."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    pairs = [
        (torch.randn(a, dtype=dtype, device=device), torch.randn(b, dtype=dtype, device=device), n)
        for (a, b), n in found.items()
    ]

    def alone() -> None:
        for a, b, calls in pairs:
            for _ in range(calls):
                a @ b

    return alone

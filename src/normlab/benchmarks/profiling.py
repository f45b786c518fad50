"""Where the time of a training step goes, by operator."""

from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from normlab.benchmarks.steps import Workload

WARMUP = 3


def benchmark(work: Workload, model: str, device: torch.device) -> dict[str, Any]:
    """Returns the profile of the only variant of `work` as a page without records."""
    (step,) = work.steps.values()
    for _ in range(WARMUP):
        step()
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")
    with profile(activities=activities) as profiler:
        for _ in work.batches:
            step()
    sort = "self_cuda_time_total" if device.type == "cuda" else "self_cpu_time_total"
    text = profiler.key_averages().table(sort_by=sort, row_limit=25, max_name_column_width=50)
    return {
        "name": f"profile_{model}_{work.precision}",
        "title": f"Profile of {model}, {work.precision}",
        "records": [],
        "notes": [
            f"{len(work.batches)} steps, by the operators' own time.",
            "",
            "```",
            text,
            "```",
        ],
    }

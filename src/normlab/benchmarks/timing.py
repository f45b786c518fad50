"""Timing side by side: every variant once a block, in random order, so that drift hits all alike.

A variant may stand in twice (the A/A control): how far its two times lie apart is what a
difference must exceed to mean anything.
"""

import ctypes
import platform
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

CONTROL = "A/A control"
Times = dict[str, list[float]]  # variant -> seconds of each block


def interleave(
    variants: dict[str, Callable[[], Any]],
    blocks: int,
    device: torch.device,
    *,
    warmup: int = 3,
    seed: int = 0,
    before: Callable[[Callable], Any] = lambda call: None,
    watch: Callable[[], float] = time.perf_counter,
) -> Times:
    """Returns the seconds of every variant in every block; `before(variant)` runs untimed first.

    On a GPU the time is that between two CUDA events.
    """
    order = list(variants)
    shuffle = random.Random(seed).shuffle
    times: Times = {name: [] for name in variants}
    for block in range(-warmup, blocks):
        shuffle(order)
        for name in order:
            before(variants[name])
            seconds = _time(variants[name], device, watch)
            if block >= 0:
                times[name].append(seconds)
    return times


def _time(call: Callable[[], Any], device: torch.device, watch: Callable[[], float]) -> float:
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1000
    started = watch()
    call()
    return watch() - started


def merge(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns one benchmark of several that measured the same: the blocks of each, in order."""
    whole = found[0]
    for number, record in enumerate(whole["records"]):
        for other in found[1:]:
            for variant, seconds in other["records"][number]["times"].items():
                record["times"][variant] += seconds
        record["processes"] = len(found)
    return whole


def keep_memory() -> None:
    """Tells glibc to keep freed memory, as a long training run makes it do.

    Otherwise a benchmark that frees its only large tensor returns the pages to the system each
    time, and measures page faults: four times the norm's own time at [2048, 128].
    """
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        trim_threshold, mmap_threshold = -1, -3
        libc = ctypes.CDLL(None)
        libc.mallopt(trim_threshold, 1 << 30)
        libc.mallopt(mmap_threshold, 1 << 30)


def cache_flusher(device: torch.device) -> Callable[[], Any]:
    """Returns a function after which nothing of ours is left in the caches.

    It only reads: written lines would have to go to memory while the next call is timed.
    """
    bytes_ = 256 << 20 if device.type == "cuda" else 96 << 20
    buffer = torch.ones(bytes_ // 4, device=device)
    return lambda: buffer.sum()


def environment(device: torch.device) -> dict[str, Any]:
    """Returns what a reader has to know of where the numbers come from."""
    if device.type == "cuda":
        return {"device": torch.cuda.get_device_name(device), "torch": torch.__version__}
    return {
        "device": f"cpu ({_cpu()}), {torch.get_num_threads()} threads",
        "torch": torch.__version__,
    }


def _cpu() -> str:
    try:
        text = subprocess.run(["lscpu"], capture_output=True, text=True, check=True).stdout
        fields = dict(line.split(":", 1) for line in text.split("\n") if ":" in line)
        return fields["Model name"].strip()
    except (OSError, subprocess.SubprocessError, KeyError):
        return platform.machine()

"""Timing side by side: every variant once a block, in random order, so that drift hits all alike.

A variant may stand in twice (the A/A control): how far its two times lie apart is what a
difference must exceed to mean anything.
"""

import platform
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from normlab.errors import UserError

Times = dict[str, list[float]]  # variant -> seconds of each block


def interleave(
    variants: dict[str, Callable[[], Any]],
    blocks: int,
    device: torch.device,
    *,
    warmup: int = 3,
    before: Callable[[Callable], Any] = lambda call: None,
    shuffle: Callable[[list[str]], None] = random.shuffle,
    watch: Callable[[], float] = time.perf_counter,
) -> Times:
    """Returns the seconds of every variant in every block; `before(variant)` runs untimed first.

    The order of each block is drawn anew, another one in every process: what a variant gains from
    the one before it is then no bias that all processes share. On a GPU the time is that between
    two CUDA events.
    """
    order = list(variants)
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
        torch.cuda.synchronize(device)  # what runs still would hide the time to launch the call
        start.record()
        call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1000
    started = watch()
    call()
    return watch() - started


def cache_flusher(device: torch.device) -> Callable[[], Any]:
    """Returns a function after which nothing of ours is left in the caches.

    It only reads: written lines would have to go to memory while the next call is timed.
    """
    bytes_ = 256 << 20 if device.type == "cuda" else 96 << 20
    buffer = torch.ones(bytes_ // 4, device=device)
    return lambda: buffer.sum()


COPY = """
import numpy
source = numpy.ones(1 << 26)  # 512 MiB, more than any cache
target = source.copy()
print("copying", flush=True)
while True:
    target[:] = source
"""


@contextmanager
def copying_memory() -> Iterator[subprocess.Popen[bytes]]:
    """Has another process copy memory all the while, as a neighbour on the machine may.

    Raises UserError when it cannot start, or ends before the work beside it.
    """
    with subprocess.Popen([sys.executable, "-c", COPY], stdout=subprocess.PIPE) as neighbour:
        try:
            assert neighbour.stdout is not None
            if not neighbour.stdout.readline():  # it has ended before it began
                raise UserError("--busy: the process that copies 512 MiB could not start.")
            yield neighbour
            if neighbour.poll() is not None:
                raise UserError("--busy: the process that copies memory ended early.")
        finally:
            neighbour.kill()


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

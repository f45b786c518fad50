"""Where a run stands."""

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

STALL = 3.0  # a window of steps that took this many times the median was held up from outside
# Segments whose speeds may be joined: what else is the same for all segments of a run is its config
ENVIRONMENT = ("norm_impl", "device", "threads", "torch", "world_size")


@dataclass
class Progress:
    """With the weights, the optimiser and the generators, all of a run's state."""

    step: int = 0  # optimiser steps done
    epoch: int = 0
    batch: int = 0  # next batch of the epoch
    seconds: float = 0.0  # of training: evaluation and checkpointing excluded
    best: float | None = None  # of the task's metric
    best_step: int = 0
    evaluations_since_best: int = 0
    latest: dict[str, float] = field(default_factory=dict)  # metrics of the last evaluation
    evaluation_due: bool = False  # the evaluation after this step was cut short
    status: str = "running"
    diverged_at: int | None = None
    window: dict[str, Any] = field(default_factory=dict)  # what the next log line has so far
    segments: list[dict[str, Any]] = field(default_factory=list)  # one for each start of a process

    def start_segment(self, environment: Mapping[str, Any]) -> None:
        """Notes that another process goes on with the run, in this environment."""
        self.segments.append({**environment, "first_step": self.step + 1, "windows": []})

    def add_window(self, steps: int, items: int, seconds: float) -> None:
        """Notes how long the steps since the last log line took."""
        self.seconds += seconds
        self.segments[-1]["windows"].append([steps, items, seconds])

    def state(self, window: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what restores this progress, with the state of the window."""
        return {**asdict(self), "status": "running", "window": window}


def speed(segments: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns `seconds_per_1k_steps`, `items_per_second` and `stalls` of a run.

    Only segments with the environment of the last one count. Each process's first window is left
    out (warm-up, compilation), and so are stalls: windows that took more than three times the
    median per step, as when the process was stopped or the machine was busy; `stalls` counts them.
    The speeds are None when nothing is left.
    """
    segments = list(segments)
    if not segments:
        return {"seconds_per_1k_steps": None, "items_per_second": None, "stalls": 0}
    kind = [segments[-1].get(key) for key in ENVIRONMENT]
    alike = [s for s in segments if [s.get(key) for key in ENVIRONMENT] == kind]
    windows = [tuple(w) for s in alike for w in s["windows"][1:]]
    if not windows:
        return {"seconds_per_1k_steps": None, "items_per_second": None, "stalls": 0}
    usual = statistics.median(seconds / steps for steps, _, seconds in windows)
    kept = [w for w in windows if w[2] / w[0] <= STALL * usual]
    steps, items, seconds = (sum(values) for values in zip(*kept, strict=True))
    return {
        "seconds_per_1k_steps": 1000 * seconds / steps,
        "items_per_second": items / seconds,
        "stalls": len(windows) - len(kept),
    }


def public(segment: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a segment as the summary shows it: its windows as numbers of steps and seconds."""
    shown = {key: value for key, value in segment.items() if key != "windows"}
    windows = segment["windows"]
    return {
        **shown,
        "steps": sum(w[0] for w in windows),
        "seconds": sum(w[2] for w in windows),
    }

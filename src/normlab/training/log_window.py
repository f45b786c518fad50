"""The steps since the last log line, and the clock that times them."""

import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from normlab import distributed
from normlab.tasks.task import Sums


class Window:
    """Sums over steps; they stay on the device, so that no step waits for it."""

    def __init__(self, size: int, device: torch.device, state: Mapping[str, Any]):
        self.size, self.device = size, device
        self.sums: Tensor  # a row for each step; the last column is the gradient norm
        self.names: list[str] = []
        self.counts: dict[str, int] = {}
        self.clear()
        if state:
            self.names = state["names"]
            first = distributed.rank() == 0  # the state is everybody's: divided, and counted once
            self.counts = {name: first * count for name, count in state["counts"].items()}
            self.count, self.items = state["count"], state["items"]
            self.seconds = state["seconds"]
            self._allocate()
            self.sums[: self.count] = state["sums"].to(device)
            self.sums[:, :-1] /= distributed.world_size()  # not the gradient norm, which all have

    def clear(self) -> None:
        """Begins anew."""
        self.count = self.items = 0
        self.seconds = 0.0

    def add(self, sums: Sums, grad_norm: Tensor, items: int) -> None:
        """Adds a step: its sums by name, its gradient norm and its number of items."""
        if not self.count:
            self.names, self.counts = list(sums), dict.fromkeys(sums, 0)
            self._allocate()
        if self.count == len(self.sums):  # rows as they are needed: the window may be huge
            self.sums = torch.cat((self.sums, torch.zeros_like(self.sums)))
        self.sums[self.count] = torch.stack([*(total for total, _ in sums.values()), grad_norm])
        for name, (_, count) in sums.items():
            self.counts[name] += count
        self.count += 1
        self.items += items

    def first_non_finite(self) -> int | None:
        """Returns the first step of the window with a non-finite sum or gradient, from 0."""
        bad = (~self._totals().isfinite()).any(1).nonzero()
        return int(bad[0]) if len(bad) else None

    def means(self) -> dict[str, float]:
        """Returns each sum over its count, the mean gradient norm, and the speed."""
        sums, counts = self._totals().double().cpu(), self._counts()
        totals = zip(self.names, sums.sum(0).tolist()[:-1], strict=True)
        return {
            **{f"train/{name}": total / counts[name] for name, total in totals},
            "train/grad_norm": sums[:, -1].mean().item(),
            "train/items_per_second": self.items / self.seconds,
            "train/step_ms": 1000 * self.seconds / self.count,
        }

    def state(self) -> dict[str, Any]:
        """Returns what restores this window, on any number of processes."""
        if not self.count:
            return {}
        return {
            "names": self.names,
            "counts": self._counts(),
            "count": self.count,
            "items": self.items,
            "seconds": self.seconds,
            "sums": self._totals().cpu().clone(),
        }

    def _totals(self) -> Tensor:
        """Returns the rows so far, summed over processes; all have the same gradient norm."""
        sums = distributed.total(self.sums[: self.count])
        if distributed.world_size() > 1:
            sums[:, -1] /= distributed.world_size()
        return sums

    def _counts(self) -> dict[str, int]:
        everybody = distributed.gather(self.counts)
        return {name: sum(counts[name] for counts in everybody) for name in self.names}

    def _allocate(self) -> None:
        rows = max(self.count, min(self.size, 1024))
        self.sums = torch.zeros(rows, len(self.names) + 1, device=self.device)


class Clock:
    """Counts training seconds: runs from start() to stop(), a second start() changes nothing."""

    def __init__(self, device: torch.device):
        self._device = device
        self._started: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds since start(), without waiting for the device."""
        return 0.0 if self._started is None else time.perf_counter() - self._started

    def start(self) -> None:
        """Starts the clock if it stands."""
        if self._started is None:
            self._started = time.perf_counter()

    def stop(self) -> float:
        """Returns the seconds since start() once the device has finished, and stops."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        seconds, self._started = self.seconds, None
        return seconds

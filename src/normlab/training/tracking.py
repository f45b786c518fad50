"""What a run measures: a line of JSON first, a dashboard second."""

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, Self

from normlab.files import finite, write_text

log = logging.getLogger(__name__)


class Dashboard(Protocol):
    """Where metrics go besides the file."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Shows `values` at `step`."""

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Shows the run's result."""


class Tracker:
    """Appends metrics to `metrics.jsonl` and mirrors them to a dashboard when there is one.

    `lines` counts the records in the file: with it a checkpoint knows what it has seen. Of several
    processes the first one writes; `path` None writes nothing.
    """

    def __init__(self, path: Path | None, dashboard: Dashboard | None = None):
        self.path, self.dashboard = path, dashboard

    def __enter__(self) -> Self:
        path = self.path or Path(os.devnull)
        self.lines = path.read_bytes().count(b"\n") if path.exists() else 0
        self._file = open(path, "a", encoding="utf-8")
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def log(self, step: int, seconds: float, metrics: Mapping[str, float]) -> None:
        """Records `metrics` at `step` after `seconds` of training; a non-finite number as null."""
        line: dict[str, float | None] = {"step": step, "time": round(seconds, 4)}
        line |= {key: finite(value) for key, value in metrics.items()}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        self.lines += 1
        if self.dashboard is not None:
            self.dashboard.log(step, {**metrics, "time": seconds})

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Passes the run's result on to the dashboard."""
        if self.dashboard is not None:
            self.dashboard.finish(summary)


def keep_lines(path: Path, count: int) -> None:
    """Drops what a killed run wrote to `path` beyond the `count` lines of its last checkpoint.

    Lines go on where the checkpoint left off, so the file is the same as if nothing had happened.
    """
    if path.exists():
        kept = path.read_text(encoding="utf-8").split("\n")[:count]
        write_text(path, "".join(line + "\n" for line in kept))

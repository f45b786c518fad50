"""What a run measures: a line of JSON first, a dashboard second."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

from normlab.files import finite, write_text
from normlab.tasks.task import Sample


class Dashboard(Protocol):
    """Where metrics go besides the file."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Shows `values` at `step`."""

    def show(self, step: int, samples: Sequence[Sample]) -> None:
        """Shows what was made of some examples at `step`, as a table."""

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Shows the run's result."""


class Tracker:
    """Writes metrics to `metrics.jsonl` and mirrors them to a dashboard when there is one.

    `text` is all of the file that the checkpoint knows: on entry the file becomes just that, so
    that lines which a killed run wrote after that checkpoint are gone. Each new line goes into
    both. Of several processes the first one writes; `path` None writes nothing.
    """

    def __init__(self, path: Path | None, dashboard: Dashboard | None = None, text: str = ""):
        self.path, self.dashboard, self.text = path, dashboard, text

    def __enter__(self) -> Self:
        if self.path is not None:
            write_text(self.path, self.text)
        self._file = open(self.path or os.devnull, "a", encoding="utf-8")
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def log(self, step: int, seconds: float, metrics: Mapping[str, float]) -> None:
        """Records `metrics` at `step` after `seconds` of training; a non-finite number as null."""
        line: dict[str, float | None] = {"step": step, "time": round(seconds, 4)}
        line |= {key: finite(value) for key, value in metrics.items()}
        written = json.dumps(line) + "\n"
        self._file.write(written)
        self._file.flush()
        self.text += written
        if self.dashboard is not None:
            self.dashboard.log(step, {**metrics, "time": seconds})

    def show(self, step: int, samples: Sequence[Sample]) -> None:
        """Passes examples on to the dashboard; they are no numbers, and in the log already."""
        if self.dashboard is not None and samples:
            self.dashboard.show(step, samples)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Passes the run's result on to the dashboard."""
        if self.dashboard is not None:
            self.dashboard.finish(summary)

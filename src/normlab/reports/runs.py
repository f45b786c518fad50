"""Run directories, read back."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from normlab.errors import UserError


@dataclass(frozen=True)
class Run:
    """One run: its summary, and its metrics as a list of records in the order of the steps."""

    path: Path
    summary: dict[str, Any]
    metrics: list[dict[str, Any]]

    def curve(self, key: str, against: str = "step") -> tuple[list[float], list[float]]:
        """Returns x (`step` or `time`) and y of metric `key`, where it was logged and finite."""
        points = [(m[against], m[key]) for m in self.metrics if m.get(key) is not None]
        return [x for x, _ in points], [y for _, y in points]


def read_run(path: Path) -> Run:
    """Returns the run in `path`. Raises UserError when it holds no summary."""
    summary = path / "summary.json"
    if not summary.exists():
        raise UserError(f"{path} holds no finished run: {summary} does not exist.")
    lines = (path / "metrics.jsonl").read_text(encoding="utf-8").split("\n")
    metrics = [json.loads(line) for line in lines if line]
    return Run(path, json.loads(summary.read_text(encoding="utf-8")), metrics)

"""Run directories, read back."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from normlab.errors import UserError

_MISSING = object()


@dataclass(frozen=True)
class Run:
    """One run: its summary, and its metrics as a list of records in the order of the steps."""

    path: Path
    summary: dict[str, Any]
    metrics: list[dict[str, Any]]
    config: dict[str, Any]

    def value(self, key: str) -> Any:
        """Returns `key` of the summary or else of the config: "test.NAME.bleu", "init.apply_to".

        Raises UserError when neither has it.
        """
        for tree in (self.summary, self.config):
            found: Any = tree
            for part in key.split("."):
                found = found.get(part, _MISSING) if isinstance(found, dict) else _MISSING
            if found is not _MISSING:
                return found
        raise UserError(f"{self.path} has no {key}, neither in its summary nor in its config.")

    def matches(self, selection: dict[str, Any]) -> bool:
        """Returns whether every key of `selection` has that value in this run."""
        return all(_same(self.value(key), value) for key, value in selection.items())

    def measure(self, key: str) -> float | None:
        """Returns the result called `key`: of the summary, or the last record of that metric.

        None when the run has none (yet). A diverged run has BLEU 0 and no loss.
        """
        status = self.summary["status"]
        if status == "diverged" and "bleu" in key:
            return 0.0
        if status != "completed":
            return None
        return self.last(key) if "/" in key else self.summary.get(key)

    def last(self, key: str) -> float | None:
        """Returns the last finite value of metric `key`, or None."""
        values = self.curve(key)[1]
        return values[-1] if values else None

    def curve(self, key: str, against: str = "step") -> tuple[list[float], list[float]]:
        """Returns x (`step` or `time`) and y of metric `key`, where it was logged and finite."""
        points = [(m[against], m[key]) for m in self.metrics if m.get(key) is not None]
        return [x for x, _ in points], [y for _, y in points]


def _same(x: Any, y: Any) -> bool:
    return list(x) == list(y) if isinstance(x, list | tuple) else x == y


def read_run(path: Path) -> Run:
    """Returns the run in `path`. Raises UserError when it holds no summary."""
    summary = path / "summary.json"
    if not summary.exists():
        raise UserError(f"{path} holds no finished run: {summary} does not exist.")
    records = path / "metrics.jsonl"
    lines = records.read_text(encoding="utf-8").split("\n") if records.exists() else []
    metrics = [json.loads(line) for line in lines if line]
    config = path / ".hydra" / "config.yaml"
    return Run(
        path,
        json.loads(summary.read_text(encoding="utf-8")),
        metrics,
        yaml.safe_load(config.read_text(encoding="utf-8")) if config.exists() else {},
    )

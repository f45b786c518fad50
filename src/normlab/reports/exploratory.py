"""Earlier, exploratory runs: made before anything was registered, kept as two small tables.

results/EXPERIMENT/SCALE/earlier/runs.csv has a row a run and curves.csv their curves. They are
shown without a verdict until registered runs exist, and give the spread that power is simulated
with.
"""

from pathlib import Path
from typing import Any

from normlab.files import flatten, read_csv
from normlab.registration import Arm, frozen
from normlab.reports.records import RunRecord

ABOUT = ("run", "seed", "status", "steps", "norm_impl", "device", "torch", "commit", "diverged_at")


def read_earlier(results: Path, name: str) -> list[RunRecord]:
    """Returns the earlier runs of "EXPERIMENT/SCALE" as records, none when there are none."""
    folder = results / name / "earlier"
    if not (folder / "runs.csv").exists():
        return []
    curves: dict[str, list[dict[str, Any]]] = {}
    if (folder / "curves.csv").exists():
        for row in read_csv(folder / "curves.csv"):
            point = {key: _value(text) for key, text in row.items() if key != "run" and text}
            curves.setdefault(row["run"], []).append(point)
    return [
        _record(folder, row, curves.get(row["run"], [])) for row in read_csv(folder / "runs.csv")
    ]


def _record(folder: Path, row: dict[str, str], curve: list[dict[str, Any]]) -> RunRecord:
    summary: dict[str, Any] = {key: _value(row[key]) for key in ABOUT if row.get(key)}
    summary |= {"norm": row["norm"], "test": {}}
    last: dict[str, Any] = {"step": summary.get("steps"), "time": 0.0}
    config: dict[str, Any] = {}
    for key, text in row.items():
        if key in (*ABOUT, "norm") or not text:
            continue
        if key == "best_dev":
            summary["best_dev"] = {"value": float(text)}
        elif key.count("/") == 2 and key.startswith("test/"):
            _, test_set, kind = key.split("/")
            summary["test"].setdefault(test_set, {})[kind] = float(text)
        elif "/" in key:
            last[key] = float(text)
        else:
            _put(config, key, _value(text))
    metrics = [*curve, last] if len(last) > 2 else curve
    return RunRecord(folder / row["run"], summary, config, metrics)


def _put(tree: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for part in path:
        tree = tree.setdefault(part, {})
    tree[last] = value


def _value(text: str) -> Any:
    """Returns a number where the text is one, "nothing" and "a+b" as the lists they stand for."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return [] if text == "nothing" else text


def arms_of(runs: list[RunRecord]) -> dict[Arm, list[RunRecord]]:
    """Returns earlier runs by their settings, the norm last."""
    arms: dict[Arm, list[RunRecord]] = {}
    for run in runs:
        settings = [(key, frozen(found)) for key, found in flatten(run.config).items()]
        arms.setdefault((*settings, ("norm", run.summary["norm"])), []).append(run)
    return arms

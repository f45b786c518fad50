"""Records: what of a finished run is kept in results/, and how it is read back.

A record is a run directory without what is large: summary.json, metrics.jsonl and .hydra/ (config
and overrides), in results/EXPERIMENT/SCALE/runs/NAME. Its name is the run directory's, which is
unique to its config; so a machine that has the record need not repeat the run.
"""

import itertools
import json
import math
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from normlab.errors import UserError
from normlab.files import check_files, flatten, hash_text, read_sealed, write_sealed
from normlab.registration import ENDED, LOCAL, LOCAL_KEYS, OUTSIDE, frozen
from normlab.reports.text import value

CONFIG = ".hydra/config.yaml"
UNSEEN = ("per_matrix", "samples", "threads", "device", "keep", "deterministic")  # of trainer
# What tells neither what was trained nor how: names, places, the machine, and the seed.
NO_SETTINGS = {
    *("seed", "task.hidden_stats", *OUTSIDE, *LOCAL_KEYS),
    *(f"trainer.{key}" for key in UNSEEN),
}
_MISSING = object()


@dataclass(frozen=True)
class RunRecord:
    """One run: its summary, its config and its metrics in the order of the steps."""

    path: Path
    summary: dict[str, Any]
    config: dict[str, Any] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        """Returns whether the run came to its end: completed, or a non-finite loss."""
        return self.summary["status"] in ENDED

    @property
    def diverged(self) -> bool:
        """Returns whether its loss became non-finite."""
        return self.summary["status"] == "diverged"

    def value(self, key: str) -> Any:
        """Returns `key` of the summary or else of the config: "seed", "init.apply_to".

        Raises UserError when neither has it.
        """
        for tree in (self.summary, self.config):
            if (found := _lookup(tree, key)) is not _MISSING:
                return found
        raise UserError(f"{self.path} has no {key}, neither in its summary nor in its config.")

    def settings(self) -> dict[str, Any]:
        """Returns what was trained and how, by flat config key, less the seed and names.

        A group that is there says so by itself: a norm of queries and keys, and none, are two
        settings. "data" is what the data held, if the summary says it.
        """
        kept = {key: found for key, found in self.config.items() if key not in NO_SETTINGS}
        flat = flatten(kept) | {
            f"{group}.{key}": "given"
            for group, found in kept.items()
            if isinstance(found, dict)
            for key, inner in found.items()
            if isinstance(inner, dict)
        }
        if contents := self.summary.get("contents"):
            flat["data"] = contents
        return {
            key: json.dumps(found, sort_keys=True) if isinstance(found, list | dict) else found
            for key, found in flat.items()
            if key not in NO_SETTINGS
        }

    def setting(self, key: str) -> Any:
        """Returns `key` of the config with lists as tuples, None where it has none.

        The norm is the option that was chosen; all else is what the config says.
        """
        if key == "norm":
            return self.summary["norm"]
        found = _lookup(self.config, key)
        return None if found is _MISSING else frozen(found)

    def measure(self, metric: str) -> float | None:
        """Returns the result of a completed run, None for any other: no loss, no BLEU of 0.

        "test/SET/bleu" and "best_dev" stand in the summary; else it is the last record of a metric,
        with "@100" at its end that of step 100; None where that was not finite.
        """
        if self.summary["status"] != "completed":
            return None
        if metric == "best_dev":
            return (self.summary.get("best_dev") or {}).get("value")
        if metric.startswith("test/") and metric.count("/") == 2:
            _, test_set, kind = metric.split("/")
            return self.summary.get("test", {}).get(test_set, {}).get(kind)
        logged = self._logged(metric)
        return logged[-1] if logged else None

    def overflowed(self, metric: str) -> bool:
        """Whether a completed run's `metric` was not finite where `measure` reads it."""
        return self.summary["status"] == "completed" and self._logged(metric)[-1:] == [None]

    def lost(self, metric: str) -> bool:
        """Whether it has no value because it diverged, or `metric` was not finite at the end."""
        return self.diverged or self.overflowed(metric)

    def _logged(self, metric: str) -> list[float | None]:
        metric, _, step = metric.partition("@")
        return [m[metric] for m in self.metrics if metric in m and step in ("", str(m["step"]))]

    def curve(self, metric: str, against: str = "step") -> tuple[list[float], list[float]]:
        """Returns x (`step` or `time`) and y of a metric where it was logged, NaN if not finite."""
        points = [(m[against], m[metric]) for m in self.metrics if metric in m]
        return [x for x, _ in points], [math.nan if y is None else y for _, y in points]


def read_record(path: Path) -> RunRecord:
    """Returns the run in `path`, a record or a run directory; UserError without a summary."""
    summary = path / "summary.json"
    if not summary.exists():
        raise UserError(f"{path} holds no finished run: {summary} does not exist.")
    found = read_sealed(summary)
    check_files(path, found.get("files", {}))
    records = path / "metrics.jsonl"
    lines = records.read_text(encoding="utf-8").split("\n") if records.exists() else []
    config = path / ".hydra" / "config.yaml"
    return RunRecord(
        path,
        found,
        yaml.safe_load(config.read_text(encoding="utf-8")) if config.exists() else {},
        [json.loads(line) for line in lines if line],
    )


def read_runs(paths: Sequence[Path]) -> list[RunRecord]:
    """Returns the runs among `paths`, which may name other files of a sweep too (multirun.yaml).

    Folders without a summary and runs that failed before they had a norm are left out, which stderr
    says. Raises UserError when no run is left, or for a path that does not exist.
    """
    runs = []
    for path in {path.resolve(): path for path in paths}.values():  # each once
        if not path.exists():
            raise UserError(f"{path} does not exist.")
        if not (path / "summary.json").exists():
            if path.is_dir():
                print(f"left out: {path} has no summary.json", file=sys.stderr)
            continue
        run = read_record(path)
        if "norm" in run.summary:
            runs.append(run)
        else:
            print(f"left out: {path} did not begin: {run.summary.get('error')}", file=sys.stderr)
    if not runs:
        raise UserError(f"{paths[0]} is no run directory: none of those named holds a run.")
    return runs


def by_norm(runs: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    """Returns the runs of each norm, in order."""
    groups: dict[str, list[RunRecord]] = {}
    for run in runs:
        groups.setdefault(run.summary["norm"], []).append(run)
    return groups


def varying(groups: Iterable[Sequence[RunRecord]]) -> list[str]:
    """Returns the settings in which runs of one group differ, so that they are no mere seeds.

    "data" stands for what the data held. A key that a run lacks, since it is older or its norm has
    no such option, tells nothing.
    """
    found = set()
    for runs in groups:
        values: dict[str, set[Any]] = {}
        for run in runs:
            for key, setting in run.settings().items():
                values.setdefault(key, set()).add(setting)
        found |= {key for key, different in values.items() if len(different) > 1}
    return sorted(found)


def alike(runs: Sequence[RunRecord], most: int = 6) -> dict[str, list[RunRecord]]:
    """Returns the runs by what those of a norm differ in besides the seed, as in "init.mean=0.2".

    A run that has no such setting stands beside each value of it. Raises UserError where that makes
    more than `most`, or the data differ.
    """
    keys = varying(by_norm(runs).values())
    every = [(run, run.settings()) for run in runs]
    values = [
        dict.fromkeys(settings[key] for _, settings in every if key in settings) for key in keys
    ]
    found = {}
    for point in itertools.product(*values) if "data" not in keys else ():
        chosen = dict(zip(keys, point, strict=True))
        fitting = [
            (run, settings)
            for run, settings in every
            if all(settings.get(key, wanted) == wanted for key, wanted in chosen.items())
        ]
        if any(chosen.keys() <= settings.keys() for _, settings in fitting):
            title = ", ".join(f"{key}={value(each)}" for key, each in chosen.items())
            found[title] = [run for run, _ in fitting]
    if not 0 < len(found) <= most:
        raise UserError(
            f"the runs of a norm differ in {', '.join(keys[:5])}: name fewer, so that a line is a "
            "mean over seeds."
        )
    return found


def check_metric(runs: Sequence[RunRecord], metric: str) -> None:
    """Raises UserError for a metric that none of the runs has logged."""
    logged = {key for run in runs for line in run.metrics for key in line}
    if metric not in logged:
        near = get_close_matches(metric, logged, n=1)
        raise UserError(f"no run has {metric}" + (f": did you mean {near[0]}?" if near else "."))


def records_folder(results: Path, name: str) -> Path:
    """Returns where the records of "EXPERIMENT/SCALE" lie."""
    return results / name / "runs"


def read_records(results: Path, name: str) -> list[RunRecord]:
    """Returns every record of "EXPERIMENT/SCALE", by name."""
    summaries = sorted(records_folder(results, name).glob("*/summary.json"))
    return [read_record(summary.parent) for summary in summaries]


def collect(run_dir: Path, results: Path) -> Path:
    """Copies a finished run into its record and returns that folder.

    Where files lay on this machine (data.dir, data.cache_dir) is left out: the hashes in the
    summary say what they held. A completed run that went on for more steps replaces its record.
    Raises UserError for a run that has not ended, that belongs to no experiment, or whose record
    holds another result.
    """
    run = read_record(run_dir)
    if not run.ended:
        raise UserError(f"{run_dir} is {run.summary['status']}: only a finished run is recorded.")
    name = _lookup(run.config, "names.experiment")
    if not isinstance(name, str) or not name:
        raise UserError(f"{run_dir} belongs to no experiment: start it with scripts/reproduce.py.")
    config = {**run.config, "data": dict(run.config.get("data") or {})}
    for key in LOCAL:
        config["data"].pop(key, None)
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    summary = dict(run.summary)
    if "files" in summary:
        summary["files"] = {**summary["files"], CONFIG: hash_text(text)}
    folder = records_folder(results, name) / run_dir.name
    if (folder / "summary.json").exists():
        there = read_record(folder).summary
        if there == summary:
            return folder
        if there["status"] == "diverged" or there["steps"] >= run.summary["steps"]:
            raise UserError(f"{folder} holds another result of this run; delete the wrong one.")
    (folder / ".hydra").mkdir(parents=True, exist_ok=True)
    overrides = run_dir / ".hydra" / "overrides.yaml"
    given = yaml.safe_load(overrides.read_text(encoding="utf-8")) if overrides.exists() else []
    kept = [o for o in given if o.partition("=")[0] not in LOCAL_KEYS]
    (folder / CONFIG).write_text(text, encoding="utf-8")
    text = yaml.safe_dump(kept, sort_keys=False, allow_unicode=True)
    (folder / ".hydra" / "overrides.yaml").write_text(text, encoding="utf-8")
    shutil.copyfile(run_dir / "metrics.jsonl", folder / "metrics.jsonl")
    write_sealed(folder / "summary.json", summary)  # last: now it is a record
    return folder


def restore(record: Path, run_dir: Path) -> None:
    """Copies a record to where its run would have been, so that the run counts as finished there.

    Does nothing without a record, or where a run has ended or has other limits. What was begun here
    and ended elsewhere takes its result from there.
    """
    if not (record / "summary.json").exists():
        return
    try:
        there = read_sealed(run_dir / "summary.json")
    except UserError:  # none, or a damaged one, which is no result
        there = {}
    limits = read_sealed(record / "summary.json").get("limits")
    if there.get("status") in ENDED or there.get("limits", limits) != limits:
        return
    for unfinished in ("checkpoints", "hypotheses", "references"):
        shutil.rmtree(run_dir / unfinished, ignore_errors=True)
    shutil.copytree(record, run_dir, dirs_exist_ok=True)


def _lookup(tree: Any, key: str) -> Any:
    for part in key.split("."):
        tree = tree.get(part, _MISSING) if isinstance(tree, dict) else _MISSING
    return tree

"""Which records make one table: those that differ in their arm and seed only.

One commit, one torch, one kind of device, one content of the data, one config but for the swept
keys. What does not fit is set apart with the reason, never mixed in and never dropped.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from normlab.files import flatten
from normlab.registration import LOCAL_KEYS, OUTSIDE, Arm, Registration, frozen
from normlab.reports.records import RunRecord
from normlab.reports.text import commit, value

# Not shared by a table's runs: what a run is called, who watches it, its arm's norm, its seed.
APART = (*OUTSIDE, "seed", "norm")


@dataclass(frozen=True)
class Selection:
    """The records of one table by arm, and those set apart with the reason."""

    registration: Registration
    arms: dict[Arm, list[RunRecord]]
    apart: list[tuple[RunRecord, str]]

    @property
    def runs(self) -> list[RunRecord]:
        """Returns the records of the table, arm by arm."""
        return [run for runs in self.arms.values() for run in runs]

    @property
    def expected(self) -> int:
        """Returns how many runs were registered."""
        return len(self.arms) * len(self.registration.seeds)

    @property
    def complete(self) -> bool:
        """Returns whether every registered run has ended."""
        return len(self.runs) == self.expected

    def by_seed(self, arm: Arm) -> dict[int, RunRecord]:
        """Returns the records of an arm by their seed."""
        return {run.value("seed"): run for run in self.arms[arm]}


def select(registration: Registration, records: Sequence[RunRecord]) -> Selection:
    """Returns the table of `registration`: the largest set of records that belong together.

    What does not carry the registration's hash or contradicts its settings is set apart first, and
    where something is to be decided also what comes from a tree with uncommitted changes, or from
    one that nobody knows.
    """
    checked = [(run, _unfit(registration, run)) for run in records]
    apart = [(run, why) for run, why in checked if why]
    fit = [run for run, why in checked if not why]
    groups = Counter(_setting(registration, run) for run in fit)
    chosen = max(groups, key=lambda group: (groups[group], group), default="")
    arms: dict[Arm, list[RunRecord]] = {arm: [] for arm in registration.arms()}
    for run in fit:
        if (group := _setting(registration, run)) != chosen:
            apart.append((run, _difference(json.loads(group), json.loads(chosen))))
            continue
        arm = next(arm for arm in arms if _stands_at(run, arm))
        seeds = {other.value("seed"): other for other in arms[arm]}
        if other := seeds.get(run.value("seed")):
            apart.append((run, f"the same arm and seed as {other.path.name}"))
        else:
            arms[arm].append(run)
    for runs in arms.values():
        runs.sort(key=lambda run: run.value("seed"))
    _arm_alike(registration, arms, apart)
    _one_implementation(registration, arms, apart)
    return Selection(registration, arms, apart)


def _unfit(registration: Registration, run: RunRecord) -> str:
    """Returns why a record is no run of this registration, "" when it is."""
    if not run.ended:
        return str(run.summary["status"])
    for start in [run.summary, *(s for s in _segments(run) if "registration" in s)]:
        if (start.get("registration") or {}).get("sha256") != registration.sha256:
            return "not started under this registration"
    for found in [run.summary.get("commit"), *(s.get("commit") for s in _segments(run))]:
        if registration.hypotheses and (not found or "+" in found):
            return f"commit {commit(found)}"
    if not any(_stands_at(run, arm) for arm in registration.arms()):
        return "no registered arm"
    if run.value("seed") not in registration.seeds:
        return f"seed {run.value('seed')} was not registered"
    steps = {"trainer.max_steps": registration.steps} if registration.steps else {}
    settings = steps | registration.settings
    for key, wanted in settings.items():
        absent = key.startswith("norm.") and run.setting(key) is None  # "none" has no eps
        if not absent and run.setting(key) != frozen(wanted):
            return f"{key} is {value(run.setting(key))}, registered {value(wanted)}"
    if steps and run.summary["status"] == "completed" and run.value("steps") != registration.steps:
        return f"{run.summary['steps']} steps, registered {registration.steps}"
    norm, found = run.summary["norm"], _implementation(run)
    if (wanted := registration.implementations.get(norm, found)) != found:
        return f"{norm} is {found}, registered {wanted}"
    return ""


def _segments(run: RunRecord) -> list[dict[str, Any]]:
    return run.summary.get("segments") or []


def _stands_at(run: RunRecord, arm: Arm) -> bool:
    return all(run.setting(key) == wanted for key, wanted in arm)


def _setting(registration: Registration, run: RunRecord) -> str:
    """Returns everything that the runs of one table share, as JSON that can be compared."""
    free = {*registration.grid, *registration.tied, *LOCAL_KEYS}
    config = {
        key: found
        for key, found in flatten(run.config).items()
        if key not in free and key.partition(".")[0] not in APART
    }
    summary = run.summary
    starts = [summary, *_segments(run)]
    shared = {
        "commit": commit(summary.get("commit")),
        "torch": ", ".join(sorted({str(s["torch"]) for s in starts if "torch" in s})),
        "device": ", ".join(sorted({_kind(s["device"]) for s in starts if "device" in s})),
        "commits of the segments": sorted({str(s.get("commit")) for s in _segments(run)}),
        "data": {"name": summary.get("data"), "contents": summary.get("contents")},
    }
    return json.dumps(flatten(shared) | config, sort_keys=True)


def _one_implementation(
    registration: Registration,
    arms: dict[Arm, list[RunRecord]],
    apart: list[tuple[RunRecord, str]],
) -> None:
    """Takes out what has another implementation than most, norms registered as exceptions aside."""
    exempt = {*registration.implementations, "none"}
    bound = [run for runs in arms.values() for run in runs if run.summary["norm"] not in exempt]
    counts = Counter(_implementation(run) for run in bound)
    usual = max(counts, key=lambda kind: (counts[kind], kind), default="")
    for run in [run for run in bound if _implementation(run) != usual]:
        apart.append((run, f"norm_impl is {_implementation(run)}, elsewhere {usual}"))
    for arm, runs in arms.items():
        arms[arm] = [run for run in runs if run not in bound or _implementation(run) == usual]


def _implementation(run: RunRecord) -> str:
    """Returns the norm's implementation without that of the cell around it ("fused+fused-gru")."""
    return str(run.summary.get("norm_impl")).partition("+")[0]


def _kind(device: str) -> str:
    return device.partition(" ")[0].rstrip(",")


def _arm_alike(
    registration: Registration,
    arms: dict[Arm, list[RunRecord]],
    apart: list[tuple[RunRecord, str]],
) -> None:
    """Takes out of each arm what has another implementation, option of its norm, or tied key."""
    for arm, runs in arms.items():
        kinds = {run.path: _own(registration, run) for run in runs}
        counts = Counter(kinds.values())
        usual = max(counts, key=lambda kind: (counts[kind], kind), default="")
        for run in [run for run in runs if kinds[run.path] != usual]:
            apart.append((run, _difference(json.loads(kinds[run.path]), json.loads(usual))))
        arms[arm] = [run for run in runs if kinds[run.path] == usual]


def _own(registration: Registration, run: RunRecord) -> str:
    """Returns what the runs of one arm share beside what those of the table do, as JSON."""
    tied = {key: run.setting(key) for key in registration.tied}
    options = tied | flatten({"norm": run.config.get("norm") or {}})
    used = sorted({str(s.get("norm_impl")) for s in _segments(run)})
    implementation = {"norm_impl": run.summary.get("norm_impl"), "of the segments": used}
    return json.dumps(options | implementation, sort_keys=True)


def _difference(this: dict[str, Any], usual: dict[str, Any]) -> str:
    keys = [key for key in sorted(this.keys() | usual.keys()) if this.get(key) != usual.get(key)]
    shown = [f"{key} is {this.get(key)}, elsewhere {usual.get(key)}" for key in keys[:2]]
    return ", ".join(shown) + (f" and {len(keys) - 2} more" if keys[2:] else "")

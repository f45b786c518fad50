"""What was decided before the runs: arms, seeds, steps and rules of an experiment, as data.

A registration is the table `[registrations.SCALE]` of experiments/NAME/experiment.toml. A run
stores its hash when it starts; a verdict needs runs that carry the hash of the registration as it
stands, so that a margin or a metric changed afterwards costs the verdict instead of changing it.
"""

import hashlib
import itertools
import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from normlab.errors import UserError

ENDED = ("completed", "diverged")  # how a run comes to its end
LOCAL = ("dir", "cache_dir")  # of data: where files lie on one machine
LOCAL_KEYS = tuple(f"data.{name}" for name in LOCAL)
OUTSIDE = ("hydra", "names", "logger")  # of a config: how a run starts, its name, who watches it
RULES = ("greater", "reaches", "equal", "flat", "fails")
MIN_SEEDS = 6  # fewer give numbers, but no interval, no p-value and no verdict
FLOORED = ("reaches", "equal", "flat")  # rules that two sides may pass that learn nothing
MIN_POWER = 0.8  # a claim is registered with at least this power, or not at all
Arm = tuple[tuple[str, Any], ...]  # one point of a grid: ((key, value), ...)


@dataclass(frozen=True)
class Hypothesis:
    """One claim, and the rule that decides it (reports/verdicts.py says what each rule means)."""

    claim: str  # key of the experiment's [claims]
    rule: str
    a: dict[str, Any] = field(default_factory=dict)  # arms: {"norm": "rmsnorm", ...}
    b: dict[str, Any] = field(default_factory=dict)  # the arms they are compared with
    metric: str = ""  # the primary one; of `fails` "" counts divergence only
    margin: float = 0.0  # in units of the metric
    floor: float | None = None  # `equal`, `flat`, `reaches`: both sides this good; `fails`: none is
    minus_a: dict[str, Any] = field(default_factory=dict)  # an interaction: (a - b) - these two
    minus_b: dict[str, Any] = field(default_factory=dict)
    by: str = ""  # of `flat`: the swept key on which nothing may depend
    expected: float = 0.0  # the true difference (of `fails`: share) for which the power holds
    spread: str = ""  # where that power's spread was observed: "table2/multi30k dev/nll", and of
    # which norms, where not of all: "norms/grammar dev/nll layernorm rmsnorm"; none only by name
    scale: float = 1.0  # what the spread is multiplied by, where another is expected
    power: float | None = None  # simulated with the whole table (scripts/power.py)


@dataclass(frozen=True)
class Registration:
    """One sweep as it was planned. Arms are every point of the grid, or the listed ones."""

    experiment: str
    scale: str
    sha256: str
    seeds: list[int]
    data: str  # what it is measured on, as an axis says it
    steps: int = 0  # 0: limited otherwise, see settings
    grid: dict[str, list[Any]] = field(default_factory=dict)
    only: list[dict[str, Any]] = field(default_factory=list)  # arms of the grid; all when empty
    tied: list[str] = field(default_factory=list)  # keys that follow a swept one
    settings: dict[str, Any] = field(default_factory=dict)  # what every run's config must say
    implementations: dict[str, str] = field(
        default_factory=dict
    )  # of norms that lack the common one
    pilot: str = ""  # "pending: ..." withholds every verdict; else what the pilot found
    gpu_hours: float = 0.0  # of one run, estimated
    cost_from: str = ""  # what that estimate rests on
    hypotheses: list[Hypothesis] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Returns "table4/multi30k"."""
        return f"{self.experiment}/{self.scale}"

    @property
    def pending(self) -> bool:
        """Returns whether a pilot has yet to fix steps or learning rate."""
        return self.pilot.startswith("pending")

    def arms(self) -> list[Arm]:
        """Returns the arms in the order of the grid, the norm varying fastest."""
        keys = sorted(self.grid, key=lambda key: key == "norm")
        product = itertools.product(*(self.grid[key] for key in keys))
        arms = [tuple(zip(keys, map(frozen, values), strict=True)) for values in product]
        return [arm for arm in arms if not self.only or any(within(arm, w) for w in self.only)]

    def cost(self) -> str:
        """Returns the estimated cost in words, "" when there is no estimate."""
        if not self.gpu_hours:
            return ""
        runs = len(self.arms()) * len(self.seeds)
        total = f"{runs * self.gpu_hours:,.0f} GPU hours"
        return f"{runs} runs of about {self.gpu_hours:g} h, {total} ({self.cost_from})"

    def select(self, selection: dict[str, Any]) -> list[Arm]:
        """Returns the arms that a selection names; raises UserError when it names none."""
        arms = [arm for arm in self.arms() if within(arm, selection)]
        if not arms:
            raise UserError(f"{self.name} has no arm {selection}: see its grid.")
        return arms


def within(arm: Arm, selection: dict[str, Any]) -> bool:
    """Returns whether the arm has every value of `selection`."""
    point = dict(arm)
    return all(key in point and point[key] == frozen(value) for key, value in selection.items())


def frozen(value: Any) -> Any:
    """Returns lists as tuples, which can be compared with an arm's values and hashed."""
    return tuple(value) if isinstance(value, list) else value


def digest(experiments: Path, name: str) -> str:
    """Returns the SHA-256 of the registration `name` ("table4/multi30k") in folder `experiments`.

    It covers the registration and the sentences of its claims, not comments, layout or findings.
    Raises UserError when there is no such registration.
    """
    folder, _, scale = name.partition("/")
    return _hash(_table(experiments / folder / "experiment.toml"), scale, name)


def read_registrations(path: Path) -> Iterator[Registration]:
    """Yields the registrations of one experiment.toml. Raises UserError for a malformed one."""
    table = _table(path)
    for scale, entry in table.get("registrations", {}).items():
        name = f"{path.parent.name}/{scale}"
        content = dict(entry)
        where = f"{path}, registrations.{scale}"
        try:
            hypotheses = [
                Hypothesis(**_known(each, Hypothesis, f"{where}.hypotheses"))
                for each in content.pop("hypotheses", [])
            ]
            content = _known(content, Registration, where)
            registration = Registration(
                path.parent.name, scale, _hash(table, scale, name), hypotheses=hypotheses, **content
            )
        except TypeError as error:
            raise UserError(f"{where}: {error}.") from error
        _check(registration, table.get("claims", {}))
        yield registration


def _known(content: dict[str, Any], kind: type, where: str) -> dict[str, Any]:
    """Returns `content`; raises UserError for a key that is no field of `kind`."""
    names = [each.name for each in fields(kind)]
    for key in content:
        if key not in names:
            of_claim = key in {each.name for each in fields(Hypothesis)}
            there = ": it belongs to a claim, in [[...hypotheses]]" if of_claim else ""
            raise UserError(f"{where} has no key {key}{there}; it knows {', '.join(names)}.")
    return content


def _check(registration: Registration, claims: dict[str, str]) -> None:
    """Raises UserError when a hypothesis cannot be tested as it is written."""
    if not registration.grid:
        raise UserError(
            f"{registration.name} has no grid: say what its sweep varies beside the seed, "
            'as in grid = {norm = ["layernorm", "rmsnorm"]}.'
        )
    for hypothesis in registration.hypotheses:
        where = f"{registration.name}, claim {hypothesis.claim}"
        if hypothesis.claim not in claims:
            raise UserError(f"{where}: no such key in [claims].")
        if hypothesis.rule not in RULES:
            known = ", ".join(RULES)
            raise UserError(f"{where}: no rule {hypothesis.rule}; choose one of {known}.")
        if hypothesis.rule in FLOORED and hypothesis.floor is None:
            raise UserError(
                f"{where}: {hypothesis.rule} needs a floor, below which it says nothing."
            )
        if hypothesis.rule == "greater" and hypothesis.floor is not None:
            raise UserError(f"{where}: greater takes no floor; reaches does.")
        if hypothesis.minus_a and hypothesis.floor is not None:
            raise UserError(f"{where}: a floor is of one loss, not of a difference (minus_a).")
        if hypothesis.rule != "fails" and not hypothesis.metric:
            raise UserError(f"{where}: {hypothesis.rule} needs a metric.")
        if hypothesis.rule == "flat" and len(registration.grid.get(hypothesis.by, ())) < 2:
            raise UserError(f"{where}: flat needs two values of by={hypothesis.by!r} in the grid.")
        for selection in (hypothesis.a, hypothesis.b, hypothesis.minus_a, hypothesis.minus_b):
            registration.select(selection)


def _hash(table: dict[str, Any], scale: str, name: str) -> str:
    registration = table.get("registrations", {}).get(scale)
    if registration is None:
        raise UserError(f"there is no registration {name}.")
    used = sorted({each["claim"] for each in registration.get("hypotheses", [])})
    claims = {key: table.get("claims", {}).get(key) for key in used}
    text = json.dumps([registration, claims], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _table(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"there is no experiment {path.parent.name}: {path} is missing.") from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} is not an experiment: {error}.") from error

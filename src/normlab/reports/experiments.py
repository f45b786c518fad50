"""The entries of experiments/: what each asks, the paper's numbers, claims and registrations."""

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from normlab.errors import UserError
from normlab.files import read_csv
from normlab.registration import Arm, Registration, read_registrations

SMOKE = "smoke"  # the scale that checks the pipeline and never settles a claim
PILOT = "pilot"  # first runs, which the registered ones supersede: no figure


@dataclass(frozen=True)
class Table:
    """One table of a report: metrics by name, with the paper's column for each or ""."""

    metrics: dict[str, str]
    title: str = ""
    benchmark: str = ""  # a stored one with a variant for each norm: its time of a step


@dataclass(frozen=True)
class SpeedClaim:
    """One sentence about time, judged by the stored benchmark that it names; "": none yet."""

    text: str
    benchmark: str = ""
    a: str = ""  # variant that should take less time ...
    b: str = ""  # ... than this one
    record: str = ""  # the title of its part of the benchmark, where that has several
    than: str = ""  # another part: a : b should be less than it is there
    bound: float = 0.02  # by how much less; ratios that lie as near to 1 are equal


@dataclass(frozen=True)
class Observed:
    """What was seen of a claim for which no rule was registered."""

    page: str  # in results/
    evidence: str


@dataclass(frozen=True)
class Effects:
    """A full factorial: what each factor, and each combination of them, does to a metric."""

    metric: str
    factors: dict[str, list[dict[str, Any]]]  # name -> which arms have it, any of these selections
    within: str  # computed at each value of this swept key
    crossed: list[str]  # two factors: the effect of each also with and without the other


@dataclass(frozen=True)
class Figure:
    """One figure: `curves` against the step, `points` a run, or a `parameter` on the x axis."""

    kind: str
    y: list[str]
    x: str = "step"
    facet: str = ""  # a swept key: one panel each
    log: list[str] = field(default_factory=list)  # metrics with a logarithmic axis; curves: besides
    # those of which a curve asks for it
    guessing: bool = False  # shows what guessing gives, as the runs' summaries say
    delta: bool = False  # curves: beside each, what the same seed has with the baseline taken off;
    # points: that alone
    chance: dict[str, float] = field(
        default_factory=dict
    )  # last part of a metric -> what chance gives
    names: dict[str, str] = field(
        default_factory=dict
    )  # what values of x and of the facet are called
    paper: str = ""  # a file beside experiment.toml with the paper's own curve: step, norms ...
    paper_label: str = ""  # its quantity and data set


@dataclass(frozen=True)
class Experiment:
    """One table, figure or question: all of it data in experiments/<name>/."""

    name: str
    folder: Path
    title: str
    source: str
    protocol: str
    deviates: str = ""
    runs_of: str = ""  # shares the runs (and their verdicts) of that experiment
    baseline: dict[str, Any] = field(default_factory=lambda: {"norm": "layernorm"})
    paper: list[dict[str, str]] = field(default_factory=list)  # rows of paper.csv
    tables: list[Table] = field(default_factory=list)
    effects: Effects | None = None
    figures: dict[str, Figure] = field(default_factory=dict)  # by scale, "any" for the others
    claims: dict[str, str] = field(default_factory=dict)  # key -> sentence
    observed: dict[str, Observed] = field(default_factory=dict)  # by unregistered claim
    speed: list[SpeedClaim] = field(default_factory=list)
    findings: dict[str, str] = field(
        default_factory=dict
    )  # scale -> at most five sentences, a list
    notes: dict[str, str] = field(default_factory=dict)  # scale -> what else is to be known of them
    earlier: dict[str, str] = field(default_factory=dict)  # scale -> what was seen before those
    registrations: dict[str, Registration] = field(default_factory=dict)  # by scale

    @property
    def item(self) -> str:
        """Returns what it is called in the paper: "Table 4"."""
        return self.title.partition(":")[0]

    @property
    def evidence(self) -> str:
        """Returns the experiment whose runs it reads."""
        return self.runs_of or self.name

    def figure(self, scale: str) -> Figure | None:
        """Returns the figure of a scale, None when it has none."""
        return self.figures.get(scale, self.figures.get("any"))

    def sweeps(self) -> list[str]:
        """Returns the scales that can be run: smoke, multi30k, paper, ..."""
        return sorted(path.stem for path in (self.folder.parent / self.evidence).glob("*.yaml"))

    def paper_value(self, arm: Arm, column: str) -> str:
        """Returns the paper's number for an arm, "" where it has none."""
        norm = dict(arm).get("norm")
        rows = [row for row in self.paper if row.get("norm") == norm]
        return rows[0].get(column, "") if rows and column else ""


def read_experiment(name: str, root: Path) -> Experiment:
    """Returns the experiment in `root`/`name`; raises UserError when there is none."""
    path = root / name / "experiment.toml"
    if not path.exists():
        known = ", ".join(p.parent.name for p in sorted(root.glob("*/experiment.toml")))
        raise UserError(f"there is no experiment {name}; choose one of {known}.")
    registrations = {each.scale: each for each in read_registrations(path)}
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    data.pop("registrations", None)
    where = data.pop("paper", {}).get("where", {})
    if runs_of := data.get("runs_of"):
        shared = read_registrations(root / runs_of / "experiment.toml")
        registrations = {each.scale: each for each in shared}
    try:
        figures = {key: Figure(**each) for key, each in data.pop("figures", {}).items()}
        observed = {key: Observed(**each) for key, each in data.pop("observed", {}).items()}
        effects = Effects(**data.pop("effects")) if "effects" in data else None
        return Experiment(
            name,
            path.parent,
            tables=[Table(**table) for table in data.pop("tables", [])],
            speed=[SpeedClaim(**claim) for claim in data.pop("speed", [])],
            paper=_paper_rows(path.with_name("paper.csv"), where),
            figures=figures,
            effects=effects,
            observed=observed,
            registrations=registrations,
            **data,
        )
    except TypeError as error:
        raise UserError(f"{path} is not an experiment: {error}.") from error


def read_experiments(root: Path) -> list[Experiment]:
    """Returns every experiment, the paper's tables, then its figures, then ours."""

    def order(name: str) -> tuple[int, int, str]:
        kinds = ("table", "figure", "appendix")
        kind = next((i for i, k in enumerate(kinds) if name.startswith(k)), len(kinds))
        digits = re.sub(r"\D", "", name)
        return kind, int(digits or 0), name

    names = [path.parent.name for path in root.glob("*/experiment.toml")]
    return [read_experiment(name, root) for name in sorted(names, key=order)]


def _paper_rows(path: Path, where: dict[str, str]) -> list[dict[str, str]]:
    rows = read_csv(path) if path.exists() else []
    return [row for row in rows if all(row.get(key) == value for key, value in where.items())]

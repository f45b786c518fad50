"""The entries of experiments/: what each asks, its sweeps, the paper's numbers, its claims."""

import csv
import itertools
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from normlab.errors import UserError
from normlab.reports.runs import Run, read_run

SMOKE = "smoke"  # the scale that checks the pipeline and never settles a claim
Cell = tuple[tuple[str, Any], ...]  # one point of a grid without its seed: ((key, value), ...)


@dataclass(frozen=True)
class Table:
    """One table of a report: metrics by name, with the paper's column for each or ""."""

    metrics: dict[str, str]
    title: str = ""
    prefix: str = ""  # stands before every metric's name
    compare: bool = True  # show differences to the baseline


@dataclass(frozen=True)
class Claim:
    """One sentence of the paper and the rule that decides it (verdicts.py)."""

    text: str
    rule: str = ""  # "": nothing in normlab can test it yet
    metric: str = ""
    a: dict[str, Any] = field(default_factory=dict)  # which runs: {"norm": "rmsnorm", ...}
    b: dict[str, Any] = field(default_factory=dict)  # the runs they are compared with
    margin: float = 0.0
    limit: float = 0.0
    by: str = ""
    benchmark: str = ""  # of `faster`: its name; a and b then are variants of it


@dataclass(frozen=True)
class Sweep:
    """One scale of an experiment: where its runs lie, and its grid."""

    scale: str
    folder: Path
    params: dict[str, list[Any]]

    @property
    def keys(self) -> list[str]:
        """Returns the swept keys but the seed, the norm last: norms are compared row by row."""
        return sorted((key for key in self.params if key != "seed"), key=lambda key: key == "norm")

    @property
    def seeds(self) -> list[int]:
        """Returns the seeds of the grid."""
        return self.params.get("seed", [1])

    def cells(self) -> list[Cell]:
        """Returns every point of the grid without its seed, in the order of the sweep."""
        values = [[(key, value) for value in self.params[key]] for key in self.keys]
        return list(itertools.product(*values))

    def runs(self) -> dict[Cell, list[Run]]:
        """Returns the runs at each point of the grid, those without a summary left out.

        Raises UserError when two runs stand at one point with one seed.
        """
        found: dict[Cell, list[Run]] = {cell: [] for cell in self.cells()}
        for summary in sorted(self.folder.glob("*/summary.json")):
            run = read_run(summary.parent)
            for cell, runs in found.items():
                if run.matches(dict(cell)) and run.value("seed") in self.seeds:
                    for other in runs:
                        if other.value("seed") == run.value("seed"):
                            raise UserError(
                                f"{run.path} and {other.path} are the same point of {self.scale}'s "
                                "grid under different settings: move one of them elsewhere."
                            )
                    runs.append(run)
        return {cell: sorted(runs, key=lambda r: r.value("seed")) for cell, runs in found.items()}


@dataclass(frozen=True)
class Experiment:
    """One table, figure or question: all of it data in experiments/<name>/."""

    name: str
    folder: Path
    title: str
    source: str
    protocol: str
    deviates: str = ""
    baseline: dict[str, Any] = field(default_factory=lambda: {"norm": "layernorm"})
    scales: list[str] = field(default_factory=lambda: ["paper", "multi30k"])  # who settles claims
    paper: list[dict[str, str]] = field(default_factory=list)  # rows of paper.csv
    tables: list[Table] = field(default_factory=list)
    figure: dict[str, Any] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)
    findings: dict[str, str] = field(default_factory=dict)  # scale -> what we make of it, in prose

    def available(self) -> list[str]:
        """Returns the names of its sweeps: smoke, multi30k, paper, ..."""
        return sorted(path.stem for path in self.folder.glob("*.yaml"))

    def sweep(self, scale: str) -> Sweep:
        """Returns the sweep at `scale`. Raises UserError when there is none."""
        if scale not in self.available():
            known = ", ".join(self.available()) or "none: it cannot run yet"
            raise UserError(f"experiment {self.name} has no scale {scale}; it has {known}.")
        hydra = _hydra_node(self.folder / f"{scale}.yaml")
        params = {key: _values(str(text)) for key, text in hydra["sweeper"]["params"].items()}
        return Sweep(scale, Path(hydra["sweep"]["dir"]), params)

    def paper_value(self, cell: Cell, column: str) -> str:
        """Returns the paper's number for a point of the grid, "" where it has none."""
        norm = dict(cell).get("norm")
        rows = [row for row in self.paper if row.get("norm") == norm]
        return rows[0].get(column, "") if rows and column else ""


def load(name: str, root: Path) -> Experiment:
    """Returns the experiment in `root`/`name`; raises UserError when there is none."""
    path = root / name / "experiment.toml"
    if not path.exists():
        known = ", ".join(p.parent.name for p in sorted(root.glob("*/experiment.toml")))
        raise UserError(f"there is no experiment {name}; choose one of {known}.")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        where = data.pop("paper", {}).get("where", {})
        tables = [Table(**table) for table in data.pop("tables", [])]
        claims = [Claim(**claim) for claim in data.pop("claims", [])]
        return Experiment(
            name, path.parent, tables=tables, claims=claims,
            paper=_paper_rows(path.with_name("paper.csv"), where), **data,
        )  # fmt: skip
    except (tomllib.TOMLDecodeError, TypeError) as error:
        raise UserError(f"{path} is not an experiment: {error}.") from error


def load_all(root: Path) -> list[Experiment]:
    """Returns every experiment, the paper's tables, then its figures, then ours."""

    def order(name: str) -> tuple[int, int, str]:
        kinds = ("table", "figure", "appendix")
        kind = next((i for i, k in enumerate(kinds) if name.startswith(k)), len(kinds))
        digits = re.sub(r"\D", "", name)
        return kind, int(digits or 0), name

    names = [path.parent.name for path in root.glob("*/experiment.toml")]
    return [load(name, root) for name in sorted(names, key=order)]


def _paper_rows(path: Path, where: dict[str, str]) -> list[dict[str, str]]:
    if not path.exists():
        return []
    lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line[:1] != "#"]
    rows = csv.DictReader(line for line in lines if line)
    return [row for row in rows if all(row.get(key) == value for key, value in where.items())]


def _hydra_node(path: Path) -> dict[str, Any]:
    """Returns the `hydra` node of a sweep file, those of the sweeps it builds on merged in."""
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    node: dict[str, Any] = {}
    for entry in data.get("defaults", []):
        if isinstance(entry, str):  # a file beside this one
            _merge(node, _hydra_node(path.with_name(f"{entry}.yaml")))
        elif not (group := next(iter(entry))).startswith("override"):  # /table2: multi30k
            folder = path.parents[1] / group.lstrip("/")
            _merge(node, _hydra_node(folder / f"{entry[group]}.yaml"))
    return _merge(node, data.get("hydra", {}))


def _merge(into: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    for key, value in other.items():
        into[key] = _merge(into.get(key, {}), value) if isinstance(value, dict) else value
    return into


def _values(text: str) -> list[Any]:
    """Returns the values of a Hydra choice sweep: "0,0.2", "[],[all]" (lists as tuples)."""
    return [_value(yaml.safe_load(value)) for value in re.split(r",(?![^\[]*\])", text)]


def _value(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    try:  # YAML 1.1 reads 1e-3 as text
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value

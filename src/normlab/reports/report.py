"""Reports: results/<experiment>/<scale>/ from run directories, and results/README.md from those.

The same run directories give the same bytes: no date, no path of this machine.
"""

import csv
import io
import json
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from normlab.reports.curves import curves_figure, parameter_figure
from normlab.reports.experiments import SMOKE, Cell, Claim, Experiment, Sweep, Table
from normlab.reports.runs import Run
from normlab.reports.statistics import difference, mean_std, paired
from normlab.reports.verdicts import NOT_RUN, Verdict, judge, judge_speed

SUMMARY = (
    "steps", "training_seconds", "seconds_per_1k_steps", "tokens_per_second", "parameters",
    "norm_impl", "device", "torch", "commit", "diverged_at", "error",
)  # fmt: skip


def write_report(experiment: Experiment, scale: str, results: Path) -> Path | None:
    """Writes the report of one sweep and returns its folder; None when no run has a summary."""
    sweep = experiment.sweep(scale)
    runs = sweep.runs()
    every = [run for cell in runs.values() for run in cell]
    if not every:
        return None
    folder = results / experiment.name / scale
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "runs.csv").write_text(_runs_csv(experiment, sweep, runs), encoding="utf-8")
    judged = [(c, judge(c, runs)) for c in experiment.claims if c.rule != "faster"]
    stored = [{"claim": asdict(claim), **asdict(verdict)} for claim, verdict in judged]
    text = json.dumps(stored, indent=1, ensure_ascii=False) + "\n"
    (folder / "verdicts.json").write_text(text, encoding="utf-8")
    figure = _figure(experiment, sweep, runs, folder)
    page = _page(experiment, sweep, runs, judged, figure)
    (folder / "table.md").write_text(page, encoding="utf-8")
    return folder


def write_index(experiments: Iterable[Experiment], results: Path) -> Path:
    """Writes results/README.md: every claim of the paper, a row each, and its verdict.

    Reads the reports and benchmarks that lie in `results`, so that it needs no run directory and
    a clone in which one experiment is run keeps the verdicts of the others.
    """
    lines = [
        "# What the paper claims, and what we found",
        "",
        "Written by `python scripts/report.py` from run directories; the rules stand in",
        "`experiments/*/experiment.toml`. *Reproduced* and *contradicted* need the difference's",
        "95 % interval over seeds on one side of the margin, or all runs to diverge or none;",
        "*not reproduced*: the runs do not decide.",
        "Scales: `paper` is the paper's setting, `multi30k` a small one on real data whose",
        "verdicts hold for that setting only; `smoke` runs settle nothing. Speed is judged by",
        "benchmarks of small models: the interval is over blocks and must exceed an A/A control's.",
        "",
        "| from | claim | verdict | at scale | evidence |",
        "|---|---|---|---|---|",
    ]
    for experiment in experiments:
        for claim in experiment.claims:
            if claim.rule == "faster":
                name, verdict = "benchmark", judge_speed(claim, results / "benchmarks")
                link = f"benchmarks/{claim.benchmark}.md"
            else:
                name, verdict = _stored_verdict(experiment, claim, results)
                link = f"{experiment.name}/{name}/table.md"
            where = "-" if verdict.verdict == NOT_RUN else f"[{name}]({link})"
            item = experiment.title.partition(":")[0]
            lines.append(
                f"| {item} | {claim.text} | **{verdict.verdict}** | {where} | {verdict.evidence} |"
            )
    path = results / "README.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _stored_verdict(experiment: Experiment, claim: Claim, results: Path) -> tuple[str, Verdict]:
    """Returns the first scale whose report settles the claim as it now stands, and its verdict."""
    found = "", Verdict(NOT_RUN)
    for scale in experiment.scales:
        path = results / experiment.name / scale / "verdicts.json"
        for entry in json.loads(path.read_text(encoding="utf-8")) if path.exists() else []:
            if entry.pop("claim") == asdict(claim):
                found = scale, Verdict(**entry)
        if found[1].verdict != NOT_RUN:
            break
    return found


def _page(
    experiment: Experiment,
    sweep: Sweep,
    runs: dict[Cell, list[Run]],
    judged: Sequence[tuple[Claim, Verdict]],
    figure: bool,
) -> str:
    ended = sum(r.summary["status"] in ("completed", "diverged") for c in runs.values() for r in c)
    expected = len(sweep.cells()) * len(sweep.seeds)
    lines = [
        f"# {experiment.title}",
        "",
        f"{experiment.source}. Scale **{sweep.scale}**: {ended} of {expected} runs have ended.",
        "",
    ]
    if sweep.scale == SMOKE:
        lines += ["A check that the pipeline works. Nothing here is evidence for or against.", ""]
    lines += [f"*Protocol.* {_flow(experiment.protocol)}", ""]
    if experiment.deviates:
        lines += [f"*Where ours deviates.* {_flow(experiment.deviates)}", ""]
    if judged:
        lines += ["| claim | verdict | evidence |", "|---|---|---|"]
        for claim, verdict in judged:
            lines.append(f"| {claim.text} | **{verdict.verdict}** | {verdict.evidence} |")
        lines.append("")
    if sweep.scale in experiment.findings:
        lines += [f"*What we make of it.* {_flow(experiment.findings[sweep.scale])}", ""]
    for table in experiment.tables:
        lines += [*([f"## {table.title}", ""] if table.title else []),
                  *_table(experiment, sweep, runs, table), ""]  # fmt: skip
    if figure:
        lines += [f"![{experiment.title}](figure.png)", ""]
    every = [run for cell in runs.values() for run in cell]
    return "\n".join([*lines, *_footnotes(experiment, sweep, every)]) + "\n"


def _table(
    experiment: Experiment, sweep: Sweep, runs: dict[Cell, list[Run]], table: Table
) -> list[str]:
    baseline = " ".join(str(value) for value in experiment.baseline.values())
    head = [*sweep.keys]
    for metric, column in table.metrics.items():
        head += [f"paper: {column}"] * bool(column)
        head += [f"ours: {metric}"] + [f"Δ to {baseline} [95 %]"] * table.compare
    head += ["s per 1k steps (implementation)", "device", "runs"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for cell, at_cell in runs.items():
        row = [_text(value) for _, value in cell]
        reference = runs.get(tuple((k, experiment.baseline.get(k, v)) for k, v in cell), [])
        for metric, column in table.metrics.items():
            key = table.prefix + metric
            values = [v for run in at_cell if (v := run.measure(key)) is not None]
            row += [experiment.paper_value(cell, column) or "-"] * bool(column)
            row.append(mean_std(values))
            if table.compare:
                gap = None if reference is at_cell else difference(paired(at_cell, reference, key))
                row.append("-" if gap is None else str(gap))
        row += [_seconds(at_cell), _set(at_cell, "device"), _statuses(at_cell, len(sweep.seeds))]
        lines.append("| " + " | ".join(row) + " |")
    return lines


def _statuses(runs: Sequence[Run], expected: int) -> str:
    counts: dict[str, int] = {}
    for run in runs:
        counts[run.summary["status"]] = counts.get(run.summary["status"], 0) + 1
    if missing := expected - len(runs):
        counts["not run"] = missing
    return ", ".join(f"{count} {status}" for status, count in counts.items())


def _seconds(runs: Sequence[Run]) -> str:
    by_impl: dict[str, list[float]] = {}
    for run in runs:
        if (seconds := run.summary.get("seconds_per_1k_steps")) is not None:
            by_impl.setdefault(str(run.summary.get("norm_impl")), []).append(seconds)
    return ", ".join(f"{mean_std(values)} ({impl})" for impl, values in by_impl.items()) or "-"


def _set(runs: Iterable[Run], key: str) -> str:
    """Returns the distinct values of a summary key, commits shortened as git does."""
    shorten = re.compile(r"\b([0-9a-f]{10})[0-9a-f]{30}\b")
    values = {shorten.sub(r"\1", str(r.summary[key])) for r in runs if r.summary.get(key)}
    return ", ".join(sorted(values)) or "-"


def _footnotes(experiment: Experiment, sweep: Sweep, runs: Sequence[Run]) -> list[str]:
    overrides = [_overrides(run) for run in runs]
    common = [o for o in overrides[0] if all(o in other for other in overrides)]
    swept = ("seed", *sweep.keys)
    extra = [o for o in common if o.lstrip("+").partition("=")[0] not in (*swept, experiment.name)]
    command = ["python", "scripts/reproduce.py", experiment.name, "--scale", sweep.scale, *extra]
    return [
        f"    {shlex.join(command)}",
        "",
        f"torch {_set(runs, 'torch')}; commit {_set(runs, 'commit')}. Mean ± standard deviation",
        "over seeds; Δ is paired by seed, with a bootstrap interval over seeds and the p-value of",
        "an exact sign-flip test. A diverged run has BLEU 0. Runs of a sweep may share a machine:",
        "their seconds are no benchmark. Every run is in [runs.csv](runs.csv).",
    ]


def _overrides(run: Run) -> list[str]:
    path = run.path / ".hydra" / "overrides.yaml"
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else []


def _runs_csv(experiment: Experiment, sweep: Sweep, runs: dict[Cell, list[Run]]) -> str:
    metrics = {t.prefix + metric: None for t in experiment.tables for metric in t.metrics}
    head = [*sweep.keys, "seed", "status", *metrics]
    head += [key for key in SUMMARY if key not in head] + ["run"]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(head)
    for cell, at_cell in runs.items():
        for run in at_cell:
            row = [_text(value) for _, value in cell] + [run.value("seed"), run.summary["status"]]
            row += [_number(run.measure(metric)) for metric in metrics]
            row += [_number(run.summary.get(key)) for key in SUMMARY] + [run.path.name]
            writer.writerow(row)
    return buffer.getvalue()


def _figure(
    experiment: Experiment, sweep: Sweep, runs: dict[Cell, list[Run]], folder: Path
) -> bool:
    every = [run for cell in runs.values() for run in cell]
    spec: dict[str, Any] = dict(experiment.figure)
    if not spec:
        return False
    facet = spec.get("facet")
    facets = sweep.params[facet] if facet else [None]
    panels = []
    for value in facets:
        chosen = every if facet is None else [run for run in every if run.matches({facet: value})]
        title = "" if facet is None else f"{facet} = {_text(value)}"
        if "x" in spec:
            panels += [(title, chosen, y, spec["x"]) for y in spec["y"]]
        else:
            panels += [(title, chosen, key, against) for key, against in spec["panels"]]
    if "x" in spec:
        parameter_figure(panels, folder / "figure")
    else:
        curves_figure(panels, folder / "figure")
        (folder / "curves.csv").write_text(_curves_csv(every, spec["panels"]), encoding="utf-8")
    return True


def _curves_csv(runs: Sequence[Run], panels: Sequence[Sequence[str]]) -> str:
    keys = list(dict.fromkeys(key for key, _ in panels))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["run", "step", "time", *keys])
    for run in runs:
        for record in run.metrics:
            if any(record.get(key) is not None for key in keys):
                row = [run.path.name, record["step"], f"{record['time']:.2f}"]
                writer.writerow(row + [_number(record.get(key)) for key in keys])
    return buffer.getvalue()


def _flow(text: str) -> str:
    return " ".join(text.split())


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "+".join(map(str, value)) or "nothing"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _number(value: Any) -> Any:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else value

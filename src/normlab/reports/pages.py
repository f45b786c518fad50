"""Pages of results: one folder a sweep, written from the records that lie in it."""

import shlex
from collections.abc import Sequence
from pathlib import Path

import yaml

from normlab import markdown
from normlab.reports import text
from normlab.reports.effects import NOTE, effect_table, is_factorial
from normlab.reports.evidence import Evidence
from normlab.reports.experiments import SMOKE
from normlab.reports.panels import draw_figure, legend
from normlab.reports.records import RunRecord
from normlab.reports.tables import arm_table, distinct


def write_page(found: Evidence, results: Path) -> Path | None:
    """Writes table.md and figure.png of a sweep; returns the page.

    None where there is neither a run nor a registered claim.
    """
    if found.empty and not found.registration.hypotheses:
        return None
    folder = results / found.experiment.name / found.registration.scale
    folder.mkdir(parents=True, exist_ok=True)
    figure = folder / "figure.png"
    drawn = draw_figure(found, figure)
    if not drawn:
        figure.unlink(missing_ok=True)  # of what is no longer there
    path = folder / "table.md"
    path.write_text("\n".join(_page(found, drawn)) + "\n", encoding="utf-8")
    return path


def _page(found: Evidence, drawn: bool) -> list[str]:
    """Returns the lines: what was found and its figure first, how it was planned at the end."""
    experiment, registration = found.experiment, found.registration
    lines = [
        f"# {experiment.title}",
        "",
        f"{experiment.source}. Scale **{registration.scale}**.",
        "",
    ]
    if registration.scale == SMOKE:
        lines += [f"**{pipeline(found)}** A smoke run is no evidence for or against a claim.", ""]
    if found.selection.runs:
        lines += _finding(found, drawn)
    if found.verdicts and not experiment.runs_of:
        lines += _claims(found)
    if found.selection.runs:
        lines += ["## Runs", "", *_tables(found)]
        if note := experiment.notes.get(registration.scale):
            lines += [text.one_line(note), ""]
    elif found.earlier:
        lines += ["## Earlier, exploratory runs: no verdict", "", *_about_earlier(found.earlier)]
        if said := experiment.earlier.get(registration.scale):
            lines += [text.one_line(said), ""]
        lines += _tables(found) + _figure(found, drawn)
    lines += ["## Protocol", "", text.one_line(experiment.protocol), ""]
    if experiment.deviates:
        lines += [f"Where ours deviates: {text.one_line(experiment.deviates)}", ""]
    return [*lines, *_registered(found), *_apart(found), *_command(found)]


def _finding(found: Evidence, drawn: bool) -> list[str]:
    sentences = found.experiment.findings.get(found.registration.scale, "").strip()
    lines = ["## What was found", ""] if sentences or drawn else []
    return [*lines, *([sentences, ""] if sentences else []), *_figure(found, drawn)]


def _figure(found: Evidence, drawn: bool) -> list[str]:
    if not drawn:
        return []
    marks = legend(found.experiment.figure(found.registration.scale))
    return [f"![{found.experiment.title}](figure.png)", "", marks, ""]


def _tables(found: Evidence) -> list[str]:
    lines: list[str] = []
    for table in found.experiment.tables:
        lines += [f"### {table.title}", ""] if table.title else []
        lines += [*arm_table(found, table), ""]
    effects = found.experiment.effects
    if effects and found.selection.runs and is_factorial(effects, found.selection.arms):
        lines += ["### Effects", "", *effect_table(found, effects), "", NOTE, ""]
    return lines


def pipeline(found: Evidence) -> str:
    """Returns "pipeline ok" for a smoke sweep, or how far it is."""
    ended, expected = len(found.selection.runs), found.selection.expected
    return "pipeline ok." if ended == expected else f"{ended} of {expected} runs have ended."


def _registered(found: Evidence) -> list[str]:
    registration, selection = found.registration, found.selection
    count = len(registration.seeds)
    seeds = f"{count} seed{'s' * (count > 1)} ({', '.join(map(str, registration.seeds))})"
    lines = [
        "## Registration",
        "",
        f"`{registration.name}`, SHA-256 `{registration.sha256}`: {len(registration.arms())} arms,",
        f"{seeds}, {registration.steps or 'no fixed number of'} steps.",
        f"{len(selection.runs)} of {selection.expected} registered runs have ended.",
    ]
    if registration.settings:
        settings = (f"`{key}={value}`" for key, value in registration.settings.items())
        lines.append(f"Every run has {', '.join(settings)}.")
    if not registration.hypotheses:
        lines.append("No claim is registered at this scale.")
    if registration.pilot:
        lines.append(f"Pilot: {text.one_line(registration.pilot)}")
    if cost := registration.cost():
        lines.append(f"Estimated cost: {cost}.")
    return [*lines, ""]


def _claims(found: Evidence) -> list[str]:
    head = [
        "claim",
        "rule",
        "power, at a true difference",
        "verdict",
        "evidence",
        "other metrics disagree",
    ]
    rows = []
    for verdict, each in zip(found.verdicts, found.registration.hypotheses, strict=True):
        margin = f", margin {each.margin:g}" if each.rule != "fails" else ""
        floor = "" if each.floor is None else f", floor {each.floor:g}"
        rows.append(
            [
                found.experiment.claims[each.claim],
                f"{each.rule}{margin}{floor}; {each.metric or 'divergence'}",
                text.power(each),
                f"**{verdict.verdict}**",
                verdict.evidence,
                verdict.disagrees or "-",
            ]
        )
    return ["## Claims", "", *markdown.table(head, rows), ""]


def _about_earlier(runs: Sequence[RunRecord]) -> list[str]:
    commits = {text.commit(run.summary.get("commit")) for run in runs}
    dirty = sum("+" in commit for commit in commits)
    seeds = len({run.summary.get("seed") for run in runs})
    return [
        f"{len(runs)} runs, {seeds} seeds, from {len(commits)} states of the code ({dirty} of them "
        "with uncommitted changes), made before anything was registered. They are here to look at "
        "and give the spread that power is computed from; they decide nothing.",
        "",
    ]


def _apart(found: Evidence) -> list[str]:
    if not found.selection.apart:
        return []
    lines = ["## Set apart", "", "Records that are not runs of this table:", ""]
    return [*lines, *(f"- `{run.path.name}`: {why}" for run, why in found.selection.apart), ""]


def _command(found: Evidence) -> list[str]:
    name, scale = found.experiment.evidence, found.registration.scale
    command = shlex.join(["python", "scripts/reproduce.py", name, "--scale", scale])
    runs = found.selection.runs
    if not runs:
        return ["To run it:", "", f"    {command}"]
    overrides = runs[0].path / ".hydra" / "overrides.yaml"
    given = yaml.safe_load(overrides.read_text(encoding="utf-8")) if overrides.exists() else []
    command += " --results mine" if found.selection.complete else ""  # else nothing is trained
    for source in [override for override in given if override.startswith("data=")]:
        command += f" {source} data.dir=DIR"
    commits = sorted({text.commit(run.summary.get("commit")) for run in runs})
    return [
        f"To run it again{' (DIR holds the data)' if 'DIR' in command else ''}:",
        "",
        f"    {command}",
        "",
        f"Commit {', '.join(commits)}; torch {distinct(runs, 'torch')};",
        f"{distinct(runs, 'device')}. Mean ± standard deviation over seeds; Δ is paired by seed,",
        "with a 95 % t interval once all of at least six seeds have ended. A diverged run has no",
        "value and is counted instead.",
    ]

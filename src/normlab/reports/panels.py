"""Which panels the figure of a sweep has."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from normlab.files import read_csv
from normlab.reports import text
from normlab.reports.evidence import Evidence
from normlab.reports.experiments import PILOT, Figure
from normlab.reports.figures import (
    Panel,
    draw_curves,
    draw_parameter,
    draw_points,
    drawable,
    wide,
    write_figure,
)
from normlab.reports.records import RunRecord


def legend(figure: Figure | None) -> str:
    """Returns what the marks of a figure mean."""
    kind = figure.kind if figure else "points"
    words = {
        "curves": "Line: mean over seeds; band: lowest to highest; thin lines: runs that diverged, "
        "× their last finite value.",
        "points": "A dot is a run; n: how many a row has; × at the edge: runs that diverged.",
        "parameter": "A dot is a run, the line joins the means over seeds; × at the top: runs that "
        "diverged.",
    }[kind]
    if figure and figure.guessing:
        words += " Dotted: what guessing gives."
    elif figure and figure.chance:
        words += " Dotted: what chance gives."
    if figure and figure.delta and kind == "points":
        words += " Differences are of the same seed; dotted: none."
    elif figure and figure.delta:
        words += (
            " Differences are of the same seed, on an axis of four margins; grey: the registered "
            "margin, within which they count as none."
        )
    return words


def draw_figure(found: Evidence, path: Path) -> bool:
    """Writes the figure of a sweep to `path`; returns whether there was anything to draw."""
    spec, arms = found.experiment.figure(found.registration.scale), found.arms()
    runs = [run for at in arms.values() for run in at]
    if spec is None or not runs or found.registration.scale == PILOT:
        return False
    facets = list(dict.fromkeys(run.setting(spec.facet) for run in runs)) if spec.facet else [None]
    panels, data = [], found.registration.data
    for y in spec.y:
        shown = drawable(runs, y) if spec.kind == "curves" else runs
        log = y in spec.log or (spec.kind == "curves" and wide(shown, y))
        for facet in facets:
            chosen = [run for run in shown if not spec.facet or run.setting(spec.facet) == facet]
            name = spec.names.get(text.value(facet), text.value(facet))
            title = f"{text.metric(spec.facet)}: {name}" if spec.facet else ""
            curves = spec.kind == "curves"  # of runs that are all lost these have other panels
            if any(run.measure(y) is not None or (run.lost(y) and not curves) for run in chosen):
                level = _guessed(chosen, y) if spec.guessing else None
                level = spec.chance.get(y.rpartition("/")[2], level)
                kept = [run for run in chosen if not run.lost(y)]
                if spec.kind == "points" and spec.delta:
                    panels.append(_differences(found, chosen, spec, y, title))
                    continue
                panels.append(
                    Panel(
                        chosen,
                        y,
                        spec.x,
                        title,
                        log=log,
                        data=data,
                        chance=level,
                        names=spec.names,
                    )
                )
                if log and y not in spec.log:  # beside the log axis that the diverged runs need
                    panels.append(Panel(kept, y, spec.x, "completed runs", data=data))
                if spec.delta:
                    panels.append(_differences(found, kept, spec, y, title))
    if panels and spec.paper:
        panels.append(_paper_panel(found.experiment.folder / spec.paper, spec.paper_label))
    draw = {"curves": draw_curves, "points": draw_points, "parameter": draw_parameter}[spec.kind]
    if panels:
        write_figure(panels, draw, path)
    return bool(panels)


def _guessed(runs: Sequence[RunRecord], y: str) -> float | None:
    """Returns what guessing gives, by the runs' summaries; None where they do not agree."""
    said = [run.summary.get("guessing") or {} for run in runs]
    found = {each.get("value") for each in said if each.get("metric") == y}
    return found.pop() if len(found) == 1 else None


def _differences(
    found: Evidence, runs: Sequence[RunRecord], spec: Figure, y: str, title: str
) -> Panel:
    """Returns a panel of `y` less what the baseline's run of the same seed has at that step.

    In a figure of points both runs are of one row too.
    """
    baseline = found.experiment.baseline
    rows = spec.x if spec.kind == "points" and spec.x not in baseline else "seed"

    def pair(run: RunRecord) -> tuple[object, object]:
        return run.value("seed"), run.value(rows)

    def is_baseline(run: RunRecord) -> bool:
        return all(run.setting(key) == wanted for key, wanted in baseline.items())

    at = {
        (pair(run), m["step"]): m[y]
        for run in runs
        for m in run.metrics
        if is_baseline(run) and m.get(y) is not None
    }
    less = [
        replace(
            run,
            metrics=[
                {**m, y: m[y] - at[pair(run), m["step"]]}
                for m in run.metrics
                if m.get(y) is not None and (pair(run), m["step"]) in at
            ],
        )
        for run in runs
        if not is_baseline(run) and (run.lost(y) or any(pair(run) == other for other, _ in at))
    ]
    margins = [h.margin for h in found.registration.hypotheses if h.metric == y and h.margin]
    of = ", ".join(
        f"{wanted}'s" if key == "norm" else f"that of {key}={text.value(wanted)}"
        for key, wanted in baseline.items()
    )
    return Panel(
        less,
        y,
        spec.x,
        title,
        data=found.registration.data,
        chance=0.0,
        margin=min(margins, default=None),
        names=spec.names,
        label=f"{text.metric(y)}, less {of}",
    )


def _paper_panel(path: Path, label: str) -> Panel:
    table = read_csv(path)
    steps = [float(row["step"]) for row in table]
    lines = {key: (steps, [float(row[key]) for row in table]) for key in table[0] if key != "step"}
    return Panel([], label, title="the paper", lines=lines)

"""Which panels the figure of a sweep has."""

from pathlib import Path

from normlab.files import read_csv
from normlab.reports import text
from normlab.reports.evidence import Evidence
from normlab.reports.experiments import Figure
from normlab.reports.figures import (
    Panel,
    draw_curves,
    draw_parameter,
    draw_points,
    drawable,
    wide,
    write_figure,
)


def legend(figure: Figure | None) -> str:
    """Returns what the marks of a figure mean."""
    if figure and figure.kind == "curves":
        chance = " Dotted: what chance gives." if figure.chance else ""
        return (
            f"Line: mean over seeds; band: lowest to highest; ×: a loss became non-finite.{chance}"
        )
    return "A dot is a run; n: how many a row has; × at the edge: the loss became non-finite."


def draw_figure(found: Evidence, path: Path) -> bool:
    """Writes the figure of a sweep to `path`; returns whether there was anything to draw."""
    spec, arms = found.experiment.figure(found.registration.scale), found.arms()
    runs = [run for at in arms.values() for run in at]
    if spec is None or not runs:
        return False
    facets = list(dict.fromkeys(run.setting(spec.facet) for run in runs)) if spec.facet else [None]
    panels, data = [], found.registration.data
    for y in spec.y:
        shown = drawable(runs, y) if spec.kind == "curves" else runs
        log = spec.log or (spec.kind == "curves" and wide(shown, y))
        for facet in facets:
            chosen = [run for run in shown if not spec.facet or run.setting(spec.facet) == facet]
            title = f"{text.metric(spec.facet)}: {text.value(facet)}" if spec.facet else ""
            has_curve = any(not run.lost(y) for run in chosen) or spec.kind != "curves"
            if chosen and has_curve:
                level = spec.chance.get(y.rpartition("/")[2])
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
                if (
                    log and not spec.log
                ):  # beside the log axis that the diverged runs need: the others alone
                    kept = [run for run in chosen if not run.lost(y)]
                    panels.append(Panel(kept, y, spec.x, "completed runs", data=data))
    if panels and spec.paper:
        panels.append(_paper_panel(found.experiment.folder / spec.paper, spec.paper_label))
    draw = {"curves": draw_curves, "points": draw_points, "parameter": draw_parameter}[spec.kind]
    if panels:
        write_figure(panels, draw, path)
    return bool(panels)


def _paper_panel(path: Path, label: str) -> Panel:
    table = read_csv(path)
    steps = [float(row["step"]) for row in table]
    lines = {key: (steps, [float(row[key]) for row in table]) for key in table[0] if key != "step"}
    return Panel([], label, title="the paper", lines=lines)

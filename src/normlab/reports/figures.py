"""Figures of runs: curves, one dot a run, or results against a setting; seeds together in a band.

A line is the mean over the seeds that completed, its band reaches from the lowest to the highest, n
stands beside the name; thin lines are runs that diverged, or whose last value is not finite: ×
marks their last finite one. Panels of one metric share their axes.
"""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from normlab.errors import UserError
from normlab.reports.records import RunRecord, by_norm
from normlab.reports.text import has_better, lower_is_better, metric, value

COLOURS = {  # Okabe and Ito 2008, which every kind of colour blindness can tell apart
    "none": "#777777",
    "layernorm": "#D55E00",
    "rmsnorm": "#0072B2",
    "prmsnorm": "#009E73",
    "l2norm": "#CC79A7",
    "weightnorm": "#E69F00",
    "recentre": "#56B4E9",
    "affine": "#B8A000",  # theirs is too light for a line
    "prmsnorm_eighth": "#009E73",
    "crmsnorm": "#882255",  # from here on Tol's, which need their names beside them
    "scalenorm": "#44AA99",
    "dyt": "#332288",
    "batchnorm": "#AA4499",
    "groupnorm": "#999933",
    "instancenorm": "#661100",
}
OTHER = "#000000"
MIN_POINTS = 10  # of a curve: fewer hide its shape
MARGINS = 4  # from 0 to the end of an axis of differences
WIDTH = 9.0  # inches of a whole figure: text stays legible where a page shows it
End = tuple[float, float, str, str]  # y and x of a line's end, its name, its colour


@dataclass(frozen=True)
class Panel:
    """What one pair of axes shows: `y` of `runs` against `x`, or lines read from elsewhere."""

    runs: Sequence[RunRecord]
    y: str
    x: str = "step"
    title: str = ""
    lines: dict[str, tuple[list[float], list[float]]] = field(default_factory=dict)
    log: bool = False
    data: str = ""  # the data set, for the axis
    chance: float | None = None  # a level to compare with
    names: dict[str, str] = field(default_factory=dict)  # points: value of x -> what it is called
    margin: float | None = None  # differences: within it they count as none
    label: str = ""  # of the y axis, in place of the metric's name


Draw = Callable[[Any, Panel], list[End]]


def draw_curves(axes: Any, panel: Panel) -> list[End]:
    """Draws metric `y` against the step and returns the lines' ends; runs of a norm are seeds."""
    ends: list[End] = []
    for norm, seeds in by_norm(panel.runs).items():
        colour, width = COLOURS.get(norm, OTHER), _width(ends)
        whole = [run for run in seeds if not run.lost(panel.y)]
        lost = [run for run in seeds if run.lost(panel.y)]
        note = f", {len(lost)} {_why(lost)}" if lost else ""
        label = f"{norm} (n={len(whole)}{note})"
        end = float("nan"), 0.0  # of runs that are lost before their first point: only these words
        for run in lost:
            xs, ys = run.curve(panel.y, panel.x)
            if xs:
                axes.plot(xs, ys, "-", color=colour, linewidth=0.8)
            for i in [i for i, y in enumerate(ys) if np.isfinite(y)][-1:]:
                axes.plot([xs[i]], [ys[i]], "x", color=colour, markersize=7, markeredgewidth=2)
                end = ys[i], xs[i]
        curves = [run.curve(panel.y, panel.x) for run in whole]
        shortest = min((len(x) for x, _ in curves), default=0)
        if shortest:
            x = np.mean([x[:shortest] for x, _ in curves], axis=0)
            y = np.array([y[:shortest] for _, y in curves])
            axes.plot(x, y.mean(0), "-", color=colour, linewidth=width)
            if len(whole) > 1:
                axes.fill_between(x, y.min(0), y.max(0), color=colour, alpha=0.2, linewidth=0)
            end = float(y.mean(0)[-1]), float(x[-1])
        if panel.margin and abs(end[0]) > MARGINS * panel.margin:
            label += f", {end[0]:+.2g}"  # off the axis
        if shortest or lost:
            ends.append((*end, label, colour))
    for name, (xs, ys) in panel.lines.items():
        colour, width = COLOURS.get(name, OTHER), _width(ends)
        axes.plot(xs, ys, "o--", color=colour, linewidth=width, markersize=3)
        ends.append((ys[-1], xs[-1], name, colour))
    if panel.chance is not None:
        axes.axhline(panel.chance, color=OTHER, linewidth=0.8, linestyle=":")
    if panel.margin:
        axes.axhspan(-panel.margin, panel.margin, color=OTHER, alpha=0.1, linewidth=0)
        axes.set_ylim(-MARGINS * panel.margin, MARGINS * panel.margin)
    if panel.log:
        axes.set_yscale("log")
    return ends


def _width(ends: Sequence[End]) -> float:
    """Returns the width of the next line: each is narrower, so that none hides another."""
    return 3.0 / (1 + 0.5 * len(ends))


def draw_parameter(axes: Any, panel: Panel) -> list[End]:
    """Draws result `y` against config key `x`: a line a norm, a dot a run, × for a diverged one."""
    ends: list[End] = []
    measured = sorted({float(run.value(panel.x)) for run in panel.runs})
    if measured[0] > 0 and measured[-1] >= 10 * measured[0]:
        axes.set_xscale("log")
    axes.set_xticks(measured, [f"{x:g}" for x in measured])
    axes.minorticks_off()
    for norm, runs in by_norm(panel.runs).items():
        colour = COLOURS.get(norm, OTHER)
        points: dict[float, list[float]] = {}
        for run in runs:
            if (found := run.measure(panel.y)) is not None:
                points.setdefault(float(run.value(panel.x)), []).append(found)
        xs = sorted(points)
        if xs:
            mean = [float(np.mean(points[at])) for at in xs]
            axes.plot(xs, mean, "-", color=colour, linewidth=1.6)
            for at in xs:
                axes.plot([at] * len(points[at]), points[at], "o", color=colour, markersize=3)
            n = min(map(len, points.values()))
            ends.append((mean[-1], xs[-1], f"{norm} (n={n})", colour))
        lost = [run for run in runs if run.lost(panel.y)]
        if lost:
            places = [float(run.value(panel.x)) for run in lost]
            top = axes.get_xaxis_transform()  # y as a share of the axes
            axes.plot(places, [0.97] * len(places), "x", color=colour, transform=top, clip_on=False)
            ends.append((float("nan"), max(places), f"× {norm} {_why(lost)}", colour))
    return ends


def draw_points(axes: Any, panel: Panel) -> list[End]:
    """Draws one dot a run: result `y` across, a row for each value of config key `x`."""
    rows = list(dict.fromkeys(value(run.setting(panel.x)) for run in panel.runs))
    groups = by_norm(panel.runs)
    row_a_norm = panel.x == "norm"  # a row each
    jitter = 0.12 if row_a_norm else 0.06
    if row_a_norm and not panel.names:  # names have an order of their own
        rows.sort(key=lambda norm: _mean(groups[norm], panel.y))
    right = axes.get_yaxis_transform()  # x as a share of the axes
    notes = {row: "" for row in rows}
    for i, (norm, runs) in enumerate(groups.items()):
        colour, offset = COLOURS.get(norm, OTHER), (i - (len(groups) - 1) / 2) * 0.18
        if row_a_norm:
            offset = 0.0
        ended = [run for run in runs if run.measure(panel.y) is not None]
        at = [rows.index(value(run.setting(panel.x))) + offset for run in ended]
        n = max(sum(value(run.setting(panel.x)) == row for run in ended) for row in rows)
        lost = [run for run in runs if run.lost(panel.y)]
        note = f"n={n}{f', {len(lost)} {_why(lost)}' if lost else ''}"
        if row_a_norm:
            notes[norm] = f" ({note})"
        axes.plot(
            [run.measure(panel.y) for run in ended],
            [y + jitter * (k % 5 - 2) / 2 for k, y in enumerate(at)],  # none hides another
            "o",
            color=colour,
            markersize=4,
            alpha=0.8,
            label=f"{norm} ({note})",
        )
        for y in {rows.index(value(run.setting(panel.x))) + offset for run in lost}:
            axes.plot([1.02], [y], "x", color=colour, transform=right, clip_on=False)
    axes.set_yticks(range(len(rows)), [f"{panel.names.get(row, row)}{notes[row]}" for row in rows])
    axes.invert_yaxis()
    if panel.log:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("{x:g}")
    if panel.chance is not None:
        axes.axvline(panel.chance, color=OTHER, linewidth=0.8, linestyle=":")
    if not row_a_norm:
        axes.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.02, 0.5))
    return []


def pyplot() -> Any:
    """Returns matplotlib.pyplot, set to our style; raises UserError without matplotlib."""
    try:
        import matplotlib
    except ImportError as missing:
        raise UserError("drawing needs matplotlib: pip install matplotlib.") from missing
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    # No date and no random ids: the same runs give the same bytes.
    plt.rcParams.update({"svg.hashsalt": "normlab", "font.size": 8})
    return plt


def write_figure(panels: Sequence[Panel], draw: Draw, path: Path) -> None:
    """Writes the panels side by side to `path` (.png or .svg), axes of one metric shared.

    Raises UserError without matplotlib.
    """
    plt = pyplot()
    columns = 1 if draw is draw_points else min(3 if len(panels) > 4 else 2, len(panels))
    rows = -(-len(panels) // columns)
    height = 3.4 if draw is draw_points else 2.7 if columns > 1 else 3.2
    fig, axes = plt.subplots(rows, columns, figsize=(WIDTH, height * rows), squeeze=False)
    _share(list(axes.flat), panels, vertical=draw is not draw_points)
    ends = [draw(place, panel) for place, panel in zip(axes.flat, panels, strict=False)]
    for place, panel, names in zip(axes.flat, panels, ends, strict=False):
        _label_ends(place, names)
        words = quantity(panel, 34 if draw is not draw_points else 90), metric(panel.x)
        across, up = words if draw is draw_points else words[::-1]
        place.set_xlabel(across)
        place.set_ylabel(up)
        place.set_title(panel.title, loc="left", fontsize=9)
        place.spines[["top", "right"]].set_visible(False)
        place.grid(alpha=0.25)
    for place in list(axes.flat)[len(panels) :]:
        place.axis("off")
    fig.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    date = {"Date": None} if path.suffix == ".svg" else {"Software": ""}
    fig.savefig(path, dpi=160, metadata=date)
    plt.close(fig)


def quantity(panel: Panel, width: int) -> str:
    """Returns what `y` is, which way is better and of which data, in lines of `width`."""
    better = ""
    if panel.runs and panel.margin is None and has_better(panel.y):
        better = "lower is better" if lower_is_better(panel.y) else "higher is better"
    of = "; ".join(filter(None, (panel.data, better)))
    return "\n".join(textwrap.fill(each, width) for each in (panel.label or metric(panel.y), of))


def drawable(runs: Sequence[RunRecord], key: str) -> list[RunRecord]:
    """Returns the runs whose curve has enough points, and lost ones however few they have."""
    return [run for run in runs if run.lost(key) or len(run.curve(key)[1]) >= MIN_POINTS]


def wide(runs: Sequence[RunRecord], key: str) -> bool:
    """Returns whether a metric needs a logarithmic axis: a diverging run dwarfs the others."""
    values = sorted(y for run in runs for y in run.curve(key)[1] if np.isfinite(y))
    return bool(values) and values[0] > 0 and values[-1] > 50 * values[len(values) // 2]


def _share(places: list[Any], panels: Sequence[Panel], vertical: bool) -> None:
    first: dict[tuple[str, str, str, bool], Any] = {}
    for place, panel in zip(places, panels, strict=False):
        key = panel.x, panel.y, panel.label, panel.log
        if other := first.get(key):
            place.sharex(other)
            if vertical:
                place.sharey(other)
        first.setdefault(key, place)


def _why(lost: Sequence[RunRecord]) -> str:
    return "diverged" if all(run.diverged for run in lost) else "not finite"


def _mean(runs: Sequence[RunRecord], key: str) -> float:
    found = [value for run in runs if (value := run.measure(key)) is not None]
    return float(np.mean(found)) if found else float("inf")


def _label_ends(axes: Any, ends: list[tuple[float, float, str, str]]) -> None:
    """Writes each line's name beside its end, pushed apart in points where ends lie close."""
    if not ends:
        return
    low, high = axes.get_ylim()
    if axes.get_yscale() == "log":
        low, high = np.log10([low, high])
    shares = []
    for y, _, _, _ in ends:
        height = np.log10(y) if axes.get_yscale() == "log" else y
        shares.append(0.97 if np.isnan(y) else float((height - low) / (high - low)))
    for share, i in zip(spread(shares), np.argsort(shares, kind="stable"), strict=True):
        _, _, label, colour = ends[i]
        axes.annotate(
            label,
            (1.02, share),
            xycoords="axes fraction",
            color=colour,
            fontsize=7,
            va="center",
            annotation_clip=False,
        )


def spread(places: Sequence[float], gap: float = 0.075) -> list[float]:
    """Returns places on an axis from 0 to 1 in order, at least `gap` apart, near the given ones."""
    found: list[float] = []
    for place in sorted(places):
        found.append(max(place, found[-1] + gap) if found else place)
    top = 1.0
    for i in reversed(range(len(found))):  # what was pushed out at the top moves down again
        found[i] = min(found[i], top)
        top = found[i] - gap
    return found

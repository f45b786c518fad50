"""Training curves: one line a norm and mean, a band over seeds, labels at the lines' ends."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from normlab.reports.runs import Run

COLOURS = {  # Okabe and Ito 2008: distinguishable with every kind of colour blindness
    "none": "#999999",
    "layernorm": "#D55E00",
    "rmsnorm": "#0072B2",
    "prmsnorm": "#009E73",
    "l2norm": "#CC79A7",
    "weightnorm": "#E69F00",
}
OTHER = "#000000"


def draw(axes: Any, runs: Sequence[Run], key: str, against: str = "step") -> None:
    """Draws metric `key` of `runs` on matplotlib `axes`, against `step` or `time` (in minutes).

    Runs of one norm and mean are seeds: their mean, and the range from lowest to highest, over the
    points that all of them reached. Diverged runs end with a cross.
    """
    groups: dict[tuple[str, float], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.summary["norm"], run.summary["init_mean"]), []).append(run)
    several_means = len({mean for _, mean in groups}) > 1
    ends = []
    for (norm, mean), seeds in groups.items():
        curves = [run.curve(key, against) for run in seeds]
        shortest = min(len(x) for x, _ in curves)
        if shortest == 0:
            continue
        x = np.mean([x[:shortest] for x, _ in curves], axis=0)
        if against == "time":
            x = x / 60
        y = np.array([y[:shortest] for _, y in curves])
        colour = COLOURS.get(norm, OTHER)
        style = "--" if several_means and mean else "-"
        axes.plot(x, y.mean(0), style, color=colour, linewidth=1.8)
        if len(seeds) > 1:
            axes.fill_between(x, y.min(0), y.max(0), color=colour, alpha=0.2, linewidth=0)
        if any(run.summary["status"] == "diverged" for run in seeds):
            axes.plot(x[-1], y.mean(0)[-1], "x", color=colour)
        label = f"{norm}, mean {mean:g}" if several_means else norm
        ends.append((y.mean(0)[-1], x[-1], label, colour))
    _label_ends(axes, ends)
    _finish(axes, key, "training minutes" if against == "time" else "step")


def _finish(axes: Any, title: str, x: str) -> None:
    axes.set_xlabel(x)
    axes.set_title(title, loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def _label_ends(axes: Any, ends: list[tuple[float, float, str, str]]) -> None:
    """Writes each label beside its line's end, pushed apart where lines end close together."""
    low, high = axes.get_ylim()
    gap, last = (high - low) * 0.055, float("-inf")
    for y, x, label, colour in sorted(ends):
        last = max(y, last + gap)
        axes.annotate(
            f" {label}", (x, y), xytext=(x, last), textcoords="data", color=colour, fontsize=9,
            va="center", ha="left", annotation_clip=False,
        )  # fmt: skip


def figure(runs: Sequence[Run], keys: Sequence[str], against: str, path: Path) -> None:
    """Writes one panel of curves a key, side by side, to `path` as SVG and PNG."""
    curves_figure([("", runs, key, against) for key in keys], path)


Panel = tuple[str, Sequence[Run], str, str]  # title, runs, y, x


def curves_figure(panels: Sequence[Panel], path: Path) -> None:
    """Writes a panel of training curves each (x: step or time) to `path`.svg and `path`.png."""
    _write(panels, draw, path)


def parameter_figure(panels: Sequence[Panel], path: Path) -> None:
    """Writes panels of results against a config key each (x: init.mean, norm.p, ...)."""
    _write(panels, draw_parameter, path)


def draw_parameter(axes: Any, runs: Sequence[Run], key: str, x: str) -> None:
    """Draws result `key` against config key `x`, a line a norm, a band over seeds."""
    norms: dict[str, dict[float, list[float]]] = {}
    for run in runs:
        if (value := run.measure(key)) is not None:
            norms.setdefault(run.summary["norm"], {}).setdefault(run.value(x), []).append(value)
    ends = []
    for norm, points in norms.items():
        xs = sorted(points)
        mean = np.array([np.mean(points[at]) for at in xs])
        colour = COLOURS.get(norm, OTHER)
        axes.plot(xs, mean, "o-", color=colour, linewidth=1.8, markersize=4)
        low, high = ([f(points[at]) for at in xs] for f in (min, max))
        axes.fill_between(xs, low, high, color=colour, alpha=0.2, linewidth=0)
        ends.append((mean[-1], xs[-1], norm, colour))
    _label_ends(axes, ends)
    _finish(axes, key, x)


def _write(panels: Sequence[Panel], draw_panel: Any, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    # No date and no random ids in the SVG: the same runs give the same bytes.
    plt.rcParams.update({"svg.hashsalt": "normlab", "font.size": 9})
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    fig, axes = plt.subplots(rows, columns, figsize=(4.6 * columns, 3.2 * rows), squeeze=False)
    for place, (title, runs, key, x) in zip(axes.flat, panels, strict=False):
        draw_panel(place, runs, key, x)
        if title:
            place.set_title(f"{title}: {key}", loc="left", fontsize=10)
    for place in list(axes.flat)[len(panels) :]:
        place.axis("off")
    fig.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    fig.savefig(path.with_suffix(".png"), dpi=160)
    plt.close(fig)

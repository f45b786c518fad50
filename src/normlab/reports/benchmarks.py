"""Benchmark records to tables: medians, and ratios with bootstrap 95 % intervals."""

import copy
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from normlab import markdown
from normlab.errors import UserError
from normlab.reports import text
from normlab.reports.figures import pyplot
from normlab.reports.statistics import estimate

CONTROL = "A/A control"
RESAMPLES = 2000
# From here on logits lie so far apart that exp underflows, which is ten times as slow on a CPU;
# and a multiple of the baseline's loss, for a loss that is not in nats.
EXPLODED_NATS, EXPLODED_TIMES = 40.0, 5.0
LIMIT = {"cpu": 0.02, "gpu": 0.005}  # an A/A interval wider than this is said in the heading

INTERLEAVED = (
    "All variants in one process, once a block in random order, warm-up left out; ratios are",
    "taken within a block, their interval is a bootstrap over blocks (95 %).",
)
IN_PROCESSES = (
    "All variants in each process, once a block in random order, warm-up left out; ratios are",
    "taken within a block. Shown is the mean over processes of the median over their blocks, with",
    "its t interval over processes (95 %).",
)


LOSS = (
    "The loss is that of the last step, on one batch: it only shows whether a network has",
    "exploded. Where others have been timed in more blocks they have trained longer.",
)
PAPER = (
    "The paper's numbers are of its own models, data and GPUs, most of them wider; they stand",
    "beside rows of tensor operations, as it writes norms. Ours in ms and s are medians over all",
    "processes together: compare variants by the ratio, and with the baseline only.",
)


@dataclass(frozen=True)
class Ratio:
    """One variant's time over another's in the same block, with its 95 % interval."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def percent(self) -> str:
        """Returns the same in percent."""
        return f"{100 * self.median:.0f} % [{100 * self.low:.0f}, {100 * self.high:.0f}]"


def ratio(
    record: Mapping[str, Any],
    variant: str,
    baseline: str,
    than: Mapping[str, Any] | None = None,
) -> Ratio:
    """Returns variant : baseline with its 95 % interval; over the same in `than`, if given.

    `than` is another record of the same processes.

    Of one process: the median over blocks, and a bootstrap of it. Of several: the mean of their
    medians and its t interval, since what differs from one process to the next (where memory lies)
    is no smaller for more blocks, and a bootstrap of five is too narrow.
    """
    found = _medians(record, variant, baseline)
    if than is not None:
        found = found / _medians(than, variant, baseline)
    return _interval(found, record)


def saved(record: Mapping[str, Any], variant: str, layernorm: str, none: str) -> Ratio | None:
    """Returns the share of LayerNorm's own cost, over no norm, that `variant` saves.

    Of several processes: the quotient of the means, since a mean of quotients follows the process
    that saw the smallest cost, and the t interval of its jackknife. None where LayerNorm's cost
    cannot be told from nothing.
    """
    other, bare = (_medians(record, name, layernorm) for name in (variant, none))
    if _interval(bare, record).high >= 1:
        return None
    gain, cost = 1 - other, 1 - bare
    if record.get("processes", 1) == 1:
        return _interval(gain / cost, record)
    n, whole = len(gain), gain.sum() / cost.sum()
    without = (gain.sum() - gain) / (cost.sum() - cost)  # each process left out in turn
    pseudo = _interval(n * whole - (n - 1) * without, record)
    return Ratio(whole, whole + pseudo.low - pseudo.median, whole + pseudo.high - pseudo.median)


def seconds(record: Mapping[str, Any], variant: str) -> float:
    """Returns the seconds of a call: the mean over its batches of the median over blocks."""
    times = np.array(record["times"][variant]).reshape(record.get("processes", 1), -1)
    batches = min(record.get("batches", 1), times.shape[1])
    return float(np.mean([np.median(times[:, batch::batches]) for batch in range(batches)]))


def _medians(record: Mapping[str, Any], variant: str, baseline: str) -> np.ndarray[Any, Any]:
    """Returns the median ratio over blocks of each process, (processes,).

    Of a single process it is followed by RESAMPLES medians of resampled blocks, the same blocks for
    every variant.
    """
    times, processes = record["times"], record.get("processes", 1)
    values = (np.array(times[variant]) / np.array(times[baseline])).reshape(processes, -1)
    found = np.median(values, axis=1)
    if processes > 1:
        return found
    blocks = values.shape[1]
    draws = np.random.default_rng(0).integers(blocks, size=(RESAMPLES, blocks))
    return np.concatenate([found, np.median(values[0, draws], axis=1)])


def _interval(medians: np.ndarray[Any, Any], record: Mapping[str, Any]) -> Ratio:
    if record.get("processes", 1) > 1:
        found = estimate(list(medians))
        return Ratio(found.mean, found.low, found.high)
    low, high = np.quantile(medians[1:], (0.025, 0.975))
    return Ratio(float(medians[0]), float(low), float(high))


def merge(found: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns one benchmark of several that measured the same: the blocks of each, in order.

    A variant's loss is the largest. Raises UserError at the first that ran other code, or
    elsewhere, or measured something else.
    """
    found = iter(found)  # what differs is said before the next process starts
    whole = copy.deepcopy(dict(next(found)))
    for other in found:
        if (here := _measured(whole)) != (there := _measured(other)):
            unlike = [f"{a} is not {b}" for a, b in zip(here, there, strict=True) if a != b]
            raise UserError(f"Not one benchmark, measure again: {'; '.join(unlike)}.")
        for record, same in zip(whole["records"], other["records"], strict=True):
            for variant, seconds in same["times"].items():
                record["times"][variant] += seconds
            for variant, loss in same.get("loss", {}).items():
                before = record["loss"][variant]
                record["loss"][variant] = max(before, loss) if math.isfinite(loss) else loss
            record["processes"] = record.get("processes", 1) + same.get("processes", 1)
    return whole


def _measured(benchmark: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns what must be equal where benchmarks are merged."""
    parts = [
        (
            record["title"],
            record.get("items"),
            {name: len(t) // record.get("processes", 1) for name, t in record["times"].items()},
        )
        for record in benchmark["records"]
    ]
    whole = (benchmark[key] for key in ("title", "commit", "environment", "notes"))
    return (*map(str, whole), *map(str, parts))


def exploded(record: Mapping[str, Any], variant: str) -> bool:
    """Returns whether a variant's network has a loss far above the baseline's, or none.

    Its seconds are then not those of a network that learns. False where losses were not stored.
    """
    loss = record.get("loss")
    if loss is None:
        return False
    return not loss[variant] < max(EXPLODED_NATS, EXPLODED_TIMES * loss[record["baseline"]])


def read_benchmark(path: Path) -> dict[str, Any]:
    """Returns a stored benchmark: its command, environment and records."""
    return json.loads(path.read_text(encoding="utf-8"))


def page(benchmark: dict[str, Any], figure: str = "") -> str:
    """Returns the Markdown page of a benchmark; `figure` is the name of its picture's file."""
    environment = benchmark["environment"]
    lines = [f"# {benchmark['title']}", "", f"    {benchmark['command']}", ""]
    lines += [
        f"{environment['device']}, torch {environment['torch']}, "
        f"commit {text.commit(benchmark['commit'])}.",
        *(benchmark.get("method") or _method(benchmark["records"])),
        *benchmark["notes"],
        *(LOSS if any("loss" in record for record in benchmark["records"]) else ()),
        *(PAPER if any("paper" in record for record in benchmark["records"]) else ()),
        "",
    ]
    if figure:
        lines += [
            f"![by width]({figure})",
            "",
            "Line: median; band: 95 % interval over processes; composed: of tensor operations, "
            "fused: our kernels.",
            "",
        ]
    for record in benchmark["records"]:
        lines += [*_table(record, "cpu" if environment["device"].startswith("cpu") else "gpu"), ""]
    lines += benchmark.get("profile", [])  # of the first process
    return "\n".join(lines)


def _method(records: list[dict[str, Any]]) -> tuple[str, ...]:
    if not records:
        return ()
    return IN_PROCESSES if records[0].get("processes", 1) > 1 else INTERLEAVED


def _table(record: dict[str, Any], kind: str) -> list[str]:
    times, baseline = record["times"], record["baseline"]
    took = {name: seconds(record, name) for name in times}
    processes = record.get("processes", 1)
    blocks = f"{len(times[baseline]) // processes} blocks"
    heading = f"## {record['title']} ({f'{processes} processes of ' * (processes > 1)}{blocks})"
    if CONTROL in times:
        control = ratio(record, CONTROL, baseline)
        heading += f"; A/A {control}"
        if max(1 - control.low, control.high - 1) > LIMIT[kind]:
            heading += f": wider than ±{100 * LIMIT[kind]:g} %, small differences mean nothing"
    unit = 1e6 if took[baseline] < 0.01 else 1e3
    head = ["variant", "µs" if unit == 1e6 else "ms", f"ratio to {baseline}"]
    # Records made before there were other tasks than translation have "tokens".
    items = record.get("items", record.get("tokens"))
    if items is not None:
        item = record.get("item", "target tokens")
        head += ["s per 1k steps", f"{item}/s", "share of the step in norms"]
    if "loss" in record:
        head += ["loss at the end"]
    gains = {name: _gain(record, name) for name in times} if items is not None else {}
    if any(gains.values()):
        head += ["of LayerNorm's cost saved"]
    if "paper" in record:
        unit_there = record.get("paper_unit", "s per 1k steps")
        head += [f"paper: {unit_there}", "paper: ratio to layernorm", "paper: saved"]
    if "work" in record:
        head += [f"{record['work']['of']}/s"]
    if "bytes" in record:
        head += ["of the copy's bandwidth"]
    if "peak" in record:
        head += ["peak memory, in tensors"]
    rows = []
    for name in times:
        row = [name, f"{unit * took[name]:.1f}", str(ratio(record, name, baseline))]
        if items is not None:
            bare = _without_norm(record, name)
            share = None if bare is None else 1 - ratio(record, bare, name).median
            row += [f"{1000 * took[name]:.0f}", f"{items / took[name]:,.0f}"]
            row += ["-" if share is None else f"{100 * share:.0f} %"]
        if "loss" in record:
            row.append(f"{record['loss'][name]:.3f}" + " (exploded)" * exploded(record, name))
        if any(gains.values()):
            gain = gains[name]
            row += ["-" if gain is None else gain.percent()]
        if "paper" in record:
            norm, _, implementation = name.partition(" ")
            alike = implementation == "composed" or name == "none"
            paper = record["paper"].get(norm) if alike else None
            row += ["-"] * 3 if paper is None else _paper(paper, record["paper"])
        if "work" in record:
            row.append(f"{record['work']['count'] / took[name]:,.0f}")
        if "bytes" in record:
            bandwidth = record["copy_bytes"] / took["copy"]
            moved = record["copy_bytes"] if name == "copy" else record["bytes"]
            row.append(f"{moved / took[name] / bandwidth:.2f}")
        if "peak" in record:
            peak = record["peak"].get(name)
            row.append("-" if peak is None else f"{2 * peak / record['copy_bytes']:.1f}")
        rows.append(row)
    return [heading, "", *markdown.table(head, rows)]


def _gain(record: Mapping[str, Any], name: str) -> Ratio | None:
    """Returns what a variant saves of LayerNorm's cost in its own implementation, if it has one."""
    bare, layernorm = _without_norm(record, name), f"layernorm {name.partition(' ')[2]}"
    if bare is None or layernorm not in record["times"] or name in (bare, layernorm):
        return None
    return saved(record, name, layernorm, bare)


def _without_norm(record: Mapping[str, Any], name: str) -> str | None:
    """Returns the variant without a norm that a variant is compared with.

    None if there is none, or if its loss has exploded.
    """
    bare = next((f"none {k}" for k in ("fused step", "compiled") if name.endswith(k)), "none")
    return bare if bare in record["times"] and not exploded(record, bare) else None


def _paper(seconds: float, of: Mapping[str, float]) -> list[str]:
    layernorm = of["layernorm"]
    saved = 100 * (layernorm - seconds) / (layernorm - of["none"]) if "none" in of else None
    between = saved is not None and seconds not in (layernorm, of["none"])
    return [f"{seconds:g}", f"{seconds / layernorm:.3f}", f"{saved:.0f} %" if between else "-"]


def write_pages(raw: Path, results: Path) -> list[Path]:
    """Renders every stored benchmark of folder `raw` into results/benchmarks/."""
    written = []
    for path in sorted(raw.glob("*.json")):
        folder = results / "benchmarks"
        folder.mkdir(parents=True, exist_ok=True)
        stored = path.read_text(encoding="utf-8")
        (folder / path.name).write_text(stored, encoding="utf-8")
        written.append(folder / f"{path.stem}.md")
        benchmark = json.loads(stored)
        by_width = [each for each in benchmark["records"] if "d_model" in each]
        drawn = bool(by_width) and draw_widths(by_width, folder / f"{path.stem}.png")
        shown = f"{path.stem}.png" if drawn else ""
        written[-1].write_text(page(benchmark, shown), encoding="utf-8")
    return written


def draw_widths(records: Sequence[Mapping[str, Any]], path: Path) -> bool:
    """Draws the norm's share of a step and RMSNorm's time over LayerNorm's against the width.

    Returns False without matplotlib: the numbers stand in the page.
    """
    try:
        plt = pyplot()
    except UserError:
        return False
    records = [record for record in records if not exploded(record, "none")]
    widths = [record["d_model"] for record in records]
    figure, (share, quotient) = plt.subplots(1, 2, figsize=(9, 3.2))
    for kind, colour, line in (("composed", "#000000", "o-"), ("fused", "#777777", "o--")):
        layernorm, rmsnorm = f"layernorm {kind}", f"rmsnorm {kind}"
        if not all({layernorm, rmsnorm} <= record["times"].keys() for record in records):
            continue
        for axes, a, b in ((share, "none", layernorm), (quotient, rmsnorm, layernorm)):
            found = [ratio(record, a, b) for record in records]
            middle, low, high = (
                [100 * (1 - value) if axes is share else value for value in values]
                for values in zip(*((r.median, r.low, r.high) for r in found), strict=True)
            )
            axes.plot(widths, middle, line, color=colour, label=kind, markersize=4)
            axes.fill_between(widths, low, high, color=colour, alpha=0.2, linewidth=0)
    share.set_ylabel("LayerNorm's share of a step (%)")
    quotient.set_ylabel("RMSNorm's step : LayerNorm's")
    quotient.axhline(1, color="#777777", linewidth=0.8)
    for axes in (share, quotient):
        axes.set_xscale("log", base=2)
        axes.set_xticks(widths, [str(width) for width in widths])
        axes.set_xlabel("width (d_model)")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    share.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=160, metadata={"Software": ""})
    plt.close(figure)
    return True

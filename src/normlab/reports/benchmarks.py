"""Benchmark records to tables: medians, and ratios with bootstrap 95 % intervals."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

CONTROL = "A/A control"
RESAMPLES = 2000
LIMIT = {"cpu": 0.02, "gpu": 0.005}  # an A/A interval wider than this is said in the heading

INTERLEAVED = (
    "All variants in one process, once a block in random order, warm-up left out; ratios are",
    "taken within a block, their interval is a bootstrap over blocks (95 %).",
)


@dataclass(frozen=True)
class Ratio:
    """Median over blocks of one variant's time over another's in the same block."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3f} [{self.low:.3f}, {self.high:.3f}]"


def ratio(times: dict[str, list[float]], variant: str, baseline: str) -> Ratio:
    """Returns variant : baseline with its bootstrap 95 % interval over blocks."""
    values = np.array(times[variant]) / np.array(times[baseline])
    draws = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.quantile(np.median(values[draws], axis=1), (0.025, 0.975))
    return Ratio(float(np.median(values)), float(low), float(high))


def read_benchmark(path: Path) -> dict[str, Any]:
    """Returns a stored benchmark: its command, environment and records."""
    return json.loads(path.read_text(encoding="utf-8"))


def page(benchmark: dict[str, Any]) -> str:
    """Returns the Markdown page of a benchmark."""
    environment = benchmark["environment"]
    lines = [f"# {benchmark['title']}", "", f"    {benchmark['command']}", ""]
    lines += [
        f"{environment['device']}, torch {environment['torch']}, "
        f"commit {benchmark['commit'][:10]}.",
        *(benchmark.get("method") or (INTERLEAVED if benchmark["records"] else ())),
        *benchmark["notes"],
        "",
    ]
    for record in benchmark["records"]:
        lines += [*_table(record, "cpu" if environment["device"].startswith("cpu") else "gpu"), ""]
    return "\n".join(lines)


def _table(record: dict[str, Any], kind: str) -> list[str]:
    times, baseline = record["times"], record["baseline"]
    median = {name: float(np.median(values)) for name, values in times.items()}
    heading = f"## {record['title']} ({len(times[baseline])} blocks)"
    if CONTROL in times:
        control = ratio(times, CONTROL, baseline)
        heading += f"; A/A {control}"
        if max(1 - control.low, control.high - 1) > LIMIT[kind]:
            heading += f": wider than ±{100 * LIMIT[kind]:g} %, small differences mean nothing"
    unit = 1e6 if median[baseline] < 0.01 else 1e3
    head = ["variant", "µs" if unit == 1e6 else "ms", f"ratio to {baseline}"]
    # Records made before there were other tasks than translation have "tokens".
    items = record.get("items", record.get("tokens"))
    if items is not None:
        item = record.get("item", "target tokens")
        head += ["s per 1k steps", f"{item}/s", "share of the step in norms"]
    if "paper" in record:
        head += ["paper: s per 1k steps", "paper: ratio to layernorm"]
    if "work" in record:
        head += [f"{record['work']['of']}/s"]
    if "bytes" in record:
        head += ["of the copy's bandwidth"]
    lines = [heading, "", "| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name in times:
        row = [name, f"{unit * median[name]:.1f}", str(ratio(times, name, baseline))]
        if items is not None:
            kinds = (kind for kind in ("fused step", "compiled") if name.endswith(kind))
            bare = f"none {next(kinds, '')}".rstrip()
            share = 1 - ratio(times, bare, name).median if bare in times else None
            row += [f"{1000 * median[name]:.0f}", f"{items / median[name]:,.0f}"]
            row += ["-" if share is None else f"{100 * share:.0f} %"]
        if "paper" in record:
            paper = record["paper"].get(name.split()[0])
            row += ["-", "-"] if paper is None else _paper(paper, record["paper"]["layernorm"])
        if "work" in record:
            row.append(f"{record['work']['count'] / median[name]:,.0f}")
        if "bytes" in record:
            bandwidth = record["copy_bytes"] / median["copy"]
            moved = record["copy_bytes"] if name == "copy" else record["bytes"]
            row.append(f"{moved / median[name] / bandwidth:.2f}")
        lines.append("| " + " | ".join(row) + " |")
    return lines


def _paper(seconds: float, layernorm: float) -> list[str]:
    return [f"{seconds:g}", f"{seconds / layernorm:.3f}"]


def write_pages(raw: Path, results: Path) -> list[Path]:
    """Renders every stored benchmark of folder `raw` into results/benchmarks/."""
    written = []
    for path in sorted(raw.glob("*.json")):
        folder = results / "benchmarks"
        folder.mkdir(parents=True, exist_ok=True)
        text = path.read_text(encoding="utf-8")
        (folder / path.name).write_text(text, encoding="utf-8")
        written.append(folder / f"{path.stem}.md")
        written[-1].write_text(page(json.loads(text)), encoding="utf-8")
    return written

"""Tables of runs: seeds together in a cell, diverged and failed runs counted, none dropped."""

from collections import Counter
from collections.abc import Sequence

from normlab import markdown
from normlab.errors import UserError
from normlab.registration import MIN_SEEDS, Arm
from normlab.reports import text
from normlab.reports.benchmarks import ratio, read_benchmark
from normlab.reports.evidence import Evidence, values
from normlab.reports.experiments import Table
from normlab.reports.records import RunRecord, check_metric, varying
from normlab.reports.samples import differences
from normlab.reports.selection import Selection
from normlab.reports.statistics import estimate


def arm_table(found: Evidence, table: Table) -> list[str]:
    """Returns the Markdown lines of a table: a row an arm, every run counted in it."""
    arms, experiment = found.arms(), found.experiment
    if not arms:
        return ["No run yet."]
    keys = [key for key, _ in next(iter(arms))]
    baseline = " ".join(text.value(each) for each in experiment.baseline.values())
    compare = bool(found.selection.runs)
    head = list(keys)
    for metric, column in table.metrics.items():
        head += [f"paper: {column}"] * bool(column)
        every = [run for runs in arms.values() for run in runs]
        head += [decoded(metric, every)] + [f"Δ to {baseline}"] * compare
    times = _step_times(found, table.benchmark)
    if table.benchmark:
        head.append(f"[step](../../benchmarks/{table.benchmark}.md) : torch's LayerNorm")
    head += ["runs", "implementation"]
    rows = []
    for arm, runs in arms.items():
        row = [text.value(found) for _, found in arm]
        against = tuple((key, experiment.baseline.get(key, found)) for key, found in arm)
        for metric, column in table.metrics.items():
            row += [experiment.paper_value(arm, column) or "-"] * bool(column)
            row.append(_mean_std(runs, metric))
            row += [_gap(found.selection, arm, against, metric)] if compare else []
        if table.benchmark:
            row.append(times.get(str(dict(arm).get("norm")), "-"))
        row += [_statuses(runs, found), distinct(runs, "norm_impl")]
        rows.append(row)
    return markdown.table(head, rows)


def decoded(metric: str, runs: Sequence[RunRecord]) -> str:
    """Returns a metric in words, a test BLEU with how these runs were decoded."""
    name = text.metric(metric)
    if not (metric.startswith("test/") and metric.endswith("/bleu")):
        return name
    beams = sorted({found for run in runs if (found := run.setting("decoding.beam"))})
    return ", ".join([name, *("greedy" if beam == 1 else f"beam {beam}" for beam in beams)])


def _step_times(found: Evidence, benchmark: str) -> dict[str, str]:
    """Returns the time of each variant of a stored benchmark : its baseline's, or {}."""
    path = found.results / "benchmarks" / f"{benchmark}.json"
    if not benchmark or not path.exists():
        return {}
    (record,) = read_benchmark(path)["records"]
    return {name: str(ratio(record, name, record["baseline"])) for name in record["times"]}


def _mean_std(runs: Sequence[RunRecord], metric: str) -> str:
    """Returns the mean over runs that have a value; those completed without one are counted."""
    shown = text.mean_std([v for run in runs if (v := run.measure(metric)) is not None])
    lost = sum(run.overflowed(metric) for run in runs)
    return f"{shown}, {lost} not finite" if lost else shown


def _gap(selection: Selection, arm: Arm, baseline: Arm, metric: str) -> str:
    if arm == baseline or baseline not in selection.arms:
        return "-"
    of = values(selection, metric)
    seeds = sorted(of[arm].keys() & of[baseline].keys())
    found = differences([(of[arm][seed], of[baseline][seed]) for seed in seeds])
    if found is None:
        return "-"
    few = len(found) < len(selection.registration.seeds) or len(found) < MIN_SEEDS
    return f"{sum(found) / len(found):+.3g}" if few else str(estimate(found))


def _statuses(runs: Sequence[RunRecord], found: Evidence) -> str:
    counts: dict[str, int] = {}
    for run in runs:
        counts[run.summary["status"]] = counts.get(run.summary["status"], 0) + 1
    if found.selection.runs and (missing := len(found.registration.seeds) - len(runs)):
        counts["not run"] = missing
    return ", ".join(f"{count} {status}" for status, count in counts.items())


def distinct(runs: Sequence[RunRecord], key: str) -> str:
    """Returns the values of a summary key that the runs have, "-" when there is none."""
    return ", ".join(sorted({str(found) for run in runs if (found := run.summary.get(key))})) or "-"


def pivot(runs: Sequence[RunRecord], rows: str, columns: str, value: str) -> str:
    """Returns a Markdown table of `value` by the config or summary keys `rows` and `columns`.

    A value that is a metric key ("dev/nll") means its last record. A cell holds the mean
    over its runs, the standard deviation when there are several, and their number; diverged and
    failed runs are counted in it, never dropped. Rows and columns that are numbers stand in their
    order, others in order of appearance. Raises UserError for what no run has, and where a cell
    would be a mean over more than seeds.
    """
    if value.count("/") == 1:
        check_metric(runs, value)
    cells: dict[tuple[str, str], list[RunRecord]] = {}
    for run in runs:
        key = (text.value(run.value(rows)), text.value(run.value(columns)))
        cells.setdefault(key, []).append(run)
    if keys := varying(cells.values()):
        raise UserError(
            f"runs of one cell differ in {', '.join(keys[:5])}: name fewer runs, or choose such a "
            "key for --rows or --columns."
        )
    row_labels = sorted(dict.fromkeys(row for row, _ in cells), key=_as_number)
    column_labels = sorted(dict.fromkeys(column for _, column in cells), key=_as_number)
    shown = [
        [row, *(_cell(cells.get((row, column), []), value) for column in column_labels)]
        for row in row_labels
    ]
    return "\n".join(markdown.table([rows, *column_labels], shown))


def heading(runs: Sequence[RunRecord], value: str) -> str:
    """Returns what the cells of a table hold: the metric in words, and its key."""
    key = value
    if value == "best_dev":  # each task has its own
        found = {str((run.summary.get("best_dev") or {}).get("metric", "")) for run in runs} - {""}
        key = f"best {' or '.join(sorted(found)) or 'dev result'}"
    name = decoded(value, runs) if value != "best_dev" else key
    return f"{name}: mean ± standard deviation over runs, n of them"


def _as_number(label: str) -> float:
    """Returns the place of a label: numbers by size, after them the rest as it came."""
    try:
        return float(label)
    except ValueError:
        return float("inf")


def _cell(runs: Sequence[RunRecord], value: str) -> str:
    if not runs:
        return "not run"
    found = [(run, _number(run, value)) for run in runs]
    numbers = [number for _, number in found if number is not None]
    other = Counter(
        "not finite" if run.overflowed(value) else str(run.summary["status"])
        for run, number in found
        if number is None
    )
    parts = [f"{text.mean_std(numbers)} (n={len(numbers)})"] if numbers else []
    return ", ".join([*parts, *(f"{count} {status}" for status, count in sorted(other.items()))])


def _number(run: RunRecord, value: str) -> float | None:
    """Returns a completed run's result, metric or summary value; UserError for an unknown key."""
    if "/" in value or value == "best_dev" or not run.ended:
        return run.measure(value)
    return None if run.diverged else run.value(value)

"""Tables of runs: one row and one column a config value, seeds together in a cell."""

import statistics
from collections.abc import Sequence
from typing import Any

from normlab.reports.runs import Run


def pivot(runs: Sequence[Run], rows: str, columns: str, value: str) -> str:
    """Returns a Markdown table of `value` by the config or summary keys `rows` and `columns`.

    A value that is a metric key ("dev/nll") means its last finite record. A cell holds the mean
    over its runs, the standard deviation when there are several, and their number; diverged and
    failed runs are counted in it, never dropped. Rows and columns stand in order of appearance.
    """
    cells: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        key = (_label(run.value(rows)), _label(run.value(columns)))
        cells.setdefault(key, []).append(run)
    row_labels = list(dict.fromkeys(row for row, _ in cells))
    column_labels = list(dict.fromkeys(column for _, column in cells))
    lines = [f"| {rows} | {' | '.join(column_labels)} |", "|---" * (len(column_labels) + 1) + "|"]
    for row in row_labels:
        texts = [_cell(cells.get((row, column), []), value) for column in column_labels]
        lines.append(f"| {row} | {' | '.join(texts)} |")
    return "\n".join(lines)


def _cell(runs: Sequence[Run], value: str) -> str:
    if not runs:
        return "not run"
    numbers = []
    other: dict[str, int] = {}
    for run in runs:
        status = run.summary["status"]
        number = run.last(value) if "/" in value else None
        if "/" not in value and status in ("completed", "diverged"):
            number = run.value(value)
        if status == "completed" and number is not None:
            numbers.append(number)
        else:
            other[status] = other.get(status, 0) + 1
    parts = []
    if numbers:
        spread = f" ± {statistics.stdev(numbers):.2f}" if len(numbers) > 1 else ""
        parts.append(f"{statistics.mean(numbers):.2f}{spread} (n={len(numbers)})")
    parts += [f"{count} {status}" for status, count in sorted(other.items())]
    return ", ".join(parts)


def _label(value: Any) -> str:
    if isinstance(value, list):
        return "+".join(map(str, value)) or "nothing"
    return str(value)

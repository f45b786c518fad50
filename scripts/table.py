"""Prints a table of runs: `scripts/table.py runs/sweep/* --rows init.apply_to --value dev/nll`."""

import argparse
import sys
from pathlib import Path

from normlab.errors import UserError
from normlab.reports.records import read_runs
from normlab.reports.tables import heading, pivot


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run_dirs", nargs="+", type=Path)
    parser.add_argument("--rows", default="init_mean", help="a key of summary or config")
    parser.add_argument("--columns", default="norm", help="a key of summary or config")
    parser.add_argument("--value", default="best_dev", help="such a key, or a metric: dev/nll")
    args = parser.parse_args()
    try:
        runs = read_runs(args.run_dirs)
        table = pivot(runs, args.rows, args.columns, args.value)
        print(f"{heading(runs, args.value)}\n\n{table}")
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()

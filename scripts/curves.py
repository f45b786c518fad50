"""Draws training curves of run directories: `scripts/curves.py runs/sweep/* --out curves.png`.

A line is a norm's mean over seeds; where its runs differ in more, each setting has a panel.
"""

import argparse
import sys
from pathlib import Path

from normlab.errors import UserError
from normlab.reports.figures import Panel, draw_curves, wide, write_figure
from normlab.reports.records import alike, check_metric, read_runs

KEYS = ("train/loss", "dev/bleu", "dev/error", "dev/recall")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run_dirs", nargs="+", type=Path)
    parser.add_argument("--keys", nargs="+", help=f"default: of {', '.join(KEYS)} those there are")
    parser.add_argument("--against", default="step", choices=("step", "time"))
    parser.add_argument("--out", type=Path, default=Path("curves.png"), help=".png or .svg")
    args = parser.parse_args()
    try:
        runs = read_runs(args.run_dirs)
        for key in args.keys or ():
            check_metric(runs, key)
        keys = args.keys or [key for key in KEYS if any(run.curve(key)[1] for run in runs)]
        settings = alike(runs)
        panels = [
            Panel(some, key, args.against, title, log=wide(runs, key))
            for key in keys or KEYS
            for title, some in settings.items()
        ]
        write_figure(panels, draw_curves, args.out)
    except UserError as error:
        sys.exit(str(error))
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()

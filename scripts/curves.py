"""Draws training curves of run directories: `scripts/curves.py runs/sweep/* --out curves`."""

import argparse
import sys
from pathlib import Path

from normlab.errors import UserError
from normlab.reports.curves import figure
from normlab.reports.runs import read_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run_dirs", nargs="+", type=Path)
    parser.add_argument("--keys", nargs="+", default=["train/loss", "dev/bleu"])
    parser.add_argument("--against", default="step", choices=("step", "time"))
    parser.add_argument("--out", type=Path, default=Path("curves"), help="writes OUT.svg, OUT.png")
    args = parser.parse_args()
    try:
        figure([read_run(path) for path in args.run_dirs], args.keys, args.against, args.out)
    except UserError as error:
        sys.exit(str(error))
    except ImportError:
        sys.exit("drawing needs matplotlib: pip install -e '.[plots]'")
    print(f"wrote {args.out.with_suffix('.svg')} and {args.out.with_suffix('.png')}")


if __name__ == "__main__":
    main()

"""Makes an equivalent RMSNorm network of a finished pre-norm LayerNorm run, as a run directory."""

import argparse
import sys
from pathlib import Path

from normlab.errors import UserError
from normlab.runs.converted import convert_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run_dir", type=Path, help="a run directory of train.py")
    parser.add_argument(
        "--to",
        required=True,
        choices=("prermsnorm", "precrmsnorm"),
        help="RMSNorm on vectors of mean 0, or the same without their last entry",
    )
    parser.add_argument("--out", type=Path, help="the new directory; default: RUN_DIR_<to>")
    parser.add_argument(
        "--checkpoint", default="", help="best, last or average; default: as the run's test"
    )
    args = parser.parse_args()
    out = args.out or args.run_dir.with_name(f"{args.run_dir.resolve().name}_{args.to}")
    try:
        summary = convert_run(args.run_dir, args.to, out, args.checkpoint)
    except UserError as error:
        sys.exit(str(error))
    before, after = summary["parameters_before"], summary["parameters"]
    print(f"{out}: {after:,} parameters, {before:,} before (the softmax matrix is its own now).")


if __name__ == "__main__":
    main()

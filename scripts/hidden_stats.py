"""Prints a finished RNNSearch run's hidden statistics (Table 5) on its dev set, and as JSON."""

import argparse
import json
import sys

from normlab import run
from normlab.errors import UserError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run_dir", help="a run directory of train.py")
    parser.add_argument("--checkpoint", default="best", help="best (default), last or average")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    args = parser.parse_args()
    try:
        loaded = run.load(args.run_dir, args.checkpoint, args.device)
        statistics = loaded.hidden_statistics()
    except UserError as error:
        sys.exit(str(error))
    from normlab.analysis.hidden import table

    print(table(statistics))
    print()
    print(json.dumps(statistics, indent=2))


if __name__ == "__main__":
    main()

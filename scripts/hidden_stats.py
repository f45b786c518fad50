"""Prints a finished RNNSearch run's hidden statistics (Table 5) on its dev set, and as JSON."""

import argparse
import json
import sys

from normlab.analysis.hidden import hidden_statistics, table
from normlab.errors import UserError
from normlab.models.seq2seq import Seq2Seq
from normlab.runs.loaded import load_run
from normlab.tasks.translation.task import Translation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run_dir", help="a run directory of train.py")
    parser.add_argument(
        "--checkpoint", default="", help="best, last or average; default: as the run's test"
    )
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    args = parser.parse_args()
    try:
        parts = load_run(args.run_dir, args.checkpoint, args.device).with_data()
        if not isinstance(parts.task, Translation) or not isinstance(parts.model, Seq2Seq):
            raise UserError(f"{args.run_dir} holds no translation model.")
        with parts.evaluating():
            statistics = hidden_statistics(parts.model, parts.task.dev_batches(), parts.device)
    except UserError as error:
        sys.exit(str(error))
    print(table(statistics))
    print()
    print(json.dumps(statistics, indent=2))


if __name__ == "__main__":
    main()

"""Rebuilds results/ from run directories, without training: tables, figures, verdicts."""

import argparse
import sys
from pathlib import Path

from normlab.errors import UserError
from normlab.reports.benchmarks import write_pages
from normlab.reports.experiments import load, load_all
from normlab.reports.report import write_index, write_report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="experiments to rebuild; all when none is named")
    parser.add_argument("--experiments", type=Path, default=Path("experiments"))
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--benchmarks", type=Path, default=Path("runs/benchmarks"))
    args = parser.parse_args()
    try:
        every = load_all(args.experiments)
        chosen = [load(name, args.experiments) for name in args.names] or every
        for experiment in chosen:
            for scale in experiment.available():
                if folder := write_report(experiment, scale, args.results):
                    print(f"wrote {folder}")
        for page in write_pages(args.benchmarks, args.results):
            print(f"wrote {page}")
        print(f"wrote {write_index(every, args.results)}")
    except UserError as error:
        sys.exit(str(error))
    except ImportError:
        sys.exit("drawing needs matplotlib: pip install -e '.[plots]'")


if __name__ == "__main__":
    main()

"""Rebuilds results/ from the records in it, without training: tables, figures, verdicts."""

import argparse
import sys
from pathlib import Path

from normlab.errors import UserError
from normlab.paths import experiments
from normlab.reports.benchmarks import write_pages
from normlab.reports.evidence import read_evidence
from normlab.reports.experiments import read_experiment, read_experiments
from normlab.reports.pages import write_page
from normlab.reports.web import write_claims


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="experiments to rebuild; all when none is named")
    parser.add_argument("--experiments", type=Path, default=experiments())
    parser.add_argument("--results", type=Path, default=Path("results"))
    args = parser.parse_args()
    try:
        every = read_experiments(args.experiments)
        chosen = [read_experiment(name, args.experiments) for name in args.names] or every
        for experiment in chosen:
            for scale in experiment.registrations:
                if page := write_page(read_evidence(experiment, scale, args.results), args.results):
                    print(f"wrote {page}")
        for page in write_pages(args.results / "benchmarks", args.results):
            print(f"wrote {page}")
        for page in write_claims(every, args.experiments, args.results):
            print(f"wrote {page}")
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()

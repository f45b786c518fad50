"""Prints the power of registered claims: `scripts/power.py table4/multi30k [--seeds 8]`.

Simulated with the whole table, Holm's correction in, and the spread that earlier runs showed. Write
it into the registration before the runs; a claim needs at least 0.8, or is not registered. No run
diverges in the simulation: where some may, the seeds must suffice for a test of signs too.
"""

import argparse
import itertools
import sys
from pathlib import Path

from normlab.errors import UserError
from normlab.paths import experiments
from normlab.registration import MIN_POWER, read_registrations
from normlab.reports.power import power
from normlab.reports.statistics import LEVEL
from normlab.reports.verdicts import least


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="EXPERIMENT/SCALE; all when none is named")
    parser.add_argument("--seeds", type=int, help="instead of the registered number")
    parser.add_argument("--experiments", type=Path, default=experiments())
    parser.add_argument("--results", type=Path, default=Path("results"))
    args = parser.parse_args()
    try:
        paths = sorted(args.experiments.glob("*/experiment.toml"))
        every = {each.name: each for path in paths for each in read_registrations(path)}
        if unknown := [name for name in args.names if name not in every]:
            raise UserError(f"no registration {unknown[0]}; choose of {', '.join(every)}.")
        for registration in [every[name] for name in args.names or every]:
            found = power(registration, args.results, args.seeds)
            for hypothesis, share in zip(registration.hypotheses, found, strict=True):
                low = "" if share >= MIN_POWER else f"  below {MIN_POWER}"
                print(f"{registration.name} {hypothesis.claim}: {share:.2f}{low}")
            n = args.seeds or len(registration.seeds)
            enough = next(m for m in itertools.count(n) if least(registration, m) <= LEVEL)
            if registration.hypotheses and enough > n:
                print(
                    f"{registration.name}: should a run diverge, {n} seeds cannot decide its claim "
                    f"among these: at least {enough} can."
                )
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()

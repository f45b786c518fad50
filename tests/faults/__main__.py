"""python -m faults [WORDS]: does the faults whose name holds one of the words, or all."""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from faults import FAULTS
from faults.children import ROOT
from faults.outcomes import KINDS, LOST, WRONG, Fault, NotHere

HEAD = """\
# Faults

What happened to runs that faults were done to, by `make test-faults` on commit {commit}.
Survived: weights, metrics (less the clock) and scores are exactly those of an undisturbed run.
Clear error: one sentence that names the file or key and what to do, and no file is lost.
Lost: a traceback, a process that hangs, work that cannot be gone on with. Wrong number: a result
that differs from the undisturbed one, without a word.

| fault | tries | {kinds} |
|---|---|{lines}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", help="parts of the names of faults; none: all")
    parser.add_argument("--short", action="store_true", help="as few tries as in CI")
    parser.add_argument("--write", type=Path, help="where the table goes")
    parser.add_argument("--verbose", action="store_true", help="say how every try ended")
    args = parser.parse_args()
    rows, bad = [], 0
    with tempfile.TemporaryDirectory(prefix="faults-") as scratch:
        for number, fault in enumerate(FAULTS):
            if args.words and not any(word in fault.name for word in args.words):
                continue
            folder = Path(scratch, str(number))
            folder.mkdir()
            started = time.monotonic()
            found = do(fault, folder, random.Random(number), args.short, args.verbose)
            rows.append(row(fault, found))
            print(f"{rows[-1]} {time.monotonic() - started:.0f} s", flush=True)
            bad += found[LOST] + found[WRONG]
    if args.write:
        args.write.write_text(page(rows), encoding="utf-8")
    sys.exit(1 if bad else 0)


def do(
    fault: Fault, folder: Path, rng: random.Random, short: bool, verbose: bool
) -> Mapping[str, int]:
    """Does a fault and counts how its tries ended."""
    found = Counter[str]()
    try:
        for outcome in fault.body(folder, fault.short if short else fault.full, rng):
            found[outcome.kind] += 1
            if verbose or outcome.kind in (LOST, WRONG):
                print(f"    {outcome.kind}: {outcome.note}", flush=True)
    except NotHere as reason:
        print(f"not here: {fault.name}: {reason}", flush=True)
    return found


def row(fault: Fault, found: Mapping[str, int]) -> str:
    """Returns a line of the table; no tries: this machine does not allow the fault."""
    cells = [fault.name, sum(found.values()), *(found[kind] for kind in KINDS)]
    return "| " + " | ".join(map(str, cells)) + " |"


def page(rows: list[str]) -> str:
    """Returns results/faults.md."""
    git = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    lines = "---|" * len(KINDS)
    return HEAD.format(commit=commit, kinds=" | ".join(KINDS), lines=lines) + "\n".join(rows) + "\n"


if __name__ == "__main__":
    main()

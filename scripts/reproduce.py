"""Runs what is missing of an experiment, then reports it: `scripts/reproduce.py table4`.

Runs whose record lies in results/ or that have finished here are not repeated, interrupted ones
resume, and what finishes is recorded at once. Further arguments are overrides of train.py, where
claims are registered only those that leave its runs what they are: `scripts/reproduce.py table4
--scale multi30k data=text data.dir=DIR`. Start it in the root of the repository. To repeat recorded
runs delete them in results/ and runs/, or give --results OTHER in a clone without runs/.
"""

import argparse
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from normlab.errors import UserError
from normlab.paths import CONF, experiments
from normlab.registration import ENDED
from normlab.reports.evidence import read_evidence
from normlab.reports.experiments import SMOKE, read_experiment, read_experiments
from normlab.reports.pages import pipeline, write_page
from normlab.reports.records import RunRecord, collect, records_folder, restore
from normlab.reports.selection import Selection
from normlab.reports.text import commit
from normlab.reports.web import write_claims
from normlab.runs.directory import RunDirectory
from normlab.runs.environment import code_version
from normlab.runs.registered import check_free


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", help="a folder of experiments/")
    parser.add_argument("--scale", default=SMOKE, help="smoke (default), multi30k, paper, ...")
    parser.add_argument("--launcher", default="basic", choices=("basic", "joblib", "slurm"))
    parser.add_argument("--yes", action="store_true", help="start also what costs GPU hours")
    parser.add_argument("--experiments", type=Path, default=experiments())
    parser.add_argument("--results", type=Path, default=Path("results"))
    args, overrides = parser.parse_known_args()
    try:
        sys.exit(reproduce(args, overrides))
    except UserError as error:
        sys.exit(str(error))


def reproduce(args: argparse.Namespace, overrides: list[str]) -> int:
    """Runs the sweep, records it and writes its report; returns the exit code of the sweep."""
    experiment = read_experiment(args.name, args.experiments)
    if args.scale not in experiment.sweeps():
        if not experiment.sweeps():
            raise UserError(
                f"{args.name} has no runs: it is an analysis or a benchmark, see results/README.md."
            )
        known = ", ".join(experiment.sweeps())
        raise UserError(f"experiment {args.name} has no scale {args.scale}; it has {known}.")
    if wrong := [override for override in overrides if "=" not in override]:
        raise UserError(f"{wrong[0]} is no override of train.py, as in seed=1,2,3.")
    registration = experiment.registrations[args.scale]
    if registration.hypotheses:
        check_free(overrides)
    if (cost := registration.cost()) and not args.yes:
        raise UserError(f"estimated cost: {cost}. Add --yes to start.")
    sweep = f"{experiment.evidence}/{args.scale}"
    overrides = [f"+{experiment.evidence}={args.scale}", *overrides]
    evidence, code = read_evidence(experiment, args.scale, args.results), 0
    if args.scale == SMOKE or left(evidence.selection, code_version()):
        chosen = None if args.scale == SMOKE else evidence.selection.runs
        records = records_folder(args.results, sweep)
        code = run_sweep(overrides, args.launcher, records, args.results, chosen)
        evidence = read_evidence(experiment, args.scale, args.results)
        if code and not (evidence.selection.runs or evidence.selection.apart):
            print("no run has ended: nothing is reported")
            return code
    if args.scale == SMOKE:
        print(pipeline(evidence))
    for verdict in evidence.verdicts:
        print(f"{verdict.verdict:<16}{experiment.claims[verdict.claim]}  {verdict.evidence}")
    for why, count in Counter(why for _, why in evidence.selection.apart).items():
        print(f"{count} set apart: {why}")
    if page := write_page(evidence, args.results):
        print(f"wrote {page}")
    for page in write_claims(read_experiments(args.experiments), args.experiments, args.results):
        print(f"wrote {page}")
    return code


def left(selection: Selection, here: str | None) -> bool:
    """Returns whether registered runs are still to be trained; `here` is the commit of this code.

    Raises UserError where recorded ones are of another commit: runs of two make no table.
    """
    recorded, name = len(selection.runs), selection.registration.name
    if selection.complete:
        print(f"all {recorded} runs of {name} are recorded: they are not trained again")
        return False
    if selection.registration.hypotheses and not here:
        raise UserError("git does not say which commit this code is: its runs get no verdict.")
    if selection.registration.hypotheses and "+" in str(here):
        raise UserError("commit your changes first: runs of uncommitted code get no verdict.")
    if recorded and (made_at := selection.runs[0].summary["commit"]) != here:  # one for them all
        raise UserError(
            f"{recorded} of {selection.expected} runs of {name} are recorded, made at commit "
            f"{commit(made_at)}, and runs of two commits make no table. To go on, start this in a "
            f"checkout of it (git worktree add) to whose results/{name} their records are copied; "
            f"to begin anew, delete results/{name}/runs and runs/{name}."
        )
    return True


def run_sweep(
    overrides: list[str],
    launcher: str,
    records: Path,
    results: Path,
    chosen: Sequence[RunRecord] | None,
) -> int:
    """Runs and records the sweep in train.py and shows how far it is; returns its exit code.

    What another machine measured stands as finished here: any record, or the `chosen` ones.
    """
    from normlab.runs.sweeps import check_begun, sweep_directories

    jobs = sweep_directories(CONF, overrides)
    names = {run.path.name for run in chosen or ()}
    for job in jobs:
        if chosen is None or job.name in names:
            restore(records / job.name, job)
    if chosen is not None:
        check_begun(jobs, code_version())
    code = train(jobs, overrides, launcher, results)
    return code if record(ended(jobs), results) else code or 1


def ended(jobs: Iterable[Path]) -> list[Path]:
    """Returns the jobs that have come to their end."""
    return [job for job in jobs if status(job) in ENDED]


def record(jobs: Iterable[Path], results: Path) -> bool:
    """Records jobs that have ended; returns whether none contradicts its record."""
    whole = True
    for job in jobs:
        try:
            collect(job, results)
        except UserError as error:  # the others are recorded all the same
            print(error, file=sys.stderr)
            whole = False
    return whole


def train(jobs: list[Path], overrides: list[str], launcher: str, results: Path) -> int:
    """Trains the jobs that have not ended under these limits; returns train.py's exit code.

    Each is recorded as soon as it has ended: this process may not live until all have.
    """
    before = ended(jobs)
    estimate, known = TimeLeft(len(before)), set(before)
    folder = jobs[0].parent
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "reproduce.log"
    command = [sys.executable, "-m", "normlab", "train", *overrides]
    command += [f"hydra/launcher={launcher}"] * (launcher != "basic")
    shown = ""
    with open(log, "a") as output:
        sweep = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            while sweep.poll() is None:
                shown = show(progress(jobs, estimate), shown)
                if new := set(ended(jobs)) - known:
                    record(new, results)
                    known |= new
                time.sleep(1)
        except KeyboardInterrupt:
            sweep.wait()  # Ctrl-C reached it too: it writes a checkpoint first
    show(progress(jobs, estimate), shown, last=True)
    failed: dict[str, list[Path]] = {}
    for job in jobs:
        if (summary := RunDirectory(job).stored_summary()) and summary["status"] == "failed":
            failed.setdefault(summary["error"], []).append(job)
    for error, those in failed.items():
        others = f" and {len(those) - 1} more" if len(those) > 1 else ""
        print(f"failed: {those[0]}{others}: {error}")
    if sweep.returncode:
        print(f"the sweep ended with exit code {sweep.returncode}; its log is {log}")
    return sweep.returncode


def status(job: Path) -> str:
    """Returns the status in a run's summary, "left" without a whole one."""
    return (RunDirectory(job).stored_summary() or {}).get("status", "left")


class TimeLeft:
    """How long the rest of a sweep takes, by the runs that ended in this call; it never rises."""

    def __init__(self, before: int):
        self.done = self.before = before
        self.started = time.monotonic()
        self.end = float("inf")  # when the sweep will be done

    def __call__(self, done: int, left: int) -> float:
        """Returns the seconds for `left` runs now that `done` have ended; infinity: unknown."""
        now = time.monotonic()
        if done > self.done:  # between two ends the pace would only seem to fall
            self.done = done
            pace = (now - self.started) / (done - self.before)
            self.end = min(self.end, now + pace * left)
        return max(0.0, self.end - now)


def progress(jobs: list[Path], estimate: TimeLeft) -> str:
    """Returns the progress line."""
    states = [status(job) for job in jobs]
    done = sum(state in ENDED for state in states)
    line = f"{done} of {len(jobs)} runs done"
    if failed := states.count("failed"):
        line += f", {failed} failed"
    left = len(jobs) - done - failed
    seconds = estimate(done, left)
    if left and seconds < float("inf"):
        minutes = seconds / 60
        line += f", about {minutes:.0f} min left" if minutes >= 1 else ", less than a minute left"
    return line


def show(line: str, shown: str, last: bool = False) -> str:
    """Prints `line` in place on a terminal, elsewhere only when it changed; returns it."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{line}" + "\n" * last)
        sys.stderr.flush()
    elif line != shown:
        print(line, file=sys.stderr)
    return line


if __name__ == "__main__":
    main()

"""Uses a CUDA GPU for what has to be done on one, in slices that stop and go on on any machine.

    scripts/gpu.py --minutes 9 --out OUT                 # first slice
    scripts/gpu.py --minutes 9 --out OUT --state EARLIER # goes on from the files of an earlier one

In this order: the tests that need CUDA, the benchmarks of norms (with what it takes to launch them)
and of training steps at the paper's widths with a vocabulary of 1,500, then the registered sweeps
named in experiments/gpu.toml, several runs at once. Results and what is needed to go on are packed
into OUT/state.000, state.001, ... of at most 15 MiB; finished runs are records in results/, as
reproduce.py writes them. Further arguments are overrides of train.py for all runs: data=text
data.dir=DIR.
"""

import argparse
import sys
import tomllib
from pathlib import Path
from typing import Any

from normlab.errors import UserError
from normlab.paths import experiments
from normlab.registration import ENDED, Registration
from normlab.reports.experiments import read_experiment
from normlab.reports.records import collect, records_folder, restore
from normlab.runs.directory import RunDirectory
from normlab.runs.registered import check_free
from normlab.runs.sweeps import sweep_jobs
from normlab.runs.time_slices import Command, Queue, pack, unpack

STATE = Path("runs/gpu")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=9.0, help="of the slice, packing included")
    parser.add_argument("--out", type=Path, required=True, help="folder for the packed state")
    parser.add_argument("--state", type=Path, help="folder with the packed state of an earlier one")
    parser.add_argument("--plan", type=Path, default=Path("experiments/gpu.toml"))
    parser.add_argument("--parallel", type=int, default=6, help="runs at once")
    args, overrides = parser.parse_known_args()
    try:
        finished = run_slice(args, overrides)
    except UserError as error:
        sys.exit(str(error))
    print("all of the plan has ended" if finished else "not finished: give --state to go on")


def run_slice(args: argparse.Namespace, overrides: list[str]) -> bool:
    """Runs one slice of the plan and packs its results; returns whether the plan has ended."""
    if args.state is not None:
        unpack(args.state, Path.cwd())
    plan = tomllib.loads(args.plan.read_text(encoding="utf-8"))
    queue = Queue(STATE)
    if any(registration(sweep).hypotheses for sweep in plan["sweeps"]):
        check_free(overrides)
    jobs = [job for sweep in plan["sweeps"] for job in runs_of(sweep, overrides)]
    reserve = min(60.0, 0.2 * 60 * args.minutes)  # for stopping and packing
    commands = [fixed(entry) for entry in plan["commands"]] + [command for _, command in jobs]
    finished = queue.run(commands, 60 * args.minutes - reserve, args.parallel)
    for name in queue.failed(commands):
        print(f"failed, to be tried again: {name}, see {STATE}/logs", file=sys.stderr)
    for run_dir, _ in jobs:
        summary = RunDirectory(run_dir).stored_summary()
        if summary is not None and summary["status"] in ENDED:
            try:
                collect(run_dir, Path("results"))
            except UserError as error:  # the other runs' checkpoints must still be packed
                finished = False
                print(error, file=sys.stderr)
    args.out.mkdir(parents=True, exist_ok=True)
    files = state_files(plan["sweeps"], [run_dir for run_dir, _ in jobs])
    left_out = pack(Path.cwd(), files, args.out)
    for file in left_out:
        print(f"no room for {file}: that run will begin again")
    return finished


def registration(sweep: str) -> Registration:
    """Returns what is registered of `sweep` ("figure4/unconfounded")."""
    name, scale = sweep.split("/")
    return read_experiment(name, experiments()).registrations[scale]


def fixed(entry: dict[str, Any]) -> Command:
    """Returns a command of the plan; the word "python" stands for this interpreter."""
    argv = [sys.executable if word == "python" else word for word in entry["command"].split()]
    return Command(entry["name"], argv, alone=True, minutes=entry.get("minutes", 0.0))


def runs_of(sweep: str, overrides: list[str]) -> list[tuple[Path, Command]]:
    """Returns directory and command of every run of `sweep` ("figure4/unconfounded").

    A run whose record lies in results/ is restored from it, and then has nothing to do.
    """
    name, scale = sweep.split("/")
    found = []
    for run_dir, job in sweep_jobs(Path("conf"), [f"+{name}={scale}", *overrides]).items():
        record = records_folder(Path("results"), sweep) / run_dir.name
        restore(record, run_dir)
        argv = [sys.executable, "train.py", *job, f"hydra.run.dir={run_dir}"]
        # One sweep's name for all its runs, as in a multirun, and a process for each run.
        found.append((run_dir, Command(f"{sweep}/{run_dir.name}", [*argv, "hydra.mode=RUN"])))
    return found


def state_files(sweeps: list[str], run_dirs: list[Path]) -> list[Path]:
    """Returns what the next slice needs, the most important first: results before checkpoints."""
    folders = [STATE, Path("runs/benchmarks"), Path("results/benchmarks")]
    folders += [records_folder(Path("results"), sweep) for sweep in sweeps]
    results = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    small, checkpoints = [], []
    for run_dir in run_dirs:
        directory = RunDirectory(run_dir)
        if not run_dir.exists() or (directory.stored_summary() or {}).get("status") in ENDED:
            continue
        last = directory.checkpoints / "last.pt"
        if not last.exists():
            continue
        checkpoints += [last, *directory.checkpoints.glob("best_*.pt")]
        if (directory.stored_config() or {}).get("trainer", {}).get("average"):
            checkpoints += directory.checkpoints.glob("step_*.pt")
        small += [
            p for p in run_dir.rglob("*") if p.is_file() and p.parent != directory.checkpoints
        ]
    return [path.absolute() for path in (*results, *small, *checkpoints)]


if __name__ == "__main__":
    main()

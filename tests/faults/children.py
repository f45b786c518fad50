"""train.py and the scripts in processes of their own, forked from one that has imported all.

A process that imports torch anew takes seconds; a forked one is there at once, and can be killed,
stopped and limited like any other.
"""

import atexit
import itertools
import json
import os
import runpy
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from processes import FORKS

ROOT = Path(__file__).parents[2]
os.environ.setdefault("WANDB_MODE", "offline")  # whoever is logged in
_numbers = itertools.count()
LIMIT = 240.0  # seconds until a process counts as hanging, on a busy machine too


class Child:
    """A process that runs `call()`; its output is in `log`."""

    def __init__(self, call: Callable[[], Any], log: Path):
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()
        self.process = FORKS.Process(target=_run, args=(call, log))
        self.process.start()
        self.started = time.monotonic()

    def send(self, number: int) -> None:
        """Sends a signal, if the process is still there."""
        if self.process.is_alive() and self.process.pid is not None:
            os.kill(self.process.pid, number)

    def alive(self) -> bool:
        """Returns whether it still runs."""
        return self.process.is_alive()

    def wait(self, seconds: float = LIMIT) -> int | None:
        """Returns the exit code (-9 for a killed process), None when it hung and was ended."""
        self.process.join(seconds)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
            return None
        return self.process.exitcode

    def output(self) -> str:
        """Returns what it has printed."""
        return self.log.read_text(encoding="utf-8", errors="replace")


def train(
    run_dir: Path,
    overrides: Sequence[str],
    before: Callable[[], None] | None = None,
    environment: dict[str, str] | None = None,
    log: Path | None = None,
) -> Child:
    """Starts train.py in `run_dir`; `before` is called in the process, `environment` set there."""
    argv = ["train.py", *overrides, f"hydra.run.dir={run_dir}"]
    if log is None:
        log = logs() / f"{next(_numbers)}.log"
    return Child(partial(script, argv, before, environment), log)


@cache
def logs() -> Path:
    """Returns a folder for outputs, apart from the disks that are filled."""
    folder = Path(tempfile.mkdtemp(prefix="faults-logs-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def script(
    argv: Sequence[str],
    before: Callable[[], None] | None = None,
    environment: dict[str, str] | None = None,
    stdin: Path | None = None,
) -> None:
    """Runs a script of the repository as if it had been started alone."""
    os.chdir(ROOT)
    os.environ.update(environment or {})
    if before is not None:
        before()
    if stdin is not None:
        sys.stdin = open(stdin, encoding="utf-8")  # noqa: SIM115 - until the process ends
    sys.argv = list(argv)
    sys.path.insert(0, str(ROOT))
    runpy.run_path(str(ROOT / argv[0]), run_name="__main__")


def wait_for(condition: Callable[[], Any], child: Child, seconds: float = 120) -> Any:
    """Returns what `condition` gives once it is true, None when the child ends before."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        if not child.alive() or time.monotonic() > end:
            return None
        time.sleep(0.01)
    return found


def hold(run_dir: Path, phase: str, seconds: float) -> None:
    """Makes a phase last: says in `<run_dir>/phase` that it has begun, and works on for a while.

    `phase`: "evaluate" (a dev evaluation), "test" (the final test), "step" (each step of training).
    """
    from normlab.tasks.translation.task import Translation

    method = "batches" if phase == "step" else phase
    kept = getattr(Translation, method)

    def slower(self: Any, *arguments: Any, **options: Any) -> Any:
        (run_dir / "phase").write_text(phase)
        end = time.monotonic() + seconds
        while time.monotonic() < end:  # busy in Python, as a search is
            sum(range(1000))
        return kept(self, *arguments, **options)

    def slower_steps(self: Any, *arguments: Any, **options: Any) -> Any:
        def late(make: Callable[[], Any]) -> Any:
            (run_dir / "phase").write_text(phase)
            time.sleep(seconds)
            return make()

        return [partial(late, make) for make in kept(self, *arguments, **options)]

    setattr(Translation, method, slower_steps if phase == "step" else slower)


def say(result: Any) -> None:
    """Prints a result for the parent, which finds it with `told`."""
    print("RESULT " + json.dumps(result), flush=True)


def told(child: Child) -> Any:
    """Returns what the child has said, None when nothing."""
    lines = [line for line in child.output().split("\n") if line.startswith("RESULT ")]
    return json.loads(lines[-1].removeprefix("RESULT ")) if lines else None


def _run(call: Callable[[], Any], log: Path) -> None:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    os.environ["HYDRA_FULL_ERROR"] = "0"
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and nohup this one
    call()

"""Processes of their own: train.py and the scripts as a user starts them, and quick jobs.

A quick job is a fork of a process that has imported everything, so that it trains within a tenth of
a second; it can be killed, stopped and signalled as any other.
"""

import contextlib
import io
import json
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
# One thread, so that runs side by side do not wait for each other; toy.py can be imported.
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "HYDRA_FULL_ERROR": "0",
    "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]),
}
CLOCK = ("time", "train/items_per_second", "train/step_ms")


def python(*arguments, cwd=ROOT, env=ENVIRONMENT, **options):
    """Runs Python to its end; returns the completed process with its output as text."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd, env=env, capture_output=True, text=True, timeout=300, **options,
    )  # fmt: skip


def start(*arguments, cwd=ROOT, env=ENVIRONMENT):
    """Starts Python and returns the process, its output in one pipe; Ctrl-C reaches it."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        # In a shell's background it would be ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def script(name, *arguments, cwd=ROOT, given=""):
    """Runs a script of the repository in this process, which takes no time to import it.

    Returns what `python` returns: exit code and output. What is logged is not among the output.
    """
    streams = [io.TextIOWrapper(io.BytesIO(text), "utf-8", newline="\n")
               for text in (given.encode(), b"", b"")]  # fmt: skip
    code, kept, handler = 0, (sys.argv, sys.stdin), signal.getsignal(signal.SIGTERM)
    sys.argv, sys.stdin = [str(ROOT / name), *map(str, arguments)], streams[0]
    try:
        with (
            contextlib.chdir(cwd),
            contextlib.redirect_stdout(streams[1]),
            contextlib.redirect_stderr(streams[2]),
        ):
            runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            streams[2].write(end.code + "\n")
    finally:
        sys.argv, sys.stdin = kept
        signal.signal(signal.SIGTERM, handler)
    outputs = []
    for stream in streams[1:]:
        stream.seek(0)
        outputs.append(stream.read())
    return subprocess.CompletedProcess(name, code, *outputs)


FORKS = multiprocessing.get_context("forkserver")
# One list for all of multiprocessing; a module that only pytest finds would be left out silently.
FORKS.set_forkserver_preload(
    ["hydra", "torch", "tokenizers", "sacrebleu.metrics", "normlab.runs.job", "normlab.runs.sweeps",
     "normlab.training.loop", "normlab.training.console", "normlab.runs.loaded",
     "normlab.tasks.translation.task", "normlab.tasks.translation.grammar",
     "normlab.models.transformer"]
)  # fmt: skip


class Job:
    """A run of `overrides` in `run_dir` in a process of its own; its log is `train.log` there.

    Exit codes are train.py's: 0, 2 for a mistake, 130 when it was interrupted. `env` is set and
    `before()` called in it. It ends with the tests' process.
    """

    def __init__(self, run_dir, *overrides, threads=1, env=None, before=None):
        self.run_dir = run_dir
        arguments = (run_dir, overrides, threads, env or {}, before)
        self.process = FORKS.Process(target=_job, args=arguments, daemon=True)
        self.process.start()
        self.pid = self.process.pid

    def signal(self, number):
        os.kill(self.pid, number)

    def wait(self, seconds=120):
        """Returns the exit code; a process that does not end in time is killed and reported."""
        self.process.join(seconds)
        if self.process.exitcode is None:
            self.process.kill()
            raise AssertionError(f"still running after {seconds} s: {self.log}")
        return self.process.exitcode

    def poll(self):
        return self.process.exitcode

    def wait_for(self, condition, seconds=120):
        """Waits until `condition` is true; fails when the process ends before."""
        return wait_for(condition, seconds, self)

    @property
    def log(self):
        path = self.run_dir / "train.log"
        return path.read_text(encoding="utf-8") if path.exists() else ""


def _job(run_dir, overrides, threads, env, before):
    import logging

    import torch

    from normlab.errors import UserError
    from normlab.runs.job import run
    from normlab.runs.sweeps import compose_job

    os.environ.update(env)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and nohup this one
    torch.set_num_threads(threads)
    run_dir.mkdir(parents=True, exist_ok=True)
    if before is not None:
        before()
    logging.basicConfig(filename=run_dir / "train.log", level=logging.INFO, force=True)
    try:
        summary = run(compose_job(ROOT / "conf", list(overrides)), run_dir, list(overrides))
    except UserError as error:
        logging.error("%s", error)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(130 if summary["status"] == "interrupted" else 0)


def train(*arguments):
    """Runs train.py in a quick process to its end; returns what `python` returns, output in one."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        process = FORKS.Process(target=_train, args=(list(map(str, arguments)), log))
        process.start()
        process.join(300)
        if process.exitcode is None:
            process.kill()
            process.join()
        output = log.read_text(encoding="utf-8")
    return subprocess.CompletedProcess("train.py", process.exitcode, output, output)


def _train(arguments, log):
    import torch

    torch.set_num_threads(1)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT / "tests"))  # toy.py
    sys.argv = ["train.py", *arguments]
    runpy.run_path("train.py", run_name="__main__")


def wait_for(condition, seconds=120, process=None):
    """Returns what `condition` gives once it is true; fails when `process` ends before."""
    end = time.monotonic() + seconds
    while True:
        ended = process is not None and process.poll() is not None
        if found := condition():  # asked after: it may have come true at the end
            return found
        assert not ended, process.log if isinstance(process, Job) else process.stdout.read()
        assert time.monotonic() < end, "nothing came"
        time.sleep(0.01)


def summary_of(run_dir):
    """Returns the summary of a run."""
    return json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))


def metrics_of(run_dir):
    """Returns the lines of metrics.jsonl."""
    path = run_dir / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
    return [json.loads(line) for line in lines if line]


def steps_done(run_dir):
    """Returns the last step of which metrics.jsonl tells, while the run may be writing it."""
    path = run_dir / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    return json.loads(lines[-1])["step"] if lines else 0


def comparable(run_dir):
    """Returns the metrics that two runs of one config must agree on: all but the clock's."""
    return [{k: v for k, v in line.items() if k not in CLOCK} for line in metrics_of(run_dir)]

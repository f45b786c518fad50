"""train.py and the scripts in processes of their own, as a user starts them."""

import json
import os
import subprocess
import sys
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
    """Starts Python and returns the process, its output in one pipe."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def wait_for(condition, seconds=120, process=None):
    """Returns what `condition` gives once it is true; fails when `process` ends before."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        ended = process is not None and process.poll() is not None
        assert not ended, process.stdout.read()
        assert time.monotonic() < end, "nothing came"
        time.sleep(0.02)
    return found


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

"""Sweeps under Hydra's launchers, for real: submitit on this machine, and joblib."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import wait_for
from tiny import TINY

from normlab.runs.sweeps import register_resolvers

ROOT = Path(__file__).parents[2]
STEPS = 600


def sweep(tmp_path, *overrides):
    command = [
        sys.executable, "train.py", "-m", *TINY, f"data.cache_dir={tmp_path}/cache",
        f"hydra.sweep.dir={tmp_path}/runs", "trainer.threads=1", *overrides,
    ]  # fmt: skip
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def training(folder):
    """Returns the process that trains in `folder`, once it has written a checkpoint."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    wait_for(lambda: list(folder.glob("runs/*/checkpoints/step_*.pt")))
    jobs = folder.glob("runs/.submitit/*/*_submitted.pkl")
    controller = max(int(path.parent.name) for path in jobs)  # submitit's job id is its process
    children = Path(f"/proc/{controller}/task/{controller}/children").read_text().split()
    return int(children[0])


def outcome(folder):
    (run,) = folder.glob("runs/tiny*")
    return json.loads((run / "summary.json").read_text()), (run / "train.log").read_text()


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads Linux's /proc")
def test_a_preempted_submitit_job_is_requeued_and_a_killed_one_goes_on_when_started_again(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    options = ["hydra/launcher=submitit_local", "hydra.sweep.subdir=tiny",
               f"trainer.max_steps={STEPS}", "trainer.eval_every=300"]  # fmt: skip
    first = sweep(tmp_path, *options)
    os.kill(training(tmp_path), signal.SIGUSR2)  # what Slurm sends before it takes the machine
    log = tmp_path / "runs" / "tiny" / "train.log"
    wait_for(lambda: "Resuming" in log.read_text())
    time.sleep(0.2)  # somewhere in the steps, of which a fast machine does hundreds in a second
    os.kill(training(tmp_path), signal.SIGKILL)
    assert first.wait(60) != 0, first.stdout.read()
    summary, text = outcome(tmp_path)
    assert summary["status"] == "interrupted" and text.count("Resuming at step") == 1

    second = sweep(tmp_path, *options)
    assert second.wait(120) == 0, second.stdout.read()
    summary, text = outcome(tmp_path)
    assert (summary["status"], summary["steps"]) == ("completed", STEPS)
    assert text.count("Resuming at step") == 2
    lines = (tmp_path / "runs" / "tiny" / "metrics.jsonl").read_text().splitlines()
    steps = [line["step"] for line in map(json.loads, lines) if "train/loss" in line]
    assert steps == sorted(set(steps)) and steps[-1] == STEPS  # nothing lost, nothing twice


@pytest.mark.long
def test_joblib_runs_every_job(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    done = sweep(tmp_path, "hydra/launcher=joblib", "norm=none,rmsnorm", "trainer.threads=null")
    assert done.wait(120) == 0, done.stdout.read()
    summaries = [json.loads(path.read_text()) for path in tmp_path.glob("runs/*/summary.json")]
    assert [summary["status"] for summary in summaries] == ["completed"] * 2


def test_the_slurm_launcher_requeues():
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    from hydra import compose, initialize_config_dir

    register_resolvers()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("train", ["hydra/launcher=slurm"], return_hydra_config=True)
    launcher = config.hydra.launcher
    assert launcher._target_.endswith("SlurmLauncher")
    assert (launcher.gpus_per_node, launcher.tasks_per_node) == (1, 1)
    assert launcher.max_num_timeout > 1 and launcher.signal_delay_s >= 60

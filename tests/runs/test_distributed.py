"""One run on several processes: the same curve whatever their number, and one end for all.

What happens when one of them is lost, signalled or reads other data: faults/ranks.py.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import TINY, TINY_RNN

ROOT = Path(__file__).parents[2]
STEPS = ["trainer.max_steps=12", "trainer.eval_every=6", "trainer.accumulate=2"]
pytestmark = pytest.mark.slow


def start(processes, run_dir, *overrides, tiny=TINY, **environment):
    """Starts train.py with torchrun, or alone; its output is in `run_dir`.log."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    alone = [sys.executable]
    together = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={processes}",
                f"--master_port={port}"]  # fmt: skip
    settings = [*tiny, "model.dropout=0", "trainer.threads=1", *overrides]
    command = [*(alone if processes == 1 else together), "train.py", *settings]
    return subprocess.Popen(
        [*command, f"data.cache_dir={run_dir.parent}/cache", f"hydra.run.dir={run_dir}"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=open(f"{run_dir}.log", "w"),
        stderr=subprocess.STDOUT,
    )


def run(processes, run_dir, *overrides, **options):
    code = start(processes, run_dir, *overrides, **options).wait(200)
    assert code == 0, Path(f"{run_dir}.log").read_text()[-3000:]
    return read(run_dir)


def read(run_dir):
    lines = (run_dir / "metrics.jsonl").read_text().split("\n")
    clock = ("time", "train/items_per_second", "train/step_ms")
    records = [json.loads(line) for line in lines if line]
    return [{k: v for k, v in record.items() if k not in clock} for record in records]


def log_of(run_dir):
    return Path(f"{run_dir}.log").read_text()


@pytest.mark.parametrize("tiny", [TINY, TINY_RNN], ids=["transformer", "rnnsearch"])
def test_one_two_and_three_processes_have_one_curve(tmp_path, tiny):
    alone = run(1, tmp_path / "1", *STEPS, tiny=tiny)
    for processes in (2, 3):
        together = run(processes, tmp_path / str(processes), *STEPS, tiny=tiny)
        assert len(together) == len(alone)
        for a, b in zip(alone, together, strict=True):
            assert b == pytest.approx(a, rel=1e-4)
        summary = json.loads((tmp_path / str(processes) / "summary.json").read_text())
        assert (summary["status"], summary["world_size"]) == ("completed", processes)
        assert summary["segments"][-1]["world_size"] == processes


def test_a_run_goes_on_with_another_number_of_processes(tmp_path):
    whole = run(1, tmp_path / "whole", "trainer.max_steps=12")
    for processes, steps in ((2, 4), (3, 8), (1, 12)):
        run(processes, tmp_path / "parts", f"trainer.max_steps={steps}")
    last = [record for record in read(tmp_path / "parts") if "dev/loss" in record][-1]
    assert last["dev/loss"] == pytest.approx(
        [record for record in whole if "dev/loss" in record][-1]["dev/loss"], rel=1e-4
    )


def test_a_mistake_and_a_finished_run_end_all_processes(tmp_path):
    process = start(2, tmp_path / "bad", "trainer.precision=fp8")
    assert process.wait(100) != 0
    assert "trainer.precision=fp8 is unknown" in log_of(tmp_path / "bad")
    run(2, tmp_path / "r", *STEPS)
    run(2, tmp_path / "r", *STEPS)
    assert "This run is complete" in log_of(tmp_path / "r")


def test_two_tasks_of_a_submitit_job_train_one_run(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    command = [
        sys.executable, "train.py", "-m", *TINY, *STEPS, "trainer.threads=1", "model.dropout=0",
        "hydra/launcher=submitit_local", "hydra.launcher.tasks_per_node=2",
        "hydra.sweep.subdir=r", f"data.cache_dir={tmp_path}/cache", f"hydra.sweep.dir={tmp_path}",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())
    assert (summary["status"], summary["world_size"]) == ("completed", 2)
    alone = run(1, tmp_path / "alone", *STEPS)
    for a, b in zip(alone, read(tmp_path / "r"), strict=True):
        assert b == pytest.approx(a, rel=1e-4)

"""One run on several processes: the same curve whatever their number, and one end for all.

What happens when one of them is lost, signalled or reads other data: faults/ranks.py.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from faults.children import hold, train
from processes import Job, comparable, summary_of
from tiny import TINY, TINY_RNN

from normlab import distributed
from normlab.errors import UserError
from normlab.ranks import Place
from normlab.training.checkpoint import Checkpoints

ROOT = Path(__file__).parents[2]
STEPS = ["trainer.max_steps=12", "trainer.eval_every=6", "trainer.accumulate=2"]
pytestmark = pytest.mark.slow


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def torchrun(processes, run_dir, *overrides):
    """Runs train.py with torchrun; returns its exit code and its output."""
    port = free_port()
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={processes}",
               f"--master_port={port}", "train.py", *TINY, "model.dropout=0",
               f"data.cache_dir={run_dir.parent}/cache", f"hydra.run.dir={run_dir}"]  # fmt: skip
    done = subprocess.run(
        [*command, *overrides],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=200,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    return done.returncode, done.stdout


def places(processes):
    """Returns what torchrun would set in the environment of each process."""
    port = free_port()
    return [
        {"RANK": f"{rank}", "LOCAL_RANK": f"{rank}", "WORLD_SIZE": f"{processes}",
         "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{port}"}
        for rank in range(processes)
    ]  # fmt: skip


def jobs(processes, run_dir, *overrides, tiny=TINY, last=(), before_last=None, before=None):
    """Starts the same without torchrun, as quick jobs; their log is `train.log`.

    `last` are overrides of the last process only, which calls `before_last()` first, the others
    `before()`.
    """
    settings = [*tiny, "model.dropout=0", *overrides, f"data.cache_dir={run_dir.parent}/cache"]
    *others, final = [{}] if processes == 1 else places(processes)
    return [
        *(Job(run_dir, *settings, env=env, before=before) for env in others),
        Job(run_dir, *settings, *last, env=final, before=before_last),
    ]


def run(processes, run_dir, *overrides, tiny=TINY):
    """Runs `jobs` to their end; returns what their metrics must agree on."""
    for job in jobs(processes, run_dir, *overrides, tiny=tiny):
        assert job.wait(200) == 0, job.log[-3000:]
    return comparable(run_dir)


@pytest.mark.parametrize(
    "tiny", [TINY, pytest.param(TINY_RNN, marks=pytest.mark.long)], ids=["transformer", "rnnsearch"]
)
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


LATE = """
import time
from normlab import distributed
from normlab.ranks import place

with distributed.joined(place()):
    time.sleep(9 * place().rank)
    distributed.same_everywhere("data", {"corpus": 1})
"""


def test_a_process_that_reads_its_data_slowly_is_waited_for():
    port = free_port()
    env = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{port}"}
    jobs = [
        subprocess.Popen(
            [sys.executable, "-c", LATE],
            env=os.environ | env | {"RANK": rank, "LOCAL_RANK": rank, "NORMLAB_TIMEOUT": "6"},
        )
        for rank in "01"
    ]
    assert [job.wait(100) for job in jobs] == [0, 0]


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.distributed.is_nccl_available", lambda: True)
    with pytest.raises(UserError, match="process 2 has no GPU, this machine has 2"):
        with distributed.joined(Place(2, 3, 2)):
            pass


def test_a_run_goes_on_with_another_number_of_processes(tmp_path):
    whole = run(1, tmp_path / "whole", "trainer.max_steps=12")
    for processes, steps in ((2, 4), (1, 12)):
        run(processes, tmp_path / "parts", f"trainer.max_steps={steps}")
    last = [record for record in comparable(tmp_path / "parts") if "dev/loss" in record][-1]
    assert last["dev/loss"] == pytest.approx(
        [record for record in whole if "dev/loss" in record][-1]["dev/loss"], rel=1e-4
    )


@pytest.mark.parametrize(
    ("last", "key"),
    [
        ("seed=7", "seed"),
        # A key that the first process does not have.
        ("norm@model.decoder_norm=layernorm", "model.decoder_norm"),
    ],
)
def test_another_config_in_one_process_is_refused(tmp_path, last, key):
    """Weights come from the first process, batches and masks from each one's own config."""
    two = jobs(2, tmp_path / "r", *STEPS, last=[last])
    assert [job.wait() for job in two] == [2, 2]
    assert f"process 1 has other config than process 0 ({key}" in two[0].log


def _reads_the_state_before_the_last():
    def older(self):
        return self.read(self.regular()[0].stem)

    Checkpoints.newest_state = older


def test_another_checkpoint_in_one_process_is_refused(tmp_path):
    """As after a damaged copy or a stale listing: gradients of two models would be averaged."""
    steps = ["trainer.max_steps=12", "trainer.eval_every=6", "trainer.checkpoint_every=6"]
    run(2, tmp_path / "r", *steps)
    before = comparable(tmp_path / "r")
    two = jobs(2, tmp_path / "r", *steps, "trainer.max_steps=18",
               before_last=_reads_the_state_before_the_last)  # fmt: skip
    assert [job.wait() for job in two] == [2, 2]
    assert "process 1 has other checkpoint than process 0 (step)" in two[0].log
    assert comparable(tmp_path / "r") == before
    assert summary_of(tmp_path / "r")["status"] == "completed"


def test_an_evaluation_that_cannot_be_cut_short_loses_no_step(tmp_path):
    """Killed in one: the steps before it are in the checkpoint, and it is made up for."""
    steps = ["trainer.max_steps=12", "trainer.eval_every=6", "trainer.checkpoint_every=6"]
    whole = run(2, tmp_path / "whole", *steps)
    run_dir = tmp_path / "r"
    two = jobs(2, run_dir, *steps, before=partial(hold, run_dir, "evaluate", 60))
    two[0].wait_for((run_dir / "phase").exists)
    for job in two:
        job.signal(signal.SIGKILL)
        job.wait()
    state = torch.load(run_dir / "checkpoints" / "last.pt", weights_only=True)["progress"]
    assert (state["step"], state["evaluation_due"]) == (6, True)
    assert run(2, run_dir, *steps) == whole


def test_a_signal_at_an_evaluation_puts_it_off_and_only_the_first_process_says_130(tmp_path):
    """torchrun and srun end all processes when one has failed: the first may still be writing."""
    steps = ["trainer.max_steps=12", "trainer.eval_every=6", "trainer.checkpoint_every=12"]
    whole = run(2, tmp_path / "whole", *steps)
    run_dir = tmp_path / "r"
    settings = [*TINY, "model.dropout=0", *steps, f"data.cache_dir={tmp_path}/cache"]
    first, second = places(2)
    children = [
        train(run_dir, settings, None, first),
        train(run_dir, settings, partial(_asks_to_stop_at, 6), second),
    ]
    assert [child.wait() for child in children] == [130, 0], children[0].output()[-3000:]
    state = torch.load(run_dir / "checkpoints" / "last.pt", weights_only=True)["progress"]
    assert (state["step"], state["evaluation_due"]) == (6, True)
    for a, b in zip(whole, run(2, run_dir, *steps), strict=True):
        assert b == pytest.approx(a, rel=1e-6)  # windows of losses are added up in another order


def _asks_to_stop_at(step):
    from normlab.training import loop

    kept = loop.update

    def update(*arguments, **options):
        update.calls += 1
        if update.calls == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return kept(*arguments, **options)

    update.calls = 0
    loop.update = update


def test_torchrun_trains_and_a_finished_run_ends_all_processes(tmp_path):
    code, output = torchrun(2, tmp_path / "r", *STEPS)
    assert code == 0, output[-3000:]
    run(2, tmp_path / "r", *STEPS)
    assert "This run is complete" in (tmp_path / "r" / "train.log").read_text()


@pytest.mark.long
def test_a_mistake_ends_all_processes(tmp_path):
    code, output = torchrun(2, tmp_path / "bad", "trainer.precision=fp8")
    assert code != 0 and "trainer.precision=fp8 is unknown" in output


@pytest.mark.long
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
    for a, b in zip(alone, comparable(tmp_path / "r"), strict=True):
        assert b == pytest.approx(a, rel=1e-4)

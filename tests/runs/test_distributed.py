"""One run on several processes: the same curve whatever their number, and one end for all."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
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


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "nothing came"
        time.sleep(0.05)
    return found


def ranks(run_dir):
    """Returns the processes that train in `run_dir`, the first one first."""
    found = subprocess.run(
        ["pgrep", "-f", f"train.py .*hydra.run.dir={run_dir}"], capture_output=True, text=True
    ).stdout.split()
    places = {}
    for pid in map(int, found):
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        values = dict(entry.split(b"=", 1) for entry in environment if b"=" in entry)
        if b"RANK" in values:
            places[int(values[b"RANK"])] = pid
    return [places[number] for number in sorted(places)]


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


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="reads Linux's /proc")
@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_a_lost_process_ends_the_run_and_it_goes_on_when_started_again(tmp_path, number, how):
    if how == signal.SIGSTOP and number == 0:
        pytest.skip("a stopped first process is Ctrl-Z: nobody is left to say so")
    lengths = ["trainer.max_steps=400", "trainer.checkpoint_every=5", "trainer.eval_every=200"]
    run_dir = tmp_path / "r"
    process = start(2, run_dir, *lengths, NORMLAB_TIMEOUT="5")
    wait_for((run_dir / "checkpoints" / "last.pt").exists)
    lost = ranks(run_dir)[number]
    os.kill(lost, how)
    try:
        if how == signal.SIGSTOP:
            wait_for(lambda: "does not answer" in log_of(run_dir), 60)
    finally:
        if how == signal.SIGSTOP:
            os.kill(lost, signal.SIGKILL)
    assert process.wait(60) != 0
    if number == 1:
        summary = json.loads((run_dir / "summary.json").read_text())
        assert "has failed or does not answer" in summary["error"]
    run(2, run_dir, *lengths[1:], "trainer.max_steps=20")
    assert "Resuming at step" in log_of(run_dir)
    steps = [record["step"] for record in read(run_dir) if "train/loss" in record]
    assert steps == sorted(set(steps))


def test_a_signal_to_one_process_stops_all_with_a_checkpoint(tmp_path):
    run_dir = tmp_path / "r"
    process = start(2, run_dir, "trainer.max_steps=4000", "trainer.checkpoint_every=5")
    wait_for((run_dir / "checkpoints" / "last.pt").exists)
    os.kill(ranks(run_dir)[1], signal.SIGTERM)
    assert process.wait(60) != 0
    assert json.loads((run_dir / "summary.json").read_text())["status"] == "interrupted"


def test_processes_that_read_other_data_are_refused(tmp_path):
    code = (
        "import os, sys, pathlib\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "rank = int(os.environ['RANK'])\n"
        "lines = [f'{word} number {i}' for word in ('ein', 'a') for i in range(200)]\n"
        "own = folder / str(rank)\n"
        "own.mkdir()\n"
        "for name in ('train', 'val', 'test'):\n"
        "    for side in ('en', 'de'):\n"
        "        more = ['another line'] * (rank if name == 'train' else 0)\n"
        "        (own / f'{name}.{side}').write_text('\\n'.join(lines + more) + '\\n')\n"
        "from normlab import distributed\n"
        "from normlab.ranks import place\n"
        "from normlab.tasks.translation.corpora import text\n"
        "from normlab.tasks.translation.encoding import encode_corpus\n"
        "with distributed.joined(place()):\n"
        "    names = dict(train='train', dev='val', test=['test'], src='en', tgt='de')\n"
        "    corpus = text(dir=str(own), **names)\n"
        "    contents = encode_corpus(corpus, vocab_size=260, max_length=64,\n"
        "                             cache_dir=str(folder / 'cache')).contents\n"
        "    distributed.same_everywhere('data', contents)\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone",
         str(script), str(tmp_path)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode != 0
    assert "process 1 has other data than process 0 (train" in done.stderr


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

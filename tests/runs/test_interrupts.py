"""Runs that are killed, stopped and signalled: nothing is lost and no number changes."""

import contextlib
import random
import signal
import time
from functools import partial

import pytest
import torch
from faults.children import hold
from processes import Job, comparable, metrics_of, steps_done, summary_of
from tiny import TINY

# Accumulation, dropout and checkpoints within an epoch; evaluations and tests that take a while.
OVERRIDES = (
    *TINY, "trainer.max_steps=48", "trainer.accumulate=2", "trainer.log_every=4",
    "trainer.checkpoint_every=7", "trainer.eval_every=20", "model.dropout=0.2",
    "data.max_length=48", "model.max_length=130", "decoding.eval_beam=4", "decoding.beam=4",
)  # fmt: skip

# Where no evaluation is to be interrupted.
GREEDY = ("decoding.eval_beam=1", "decoding.beam=1", "data.dev=2", "data.test=2")


@pytest.fixture(scope="module")
def overrides(tiny_cache):
    return (*OVERRIDES, f"data.cache_dir={tiny_cache}")


@pytest.fixture(scope="module")
def whole(overrides, tmp_path_factory):
    """Returns the directory of the run that nothing has interrupted."""
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    assert Job(run_dir, *overrides).wait() == 0
    return run_dir


def assert_same(one, other):
    kept = [
        sorted(path.name for path in (run_dir / "checkpoints").glob("step_*.pt"))
        for run_dir in (one, other)
    ]
    assert kept[0] == kept[1] == ["step_00000035.pt", "step_00000042.pt"]
    for name in ("last", "best"):
        a, b = (
            torch.load(run_dir / "checkpoints" / f"{name}.pt", weights_only=True)["model"]
            for run_dir in (one, other)
        )
        assert all(torch.equal(a[key], b[key]) for key in a), name
    assert comparable(one) == comparable(other)
    for text in ("hypotheses/test.txt", "references/test.txt"):
        assert (one / text).read_bytes() == (other / text).read_bytes()
    a, b = summary_of(one), summary_of(other)
    for key in ("status", "steps", "best_dev", "test", "contents", "parameters"):
        assert a[key] == b[key], key


@pytest.mark.long
def test_killed_five_times_and_resumed_is_bit_identical(tmp_path, overrides, whole):
    """kill -9 at random moments."""
    seed = int(time.time())
    print(f"kill seed {seed}")
    moments = random.Random(seed)
    kills = 0
    for _ in range(5):
        job = Job(tmp_path, *overrides)
        before = signs_of_life(tmp_path)
        job.wait_for(lambda before=before: signs_of_life(tmp_path) != before)
        time.sleep(0.2 * moments.random())  # somewhere in the steps after a sign of life
        with contextlib.suppress(ProcessLookupError):
            job.signal(signal.SIGKILL)
        if job.wait() != -signal.SIGKILL:  # a fast machine is done before the fifth
            break
        kills += 1
    assert kills >= 2
    assert Job(tmp_path, *overrides).wait() == 0
    assert_same(whole, tmp_path)


def signs_of_life(run_dir):
    """Returns what changes when a run has done something that stays."""
    metrics = run_dir / "metrics.jsonl"
    files = {path.name for path in (run_dir / "checkpoints").glob("step_*.pt")}
    return files, metrics.stat().st_size if metrics.exists() else 0


def meet(run_dir, phase, *overrides):
    """Starts a job and returns it once it is in `phase`: "step", "evaluate" or "test".

    The phase lasts: evaluation and test a minute, each batch 50 ms. Steps are met at the eighth: an
    epoch has 16, evaluations come every 20.
    """
    seconds = 0.05 if phase == "step" else 60
    job = Job(run_dir, *overrides, before=partial(hold, run_dir, phase, seconds))
    begun = (run_dir / "phase").exists if phase != "step" else lambda: steps_done(run_dir) >= 8
    job.wait_for(begun)
    return job


@pytest.mark.slow
@pytest.mark.parametrize(
    ("phase", "name"),
    [
        pytest.param("step", "SIGHUP", marks=pytest.mark.long),
        ("evaluate", "SIGINT"),
        ("test", "SIGTERM"),
        pytest.param("step", "SIGUSR2", marks=pytest.mark.long),
        pytest.param("evaluate", "SIGTERM", marks=pytest.mark.long),
        pytest.param("evaluate", "SIGUSR2", marks=pytest.mark.long),
        pytest.param("test", "SIGUSR1", marks=pytest.mark.long),
        pytest.param("test", "SIGINT", marks=pytest.mark.long),
    ],
)
def test_a_signal_ends_a_run_within_seconds_and_it_goes_on_bit_for_bit(
    tmp_path, overrides, whole, phase, name
):
    job = meet(tmp_path, phase, *overrides)
    job.signal(signal.Signals[name])
    started = time.monotonic()
    assert job.wait() == 130
    assert time.monotonic() - started < 30  # half of what the phase lasts
    summary = summary_of(tmp_path)
    assert summary["status"] == "interrupted" and "test" not in summary
    assert f"{name}: saving, then stopping." in job.log
    state = torch.load(tmp_path / "checkpoints" / "last.pt", weights_only=True)
    assert state["progress"]["evaluation_due"] == (phase == "evaluate")
    assert Job(tmp_path, *overrides).wait() == 0
    assert_same(whole, tmp_path)


@pytest.mark.slow
def test_a_signal_in_the_search_for_translations_loses_nothing(tmp_path, overrides, whole):
    job = Job(tmp_path, *overrides, before=partial(hold, tmp_path, "evaluate", 0))
    job.wait_for((tmp_path / "phase").exists)
    time.sleep(0.02)
    job.signal(signal.SIGTERM)
    assert job.wait() == 130
    assert Job(tmp_path, *overrides).wait() == 0
    assert_same(whole, tmp_path)


@pytest.mark.slow
def test_ctrl_c_twice_in_an_evaluation_before_the_first_checkpoint_loses_nothing(
    tmp_path, overrides
):
    late = (*overrides, "trainer.checkpoint_every=1000")
    job = meet(tmp_path, "evaluate", *late)
    job.signal(signal.SIGINT)
    time.sleep(0.01)
    with contextlib.suppress(ProcessLookupError):  # a fast machine may be done by now
        job.signal(signal.SIGINT)
    assert job.wait() in (130, 1)  # 1: the second came when the run had ended
    state = torch.load(tmp_path / "checkpoints" / "last.pt", weights_only=True)
    assert state["progress"]["step"] == 20


@pytest.mark.long
def test_the_average_is_of_the_same_steps_whether_interrupted_or_not(tmp_path, overrides):
    """Of 20, 40 and 60: the checkpoint of step 45, where the run was interrupted, is not one."""
    average = (
        *overrides, "trainer.max_steps=60", "trainer.keep=3",
        "trainer.checkpoint_every=20", "trainer.average=3", "trainer.log_every=5",
        "trainer.eval_every=60", *GREEDY,
    )  # fmt: skip
    assert Job(tmp_path / "whole", *average).wait() == 0
    parts = tmp_path / "parts"
    job = Job(parts, *average)
    job.wait_for(lambda: (parts / "metrics.jsonl").exists() and '"step": 45' in text_of(parts))
    job.signal(signal.SIGTERM)
    assert job.wait() == 130
    assert Job(parts, *average).wait() == 0
    assert len(summary_of(parts)["segments"]) == 2
    mean, of_parts = (
        torch.load(run_dir / "checkpoints" / "average.pt", weights_only=True)
        for run_dir in (tmp_path / "whole", parts)
    )
    assert mean["count"] == of_parts["count"] == 3
    assert all(torch.equal(mean["model"][key], of_parts["model"][key]) for key in mean["model"])
    states = [
        torch.load(parts / "checkpoints" / f"step_{step:08d}.pt", weights_only=True)["model"]
        for step in (20, 40, 60)
    ]
    name = next(iter(states[0]))
    by_hand = torch.stack([state[name].double() for state in states]).mean(0).float()
    assert torch.equal(mean["model"][name], by_hand)


def text_of(run_dir):
    return (run_dir / "metrics.jsonl").read_text()


@pytest.mark.slow
def test_a_stopped_process_is_no_training_time_and_flagged_as_a_stall(tmp_path, overrides):
    # Nothing but steps, or the stop might fall where no training time is counted.
    quiet = (
        *overrides, "trainer.max_steps=300", "trainer.eval_every=300", "trainer.log_every=20",
        "trainer.checkpoint_every=300", *GREEDY,
    )  # fmt: skip
    job = Job(tmp_path, *quiet)
    job.wait_for(
        lambda: (tmp_path / "metrics.jsonl").exists() and '"step": 60' in text_of(tmp_path)
    )
    time.sleep(0.03)  # the line is written, the next steps have begun
    job.signal(signal.SIGSTOP)
    time.sleep(4)
    job.signal(signal.SIGCONT)
    assert job.wait() == 0
    summary = summary_of(tmp_path)
    speeds = [line["train/step_ms"] for line in metrics_of(tmp_path) if "train/step_ms" in line]
    assert max(speeds) >= 199 and summary["stalls"] >= 1  # 4 s among 20 steps
    assert summary["seconds_per_1k_steps"] < 3 * sorted(speeds)[len(speeds) // 2]


@pytest.mark.long
def test_speeds_are_published_of_segments_like_the_last_one(tmp_path, overrides):
    """Resumed with two threads: the windows of one thread are left out."""
    overrides = (*overrides, "trainer.max_steps=28", "trainer.eval_every=28", *GREEDY)
    job = meet(tmp_path, "step", *overrides)
    job.signal(signal.SIGTERM)
    assert job.wait() == 130
    # Not by trainer.threads, which is part of the run's identity, but as OMP_NUM_THREADS does it.
    assert Job(tmp_path, *overrides, threads=2).wait() == 0
    summary = summary_of(tmp_path)
    one, two = summary["segments"]
    assert (one["threads"], two["threads"]) == (1, 2)
    assert one["steps"] + two["steps"] == 28
    lines = [line for line in metrics_of(tmp_path) if "train/step_ms" in line]
    of_two = [line for line in lines if line["step"] >= two["first_step"] + 4]
    assert summary["seconds_per_1k_steps"] <= max(line["train/step_ms"] for line in of_two)

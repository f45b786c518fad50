"""The loop on a model of a few numbers: limits, interrupts, divergence, exact resume."""

import json
import math
import os
import signal
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch
import toy
from processes import comparable
from torch import nn

from normlab.norms import NoNorm
from normlab.tasks.task import Metric
from normlab.training.checkpoint import Checkpoints
from normlab.training.loop import Trainer
from normlab.training.progress import Progress
from normlab.training.schedules import constant
from normlab.training.settings import TrainerSettings
from normlab.training.signals import NAMES, interrupts
from normlab.training.tracking import Tracker

CPU = torch.device("cpu")
SETTINGS = TrainerSettings(
    max_steps=30, max_epochs=None, max_minutes=None, patience=None, accumulate=2, clip=1.0,
    log_every=4, eval_every=5, checkpoint_every=7, keep=2, average=0, precision="fp32",
    compile=False, device="cpu", threads=None, deterministic=False,
)  # fmt: skip
TASK = toy.Regression(toy.sine(count=40, noise=0.1), seed=1, batch_size=7)
SCORE = Metric("dev/score", higher_is_better=True, worst=0.0)


def settings_with(**changes):
    return TrainerSettings(**{**SETTINGS.model_dump(), **changes})


@dataclass
class Outcome:
    progress: Progress
    model: nn.Module
    metrics: list
    folder: Path


def run(
    folder, settings=SETTINGS, lr=0.05, scores=(), metric=SCORE, show=lambda p, m: None,
    batches=TASK.batches, dropout=0.3, during_evaluation=lambda: None, environment=None,
):  # fmt: skip
    """Starts or resumes training in `folder`, as runs/job.py does."""
    folder.mkdir(exist_ok=True)
    torch.manual_seed(1)
    model = toy.Net(NoNorm, width=6, dropout=dropout)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
    checkpoints = Checkpoints(folder / "checkpoints", settings.keep)
    state = checkpoints.newest_state()
    text = "" if state is None else state["metrics"]
    values = iter(scores)

    def evaluate():
        during_evaluation()
        return {metric.key: next(values, 0.0), "dev/weights": model[0].weight.sum().item()}

    with Tracker(folder / "metrics.jsonl", text=text) as tracker, interrupts() as interrupted:
        trainer = Trainer(
            model, toy.Objective(model), optimizer, partial(constant, lr=lr, warmup=3), batches,
            evaluate, metric, settings, tracker, checkpoints, CPU, environment or {}, show,
        )  # fmt: skip
        progress = trainer.train(state, interrupted)
    text = (folder / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.split("\n") if line]
    return Outcome(progress, model, lines, folder)


def assert_same(one, other):
    assert one.progress.status == other.progress.status == "completed"
    for name, value in one.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[name]), name
    assert comparable(one.folder) == comparable(other.folder)
    best, of_other = (
        torch.load(o.folder / "checkpoints" / "best.pt", weights_only=True) for o in (one, other)
    )
    assert best["step"] == of_other["step"]


@pytest.mark.parametrize("name", NAMES)
def test_interrupted_and_resumed_is_bit_identical(tmp_path, name):
    """Mid-epoch, between log lines, with dropout on and accumulation."""
    whole = run(tmp_path / "whole")
    kills = iter([4, 10, 20])
    stop_at = next(kills)

    def interrupt(progress, metrics):
        if progress.step == stop_at:
            os.kill(os.getpid(), signal.Signals[name])

    outcome = run(tmp_path / "parts", show=interrupt)
    interrupted = 0
    while outcome.progress.status == "interrupted":
        interrupted += 1
        stop_at = next(kills, None)
        outcome = run(tmp_path / "parts", show=interrupt)
    assert interrupted == 3
    assert_same(whole, outcome)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stop_at", [2, 6])
def test_a_signal_in_an_evaluation_cuts_it_short_and_it_is_done_on_resuming(
    tmp_path, name, stop_at
):
    """The second evaluation (step 10), and the last one, after which nothing else is to do."""
    whole = run(tmp_path / "whole")
    evaluations = iter(range(1, 100))

    def interrupt():
        if next(evaluations) == stop_at:
            os.kill(os.getpid(), signal.Signals[name])
            raise AssertionError("the evaluation went on after the signal")

    cut = run(tmp_path / "parts", during_evaluation=interrupt)
    assert (cut.progress.status, cut.progress.step) == ("interrupted", 5 * stop_at)
    assert_same(whole, run(tmp_path / "parts", during_evaluation=interrupt))


def test_a_signal_that_nohup_ignores_stays_ignored(tmp_path):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # conftest.py puts it back
    done = run(tmp_path, show=lambda *_: os.kill(os.getpid(), signal.SIGHUP))
    assert done.progress.status == "completed"


def test_a_signal_after_the_last_step_does_not_undo_the_end(tmp_path):
    def interrupt(progress, metrics):
        if progress.step == 30 and "dev/score" in metrics:
            os.kill(os.getpid(), signal.SIGTERM)

    assert run(tmp_path, show=interrupt).progress.status == "completed"


def test_logged_at_the_interval_and_at_the_end(tmp_path):
    metrics = run(tmp_path).metrics
    logged = [line["step"] for line in metrics if "train/loss" in line]
    assert logged == [4, 8, 12, 16, 20, 24, 28, 30]
    assert [line["step"] for line in metrics if "dev/score" in line] == [5, 10, 15, 20, 25, 30]
    keys = {"step", "time", "train/loss", "train/off", "train/grad_norm", "train/lr",
            "train/items_per_second", "train/step_ms"}  # fmt: skip
    assert set(metrics[0]) == keys
    assert all(a["time"] <= b["time"] for a, b in zip(metrics, metrics[1:], strict=False))


def test_accumulation_of_two_equals_one_batch_of_both(tmp_path):
    """Loss and gradient are sums over all items of a step, divided once."""

    def first_step(folder, accumulate, parts):
        makers = [partial(TASK.pick, torch.tensor(part)) for part in parts]
        settings = settings_with(max_steps=1, accumulate=accumulate)
        outcome = run(folder, settings, batches=lambda epoch: makers, dropout=0.0)
        first = outcome.metrics[0]
        return first["train/loss"], first["train/off"], first["train/grad_norm"]

    short, long = list(range(3)), list(range(3, 11))
    two = first_step(tmp_path / "2", 2, [short, long])
    one = first_step(tmp_path / "1", 1, [short + long])
    assert two == pytest.approx(one, rel=1e-5)


@pytest.mark.parametrize("log_every", [1, 4, 100])
def test_divergence_is_recorded_with_its_step_and_saves_nothing_broken(tmp_path, log_every):
    # Adam's first step moves every weight by lr: the squares overflow in the second.
    settings = settings_with(log_every=log_every, checkpoint_every=1)
    outcome = run(tmp_path, settings, lr=1e30)
    assert outcome.progress.status == "diverged"
    assert outcome.progress.diverged_at == 2
    assert outcome.metrics[-1]["train/loss"] is None
    last = Checkpoints(tmp_path / "checkpoints").newest_state()
    assert last["progress"]["step"] == 1
    assert all(value.isfinite().all() for value in last["model"].values())


def test_limits(tmp_path):
    def steps(**limits):
        settings = settings_with(**{"max_steps": None, **limits})
        return run(tmp_path / repr(limits), settings).progress.step

    per_epoch = len(TASK.batches(0))
    assert steps(max_epochs=2, accumulate=1) == 2 * per_epoch
    assert steps(max_steps=3) == 3
    assert steps(max_minutes=1e-9) == 1
    assert per_epoch > 2


@pytest.mark.parametrize(
    ("metric", "values"),
    [(SCORE, [1.0, 3.0, 2.0, 2.5, 9.0]), (toy.Regression.metric, [5.0, 3.0, 4.0, 3.5, 1.0])],
    ids=["higher is better", "lower is better"],
)
def test_patience_counts_evaluations_without_a_better_result(tmp_path, metric, values):
    outcome = run(tmp_path, settings_with(patience=2), scores=values, metric=metric)
    assert outcome.progress.step == 20  # evaluations at 5, 10, 15, 20
    assert (outcome.progress.best, outcome.progress.best_step) == (3.0, 10)
    best = torch.load(tmp_path / "checkpoints" / "best.pt", weights_only=True)
    assert (best["step"], best["value"]) == (10, 3.0)
    last = Checkpoints(tmp_path / "checkpoints").newest_state()
    assert last["progress"]["step"] == 20


def test_a_result_that_is_not_a_number_is_worse_than_any(tmp_path):
    values = [math.nan, math.nan, 3.0, 5.0]
    outcome = run(tmp_path, settings_with(max_steps=20), scores=values, metric=SCORE)
    assert (outcome.progress.best, outcome.progress.best_step) == (5.0, 20)


def test_a_larger_limit_continues_a_finished_run(tmp_path):
    whole = run(tmp_path / "whole", settings_with(max_steps=28))
    run(tmp_path / "parts", settings_with(max_steps=8))
    resumed = run(tmp_path / "parts", settings_with(max_steps=28))
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name])


def test_clipping_bounds_the_step_and_reports_the_norm_before(tmp_path):
    a = run(tmp_path / "loose", settings_with(max_steps=1, clip=None))
    b = run(tmp_path / "tight", settings_with(max_steps=1, clip=1e-3))
    assert a.metrics[0]["train/grad_norm"] == b.metrics[0]["train/grad_norm"] > 1e-3


def test_each_start_is_a_segment_with_its_environment(tmp_path):
    for steps, threads in ((8, 1), (20, 2)):
        outcome = run(tmp_path, settings_with(max_steps=steps), environment={"threads": threads})
    first, second = outcome.progress.segments
    assert (first["threads"], first["first_step"]) == (1, 1)
    assert (second["threads"], second["first_step"]) == (2, 9)
    assert [steps for steps, _, _ in first["windows"]] == [4, 4]
    assert [steps for steps, _, _ in second["windows"]] == [4, 4, 4]

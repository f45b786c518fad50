"""What a run's summary says of it."""

import math
from pathlib import Path
from types import SimpleNamespace

import pytest

from normlab.runs.summary import _learned, closing_lines


@pytest.mark.parametrize(
    ("status", "reached", "learned"),
    [
        ("completed", 4.4, True),
        ("completed", 4.6, False),  # a quarter below guessing is 4.5
        ("completed", math.nan, False),
        ("diverged", 1.0, False),
    ],
)
def test_a_run_has_learned_that_ends_a_quarter_below_guessing(status, reached, learned):
    task = SimpleNamespace(guessing=lambda: ("dev/nll", 6.0))
    progress = SimpleNamespace(status=status, latest={"dev/nll": reached})
    assert _learned(task, progress)["learned"] is learned


def test_a_task_without_a_baseline_says_nothing_of_it():
    progress = SimpleNamespace(status="completed", latest={})
    assert _learned(SimpleNamespace(guessing=lambda: None), progress)["learned"] is None


def test_the_contrast_is_the_same_command_with_another_mean_or_norm():
    config = SimpleNamespace(init_mean=0.2, names=SimpleNamespace(norm="prmsnorm"))
    task = SimpleNamespace(result="bleu", metric=SimpleNamespace(key="dev/bleu"))
    summary = {
        "status": "completed",
        "steps": 10,
        "best_dev": {"value": 0.1},
        "seconds_per_1k_steps": 9.0,
        "training_seconds": 70.0,
        "dev": {"dev/nll": 6.0},
        "guessing": {"metric": "dev/nll", "value": 6.1},
        "learned": False,
    }
    overrides = ["norm=prmsnorm", "norm.p=0.1", "init.mean=0.2", "data.dir=my corpus"]
    lines = closing_lines(task, summary, config, overrides, Path("runs/r"))
    assert lines[-3:] == [
        "The contrast, some 1 min of training each:",
        "    python train.py norm=prmsnorm init.mean=0 norm.p=0.1 'data.dir=my corpus'"
        "  # initial weights around 0",
        "    python train.py norm=layernorm init.mean=0.2 'data.dir=my corpus'  # LayerNorm",
    ]
    in_a_sweep = closing_lines(task, summary, config, None, Path("runs/r"))
    assert len(in_a_sweep) == 2 and "It has learned little or nothing" in in_a_sweep[-1]

"""What a run's summary says of it."""

import math
from types import SimpleNamespace

import pytest

from normlab.runs.summary import _learned


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

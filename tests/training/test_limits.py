"""When a run ends, and how long it still takes."""

from types import SimpleNamespace

import pytest

from normlab.training.limits import limit_reached, seconds_left


def settings(**limits):
    none = dict.fromkeys(("max_steps", "max_epochs", "max_minutes", "patience"))
    return SimpleNamespace(**none | limits)


def progress(step=30, epoch=2, seconds=90.0, evaluations_since_best=1):
    return SimpleNamespace(
        step=step, epoch=epoch, seconds=seconds, evaluations_since_best=evaluations_since_best
    )


@pytest.mark.parametrize(
    ("limits", "reached"),
    [
        ({}, False),
        ({"max_steps": 30}, True),
        ({"max_steps": 31}, False),
        ({"max_steps": 29}, True),
        ({"max_epochs": 2}, True),
        ({"max_epochs": 3}, False),
        ({"max_minutes": 2.0}, True),  # 90 s, and 30 s of the steps since
        ({"max_minutes": 2.01}, False),
        ({"patience": 1}, True),
        ({"patience": 2}, False),
        ({"patience": 0}, True),
        ({"max_steps": 100, "patience": 1}, True),
    ],
)
def test_any_limit_ends_a_run_when_it_is_reached(limits, reached):
    assert limit_reached(settings(**limits), progress(), running_seconds=30) is reached


@pytest.mark.parametrize(
    ("limits", "left"),
    [
        ({}, None),
        ({"max_epochs": 5, "patience": 3}, None),
        ({"max_steps": 50}, 5.0),
        ({"max_minutes": 2}, 30.0),
        ({"max_steps": 50, "max_minutes": 2}, 5.0),  # whichever comes first
        ({"max_steps": 1000, "max_minutes": 2}, 30.0),
        ({"max_steps": 20}, 0.0),
    ],
)
def test_the_time_left(limits, left):
    assert seconds_left(settings(**limits), progress(), seconds_per_step=0.25) == left

"""Where a run stands: limits, and speeds of like segments only."""

import pytest

from normlab.training.progress import Progress, public, speed


def segment(*windows, first_step=1, **environment):
    """Returns a segment with windows of (steps, items, seconds)."""
    kind = {"norm_impl": "fused", "device": "cpu", "threads": 1, "torch": "2", "world_size": 1}
    return {**kind, **environment, "first_step": first_step, "windows": [list(w) for w in windows]}


def test_the_first_window_of_each_process_is_left_out():
    one = segment((10, 100, 9.0), (10, 100, 1.0))
    two = segment((10, 100, 9.0), (10, 120, 1.2), first_step=21)
    found = speed([one, two])
    assert found["seconds_per_1k_steps"] == pytest.approx(1000 * 2.2 / 20)
    assert found["items_per_second"] == pytest.approx(220 / 2.2)
    assert found["stalls"] == 0


def test_a_stalled_window_is_counted_apart():
    windows = [(10, 100, 1.0)] * 8
    clean = speed([segment(*windows)])
    held_up = speed([segment(*windows, (10, 100, 12.0))])
    assert held_up == {**clean, "stalls": 1}


@pytest.mark.parametrize(
    "changed",
    [{"threads": 4}, {"norm_impl": "composed"}, {"device": "H200"}, {"torch": "3"},
     {"world_size": 2}],
)  # fmt: skip
def test_only_segments_like_the_last_count(changed):
    slow, fast = [(10, 100, 9.0)] * 3, [(10, 100, 1.0)] * 3
    last = segment(*fast, **changed)
    assert speed([segment(*slow), last]) == speed([last])
    assert speed([segment(*slow), last])["seconds_per_1k_steps"] == pytest.approx(100)


@pytest.mark.parametrize("segments", [[], [segment((10, 100, 1.0))]])
def test_a_speed_that_nothing_supports_is_none(segments):
    nothing = {"seconds_per_1k_steps": None, "items_per_second": None, "stalls": 0}
    assert speed(segments) == nothing


def test_a_segment_is_shown_with_its_steps_and_seconds():
    assert public(segment((10, 100, 1.0), (5, 50, 0.5), first_step=7)) == {
        "norm_impl": "fused", "device": "cpu", "threads": 1, "torch": "2", "world_size": 1,
        "first_step": 7, "steps": 15, "seconds": 1.5,
    }  # fmt: skip


def test_progress_comes_back_from_its_state():
    progress = Progress(step=7, epoch=1, batch=2, best=3.5, best_step=5)
    progress.start_segment({"threads": 1})
    progress.add_window(4, 40, 2.0)
    assert Progress(**progress.state({})) == progress

"""The window of steps behind a log line."""

import pytest
import torch

from normlab import distributed
from normlab.training import log_window
from normlab.training.log_window import Clock, Window

CPU = torch.device("cpu")


def filled(norms, sums):
    window = Window(8, CPU, {})
    for norm, total in zip(norms, sums, strict=True):
        window.add({"loss": (torch.tensor(total), 4)}, torch.tensor(norm), 4)
    window.seconds = 1.0
    return window


def test_it_goes_on_from_its_state():
    window = Window(8, CPU, filled([1.0, 3.0], [8.0, 16.0]).state())
    window.add({"loss": (torch.tensor(24.0), 4)}, torch.tensor(5.0), 4)
    means = window.means()
    assert (means["train/loss"], means["train/grad_norm"]) == (48 / 12, 3.0)


def test_on_two_processes_sums_are_shared_and_every_process_has_the_gradient_norm(monkeypatch):
    state = filled([1.0, 3.0], [8.0, 16.0]).state()
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    windows = []
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        windows.append(Window(8, CPU, state))
    monkeypatch.setattr(distributed, "total", lambda _: windows[0].sums[:2] + windows[1].sums[:2])
    monkeypatch.setattr(distributed, "gather", lambda _: [window.counts for window in windows])
    for window in windows:
        means = window.means()
        assert means["train/loss"] == pytest.approx(24 / 8)
        assert means["train/grad_norm"] == pytest.approx(2.0)


def test_it_grows_with_the_steps_and_keeps_each_sum_apart():
    window = Window(4, CPU, {})
    for step in range(10):
        sums = {"loss": (torch.tensor(6.0), 2), "nll": (torch.tensor(2.0 * step), 1)}
        window.add(sums, torch.tensor(5.0), 3)
    window.seconds = 2.0
    assert window.means() == {
        "train/loss": 3.0,
        "train/nll": 9.0,
        "train/grad_norm": 5.0,
        "train/items_per_second": 15.0,
        "train/step_ms": 200.0,
    }
    assert len(window.sums) == 16  # 4, doubled when it was full


def test_the_clock_stands_until_it_is_started_and_counts_on_at_a_second_start(monkeypatch):
    now = [10.0]
    monkeypatch.setattr(log_window.time, "perf_counter", lambda: now[0])
    clock = Clock(CPU)
    assert clock.seconds == clock.stop() == 0.0
    clock.start()
    now[0] = 11.0
    clock.start()
    now[0] = 12.5
    assert clock.seconds == clock.stop() == 2.5
    assert clock.seconds == 0.0


def test_the_first_of_several_non_finite_steps_is_named():
    nan = float("nan")
    assert filled([1.0, nan, 1.0, 1.0], [1.0, 1.0, nan, 1.0]).first_non_finite() == 1
    assert filled([1.0, 1.0], [float("inf"), 1.0]).first_non_finite() == 0
    assert filled([1.0, 1.0], [1.0, 1.0]).first_non_finite() is None

"""Benchmark pages: ratios within a block, intervals, and the warning of a noisy control."""

import json

import numpy as np
import pytest

from normlab.errors import UserError
from normlab.reports.benchmarks import (
    CONTROL,
    exploded,
    merge,
    page,
    ratio,
    saved,
    seconds,
    write_pages,
)


def times(noise, n=200):
    random = np.random.default_rng(1)
    drift = np.linspace(1, 2, n)  # the machine slows down; ratios must not notice
    base = drift * random.normal(1, noise, n)
    return {
        "layernorm native": list(base),
        "rmsnorm fused": list(0.7 * drift * random.normal(1, noise, n)),
        CONTROL: list(drift * random.normal(1, noise, n)),
    }


def benchmark(noise):
    record = {"title": "both", "baseline": "layernorm native", "times": times(noise)}
    return {
        "title": "T", "command": "python x", "commit": "c" * 40, "notes": [], "records": [record],
        "environment": {"device": "cpu (x), 2 threads", "torch": "2"},
    }  # fmt: skip


def test_the_interval_holds_the_true_ratio_despite_drift():
    found = ratio({"times": times(0.02)}, "rmsnorm fused", "layernorm native")
    assert found.low < 0.7 < found.high and found.high - found.low < 0.02


def test_of_several_processes_only_their_own_ratios_count():
    """Five processes each of which has a ratio of its own, exact within: a t interval of five."""
    own, blocks = [0.90, 0.95, 1.00, 1.05, 1.10], 40
    record = {
        "times": {"a": [x for x in own for _ in range(blocks)], "b": [1.0] * 5 * blocks},
        "processes": 5,
    }
    found = ratio(record, "a", "b")
    half = 2.776 * np.std(own, ddof=1) / 5**0.5  # t of 4 degrees of freedom, 97.5 %
    assert (found.median, found.low) == pytest.approx((1.0, 1.0 - half), abs=1e-3)
    as_one = ratio({**record, "processes": 1}, "a", "b")
    assert as_one.high - as_one.low < found.high - found.low


def test_what_is_saved_is_a_share_of_the_norms_own_cost():
    own = np.random.default_rng(2).normal(1, 0.001, 60)
    times = {"none": 1.0 * own, "layernorm composed": 1.5 * own, "rmsnorm composed": 1.4 * own}
    found = saved({"times": times}, "rmsnorm composed", "layernorm composed", "none")
    assert found.median == pytest.approx(0.2) and found.low <= found.median <= found.high
    times["none"] = 1.5 * own
    assert saved({"times": times}, "rmsnorm composed", "layernorm composed", "none") is None


def test_what_is_saved_does_not_follow_the_process_that_saw_the_smallest_cost():
    cost = np.array([0.075, 0.129, 0.207, 0.183, 0.167])
    gain = np.array([-0.031, -0.003, 0.040, 0.033, 0.006])
    times = {"layernorm composed": [1.0] * 5, "none": list(1 - cost), "x": list(1 - gain)}
    found = saved({"times": times, "processes": 5}, "x", "layernorm composed", "none")
    assert found.median == pytest.approx(gain.sum() / cost.sum())  # 0.06: of quotients, 0.00
    assert -0.3 < found.low < 0 < found.high < 0.3


@pytest.mark.parametrize(("loss", "share"), [(8.7, "10 %"), (3000.0, "-"), (float("nan"), "-")])
def test_a_network_that_has_exploded_is_no_measure_of_what_norms_cost(loss, share):
    stored = benchmark(0.01)
    (record,) = stored["records"]
    record["times"]["none"] = [0.9 * x for x in record["times"]["layernorm native"]]
    losses = dict.fromkeys(record["times"], 8.6)
    record |= {"items": 100, "loss": {**losses, "none": loss}}
    shown = page(stored)
    (row,) = [line for line in shown.split("\n") if line.startswith("| layernorm native |")]
    assert row.endswith(f"| {share} | 8.600 |")
    assert "of the last step" in shown
    (bare,) = [line for line in shown.split("\n") if line.startswith("| none")]
    assert bare.endswith(f"| {loss:.3f}" + " (exploded)" * (share == "-") + " |")


def test_seconds_are_the_mean_over_batches_of_unlike_length():
    record = {"times": {"a": [1.0, 4.0, 1.1, 4.0, 0.9, 4.3]}, "batches": 2}
    assert seconds(record, "a") == pytest.approx(2.5)
    assert seconds({**record, "processes": 3}, "a") == pytest.approx(2.5)
    assert seconds({"times": record["times"]}, "a") == pytest.approx(2.55)  # the median of all


def test_processes_of_different_code_are_not_merged():
    first, second = benchmark(0.01), {**benchmark(0.01), "commit": "f" * 40}
    with pytest.raises(UserError, match="measure again"):
        merge([first, second])


def test_no_further_process_is_started_after_one_that_differs():
    def processes():
        yield benchmark(0.01)
        yield {**benchmark(0.01), "commit": "f" * 40}
        pytest.fail("a third process")

    with pytest.raises(UserError, match="measure again"):
        merge(processes())


def test_of_merged_processes_the_largest_loss_counts():
    processes = [benchmark(0.01) for _ in range(3)]
    for each, loss in zip(processes, (8.0, 9.0, 8.5), strict=True):
        each["records"][0]["loss"] = dict.fromkeys(each["records"][0]["times"], loss)
    assert set(merge(processes)["records"][0]["loss"].values()) == {9.0}
    processes[1]["records"][0]["loss"][CONTROL] = float("nan")
    merged = merge(processes)["records"][0]
    assert exploded(merged, CONTROL) and not exploded(merged, "rmsnorm fused")


def test_processes_are_merged_block_after_block():
    first, second = benchmark(0.01), benchmark(0.01)
    second["records"][0]["times"] = {v: [9.0] * 200 for v in second["records"][0]["times"]}
    whole = merge([first, second])
    (record,) = whole["records"]
    assert record["processes"] == 2 and record["times"][CONTROL][200:] == [9.0] * 200
    assert len(record["times"][CONTROL]) == 400
    shown = page(whole)
    assert "(2 processes of 200 blocks)" in shown and "its t interval over processes" in shown


@pytest.mark.parametrize(("noise", "warned"), [(0.01, False), (0.5, True)])
def test_a_wide_control_is_said_in_the_heading(noise, warned):
    (heading,) = [line for line in page(benchmark(noise)).split("\n") if line.startswith("## ")]
    assert ("wider than ±2 %" in heading) == warned


def test_pages_are_rebuilt_from_stored_records(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "norms.json").write_text(json.dumps(benchmark(0.01)))
    (written,) = write_pages(tmp_path / "raw", tmp_path / "results")
    assert "| rmsnorm fused | " in written.read_text()
    stored = (tmp_path / "results" / "benchmarks" / "norms.json").read_text()
    assert json.loads(stored) == benchmark(0.01)

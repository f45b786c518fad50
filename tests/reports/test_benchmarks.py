"""Benchmark pages: ratios within a block, intervals, and the warning of a noisy control."""

import json

import numpy as np
import pytest

from normlab.reports.benchmarks import CONTROL, page, ratio, write_pages


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
    found = ratio(times(0.02), "rmsnorm fused", "layernorm native")
    assert found.low < 0.7 < found.high and found.high - found.low < 0.02


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

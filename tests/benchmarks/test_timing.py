"""Interleaved timing: every variant once a block, warm-up left out, honest intervals."""

import pytest
import torch

from normlab.benchmarks.norms import norm_times, peak_memory
from normlab.benchmarks.timing import copying_memory, interleave
from normlab.reports.benchmarks import CONTROL

CPU = torch.device("cpu")
QUICK = {"blocks": 2, "compiled": False, "cold": False}


def test_every_variant_is_timed_once_a_block_in_changing_order():
    calls, prepared, now = [], [], [0.0]
    cost = {"slow": 3.0, "fast": 1.0}

    def variant(name):
        def call():
            calls.append(name)
            now[0] += cost[name]

        return call

    def before(call):
        prepared.append(call)
        now[0] += 100  # must not be counted

    variants = {name: variant(name) for name in cost}
    times = interleave(variants, 20, CPU, warmup=2, before=before, watch=lambda: now[0])
    assert times == {"slow": [3.0] * 20, "fast": [1.0] * 20}
    blocks = [tuple(calls[i : i + 2]) for i in range(0, len(calls), 2)]
    assert len(blocks) == 22 and set(blocks) == {("slow", "fast"), ("fast", "slow")}
    assert prepared == [variants[name] for name in calls]


def test_norms_are_timed_in_every_implementation_and_pass():
    records = norm_times(8, 16, torch.float32, CPU, **QUICK)
    assert [r["title"].split(",")[0] for r in records] == ["forward", "backward", "both"]
    for record in records:
        names = set(record["times"])
        assert {"layernorm native", "rmsnorm composed", "rmsnorm native", CONTROL, "copy"} <= names
        assert all(len(t) == 2 and min(t) > 0 for t in record["times"].values())
    assert [r["bytes"] / r["copy_bytes"] for r in records] == [1, 1.5, 2.5]


def test_a_neighbour_copies_memory_until_the_end():
    with copying_memory() as neighbour:
        assert neighbour.poll() is None
    assert neighbour.wait() < 0  # killed


def test_the_peak_counts_what_is_held_at_once():
    def call():
        a = torch.empty(1000)  # 4,000 bytes
        b = torch.empty(1000)
        del a
        return b, torch.empty(500)

    assert peak_memory(call, CPU) == pytest.approx(8000, abs=300)
    (record,) = (r for r in norm_times(256, 64, torch.float32, CPU, **QUICK) if "peak" in r)
    in_tensors = {name: peak / (256 * 64 * 4) for name, peak in record["peak"].items()}
    assert 1.9 < in_tensors["layernorm native"] < 2.5  # y and dx
    assert in_tensors["layernorm composed"] > in_tensors["rmsnorm composed"] > 3

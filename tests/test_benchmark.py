"""scripts/benchmark.py from end to end, on a model that takes no time."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from processes import script, start, wait_for
from tiny import TINY

from normlab.benchmarks.profiling import by_themselves, floating_point_operations, products
from normlab.reports.benchmarks import CONTROL, write_pages
from normlab.runs import job

ROOT = Path(__file__).parents[1]


@pytest.fixture
def benchmark(tmp_path):
    def run(*arguments):
        return script("scripts/benchmark.py", *arguments, cwd=tmp_path)

    run.results = tmp_path / "results" / "benchmarks"
    return run


@pytest.mark.slow
def test_steps_of_every_norm_beside_the_papers(benchmark, tmp_path):
    tiny = [override for override in TINY if not override.startswith("logger")]
    result = benchmark(
        "steps", "--blocks", "2", "--batches", "1", f"data.cache_dir={tmp_path}/c", *tiny
    )
    assert result.returncode == 0, result.stderr
    page = (benchmark.results / "steps_transformer_tiny_fp32.md").read_text()
    assert page in result.stdout
    for variant in ("none", "layernorm native", "rmsnorm composed", "prmsnorm composed"):
        assert f"| {variant} | " in page
    assert "| 231 | 0.931 |" in page  # the paper's RMSNorm, Table 4
    stored = json.loads((benchmark.results / "steps_transformer_tiny_fp32.json").read_text())
    (record,) = stored["records"]
    assert all(len(times) == 2 for times in record["times"].values())
    chance = record["loss"]["layernorm native"]  # after a few steps at a small rate
    assert 0 < chance < 10 and 0.9 < record["loss"][CONTROL] / chance < 1.1


@pytest.mark.slow
def test_steps_of_another_task_stand_beside_the_papers_seconds_of_that(benchmark, tmp_path):
    task = ["--model", "order_small", "task=retrieval", "data.train=200", "data.dev=20"]
    small = ["model.d_hidden=8", "model.d_embedding=8", "data.test=20"]
    result = benchmark("steps", "--blocks", "2", "--batches", "1", *task, *small)
    assert result.returncode == 0, result.stderr
    page = (benchmark.results / "steps_order_small_fp32.md").read_text()
    assert "The paper's seconds are those of its Table 8." in page
    assert "| paper: s per 100 steps |" in page and "| 12.02 | 1.000 |" in page


@pytest.mark.slow
def test_two_widths_in_two_processes(benchmark, tmp_path, monkeypatch):
    tiny = [o for o in TINY if not o.startswith(("logger", "model.d_", "model.heads"))]
    options = ("--widths", "32", "64", "--starts", "2", "--blocks", "2")
    result = benchmark("widths", *options, f"data.cache_dir={tmp_path}/c", *tiny)
    assert result.returncode == 0, result.stderr
    page = (benchmark.results / "widths_fp32.md").read_text()
    assert "## d_model 32 (2 processes of 4 blocks)" in page  # twice as narrow, twice as many
    assert "## d_model 64 (2 processes of 2 blocks)" in page
    stored = json.loads((benchmark.results / "widths_fp32.json").read_text())
    assert [record["d_model"] for record in stored["records"]] == [32, 64]
    assert all(len(t) == 4 for t in stored["records"][1]["times"].values())
    pytest.importorskip("matplotlib")
    assert (benchmark.results / "widths_fp32.png").stat().st_size > 1000
    assert "(widths_fp32.png)" in page
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # as where it is not installed
    (page,) = write_pages(benchmark.results, tmp_path / "without")
    assert "widths_fp32.png" not in page.read_text()


@pytest.mark.slow
def test_every_norm_is_timed_as_it_is_chosen(benchmark, tmp_path):
    tiny = [override for override in TINY if not override.startswith("logger")]
    options = ("--every-norm", "--blocks", "2", "--batches", "1", f"data.cache_dir={tmp_path}/c")
    result = benchmark("steps", *options, *tiny)
    assert result.returncode == 0, result.stderr
    page = (benchmark.results / "steps_transformer_tiny_fp32_every_norm.md").read_text()
    for path in (ROOT / "conf/norm").glob("*.yaml"):
        there = f"| {path.stem} | " in page
        assert there == ("_target_" in path.read_text()), path.stem


@pytest.mark.slow
def test_a_converted_network_beside_its_source(benchmark, tmp_path, tiny_config):
    job.run(tiny_config("trainer.max_steps=4", "trainer.eval_every=4"), tmp_path / "r", [])
    tiny = [override for override in TINY if not override.startswith("logger")]
    options = ("--beams", "1", "--blocks", "2", f"data.cache_dir={tmp_path}/c", *tiny)
    result = benchmark("conversion", tmp_path / "r", *options)
    assert result.returncode == 0, result.stderr
    steps, decoding = (benchmark.results / "conversion.md").read_text().split("## ")[1:]
    for variant in ("none", "layernorm native", "recentred composed", "precrmsnorm composed"):
        assert f"| {variant} | " in steps
    assert "| prermsnorm native | " in decoding and "| precrmsnorm native | " not in decoding


@pytest.mark.slow
def test_profile_names_the_operators(benchmark, tmp_path):
    tiny = [override for override in TINY if not override.startswith("logger")]
    result = benchmark("profile", "--batches", "1", f"data.cache_dir={tmp_path}/c", *tiny)
    assert result.returncode == 0, result.stderr
    page = (benchmark.results / "profile_transformer_tiny_fp32.md").read_text()
    assert "aten::mm" in page and "GFLOP of a step" in page


def test_a_profile_counts_every_matrix_product():
    x, y = torch.randn(2, 3, 4), torch.randn(2, 4, 5)
    linear, total = torch.nn.Linear(4, 7), torch.zeros(3, 5)
    with torch.profiler.profile(record_shapes=True) as profiler:
        x @ y
        linear(x)
        total.addmm_(x[0], y[0])
        total.addmm_(x[1], y[1])
    found = products(profiler)
    expected = {((2, 3, 4), (2, 4, 5)): 1, ((6, 4), (4, 7)): 1, ((3, 4), (4, 5)): 2}
    assert found == expected
    assert floating_point_operations(found) == 2 * (120 + 168 + 120)
    by_themselves(found, "bf16", torch.device("cpu"))()


@pytest.mark.long
def test_scaling_shows_efficiency_and_the_share_of_the_exchange(benchmark, tmp_path):
    tiny = [override for override in TINY if not override.startswith("logger")]
    options = ("--starts", "1", "--blocks", "2", f"data.cache_dir={tmp_path}/c", *tiny)
    result = benchmark("scaling", *options)
    assert result.returncode == 0, result.stderr
    one, two = result.stdout.strip().split("\n")[-2:]
    assert one.startswith("| 1 |") and one.endswith("| 1.00 (1.00 to 1.00) | - |")
    assert two.startswith("| 2 |") and two.count(" to ") == 3
    assert (
        "trainer.precision=fp8 is unknown"
        in benchmark("scaling", "trainer.precision=fp8", *options).stderr
    )


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="the other process needs a core")
def test_norms_beside_a_process_that_copies_memory(benchmark):
    result = benchmark("norms", "--busy", "--threads", "1", "--shapes", "8x16", "--blocks", "2")
    assert result.returncode == 0, result.stderr
    page = (benchmark.results / "norms_busy.md").read_text()
    assert "1 threads" in page and "a core of its own copied memory" in page


@pytest.mark.slow
def test_one_that_is_ended_leaves_no_process_beside_what_is_timed_next(tmp_path):
    arguments = ["norms", "--shapes", "8x8", "--starts", "2", "--blocks", str(10**9)]
    ended = start(ROOT / "scripts" / "benchmark.py", *arguments, cwd=tmp_path)

    def workers():
        listed = ["ps", "-ww", "-o", "pid=", "-o", "command=", "--ppid", str(ended.pid)]
        lines = subprocess.run(listed, capture_output=True, text=True).stdout.splitlines()
        return [int(line.split()[0]) for line in lines if "spawn_main" in line]

    found = []
    try:
        found += wait_for(workers, process=ended)
        (worker,) = found
        ended.terminate()
        assert ended.wait(10) == 128 + signal.SIGTERM
        wait_for(lambda: not Path(f"/proc/{worker}").exists(), seconds=10)
    finally:
        ended.kill()
        for worker in found:  # it would keep the pipe open, and a core busy
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
        ended.communicate()


def test_mistakes_are_one_sentence(benchmark):
    assert "--busy needs a core of its own: --threads below" in benchmark("norms", "--busy").stderr
    for kind, argument in (
        ("norms", "norm=none"),
        ("profile", "--blocks"),
        ("widths", "--compile"),
        ("profile", "foo"),
    ):
        assert f"unknown argument {argument}" in benchmark(kind, argument).stderr
    assert "--shapes 64: write ROWSxWIDTH" in benchmark("norms", "--shapes", "64").stderr
    result = benchmark("decode", "nowhere")
    assert result.returncode == 1 and "nowhere is no run directory" in result.stderr
    assert "Two runs are called a" in benchmark("decode", "one/a", "two/a").stderr

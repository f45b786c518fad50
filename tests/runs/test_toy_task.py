"""A task that normlab has never seen trains, stops, goes on, sweeps and diverges all the same."""

import re
import signal

import pytest
import tiny
import torch
from processes import (
    ROOT,
    Job,
    comparable,
    metrics_of,
    steps_done,
    summary_of,
    train,
)

from normlab.errors import UserError
from normlab.runs import assemble, job
from normlab.runs.loaded import load_run, load_translator
from normlab.runs.sweeps import compose_job

TOY = (
    *tiny.TOY,
    "trainer.max_steps=40",
    "trainer.log_every=5",
    "trainer.eval_every=10",
    "trainer.checkpoint_every=10",
)
KINDS = ("toy.Regression", "toy.sine", "toy.Net")


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("toy") / "run"
    job.run(compose_job(ROOT / "conf", list(TOY)), run_dir, [])
    return run_dir


def test_it_is_written_in_forty_lines():
    lines = (ROOT / "tests" / "toy.py").read_text().split("\n")
    code = [line for line in lines if line and not re.match(r"from |import |\"\"\"", line)]
    assert len(code) <= 40


def test_it_trains_and_is_evaluated_and_tested(run_dir):
    summary, metrics = summary_of(run_dir), metrics_of(run_dir)
    assert (summary["status"], summary["task"], summary["steps"]) == ("completed", "toy", 40)
    assert summary["item"] == "points" and summary["items_per_second"] > 0
    errors = {line["step"]: line["dev/error"] for line in metrics if "dev/error" in line}
    assert list(errors) == [10, 20, 30, 40]
    best = min(errors, key=errors.get)
    assert summary["best_dev"] == {"value": errors[best], "metric": "dev/error", "step": best}
    assert summary["test"] == {"line": {"error": pytest.approx(errors[best])}}
    assert metrics[-1]["test/error"] == summary["test"]["line"]["error"]
    assert {"train/loss", "train/off"} <= set(metrics[0])


@pytest.mark.long
def test_killed_and_started_again_it_ends_bit_for_bit_as_if_nothing_had_been(tmp_path, run_dir):
    longer = (*TOY, "trainer.max_steps=400")
    whole, parts = (tmp_path / name for name in ("whole", "parts"))
    assert Job(whole, *longer).wait() == 0
    process = Job(parts, *longer)
    process.wait_for(lambda: steps_done(parts) >= 25)
    process.signal(signal.SIGKILL)
    process.wait()
    assert summary_of(parts)["status"] == "interrupted"
    assert Job(parts, *longer).wait() == 0
    assert len(summary_of(parts)["segments"]) == 2
    one, other = (
        torch.load(run / "checkpoints" / "last.pt", weights_only=True) for run in (whole, parts)
    )
    assert all(torch.equal(one["model"][name], other["model"][name]) for name in one["model"])
    assert comparable(whole) == comparable(parts)


@pytest.mark.slow
def test_it_sweeps(tmp_path):
    done = train("-m", *TOY, "norm=none,layernorm", "seed=1,2", f"hydra.sweep.dir={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr
    runs = sorted(path.parent.name for path in tmp_path.glob("*/summary.json"))
    named = [name.rpartition("_")[0] for name in runs]
    assert named == [
        "net_layernorm-auto_mean0.0_seed1", "net_layernorm-auto_mean0.0_seed2",
        "net_none-none_mean0.0_seed1", "net_none-none_mean0.0_seed2",
    ]  # fmt: skip
    assert {summary_of(tmp_path / name)["status"] for name in runs} == {"completed"}


def test_divergence_is_a_result_and_counts_as_the_worst(tmp_path):
    diverging = [*TOY, "schedule.lr=1e30", "norm=none"]
    summary = job.run(compose_job(ROOT / "conf", diverging), tmp_path, [])
    assert (summary["status"], summary["diverged_at"]) == ("diverged", 2)
    assert summary["best_dev"]["value"] == summary["test"]["line"]["error"] == 1.0


def test_it_is_loaded_back_when_its_kinds_are_trusted(run_dir):
    with pytest.raises(UserError, match=r"task\._target_=toy\.Regression is none of normlab's own"):
        load_run(run_dir, trusted=KINDS[1:]).with_data()
    parts = load_run(run_dir, trusted=KINDS).with_data()
    assert parts.evaluate()["dev/error"] == pytest.approx(summary_of(run_dir)["best_dev"]["value"])
    with pytest.raises(UserError, match="holds no translation model: task=toy"):
        load_translator(run_dir, trusted=KINDS)


def test_it_is_evaluated_on_the_device_that_was_asked_for(run_dir, monkeypatch):
    asked = []
    cpu = torch.device("cpu")
    monkeypatch.setattr(assemble, "device_of", lambda name: asked.append(name) or cpu)
    load_run(run_dir, device="cpu", trusted=KINDS).with_data()
    assert asked == ["cpu"]  # and not the run's own trainer.device=auto

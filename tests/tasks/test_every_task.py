"""What every task does because the trainer does it: resumes exactly, diverges, sweeps."""

import json
from pathlib import Path

import pytest
import torch
from processes import comparable, script

from normlab.errors import UserError
from normlab.runs import components, job
from normlab.runs.config import parse_config
from normlab.runs.loaded import load_run
from normlab.runs.sweeps import compose_job, sweep_directories

CONF = Path(__file__).parents[2] / "conf"
SHORT = (
    "logger=none",
    "trainer.log_every=2",
    "trainer.eval_every=3",
    "trainer.checkpoint_every=2",
    "trainer.threads=1",
    "trainer.device=cpu",
)
TINY = {
    "translation": (
        "data.train=300",
        "data.dev=8",
        "data.test=8",
        "data.vocab_size=300",
        "model.d_model=16",
        "model.d_ff=32",
        "model.encoder_layers=1",
        "model.decoder_layers=1",
    ),
    "cifar10": (
        "data.train=200",
        "data.dev=20",
        "data.test=20",
        "data.batch_size=20",
        "model.width=2",
        "schedule.start=3",
        "schedule.end=100",
    ),
    "retrieval": (
        "data.train=100",
        "data.dev=20",
        "data.test=20",
        "data.batch_size=10",
        "model.d_embedding=8",
        "model.d_hidden=8",
    ),
    "reader": (
        "data.train=60",
        "data.dev=10",
        "data.test=10",
        "data.batch_size=10",
        "model.d_embedding=8",
        "model.d_hidden=8",
    ),
}
CACHED = ("translation", "cifar10")
NORMS = (
    "batchnorm",
    "weightnorm",
    *(pytest.param(n, marks=pytest.mark.long) for n in ("none", "layernorm", "prmsnorm", "l2norm")),
)


@pytest.fixture(params=TINY, scope="module")
def config(request, tiny_cache):
    """Returns a function: overrides -> the config of a run of one task that takes half a second."""
    name = request.param

    def make(*overrides):
        cached = [f"data.cache_dir={tiny_cache}"] if name in CACHED else []
        given = [f"task={name}", *TINY[name], *cached, *SHORT, *overrides]
        return compose_job(CONF, given)

    return make


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    """Returns the directory of a finished run of each task, and its summary."""
    run_dir = tmp_path_factory.mktemp("finished") / "r"
    return run_dir, job.run(config("norm=rmsnorm", "trainer.max_steps=5"), run_dir, [])


def weights(run_dir):
    return torch.load(run_dir / "checkpoints" / "last.pt", weights_only=True)["model"]


def test_tasks_here_are_those_of_the_config():
    assert set(TINY) == {path.stem for path in (CONF / "task").glob("*.yaml")}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("task=reader data=shapes", "data=shapes is not for task=reader: choose data=cloze or"),
        ("task=cifar10 model=transformer_tiny", "model=transformer_tiny is not for task=cifar10"),
        ("task=translation model=reader_small", "model=reader_small is not for task=translation"),
        ("task=reader model=rnnsearch_small", "model=rnnsearch_small is not for task=reader"),
        ("task=translation ~model.d_model", "no value for model.d_model: give one"),
    ],
)
def test_a_model_or_data_of_another_task_is_named_as_such(tmp_path, overrides, message):
    with pytest.raises(UserError, match=message):
        job.run(compose_job(CONF, [*overrides.split(), "logger=none"]), tmp_path / "r", [])


def test_an_initialisation_that_is_chosen_is_not_scaled_by_the_task():
    assert compose_job(CONF, ["task=cifar10"]).init.scale == 1.414
    for task in TINY:
        init = compose_job(CONF, [f"task={task}", "init=normal"]).init
        assert (init.scheme, init.scale) == ("normal", 0.02)


def test_the_table_of_tasks_has_every_model_and_data():
    text = (CONF / "README.md").read_text(encoding="utf-8")
    options = {path.stem for group in ("model", "data") for path in (CONF / group).glob("*.yaml")}
    rows = [line for line in text.split("\n") if line.startswith(tuple(f"| `{t}`" for t in TINY))]
    assert options == {word for row in rows for word in row.split("`")[3::2]}


@pytest.mark.slow
@pytest.mark.parametrize("norm", NORMS)
def test_every_norm_trains(config, norm, tmp_path):
    if norm == "batchnorm" and config().names.task != "cifar10":
        with pytest.raises(UserError, match="takes statistics over positions"):
            job.run(config("norm=batchnorm"), tmp_path / "r", [])
        return
    summary = job.run(config(f"norm={norm}", "trainer.max_steps=2"), tmp_path / "r", [])
    assert (summary["status"], summary["steps"], summary["norm"]) == ("completed", 2, norm)
    primary = summary["best_dev"]["metric"].removeprefix("dev/")
    assert all(0 <= entry[primary] <= 100 for entry in summary["test"].values())


@pytest.mark.slow
def test_a_run_is_described_tested_and_loaded_back(finished, tmp_path):
    run_dir, summary = finished
    assert summary["status"] == "completed" and summary["items_per_second"] > 0
    before = {path: path.stat().st_mtime_ns for path in run_dir.rglob("*")}
    parts = load_run(run_dir).with_data()
    assert before == {path: path.stat().st_mtime_ns for path in run_dir.rglob("*")}
    metrics = parts.evaluate()
    key = parts.task.metric.key
    assert metrics[key] == pytest.approx(summary["best_dev"]["value"])
    assert all(entry[parts.task.result] is not None for entry in summary["test"].values())
    tested = parts.task.test(parts.objective, parts.device, tmp_path / "again")
    assert tested == summary["test"]
    for name in parts.task.test_sets:
        said, true = (run_dir / k / f"{name}.txt" for k in ("hypotheses", "references"))
        assert said.read_text().count("\n") == true.read_text().count("\n") > 0


@pytest.mark.slow
def test_stopped_and_resumed_is_bit_for_bit_what_it_would_have_been(config, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    job.run(config("trainer.max_steps=8"), whole, [])
    job.run(config("trainer.max_steps=6"), parts, [])
    job.run(config("trainer.max_steps=8"), parts, [])
    one, other = weights(whole), weights(parts)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert [line for line in comparable(parts) if line["step"] > 6] == [
        line for line in comparable(whole) if line["step"] > 6
    ]


def test_processes_share_a_batch_and_their_sums_are_its_sums(config):
    checked = parse_config(config("norm=rmsnorm", "trainer.device=cpu"))
    task = components.build_task(checked)
    model = components.build_model(checked, task.model_arguments)
    components.initialize_model(model, checked)
    objective = task.objective(model).eval()
    whole = task.batches(0)[0]()
    parts = [task.batches(0, rank=rank, world_size=3)[0]() for rank in range(3)]
    assert {part.items for part in parts} == {whole.items}
    expected, found = objective(whole), [objective(part) for part in parts]
    for name, (total, count) in expected.items():
        assert sum(sums[name][1] for sums in found) == count
        torch.testing.assert_close(sum(sums[name][0] for sums in found), total)


@pytest.mark.slow
def test_divergence_is_a_result_and_counts_as_the_worst(config, tmp_path):
    summary = job.run(
        config("norm=none", "schedule.lr=1e38", "trainer.max_steps=8"), tmp_path / "r", []
    )
    assert summary["status"] == "diverged" and summary["diverged_at"] <= 4
    worst = summary["best_dev"]["value"]
    assert all(set(entry.values()) == {worst} for entry in summary["test"].values())


@pytest.mark.slow
def test_sweeps_give_every_job_its_directory():
    jobs = sweep_directories(CONF, ["task=" + ",".join(TINY), "norm=none,rmsnorm"])
    assert len(set(jobs)) == 2 * len(TINY)


@pytest.mark.slow
def test_evaluate_gives_the_test_results_again(finished, tmp_path):
    run_dir, summary = finished
    done = script("scripts/evaluate.py", run_dir, "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads(json.dumps(summary["test"]))
    assert list((tmp_path / "out" / "hypotheses").glob("*.txt"))

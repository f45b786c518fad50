"""train.py and the scripts as a user starts them: in processes of their own."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tiny import TINY

ROOT = Path(__file__).parents[1]


def python(*arguments, cwd=ROOT, **options):
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HYDRA_FULL_ERROR": "0"}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd, env=env, capture_output=True, text=True, timeout=300, **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return f"data.cache_dir={tmp_path_factory.mktemp('cache')}"


@pytest.fixture(scope="module")
def trained(tmp_path_factory, cache):
    run_dir = tmp_path_factory.mktemp("trained") / "run"
    done = python("train.py", *TINY, cache, f"hydra.run.dir={run_dir}")
    assert done.returncode == 0, done.stderr
    return run_dir


def test_help_shows_every_option_and_field():
    done = python("train.py", "--help")
    assert done.returncode == 0, done.stderr
    for path in (ROOT / "conf").glob("*/*.yaml"):
        if path.parent.name != "hydra":
            assert f" {path.stem} " in done.stdout, path
    for field in ("norm.eps: 1e-6", "init.mean: 0.0", "model.d_model: 128", "trainer.max_steps"):
        assert field in done.stdout
    described = [line for line in done.stdout.split("\n") if line.startswith("    ")]
    assert all(len(line.split(maxsplit=1)[1].split("  ")) >= 1 for line in described)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("norm=batchnorm", "Could not find 'norm/batchnorm'"),
        ("trainer.max_stepz=3", "max_stepz"),
        ("trainer.max_steps=-3", "trainer.max_steps must be >= 1, got -3"),
        ("data=text", "data.dir"),
    ],
)
def test_a_config_error_is_answered_before_anything_heavy_is_imported(tmp_path, argument, message):
    code = (
        "import sys, runpy\n"
        f"sys.argv = ['train.py', {argument!r}, 'hydra.run.dir={tmp_path}/run']\n"
        "try:\n"
        "    runpy.run_path('train.py', run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    print('code', end.code, 'heavy', {'torch', 'datasets', 'wandb'} & set(sys.modules))\n"
    )
    done = python("-c", code)
    assert message in done.stdout + done.stderr
    assert "heavy set()" in done.stdout
    assert "code 0" not in done.stdout


def test_a_mistake_is_one_sentence_and_exit_code_2(tmp_path):
    done = python("train.py", "norm=prmsnorm", "norm.p=0", f"hydra.run.dir={tmp_path}/run")
    assert done.returncode == 2
    assert "norm.p must be a fraction in (0, 1], got 0" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_multirun_names_jobs_readably_and_survives_a_failing_one(tmp_path, cache):
    done = python(
        "train.py", "-m", *TINY, cache, "norm=none,rmsnorm", "model.heads=2,3",
        f"hydra.sweep.dir={tmp_path}", "trainer.max_steps=2", "trainer.eval_every=2",
    )  # fmt: skip
    assert done.returncode != 0  # a job failed, and the shell should know
    jobs = {
        p.name: json.loads((p / "summary.json").read_text())
        for p in tmp_path.iterdir()
        if p.is_dir()
    }
    assert sorted(summary["status"] for summary in jobs.values()) == 2 * ["completed"] + 2 * [
        "failed"
    ]
    assert all(name.startswith("transformer_tiny_") and "_mean0.0_seed1_" in name for name in jobs)
    assert (
        sum("rmsnorm-auto" in name for name in jobs)
        == sum("none-none" in name for name in jobs)
        == 2
    )
    for name, summary in jobs.items():
        log = (tmp_path / name / "train.log").read_text()
        if summary["status"] == "failed":
            assert "divisible by model.heads=3" in summary["error"]
            assert "divisible by model.heads=3" in log
    again = python(
        "train.py", "-m", *TINY, cache, "norm=none,rmsnorm", "model.heads=2",
        f"hydra.sweep.dir={tmp_path}", "trainer.max_steps=2", "trainer.eval_every=2",
    )  # fmt: skip
    assert again.returncode == 0
    assert again.stdout.count("This run is complete") == 2


def test_translate_keeps_lines_and_evaluate_scores_them(trained, tmp_path):
    source = "The dog sleeps.\n\nA line\u2028with a separator.\n"
    done = python("scripts/translate.py", trained, input=source)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 3
    (tmp_path / "src").write_text(source, encoding="utf-8")
    (tmp_path / "ref").write_text("a\nb\nc\n", encoding="utf-8")
    pair = ["--src", tmp_path / "src", "--ref", tmp_path / "ref", "--output", tmp_path / "out"]
    done = python("scripts/evaluate.py", trained, *pair)
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout)
    assert scores["sentences"] == 3 and scores["signature"]
    assert (tmp_path / "out").read_text(encoding="utf-8").count("\n") == 3
    (tmp_path / "ref").write_text("a\nb\n", encoding="utf-8")
    done = python("scripts/evaluate.py", trained, *pair)
    assert done.returncode != 0
    assert "3 lines" in done.stderr and "2" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("script", ["translate.py", "evaluate.py"])
def test_scripts_name_a_missing_run(tmp_path, script):
    (tmp_path / "x").write_text("a\n")
    extra = ["--src", tmp_path / "x", "--ref", tmp_path / "x"] if script == "evaluate.py" else []
    done = python(f"scripts/{script}", tmp_path, *extra, input="a\n")
    assert done.returncode != 0
    assert "is no run directory" in done.stderr and "Traceback" not in done.stderr


def test_killed_five_times_and_resumed_is_bit_identical(tmp_path, cache):
    """kill -9 at random moments; accumulation, dropout and mid-epoch checkpoints included."""
    overrides = [
        *TINY, cache, "trainer.max_steps=150", "trainer.accumulate=2", "trainer.log_every=10",
        "trainer.checkpoint_every=7", "trainer.eval_every=50", "model.dropout=0.2",
    ]  # fmt: skip
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert python("train.py", *overrides, f"hydra.run.dir={whole}").returncode == 0
    seed = int(time.time())
    print(f"kill seed {seed}")
    moments = random.Random(seed)
    command = [sys.executable, "train.py", *overrides, f"hydra.run.dir={parts}"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    for _ in range(5):
        steps = 20 * moments.random()
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL)
        before = len(list((parts / "checkpoints").glob("*"))), _size(parts / "metrics.jsonl")
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if (
                len(list((parts / "checkpoints").glob("*"))),
                _size(parts / "metrics.jsonl"),
            ) != before:
                time.sleep(steps / 100)  # somewhere in the steps after a sign of life
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (parts / "summary.json").exists()  # none of the five came to its end
    assert python("train.py", *overrides, f"hydra.run.dir={parts}").returncode == 0

    def weights(run_dir):
        return torch.load(run_dir / "checkpoints" / "last.pt", weights_only=True)["model"]

    a, b = weights(whole), weights(parts)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert _metrics(whole) == _metrics(parts)
    assert (whole / "hypotheses/test.txt").read_text() == (
        parts / "hypotheses/test.txt"
    ).read_text()


def _size(path):
    return path.stat().st_size if path.exists() else 0


def _metrics(run_dir):
    clock = ("time", "train/tokens_per_second", "train/step_ms")
    lines = (run_dir / "metrics.jsonl").read_text().split("\n")
    return [{k: v for k, v in json.loads(line).items() if k not in clock} for line in lines if line]

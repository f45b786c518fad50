"""train.py and the scripts as a user starts them: in processes of their own."""

import json

import pytest
from processes import ROOT, python, script, summary_of, train
from tiny import TINY


@pytest.fixture(scope="module")
def cache(tiny_cache):
    return f"data.cache_dir={tiny_cache}"


@pytest.mark.slow
def test_help_shows_every_option_and_field():
    done = python("train.py", "--help")
    assert done.returncode == 0, done.stderr
    for path in (ROOT / "conf").glob("*/*.yaml"):
        if path.parent.name != "hydra":
            assert f" {path.stem} " in done.stdout, path
    fields = (
        "norm.eps: 1e-6", "init.mean: 0.0", "model.d_model: 128", "trainer.max_steps",
        "data.batch_tokens: 2048", "decoding.beam: 4", "task.label_smoothing: 0.1",
    )  # fmt: skip
    for field in fields:
        assert field in done.stdout
    described = [line for line in done.stdout.split("\n") if line.startswith("    ")]
    undescribed = [line for line in described if len(line.split("  ", 3)[-1].split()) < 2]
    assert described and not undescribed


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("trainer.max_steps=-3", "trainer.max_steps must be >= 1, got -3"),
        pytest.param("norm=nonorm", "Could not find 'norm/nonorm'", marks=pytest.mark.slow),
        pytest.param("data=text", "data.dir", marks=pytest.mark.slow),
        pytest.param("trainer.max_stepz=3", "max_stepz", marks=pytest.mark.long),
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


@pytest.mark.slow
def test_a_mistake_is_one_sentence_and_exit_code_2(tmp_path):
    done = train("norm=prmsnorm", "norm.p=0", f"hydra.run.dir={tmp_path}/run")
    assert done.returncode == 2
    assert "norm.p must be a fraction in (0, 1], got 0" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.slow
def test_multirun_names_jobs_readably_and_survives_a_failing_one(tmp_path, cache):
    done = train(
        "-m", *TINY, cache, "norm=none,rmsnorm", "model.heads=2,3",
        f"hydra.sweep.dir={tmp_path}", "trainer.max_steps=2", "trainer.eval_every=2",
    )  # fmt: skip
    assert done.returncode != 0  # a job failed, and the shell should know
    jobs = {p.name: summary_of(p) for p in tmp_path.iterdir() if p.is_dir()}
    statuses = sorted(summary["status"] for summary in jobs.values())
    assert statuses == 2 * ["completed"] + 2 * ["failed"]
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
    again = train(
        "-m", *TINY, cache, "norm=none,rmsnorm", "model.heads=2",
        f"hydra.sweep.dir={tmp_path}", "trainer.max_steps=2", "trainer.eval_every=2",
    )  # fmt: skip
    assert again.returncode == 0
    assert again.stdout.count("This run is complete") == 2


def test_translate_keeps_lines_and_evaluate_scores_them(trained, tmp_path):
    source = "The dog sleeps.\n\nA line\u2028with a separator.\n"
    done = script("scripts/translate.py", trained, given=source)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 3
    (tmp_path / "src").write_text(source, encoding="utf-8")
    (tmp_path / "ref").write_text("a\nb\nc\n", encoding="utf-8")
    pair = ["--src", tmp_path / "src", "--ref", tmp_path / "ref", "--output", tmp_path / "out"]
    done = script("scripts/evaluate.py", trained, *pair)
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout)
    assert scores["sentences"] == 3 and scores["signature"]
    assert (tmp_path / "out").read_text(encoding="utf-8").count("\n") == 3
    (tmp_path / "ref").write_text("a\nb\n", encoding="utf-8")
    done = script("scripts/evaluate.py", trained, *pair)
    assert done.returncode != 0
    assert "3 lines" in done.stderr and "2" in done.stderr and "Traceback" not in done.stderr


def test_translate_says_which_lines_it_cut(trained):
    done = script("scripts/translate.py", trained, given=f"The dog sleeps.\n{'x ' * 500}\n")
    assert done.returncode == 0 and done.stdout.count("\n") == 2
    assert "cut to 40 subwords: line 2" in done.stderr


@pytest.mark.parametrize("name", ["translate.py", "evaluate.py", "hidden_stats.py"])
def test_scripts_name_a_missing_run(tmp_path, name):
    (tmp_path / "x").write_text("a\n")
    extra = ["--src", tmp_path / "x", "--ref", tmp_path / "x"] if name == "evaluate.py" else []
    done = script(f"scripts/{name}", tmp_path, *extra, given="a\n")
    assert done.returncode != 0
    assert "is no run directory" in done.stderr and "Traceback" not in done.stderr

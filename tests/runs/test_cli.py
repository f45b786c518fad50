"""train.py and the scripts as a user starts them: in processes of their own."""

import json
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml
from processes import ROOT, python, script, start, summary_of, train
from tiny import TINY

from normlab.files import read_sealed, write_sealed
from normlab.runs import command_line
from normlab.runs.arguments import check_arguments
from normlab.runs.options import GROUPS, fields, options
from normlab.types import NameList


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
        "norm.eps: 1e-6", "init.mean: 0 ", "model.d_model: 128", "trainer.max_steps",
        "data.batch_tokens: 2048", "decoding.beam: 4", "task.label_smoothing: 0.1",
    )  # fmt: skip
    for field in fields:
        assert field in done.stdout


@pytest.mark.slow
def test_help_may_be_cut_short():
    shown = start("train.py", "--help")
    shown.stdout.close()  # as `| head` does when it has read enough
    assert shown.wait(60) == 0


@pytest.mark.slow
def test_help_answers_for_what_was_chosen():
    done = python("train.py", "norm=prmsnorm", "data=text", "seed=1,2", "--help")
    assert done.returncode == 0, done.stderr
    for field in ("norm=prmsnorm", "norm.p: 0.0625 ", "data.dir: ???", "data.test: [test_2016"):
        assert f"  {field}" in done.stdout
    done = python("train.py", "task=cifar10", "--help")
    assert "  schedule.start: " in done.stdout and "decoding." not in done.stdout


@pytest.mark.parametrize(
    ("group", "option"), [(group, option) for group in GROUPS for option in options(group)]
)
def test_every_field_of_every_option_is_explained(group, option):
    found = fields(group, option)
    node = yaml.safe_load((ROOT / "conf" / group / f"{option}.yaml").read_text("utf-8"))
    keys = node.get(group, node).keys() - {"_target_", "defaults"}
    assert keys <= found.keys() and all(found.values())


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("norm=layernrm", "norm=layernrm is unknown: did you mean layernorm? norm has affine, "),
        ("model=rmsnorm", "model=rmsnorm is unknown: rmsnorm belongs to norm, as in norm=rmsnorm."),
        ("nrom=rmsnorm", "nrom is no key: did you mean norm? `--help` lists them."),
        ("norm.p=2", "norm.p belongs to one of prmsnorm, prmsnorm_eighth: choose that too, or"),
        ("norm=[none,rmsnorm]", "a job has one norm, as in -m norm=none,rmsnorm."),
        ("norm=[rmsnorm]", "a job has one norm, as in norm=rmsnorm."),
        ("norm@model.decoder_norm=[none,rmsnorm]", "as in -m norm@model.decoder_norm=none,rmsnorm"),
        ("data.test=[a,", "ends with a comma: write values without spaces, as in data.test=[A,B]."),
        ("norm=rmsnorm,", "ends with a comma: write values without spaces, as in -m norm=A,B."),
        ("beam=2", "beam is no key: did you mean decoding.beam?"),
        ("data.beam=2", "data.beam is no key: did you mean decoding.beam?"),
        ("rmsnorm", "rmsnorm says no value: write norm=rmsnorm."),
        ("norm=a=b", "norm=a=b cannot be read: quote the value, as in 'norm=\"a=b\"'."),
        ("seed=1,2", "seed=1,2 are several values: add -m for a job each, or write seed=[1,2]"),
        ("norm@model.norm2=rmsnorm", "norm@model.norm2 is no place for a norm: use norm or "),
        ("hydra.launcher.partition=x", "no field of the chosen launcher: add hydra/launcher="),
        ("+table4=smok", "table4=smok is unknown: did you mean smoke? table4 has "),
        ("trainer=5", "trainer=5 is unknown: trainer has default."),
        ("--norm=rmsnorm", "--norm=rmsnorm is no flag of train: fields are written without dashes"),
    ],
)
def test_a_mistake_is_one_sentence_of_ours(tmp_path, capsys, monkeypatch, argument, sentence):
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    with pytest.raises(SystemExit) as end:
        command_line.main([argument, f"hydra.run.dir={tmp_path}/run"])
    said = capsys.readouterr().err
    assert end.value.code == 2 and sentence in said
    assert "append" not in said and "HYDRA" not in said and "Traceback" not in said


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("data.dir=a,b", "runs that differ in data.dir only share one directory"),
        ("trainer.max_steps=5,10", "in trainer.max_steps only"),
        ("trainer.patience=null,2", "in trainer.patience only"),
        ("hydra.run.dir=here", "hydra.run.dir is for one run: a sweep has hydra.sweep.dir=DIR."),
        ("--norm=rmsnorm", "--norm=rmsnorm is no flag of train"),
    ],
)
def test_a_sweep_over_what_is_no_part_of_a_run_is_refused(
    capsys, monkeypatch, tmp_path, argument, sentence
):
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        command_line.main(["-m", argument])
    assert end.value.code == 2 and sentence in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_torchrun_does_not_start_a_sweep(capsys, monkeypatch, tmp_path):
    """Its second job could not connect: the store still has the addresses of the first."""
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.chdir(tmp_path)
    for name, value in (("RANK", "0"), ("LOCAL_RANK", "0"), ("WORLD_SIZE", "2"),
                        ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "1")):  # fmt: skip
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as end:
        command_line.main(["-m", "norm=none,rmsnorm"])
    assert end.value.code == 2 and "start a single run" in capsys.readouterr().err


def test_one_name_is_a_list_of_one():
    def read(test: NameList):
        """Takes names."""

    assert check_arguments("data", read, {"test": "flickr"}) == {"test": ["flickr"]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("norm=nonorm", "norm=nonorm is unknown"),
        ("trainer.max_stepz=3", "did you mean trainer.max_steps?"),
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("norm.p=0", "norm.p must be a fraction in (0, 1], got 0"),
        pytest.param("data=text", "no value for data.dir", marks=pytest.mark.long),
    ],
)
def test_a_mistake_is_one_sentence_exit_code_2_and_no_directory(tmp_path, argument, message):
    """As a user starts it, without hydra.run.dir."""
    command = [sys.executable, ROOT / "train.py", "logger=none", "norm=prmsnorm", argument]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and message in done.stdout
    assert done.stderr == "" and list(tmp_path.glob("runs/*")) == []


@pytest.mark.slow
def test_a_run_directory_that_cannot_be_made_is_a_sentence(tmp_path):
    (tmp_path / "runs").touch()
    command = [sys.executable, ROOT / "train.py", "logger=none"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stderr.startswith("cannot write to runs/")
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.05, 1.5])
def test_one_ctrl_c_before_training_is_one_line(tmp_path, seconds):
    arguments = ["train.py", "logger=none", f"hydra.run.dir={tmp_path}/run"]
    code = "import runpy, sys, normlab.cli; print('begun', flush=True); "
    code += f"sys.argv = {arguments}; runpy.run_path('train.py', run_name='__main__')"
    process = start("-c", code)
    assert process.stdout.readline() == "begun\n"
    time.sleep(seconds)  # imports of Hydra, of torch, the data: whatever a machine has come to
    process.send_signal(signal.SIGINT)
    try:
        output = process.communicate(timeout=60)[0]
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in output and "nterrupt" in output


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
    assert done.stdout.count("divisible by model.heads=3") == 2  # in their place, and only there
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stderr.endswith("what each said stands above and in its train.log.\n")
    again = train(
        "-m", *TINY, cache, "norm=none,rmsnorm", "model.heads=2",
        f"hydra.sweep.dir={tmp_path}", "trainer.max_steps=2", "trainer.eval_every=2",
    )  # fmt: skip
    assert again.returncode == 0
    assert again.stdout.count("This run is complete") == 2


def test_translate_keeps_lines_and_evaluate_scores_them(trained, tmp_path):
    source = "The dog sleeps.\n \nA line\u2028with a separator.\n"
    done = script("scripts/translate.py", trained, given=source)
    assert done.returncode == 0, done.stderr
    windows = script("scripts/translate.py", trained, given="\ufeff" + source.replace("\n", "\r\n"))
    assert windows.stdout == done.stdout  # read as training and evaluate.py read
    assert done.stdout.count("\n") == 3
    assert [not line for line in done.stdout.split("\n")[:3]] == [False, True, False]
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
    done = script("scripts/translate.py", trained, "--beam", "0", given=source)
    assert done.returncode == 1 and done.stderr == "beam=0 must be 1 or more.\n"


@pytest.mark.parametrize("flag", [["--beam", "3"], ["--detokenise", "de"]])
def test_evaluate_refuses_what_it_would_not_do(trained, flag):
    done = script("scripts/evaluate.py", trained, *flag)
    assert done.returncode == 2 and "are for --src and --ref" in done.stderr


def test_evaluate_writes_over_no_run_and_says_what_is_not_finished(trained, tmp_path):
    done = script("scripts/evaluate.py", trained, "--output", trained)
    assert done.returncode == 1 and "its own outputs would be lost" in done.stderr
    shutil.copytree(trained, tmp_path / "r")
    summary = read_sealed(tmp_path / "r" / "summary.json")
    write_sealed(tmp_path / "r" / "summary.json", {**summary, "status": "diverged"})
    done = script("scripts/evaluate.py", tmp_path / "r")
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path / 'r'} is diverged: this is of weights before that." in done.stderr


def test_translate_says_which_lines_it_cut(trained):
    done = script("scripts/translate.py", trained, given=f"The dog sleeps.\n{'x ' * 500}\n")
    assert done.returncode == 0 and done.stdout.count("\n") == 2
    assert "cut to 40 subwords: line 2" in done.stderr


def test_translate_says_which_lines_became_nothing(tmp_path, monkeypatch):
    def nothing_for_b(sentences, beam):
        return [text.replace("b", "") for text in sentences], []

    monkeypatch.setattr("normlab.runs.loaded.load_translator", lambda *_: nothing_for_b)
    done = script("scripts/translate.py", tmp_path, given="a\n\nb\n")
    assert done.returncode == 0 and done.stdout == "a\n\n\n"
    assert done.stderr == "translated to nothing: line 3\n"  # a blank line is nothing already


@pytest.mark.parametrize("command", ["translate.py", "evaluate.py", "analyze.py hidden"])
def test_scripts_name_a_missing_run(tmp_path, command):
    name, *words = command.split()
    (tmp_path / "x").write_text("a\n")
    extra = ["--src", tmp_path / "x", "--ref", tmp_path / "x"] if name == "evaluate.py" else []
    done = script(f"scripts/{name}", *words, tmp_path, *extra, given="a\n")
    assert done.returncode != 0
    assert "is no run directory" in done.stderr and "Traceback" not in done.stderr

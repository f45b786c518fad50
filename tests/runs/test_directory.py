"""Whose a run directory is: one run's, one process's, and of the data it began with."""

import errno
import fcntl
import os
import shutil
import signal
import stat
import threading
from pathlib import Path

import pytest
import torch
from processes import ROOT, Job, comparable, script, start, summary_of, train
from tiny import TINY, TOY

from normlab.errors import UserError
from normlab.files import read_sealed, write_sealed
from normlab.reports.records import read_record
from normlab.runs.directory import RunDirectory, open_directory
from normlab.runs.identity import differences, digest, within
from normlab.runs.job import run
from normlab.runs.loaded import load_run, load_translator
from normlab.runs.sweeps import compose_job, sweep_directories
from normlab.training.checkpoint import Checkpoints
from normlab.training.loop import Trainer

CONFIG = {
    "seed": 1, "names": {"run": "x"}, "logger": {"name": "none"}, "norm": {"eps": 1e-6},
    "data": {"cache_dir": "/a", "train": 300},
    "trainer": {"max_steps": 12, "max_epochs": None, "max_minutes": None, "patience": None,
                "clip": 1.0},
}  # fmt: skip


def changed(**values):
    """Returns CONFIG with `group__key=value` in it."""
    config = {k: dict(v) if isinstance(v, dict) else v for k, v in CONFIG.items()}
    for path, value in values.items():
        group, _, key = path.partition("__")
        if key:
            config[group][key] = value
        else:
            config[group] = value
    return config


@pytest.fixture
def own(trained, tmp_path):
    """Returns a copy of the trained run, to be damaged."""
    return shutil.copytree(trained, tmp_path / "own")


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Returns a folder of parallel files from the embedded corpus."""
    from normlab.tasks.translation.corpora import grammar

    folder = tmp_path_factory.mktemp("text")
    corpus = grammar(seed=1, train=300, dev=8, test=8)
    sets = {"train": corpus.train, "dev": corpus.dev, "test": corpus.test["test"]}
    for name, bitext in sets.items():
        for language, lines in (("en", bitext.src), ("de", bitext.tgt)):
            (folder / f"{name}.{language}").write_text("".join(line + "\n" for line in lines))
    return folder


TEXT = ("data=text", "data.train=train", "data.dev=dev", "data.test=[test]")


# --- the identity


@pytest.mark.parametrize(
    "values",
    [
        {"trainer__max_steps": 99}, {"trainer__max_epochs": 3}, {"trainer__max_minutes": 1.5},
        {"trainer__patience": 2}, {"names": {"run": "y"}, "logger": {"name": "wandb"}},
        {"data__cache_dir": "/b"}, {"data__dir": "/c"},
    ],
    ids=str,
)  # fmt: skip
def test_limits_names_and_where_things_lie_are_no_part_of_the_identity(values):
    assert digest(changed(**values)) == digest(CONFIG)
    assert differences(changed(**values), CONFIG) == []


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"seed": 2}, "seed=1 (now 2)"),
        ({"norm__eps": 1e-5}, "norm.eps=1e-06 (now 1e-05)"),
        ({"data__train": 200}, "data.train=300 (now 200)"),
        ({"trainer__clip": None}, "trainer.clip=1.0 (now None)"),
    ],
)
def test_what_changes_a_number_is_part_of_it(values, said):
    assert digest(changed(**values)) != digest(CONFIG)
    assert differences(CONFIG, changed(**values)) == [said]


def test_a_run_has_ended_under_equal_or_smaller_limits_only():
    then = {"max_steps": 20, "max_epochs": None}
    assert within({"max_steps": 20, "max_epochs": None}, then)
    assert within({"max_steps": 10, "max_epochs": None}, then)
    assert within({"max_steps": 20, "max_epochs": 3}, then)
    assert not within({"max_steps": 21, "max_epochs": None}, then)
    assert not within({"max_steps": None, "max_epochs": None}, then)


@pytest.mark.slow
def test_a_larger_limit_shares_the_sweeps_directory_and_goes_on(tiny_config, tmp_path):
    def directories(*overrides):
        return sweep_directories(ROOT / "conf", ["norm=none,rmsnorm", *TINY, *overrides])

    assert directories("trainer.max_steps=12") == directories("trainer.max_steps=500")
    assert set(directories()).isdisjoint(directories("schedule.warmup=500"))
    assert run(tiny_config("trainer.max_steps=6"), tmp_path / "r", [])["steps"] == 6
    longer = run(tiny_config("trainer.max_steps=12"), tmp_path / "r", [])
    assert longer["steps"] == 12 and len(longer["segments"]) == 2


# --- the directory


def test_a_directory_of_another_config_is_refused_and_left_alone(tiny_config, own):
    before = {p: p.read_bytes() for p in own.rglob("*") if p.is_file() and p.name != ".lock"}
    message = "holds a run of another config: init.mean=0.0 .now 0.2., seed=1 .now 2."
    with pytest.raises(UserError, match=message):
        run(tiny_config("init.mean=0.2", "seed=2"), own, [])
    after = {p: p.read_bytes() for p in own.rglob("*") if p.is_file() and p.name != ".lock"}
    assert before == after


def test_a_lock_that_outlives_its_killed_process_for_a_moment_is_waited_for(tmp_path):
    with (tmp_path / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # as a child does from fork to exec
        threading.Timer(0.2, fcntl.flock, (held, fcntl.LOCK_UN)).start()
        with open_directory(tmp_path) as directory:
            assert directory.path == tmp_path


def test_a_file_system_without_locks_is_no_reason_not_to_train(tmp_path, monkeypatch, caplog):
    def flock(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with open_directory(tmp_path) as directory:
        assert directory.path == tmp_path
    assert "start no second process" in caplog.text


@pytest.mark.slow
def test_a_second_start_says_who_has_the_directory(tiny_cache, tiny_config, tmp_path):
    job = Job(tmp_path, *TINY, f"data.cache_dir={tiny_cache}", "trainer.max_steps=100000")
    job.wait_for(lambda: (tmp_path / "metrics.jsonl").exists())
    with pytest.raises(UserError, match=rf"is in use by process {job.pid} on \S+: wait for it, or"):
        run(tiny_config("trainer.max_steps=100000"), tmp_path, [])
    job.signal(signal.SIGKILL)
    assert job.wait() == -signal.SIGKILL
    with open_directory(tmp_path) as directory:  # the lock died with its process
        assert directory.stored_summary()["status"] == "interrupted"


@pytest.mark.slow
def test_a_finished_run_that_is_extended_killed_and_started_again_goes_on(tiny_cache, tmp_path):
    overrides = (*TINY, f"data.cache_dir={tiny_cache}")
    longer = (*overrides, "trainer.max_steps=60", "trainer.eval_every=30", "trainer.log_every=5")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert Job(whole, *longer).wait() == 0
    assert Job(parts, *longer, "trainer.max_steps=30").wait() == 0
    assert summary_of(parts)["status"] == "completed"
    job = Job(parts, *longer)
    job.wait_for(lambda: (parts / "checkpoints/step_00000040.pt").exists())
    job.signal(signal.SIGKILL)
    assert job.wait() == -signal.SIGKILL
    assert summary_of(parts)["status"] == "interrupted" and "test" not in summary_of(parts)
    assert Job(parts, *longer).wait() == 0
    assert "This run is complete" not in job.log
    assert summary_of(parts)["steps"] == 60
    assert summary_of(parts)["test"] == summary_of(whole)["test"]
    assert comparable(parts) == comparable(whole)  # as if it had not ended at step 30


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["train", *(pytest.param(name, marks=pytest.mark.long) for name in ("dev", "test"))]
)
def test_changed_data_are_refused_and_the_set_is_named(tiny_config, text, tmp_path, name):
    files = shutil.copytree(text, tmp_path / "text")
    config = tiny_config(*TEXT, f"data.dir={files}", "trainer.max_steps=2")
    before = run(config, tmp_path / "r", [])
    lines = (files / f"{name}.de").read_text().split("\n")
    (files / f"{name}.de").write_text("\n".join(["Ein anderer Satz.", *lines[1:]]))
    longer = tiny_config(*TEXT, f"data.dir={files}", "trainer.max_steps=4")
    shown = {"train": "train(, subwords)?", "dev": "dev", "test": "test/test"}[name]
    with pytest.raises(UserError, match=rf"data have changed since the run .* began \({shown}\)"):
        run(longer, tmp_path / "r", [])
    there = summary_of(tmp_path / "r")  # the result that was there
    assert (there["status"], there["test"]) == ("completed", before["test"])
    shutil.copytree(text, files, dirs_exist_ok=True)
    assert run(longer, tmp_path / "r", [])["steps"] == 4


@pytest.mark.slow
def test_a_data_set_may_move_as_long_as_it_is_the_same(tiny_config, text, tmp_path):
    run(tiny_config(*TEXT, f"data.dir={text}", "trainer.max_steps=2"), tmp_path / "r", [])
    moved = shutil.copytree(text, tmp_path / "moved")
    assert run(tiny_config(*TEXT, f"data.dir={moved}", "trainer.max_steps=2"), tmp_path / "r", [])
    config = tiny_config(*TEXT, f"data.dir={moved}", "trainer.max_steps=4")
    assert run(config, tmp_path / "r", [])["steps"] == 4


@pytest.mark.slow
def test_a_finished_run_is_none_of_other_data(tiny_config, text, tmp_path):
    run(tiny_config(*TEXT, f"data.dir={text}", "trainer.max_steps=2"), tmp_path / "r", [])
    other = shutil.copytree(text, tmp_path / "other")
    lines = (other / "test.de").read_text().split("\n")
    (other / "test.de").write_text("\n".join(["Ein anderer Satz.", *lines[1:]]))
    with pytest.raises(UserError, match=r"the data have changed since .* \(test/test\)"):
        run(tiny_config(*TEXT, f"data.dir={other}", "trainer.max_steps=2"), tmp_path / "r", [])


@pytest.mark.slow
def test_a_run_that_goes_on_keeps_no_outputs_of_its_earlier_end(tiny_config, own, monkeypatch):
    assert list((own / "hypotheses").glob("*.txt"))

    def diverge(*_):
        raise RuntimeError("before a test")

    monkeypatch.setattr(Trainer, "train", diverge)
    with pytest.raises(RuntimeError, match="before a test"):
        run(tiny_config("trainer.max_steps=14"), own, [])
    assert not list(own.glob("hypotheses/*")) and not list(own.glob("references/*"))


@pytest.mark.slow
def test_a_failed_start_leaves_nothing_that_stops_the_corrected_command(tiny_cache, text, tmp_path):
    command = (*TINY, *TEXT, f"data.cache_dir={tiny_cache}", f"hydra.run.dir={tmp_path}/mine",
               "trainer.max_steps=2")  # fmt: skip
    failed = train(*command)
    assert failed.returncode == 2 and "no value for data.dir" in failed.stdout
    assert summary_of(tmp_path / "mine")["status"] == "failed"
    corrected = train(*command, f"data.dir={text}")
    assert corrected.returncode == 0, corrected.stdout + corrected.stderr
    assert summary_of(tmp_path / "mine")["status"] == "completed"


@pytest.mark.slow
def test_two_commands_within_one_second_get_two_directories(tmp_path):
    for name in ("conf", "experiments"):
        (tmp_path / name).symlink_to(ROOT / name)
    command = (ROOT / "train.py", *TINY, "trainer.max_steps=1", f"data.cache_dir={tmp_path}/cache")
    processes = [start(*command, cwd=tmp_path) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_of_another_config_three_differences_are_shown_and_the_others_counted(tmp_path):
    directory = RunDirectory(tmp_path)
    for path, text in ((directory.config, "trainer: {}\n"), (tmp_path / "checkpoints/a.pt", "")):
        path.parent.mkdir()
        path.write_text(text + "".join(f"{key}: 1\n" for key in "abcde"))
    with pytest.raises(UserError, match=r"another config: .*a.* and 2 more\. "):
        directory.claim({"trainer": {}, **dict.fromkeys("abcde", 2)})


# --- damage


def test_the_summary_of_a_run_that_has_ended_seals_what_results_are_made_of(tmp_path):
    names = [".hydra/config.yaml", "hypotheses/a.txt", "metrics.jsonl", "references/a.txt"]
    for name in (*names, "train.log"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    directory = RunDirectory(tmp_path)
    directory.write_summary({"status": "diverged"})
    assert sorted(read_sealed(directory.summary)["files"]) == names
    directory.write_summary({"status": "interrupted"})
    assert read_sealed(directory.summary)["files"] == {}


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_run_is_loaded_with_the_weights_it_was_tested_with(own):
    summary = read_sealed(own / "summary.json")
    assert summary["weights"] == "best"
    write_sealed(own / "summary.json", summary | {"weights": "last"})
    loaded, last, best = (
        list(load_run(own, name, "cpu").model.parameters()) for name in ("", "last", "best")
    )
    assert all(map(torch.equal, loaded, last)) and not all(map(torch.equal, last, best))


def test_where_the_summary_is_lost_a_run_with_an_average_is_loaded_with_it(own):
    config = own / ".hydra" / "config.yaml"
    config.write_text(config.read_text().replace("average: 0", "average: 2"))
    (own / "summary.json").write_text("{")
    with pytest.raises(UserError, match=r"average\.pt"):
        load_run(own)


@pytest.mark.slow
def test_the_translation_of_a_blank_test_line_is_empty(tiny_config, text, tmp_path):
    files = shutil.copytree(text, tmp_path / "text")
    lines = (files / "test.en").read_text().split("\n")
    (files / "test.en").write_text("\n".join([" ", *lines[1:]]))
    run(tiny_config(*TEXT, f"data.dir={files}", "trainer.max_steps=2"), tmp_path / "r", [])
    (made,) = (tmp_path / "r" / "hypotheses").glob("*.txt")
    assert made.read_text().startswith("\n") and made.read_text() != "\n" * (len(lines) - 1)


@pytest.mark.slow
def test_a_missing_or_foreign_best_pt_is_restored_before_training_goes_on(
    tiny_config, own, tmp_path
):
    best = own / "checkpoints" / "best.pt"
    intact, longer = best.read_bytes(), tiny_config("trainer.max_steps=13")
    run(tiny_config("seed=2"), tmp_path / "other", [])
    best.unlink()
    shutil.copy(tmp_path / "other/checkpoints/best.pt", best)
    with pytest.raises(UserError, match=r"best\.pt belongs to another run: its config differ"):
        load_run(own)
    assert run(longer, own, [])["best_dev"]["step"] == 6
    assert best.read_bytes() == intact
    best.unlink()
    assert run(tiny_config("trainer.max_steps=14"), own, [])["status"] == "completed"
    assert best.read_bytes() == intact


@pytest.mark.slow
def test_damaged_best_weights_are_trained_again_from_a_state_before_them(tmp_path, caplog):
    settings = ("trainer.max_steps=10", "trainer.eval_every=4", "trainer.checkpoint_every=5")
    config = compose_job(ROOT / "conf", [*TOY, *settings])
    whole = run(config, tmp_path / "whole", [])
    run(config, tmp_path / "r", [])
    best = tmp_path / "r/checkpoints/best_00000010.pt"
    best.write_bytes(best.read_bytes()[:1000])
    (tmp_path / "r/summary.json").unlink()
    again = run(config, tmp_path / "r", [])
    assert "Falling back" in caplog.text
    assert (again["best_dev"], again["test"]) == (whole["best_dev"], whole["test"])
    assert comparable(tmp_path / "r") == comparable(tmp_path / "whole")


@pytest.mark.slow
def test_damaged_best_weights_that_no_state_is_older_than_are_refused(tiny_config, tmp_path):
    config = tiny_config("trainer.eval_every=4", "trainer.max_steps=10", "data.dev=3")
    assert run(config, tmp_path / "r", [])["best_dev"]["step"] == 4
    flip(tmp_path / "r/checkpoints/best.pt")
    (tmp_path / "r/summary.json").unlink()
    with pytest.raises(UserError, match="none of the 3 checkpoints .* can be used .*best_"):
        run(config, tmp_path / "r", [])


def test_best_weights_newer_than_the_state_do_not_stand_for_older_ones(tmp_path):
    """The process died between two writes, and goes on where no better evaluation comes again."""
    checkpoints = Checkpoints(tmp_path, keep=2)
    weights = {step: {"w": torch.full((3,), float(step))} for step in (5, 6, 12)}
    checkpoints.save_state({"model": weights[5], "best": None}, 5, regular=True)
    checkpoints.save_best(6, weights[6], 1.0)
    checkpoints.save_state({"model": weights[6], "best": 6}, 10, regular=True)
    checkpoints.save_best(12, weights[12], 2.0)
    assert checkpoints.read("best")["step"] == 12
    assert Checkpoints(tmp_path).newest_state()["best"] == 6
    assert checkpoints.read("best")["step"] == 6
    assert [path.stem for path in sorted(tmp_path.glob("best_*"))] == ["best_00000006"]


@pytest.mark.parametrize("name", ["summary.json", "metrics.jsonl", ".hydra/config.yaml"])
def test_a_flipped_bit_in_a_result_is_no_result(own, name):
    read_record(own)
    flip(own / name)
    with pytest.raises(UserError, match=rf"{name} is damaged: .*; restore it"):
        read_record(own)


def test_another_vocabulary_in_data_json_is_one_sentence(own):
    text = (own / "data.json").read_text()
    (own / "data.json").write_text(text.replace('"vocab": 300', '"vocab": 301'))
    with pytest.raises(UserError, match=r"data\.json is missing or damaged"):
        load_run(own)


@pytest.mark.parametrize("content", ["", '{"status": "comp', "[]", "null"])
def test_a_torn_summary_counts_as_none_and_the_run_ends_as_it_had(tiny_config, own, content):
    before = summary_of(own)
    (own / "summary.json").write_text(content)
    again = run(tiny_config(), own, [])
    assert again["status"] == "completed" and again["test"] == before["test"]


@pytest.mark.parametrize("content", ["{", "just text", ""])
def test_a_damaged_config_is_one_sentence(tiny_config, own, content):
    (own / ".hydra/config.yaml").write_text(content)
    for act in (lambda: run(tiny_config("trainer.max_steps=16"), own, []), lambda: load_run(own)):
        with pytest.raises(UserError, match=r"config\.yaml is damaged: restore it, or") as caught:
            act()
        assert "\n" not in str(caught.value)


def test_a_missing_config_is_one_sentence(tiny_config, own):
    (own / ".hydra/config.yaml").unlink()
    with pytest.raises(UserError, match=r"holds checkpoints but no .*config\.yaml"):
        run(tiny_config(), own, [])
    with pytest.raises(UserError, match=r"is no run directory: .*config\.yaml does not exist"):
        load_run(own)


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_missing_or_damaged_data_json_is_one_sentence(own, content):
    (own / "data.json").unlink() if content is None else (own / "data.json").write_text(content)
    with pytest.raises(UserError, match=r"data\.json is missing or damaged"):
        load_run(own)


def test_a_checkpoint_of_another_vocabulary_is_one_sentence(tiny_config, own, tmp_path):
    run(tiny_config("data.vocab_size=290"), tmp_path / "other", [])
    for name in ("best.pt", "last.pt"):
        shutil.copy(tmp_path / "other/checkpoints" / name, own / "checkpoints" / name)
    with pytest.raises(UserError, match=r"belongs to another run: its config and data differ"):
        load_run(own)


def test_other_subwords_are_refused(tiny_config, own, tmp_path):
    run(tiny_config("data.vocab_size=290", "trainer.max_steps=1"), tmp_path / "other", [])
    shutil.copy(tmp_path / "other/tokenizer.json", own / "tokenizer.json")
    with pytest.raises(UserError, match=r"tokenizer\.json holds other subwords than the run"):
        load_translator(own)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing of its own is read-only for root")
def test_a_read_only_directory_is_one_sentence(tiny_config, tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(UserError, match=r"cannot write to .* \(Permission denied\)"):
        run(tiny_config(), tmp_path / "r", [])


@pytest.mark.skipif(not Path("/sys/kernel").exists(), reason="needs Linux")
def test_a_place_where_nobody_may_write_is_one_sentence(tiny_config):
    with pytest.raises(UserError, match=r"cannot write to /sys/kernel/r \(.+\): choose another"):
        run(tiny_config(), Path("/sys/kernel/r"), [])


def test_a_file_in_the_directorys_place_is_one_sentence(tiny_config, tmp_path):
    (tmp_path / "r").write_text("in the way")
    with pytest.raises(UserError, match=r"cannot write to .*r \(.*\): choose another"):
        run(tiny_config(), tmp_path / "r", [])


# --- a stored config is data


def test_a_stored_config_runs_nothing(own, tmp_path):
    path = own / ".hydra/config.yaml"
    command = f"__import__('os').system('touch {tmp_path}/ran')"
    head, _, tail = path.read_text().partition("norm:\n")
    rest = tail.split("\n")
    end = next(i for i, line in enumerate(rest) if line and not line.startswith(" "))
    norm = f'norm:\n  _target_: sympy.Limit\n  z: "{command}"\n  z0: 0\n'
    path.write_text(head + norm + "\n".join(rest[end:]))
    done = script("scripts/translate.py", own, given="The dog sleeps.\n")
    assert done.returncode == 1 and not (tmp_path / "ran").exists()
    assert done.stderr.strip() == (
        "norm._target_=sympy.Limit is none of normlab's own: if you trust it, name it with "
        "--trust sympy.Limit."
    )
    evil = path.read_text().replace("_target_: sympy.Limit", "_target_: os.system")
    path.write_text(evil)
    assert script("scripts/translate.py", own, given="x\n").returncode == 1


def test_a_norm_of_ones_own_trains_by_its_import_path_and_is_loaded_when_trusted(
    tiny_config, tmp_path, monkeypatch
):
    (tmp_path / "norm_of_mine.py").write_text(
        "from normlab.norms import RMSNorm\n\n\nclass Mine(RMSNorm):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    short = ("norm=rmsnorm", "norm._target_=norm_of_mine.Mine", "trainer.max_steps=2")
    run(tiny_config(*short), tmp_path / "r", [])
    refused = script("scripts/translate.py", tmp_path / "r", given="x\n")
    assert refused.returncode == 1 and "--trust norm_of_mine.Mine" in refused.stderr
    trusted = script(
        "scripts/translate.py", tmp_path / "r", "--trust", "norm_of_mine.Mine", given="x\n"
    )
    assert trusted.returncode == 0 and trusted.stdout.count("\n") == 1, trusted.stderr

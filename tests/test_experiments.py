"""The sweeps of experiments/: each composes, and reproduce.py runs one from end to end."""

import shutil
import subprocess
import sys
from pathlib import Path

import normlab.run  # noqa: F401 - registers the resolvers of the config
import pytest
from normlab.rundir import compose_job, sweep_directories

from normlab import schema
from normlab.reports.benchmarks import write_pages
from normlab.reports.experiments import load_all
from normlab.reports.report import write_index

ROOT = Path(__file__).parents[1]
SWEEPS = [(e.name, scale) for e in load_all(ROOT / "experiments") for scale in e.available()]


@pytest.mark.parametrize(("name", "scale"), SWEEPS)
def test_every_sweep_composes_to_valid_configs(name, scale, monkeypatch):
    monkeypatch.chdir(ROOT)
    (experiment,) = (e for e in load_all(Path("experiments")) if e.name == name)
    sweep = experiment.sweep(scale)
    for cell in (sweep.cells()[0], sweep.cells()[-1]):
        values = [f"{k}={list(v) if isinstance(v, tuple) else v}" for k, v in cell]
        config = schema.check(compose_job(Path("conf"), [f"+{name}={scale}", *values]))
        assert config.trainer.max_steps or config.trainer.max_minutes
    first = sweep_directories(Path("conf"), [f"+{name}={scale}", *values, "seed=1"])
    assert first[0].parent == sweep.folder  # the report looks where the runs go


def reproduce(folder, *arguments):
    command = [sys.executable, str(ROOT / "scripts" / "reproduce.py"), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


@pytest.fixture
def workplace(tmp_path):
    for name in ("train.py", "conf", "experiments"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def test_reproduce_trains_reports_and_repeats_nothing(workplace):
    pytest.importorskip("matplotlib")
    tiny = ["norm=layernorm,rmsnorm", "seed=1", "trainer.max_steps=4", "trainer.eval_every=2",
            "data.train=300", "model.encoder_layers=1", "model.decoder_layers=1",
            f"data.cache_dir={workplace}/cache"]  # fmt: skip
    first = reproduce(workplace, "table4", *tiny)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "2 of 2 runs done" in first.stderr
    page = (workplace / "results/table4/smoke/table.md").read_text()
    assert "2 of 8 runs have ended" in page and "trainer.max_steps=4" in page
    assert (workplace / "results/table4/smoke/figure.png").exists()
    assert "Table 4" in (workplace / "results/README.md").read_text()
    runs = sorted((workplace / "runs/table4/smoke").glob("*/summary.json"))
    stamps = [run.stat().st_mtime_ns for run in runs]
    runs[0].unlink()  # as if this job had been killed
    second = reproduce(workplace, "table4", *tiny)
    assert second.returncode == 0, second.stdout + second.stderr
    assert [run.stat().st_mtime_ns for run in runs[1:]] == stamps[1:] and runs[0].exists()
    third = reproduce(workplace, "table4", *tiny)
    assert "nothing to train" in third.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table9"], "no experiment table9; choose one of"),
        (["table4", "--scale", "huge"], "no scale huge; it has multi30k, paper, smoke"),
        (["table1"], "it cannot run yet"),
        (["table4", "quickly"], "quickly is no override"),
    ],
)
def test_mistakes_are_one_sentence(workplace, arguments, message):
    result = reproduce(workplace, *arguments)
    assert result.returncode == 1 and message in result.stderr
    assert "Traceback" not in result.stderr


def test_the_committed_index_is_what_the_committed_reports_say(tmp_path):
    shutil.copytree(ROOT / "results", tmp_path / "results")
    index = write_index(load_all(ROOT / "experiments"), tmp_path / "results")
    pages = write_pages(ROOT / "results" / "benchmarks", tmp_path / "results")
    for page in (index, *pages):
        committed = ROOT / "results" / page.relative_to(tmp_path / "results")
        assert page.read_text() == committed.read_text(), f"{committed}: run scripts/report.py"

"""The sweeps of experiments/ are what is registered, and reproduce.py runs one from end to end."""

import inspect
import json
import runpy
import shutil
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Transformer
from processes import script
from synthetic import COMMIT, write_run

from normlab.errors import UserError
from normlab.norms import kernels
from normlab.registration import frozen
from normlab.reports.experiments import read_experiments
from normlab.reports.selection import select
from normlab.reports.text import bullets
from normlab.runs.arguments import target_of
from normlab.runs.components import stock_norm
from normlab.runs.config import parse_config
from normlab.runs.registered import check_free
from normlab.runs.sweeps import check_begun, compose_job, register_resolvers

ROOT = Path(__file__).parents[1]
EXPERIMENTS = read_experiments(ROOT / "experiments")
SWEEPS = [(e, scale) for e in EXPERIMENTS if not e.runs_of for scale in e.sweeps()]


def swept(name, scale):
    """Returns {key: values} of a sweep, read by Hydra's own parser, lists as tuples."""
    register_resolvers()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("train", [f"+{name}={scale}"], return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    params = config.hydra.sweeper.params
    parsed = OverridesParser.create().parse_overrides([f"{k}={v}" for k, v in params.items()])
    return {
        each.key_or_group: [frozen(value) for value in each.sweep_iterator(Transformer.identity)]
        if each.is_sweep_override()
        else [frozen(each.value())]
        for each in parsed
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("experiment", "scale"), SWEEPS, ids=lambda each: getattr(each, "name", each)
)
def test_every_sweep_runs_what_is_registered(experiment, scale, monkeypatch):
    monkeypatch.chdir(ROOT)
    registration = experiment.registrations[scale]
    found = swept(experiment.name, scale)
    assert found.pop("seed") == registration.seeds
    assert {k: set(v) for k, v in found.items()} == {
        key: set(map(frozen, values)) for key, values in registration.grid.items()
    }
    for arm in (registration.arms()[0], registration.arms()[-1]):
        values = [f"{k}={list(v) if isinstance(v, tuple) else v}" for k, v in arm]
        config = parse_config(compose_job(Path("conf"), [f"+{experiment.name}={scale}", *values]))
        assert config.names.experiment == registration.name
        assert (config.trainer.max_steps or 0) == registration.steps
        assert config.trainer.max_steps or config.trainer.max_minutes
        kinds = target_of("task", config.task), target_of("data", config.data)
        known = {"_target_"}.union(*(inspect.signature(kind).parameters for kind in kinds))
        assert {*config.data, *config.task, *config.decoding} <= known


@pytest.mark.parametrize(
    ("experiment", "scale"), SWEEPS, ids=lambda each: getattr(each, "name", each)
)
def test_no_arm_is_set_apart_for_how_its_norm_is_computed(experiment, scale, monkeypatch):
    # as where the kernels can be built; the paper's sizes are for a GPU
    monkeypatch.setattr(kernels, "problem", lambda *_: None)
    device = torch.device("cuda" if scale.startswith("paper") else "cpu")
    registration = experiment.registrations[scale]
    norms = {norm for arm in registration.arms() if (norm := dict(arm).get("norm"))} - {"none"}
    images = {"axes": (-2, -1), "parameter_axis": -3} if experiment.name == "table10" else {}
    found = {
        name: stock_norm(name.removesuffix("_eighth"))(64, **images).implementation(device)
        for name in norms  # prmsnorm_eighth is prmsnorm with another p
    }
    exceptions = {k: v for k, v in registration.implementations.items() if k in norms}
    assert exceptions == {name: found[name] for name in exceptions}
    assert len({found[name] for name in norms - exceptions.keys()}) <= 1, found


def test_best_dev_stands_in_tables_of_translation_only():  # where it is a BLEU
    for experiment in EXPERIMENTS:
        named = any("best_dev" in table.metrics for table in experiment.tables)
        assert not (named and experiment.name in ("table6", "table7", "table8", "table10"))


def test_a_finding_is_a_list_of_at_most_five_sentences():
    for experiment in EXPERIMENTS:
        for scale, finding in experiment.findings.items():
            lines = finding.strip().split("\n")
            assert all(line.startswith(("- ", "  ")) for line in lines), (experiment.name, scale)
            assert 1 <= len(bullets(finding)) <= 5, (experiment.name, scale)
            assert all(each.endswith(".") and ". " not in each for each in bullets(finding))


def test_every_experiment_that_can_run_has_a_smoke_sweep():
    for experiment in EXPERIMENTS:
        assert not experiment.sweeps() or "smoke" in experiment.sweeps()


def reproduce(folder, *arguments):
    return script("scripts/reproduce.py", *arguments, cwd=folder)


@pytest.fixture
def workplace(tmp_path):
    for name in ("train.py", "conf", "experiments"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def tiny(workplace):
    return [
        "norm=layernorm,rmsnorm", "seed=1", "trainer.max_steps=4", "trainer.eval_every=2",
        "data.train=300", "model.encoder_layers=1", "model.decoder_layers=1",
        f"data.cache_dir={workplace}/cache",
    ]  # fmt: skip


@pytest.mark.slow
def test_reproduce_records_what_it_trains_and_a_fresh_clone_trains_what_is_missing(workplace):
    pytest.importorskip("matplotlib")
    first = reproduce(workplace, "table4", *tiny(workplace))
    assert first.returncode == 0, first.stdout + first.stderr
    assert "2 of 2 runs done" in first.stderr and "runs have ended" in first.stdout
    page = (workplace / "results/table4/smoke/table.md").read_text()
    assert "A smoke run is no evidence" in page
    assert "Table 4" in (workplace / "results/README.md").read_text()
    records = workplace / "results/table4/smoke/runs"
    runs = sorted(records.glob("*/summary.json"))
    stamps = [run.stat().st_mtime_ns for run in runs]
    assert len(runs) == 2 and not list(records.glob("*/checkpoints"))

    shutil.rmtree(workplace / "runs")  # what another machine does not have
    shutil.rmtree(runs[0].parent)  # as if one job had been killed
    again = reproduce(workplace, "table4", *tiny(workplace))
    assert again.returncode == 0, again.stdout + again.stderr
    assert runs[0].exists() and runs[1].stat().st_mtime_ns == stamps[1]
    trained = (workplace / "runs/table4/smoke").glob("*/checkpoints")
    assert [path.parent.name for path in trained] == [runs[0].parent.name]


@pytest.mark.slow
def test_what_is_recorded_is_not_trained_again_nor_gone_on_with_at_another_commit(workplace):
    pytest.importorskip("matplotlib")
    records = workplace / "results/table10/cifar10_none/runs"
    shutil.copytree(ROOT / "results/table10/cifar10_none/runs", records)
    complete = reproduce(workplace, "table10", "--scale", "cifar10_none")
    assert complete.returncode == 0, complete.stderr
    assert "all 6 runs of table10/cifar10_none are recorded" in complete.stdout
    assert (records.parent / "table.md").exists() and not (workplace / "runs").exists()

    one = sorted(records.iterdir())[0]
    made_at = json.loads((one / "summary.json").read_text())["commit"][:10]
    shutil.rmtree(one)
    half = reproduce(workplace, "table10", "--scale", "cifar10_none")
    assert half.returncode == 1 and not (workplace / "runs").exists()
    assert (
        f"5 of 6 runs of table10/cifar10_none are recorded, made at commit {made_at}" in half.stderr
    )


def test_runs_that_could_get_no_verdict_are_not_started():
    left = runpy.run_path(str(ROOT / "scripts/reproduce.py"))["left"]
    table2 = next(each for each in EXPERIMENTS if each.name == "table2").registrations
    smoke = select(table2["smoke"], [])
    decisive = select(next(r for r in table2.values() if r.hypotheses), [])
    for here in (None, "1" * 40 + "+changes"):
        assert left(smoke, here)  # which decides nothing
        with pytest.raises(UserError, match="get no verdict"):
            left(decisive, here)
    assert left(decisive, "1" * 40)


def test_what_is_registered_cannot_be_overridden():
    check_free(["data=text", "data.dir=x", "seed=11", "hydra.launcher.n_jobs=1", "logger=none"])
    for override in ("norm.eps=5", "data=grammar", "+trainer.clip=1", "~norm.eps"):
        with pytest.raises(UserError, match="is not what was registered"):
            check_free([override])


def test_a_sweep_does_not_go_on_with_what_another_commit_began(tmp_path):
    jobs = [write_run(tmp_path, "rmsnorm", seed) for seed in (1, 2)]
    check_begun([*jobs, tmp_path / "not begun"], COMMIT)
    with pytest.raises(UserError, match=f"was begun at commit {COMMIT}, and this is {'d' * 40}"):
        check_begun(jobs, "d" * 40)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table9"], "no experiment table9; choose one of"),
        (["table4", "--scale", "huge"], "no scale huge; it has multi30k, paper, smoke"),
        (["table1"], "table1 has no runs: it is an analysis or a benchmark"),
        (["table4", "--scale", "paper"], "480 GPU hours"),
        (["figure4", "--scale", "paper", "--launcher", "slurm"], "30,000 GPU hours"),
        (["table4", "quickly"], "quickly is no override"),
        (["table2", "--scale", "multi30k", "norm.eps=5"], "norm.eps=5 is not what was registered"),
    ],
)
def test_mistakes_are_one_sentence(workplace, arguments, message):
    result = reproduce(workplace, *arguments)
    assert result.returncode == 1 and message in result.stderr
    assert "Traceback" not in result.stderr

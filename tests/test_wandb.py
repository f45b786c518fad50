"""W&B around a run: the workspace, the sweep file, what is synchronised later."""

import itertools
import subprocess
import sys
from pathlib import Path

import normlab.run  # noqa: F401 - registers the resolvers of the config
import pytest
import yaml
from normlab.rundir import compose_job

from normlab import schema
from normlab.training.tracking import Tracker, wandb_settings

ROOT = Path(__file__).parents[1]


def test_the_dashboard_without_an_account():
    pytest.importorskip("wandb_workspaces")
    command = [sys.executable, str(ROOT / "scripts" / "wandb_dashboard.py"), "--entity=me"]
    done = subprocess.run([*command, "--dry-run"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for panel in ("train/loss against Step", "train/loss against time", "train/grad_norm",
                  "dev/bleu", "train/step_ms"):  # fmt: skip
        assert panel in done.stdout
    assert "grouped by names.norm, init.mean, norm_impl" in done.stdout
    assert "mean, band minmax" in done.stdout


def test_the_sweep_file_drives_train_py():
    sweep = yaml.safe_load((ROOT / "experiments" / "wandb_sweep.yaml").read_text())
    assert (ROOT / sweep["program"]).exists() and "${args_no_hyphens}" in sweep["command"]
    grid = [
        [f"{key}={value}" for value in choice["values"]]  # as W&B writes ${args_no_hyphens}
        for key, choice in sweep["parameters"].items()
    ]
    for overrides in itertools.product(*grid):
        schema.check(compose_job(ROOT / "conf", list(overrides)))


def test_a_resumed_run_goes_on_under_its_id_and_sync_finds_both_parts(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    for step in (1, 2):
        settings = wandb_settings(tmp_path, {}, project="p", group="g", name="n", tags=[])
        with Tracker(tmp_path, settings) as tracker:
            tracker.log(step, 1.0, {"train/loss": 1.0})
    parts = sorted(map(str, tmp_path.glob("wandb/offline-run-*")))
    identity = (tmp_path / "wandb" / "id").read_text()
    assert parts and all(identity in Path(part).name for part in parts)
    command = [sys.executable, "-m", "wandb", "sync", "--dry-run", *parts]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert f"Would sync {len(parts)} run(s)" in done.stdout + done.stderr

"""W&B around a run: the workspace, the sweep file."""

import re
from pathlib import Path

import pytest
import yaml
from processes import script

from normlab.runs.config import parse_config
from normlab.runs.sweeps import compose_job

ROOT = Path(__file__).parents[1]


def test_the_dashboard_without_an_account():
    pytest.importorskip("wandb_workspaces")
    done = script("scripts/wandb_dashboard.py", "--entity=me", "--dry-run")
    assert done.returncode == 0, done.stderr
    for panel in ("train/loss against Step", "train/loss against time", "train/grad_norm",
                  "dev/bleu", "train/step_ms"):  # fmt: skip
        assert panel in done.stdout
    assert "grouped by names.norm, init.mean, norm_impl" in done.stdout
    assert "mean, band minmax" in done.stdout


@pytest.mark.slow
def test_what_the_workspace_shows_can_be_drawn_from_a_run(trained, tmp_path):
    pytest.importorskip("matplotlib")
    done = script("scripts/wandb_dashboard.py", "--draw", tmp_path / "w.png", trained)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "w.png").stat().st_size > 1000
    logged = (trained / "metrics.jsonl").read_text()
    source = (ROOT / "scripts" / "wandb_dashboard.py").read_text()
    for key in set(re.findall(r'"((?:train|dev)/\w+)"', source)):
        assert f'"{key}"' in logged


@pytest.mark.slow
def test_the_sweep_file_drives_train_py():
    sweep = yaml.safe_load((ROOT / "experiments" / "wandb_sweep.yaml").read_text())
    assert (ROOT / sweep["program"]).exists() and "${args_no_hyphens}" in sweep["command"]
    grid = [
        [f"{key}={value}" for value in choice["values"]]  # as W&B writes ${args_no_hyphens}
        for key, choice in sweep["parameters"].items()
    ]
    for number in range(max(map(len, grid))):  # every value once
        overrides = [values[number % len(values)] for values in grid]
        parse_config(compose_job(ROOT / "conf", overrides))

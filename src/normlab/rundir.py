"""Whose a run directory is: a run's identity is its config."""

import hashlib
import json
import subprocess
from functools import partial
from pathlib import Path
from typing import Any, cast

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict

from normlab.errors import UserError
from normlab.training.tracking import flatten, write_text

# A finished or interrupted run may go on under other values of these; all else is its identity,
# except what changes no number: where the cache lies, and what W&B calls the run.
LIMITS = ("max_steps", "max_epochs", "max_minutes", "patience")


def identity(*, _root_: DictConfig) -> str:
    """Returns eight hex digits of everything that makes the run what it is, W&B's names aside."""
    config = plain(_root_, resolve=False)
    rest = {key: config[key] for key in config if key not in ("hydra", "names", "logger")}
    del rest["data"]["cache_dir"]
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()[:8]


def sweep_directories(conf: Path, overrides: list[str]) -> list[Path]:
    """Returns the run directory of every job of the sweep that `overrides` describe, in order.

    `conf` is the configuration folder; `overrides` are train.py's, with a sweep of experiments/ or
    comma-separated values among them.
    """
    parse = OverridesParser.create().parse_overrides
    try:
        fixed = [str(o.input_line) for o in parse(overrides) if not o.is_sweep_override()]
        params = _compose(conf, fixed).hydra.sweeper.params or {}
    except HydraException as error:
        raise UserError(str(error).split("\n")[0]) from error
    arguments = parse([f"{key}={value}" for key, value in params.items()] + overrides)
    directories = []
    for job in BasicSweeper.split_arguments(arguments, None)[0]:
        sweep = _compose(conf, job).hydra.sweep
        directories.append(Path(sweep.dir) / sweep.subdir)
    return directories


def compose_job(conf: Path, overrides: list[str]) -> DictConfig:
    """Returns the config of one job as train.py would see it; `conf` is the config folder."""
    config = _compose(conf, overrides)
    with open_dict(config):
        del config["hydra"]
    return config


def _compose(conf: Path, overrides: list[str]) -> DictConfig:
    with initialize_config_dir(str(conf.absolute()), version_base="1.3"):
        config = compose("train", overrides, return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    return config


def claim(run_dir: Path, resolved: dict[str, Any]) -> None:
    """Raises UserError when `run_dir` holds a run of another config; its files stay as they are."""
    path = run_dir / ".hydra" / "config.yaml"
    if not path.exists():
        return
    there = flatten(plain(OmegaConf.load(path)))
    here = flatten(resolved)
    other = [
        f"{key}={there.get(key)} (now {here.get(key)})"
        for key in sorted(there.keys() | here.keys())
        if there.get(key) != here.get(key)
        and not key.startswith(("logger.", "names.run", "data.cache_dir"))
        and key.removeprefix("trainer.") not in LIMITS
    ]
    if other:
        shown = ", ".join(other[:3]) + (f" and {len(other) - 3} more" if other[3:] else "")
        raise UserError(
            f"{run_dir} holds a run of another config: {shown}. Choose another hydra.run.dir, "
            "or delete that one."
        )


def finished(run_dir: Path, resolved: dict[str, Any]) -> dict[str, Any] | None:
    """Returns the summary of a run that came to its end under these limits, or None."""
    path = run_dir / "summary.json"
    if not path.exists():
        return None
    summary = json.loads(path.read_text(encoding="utf-8"))
    there = plain(OmegaConf.load(run_dir / ".hydra" / "config.yaml"))
    same = all(there["trainer"][key] == resolved["trainer"][key] for key in LIMITS)
    return summary if same and summary["status"] in ("completed", "diverged") else None


def record_config(run_dir: Path, resolved: dict[str, Any], overrides: list[str]) -> None:
    """Writes the resolved config and the overrides that led to it."""
    # Hydra's own copy is off (hydra.output_subdir): it would overwrite the config of the run that
    # stands in this directory before anyone could compare the two.
    write_text(run_dir / ".hydra" / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(resolved)))
    write_text(run_dir / ".hydra" / "overrides.yaml", OmegaConf.to_yaml(overrides))


def plain(config: Any, resolve: bool = True) -> dict[str, Any]:
    """Returns a config as dicts, lists and numbers."""
    return cast(dict[str, Any], OmegaConf.to_container(config, resolve=resolve))


def code_version() -> str | None:
    """Returns the commit of the code that runs, "+changes" added when it is not exactly that."""
    here = Path(__file__).parent
    try:
        git = partial(
            subprocess.run, cwd=here, capture_output=True, text=True, check=True, timeout=10
        )
        commit = git(["git", "rev-parse", "HEAD"]).stdout.strip()
        outputs = ":(top,exclude)results"  # reports of earlier runs are no change of the code
        status = ["git", "status", "--porcelain", "--untracked-files=no", "--", ":/", outputs]
        changed = git(status).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+changes" if changed else "")

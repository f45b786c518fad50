"""What a command line would run: the config of one job, the directories of a sweep."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict

from normlab.errors import UserError
from normlab.paths import experiments
from normlab.runs.directory import RunDirectory
from normlab.runs.help import help_text
from normlab.runs.identity import digest
from normlab.runs.suggestions import in_words


def register_resolvers() -> None:
    """Teaches the config ${identity:} and ${experiments:}."""
    OmegaConf.register_new_resolver("identity", _identity, replace=True)
    OmegaConf.register_new_resolver("experiments", lambda: str(experiments()), replace=True)


def help_for(conf: Path, overrides: list[str]) -> str:
    """Returns the help text for what `overrides` choose; of a sweep, for its first job."""
    parsed = OverridesParser.create().parse_overrides(overrides)
    config = _compose(conf, list(BasicSweeper.split_arguments(parsed, None)[0][0]))
    plain = cast(dict[str, Any], OmegaConf.to_container(config, resolve=False))
    return help_text(plain, config.hydra.runtime.choices)


def sweep_directories(conf: Path, overrides: list[str]) -> list[Path]:
    """Returns the run directory of every job of the sweep that `overrides` describe, in order."""
    return list(sweep_jobs(conf, overrides))


def sweep_jobs(conf: Path, overrides: list[str]) -> dict[Path, list[str]]:
    """Returns the overrides of every job of a sweep by its run directory, in order.

    `conf` is the configuration folder; `overrides` are train.py's, with a sweep of experiments/ or
    comma-separated values among them.
    """
    parse = OverridesParser.create().parse_overrides
    try:
        fixed = [str(o.input_line) for o in parse(overrides) if not o.is_sweep_override()]
        params = _compose(conf, fixed).hydra.sweeper.params or {}
    except HydraException as error:
        raise UserError(in_words(error)) from error
    arguments = parse([f"{key}={value}" for key, value in params.items()] + overrides)
    jobs: dict[Path, list[str]] = {}
    for job in BasicSweeper.split_arguments(arguments, None)[0]:
        sweep = _compose(conf, job).hydra.sweep
        jobs[Path(sweep.dir) / sweep.subdir] = list(job)
    return jobs


def check_begun(jobs: Iterable[Path], here: str | None) -> None:
    """Raises UserError where a job has progress of another commit: runs of two make no table.

    `here` is the commit of this code.
    """
    for job in map(RunDirectory, jobs):
        summary = job.stored_summary() or {}
        starts = [summary, *(summary.get("segments") or [])]
        made = {start["commit"] for start in starts if "commit" in start}
        if job.has_progress() and made != {here}:
            there = ", ".join(sorted(map(str, made))) or "unknown"
            raise UserError(
                f"{job.path} was begun at commit {there}, and this is {here}: go on in a checkout "
                f"of that one (git worktree add), or delete {job.path.parent}."
            )


def compose_job(conf: Path, overrides: list[str]) -> DictConfig:
    """Returns the config of one job as train.py would see it; `conf` is the config folder."""
    config = _compose(conf, overrides)
    with open_dict(config):
        del config["hydra"]
    return config


def _compose(conf: Path, overrides: list[str]) -> DictConfig:
    register_resolvers()
    with initialize_config_dir(str(conf.absolute()), version_base="1.3"):
        config = compose("train", overrides, return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    return config


def _identity(*, _root_: DictConfig) -> str:
    plain = cast(dict[str, Any], OmegaConf.to_container(_root_, resolve=False))
    return digest(plain)[:8]

"""Asks, before Hydra makes a run directory and a log in it, whether that is possible and wanted."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from normlab.errors import UserError
from normlab.ranks import place, starts_first
from normlab.runs.identity import APART


class Writable(Callback):
    """Ends the process with one sentence where Hydra would end it with a traceback."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Checks the directory of a single run."""
        HydraConfig.instance().set_config(config)  # as the job will: the default directory asks it
        if starts_first():  # the others of torchrun have no log
            check(Path(config.hydra.run.dir), f"{config.hydra.job.name}.log")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Checks the directory of a sweep, and that each of its jobs will have one."""
        swept = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
        try:
            if "RANK" in os.environ and place().world_size > 1:
                raise UserError(
                    "torchrun starts the processes of one run, not of a sweep (-m, an experiment): "
                    "start a single run, or use hydra/launcher=slurm "
                    "hydra.launcher.tasks_per_node=N."
                )
            if any(each.startswith("hydra.run.dir=") for each in config.hydra.overrides.hydra):
                raise UserError("hydra.run.dir is for one run: a sweep has hydra.sweep.dir=DIR.")
            check_swept([*swept, *config.hydra.overrides.task])
        except UserError as error:  # which Hydra would only warn of
            if starts_first():
                print(error, file=sys.stderr)
            sys.exit(2)
        check(Path(config.hydra.sweep.dir), "multirun.yaml")


def check(folder: Path, name: str) -> None:
    """Exits with code 2 and a sentence unless the file `name` can be written in `folder`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / name, "a", encoding="utf-8"):
            pass
    except OSError as error:
        print(f"cannot write to {folder} ({error.strerror}): choose another.", file=sys.stderr)
        sys.exit(2)


def check_swept(overrides: Iterable[str]) -> None:
    """Raises UserError for a sweep over a key that is no part of a run: its jobs would be one."""
    for each in OverridesParser.create().parse_overrides(list(overrides)):
        group, _, name = (key := each.key_or_group).partition(".")
        shared = group == "logger" or name in APART.get(group, ())
        if each.is_sweep_override() and shared:
            raise UserError(
                f"{each.input_line}: runs that differ in {key} only share one directory, where the "
                "second goes on from the first. Start them one by one with a hydra.sweep.dir each."
            )

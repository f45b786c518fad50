"""Asks, before Hydra makes a run directory and a log in it, whether that is possible."""

import sys
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from normlab.ranks import starts_first


class Writable(Callback):
    """Ends the process with one sentence where Hydra would end it with a traceback."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Checks the directory of a single run."""
        HydraConfig.instance().set_config(config)  # as the job will: the default directory asks it
        if starts_first():  # the others of torchrun have no log
            check(Path(config.hydra.run.dir), f"{config.hydra.job.name}.log")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Checks the directory of a sweep."""
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

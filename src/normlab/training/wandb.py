"""A run in Weights & Biases: online when a key is known, else offline; it never ends a run."""

import contextlib
import logging
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from normlab.files import flatten, write_text
from normlab.tasks.task import Sample

log = logging.getLogger(__name__)


class WandbRun:
    """A W&B run as a dashboard; when it fails, it says so once and training goes on."""

    def __init__(self, run: Any):
        self._run: Any = run

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Shows `values` at `step`."""
        self._try(lambda run: run.log(dict(values), step=step))

    def show(self, step: int, samples: Sequence[Sample]) -> None:
        """Shows `samples` as the table of `step`."""

        def add(run: Any) -> None:
            import wandb

            rows = [[step, *sample] for sample in samples]
            table = wandb.Table(columns=["step", *Sample._fields], data=rows)
            run.log({"samples": table}, step=step)

        self._try(add)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Copies the run's result into the W&B summary and its status into the tags."""

        def copy(run: Any) -> None:
            run.summary.update(flatten(summary))
            run.tags = (*(run.tags or ()), summary["status"])

        self._try(copy)

    def _try(self, call: Callable[[Any], None]) -> None:
        if self._run is None:
            return
        try:
            call(self._run)
        except Exception as error:  # W&B raises many types; a dashboard must not end a run
            log.warning("W&B failed (%s): going on without it.", _first_line(error))
            self._run = None


@contextlib.contextmanager
def wandb_run(settings: Callable[[], Mapping[str, Any]]) -> Iterator[WandbRun | None]:
    """Yields the W&B run of `settings()`, the arguments of wandb.init, or None when that fails.

    The W&B run ends with the block, also on an exception: it must not leak into the next job of a
    multirun.
    """
    try:
        import wandb  # heavy, and not needed with logger=none

        run = wandb.init(**settings())
    except Exception as error:
        log.warning("W&B cannot be used (%s): going on without it.", _first_line(error))
        yield None
        return
    log.info("%s", _in_a_line(run))
    code = 1
    try:
        yield WandbRun(run)
        code = 0
    finally:
        try:
            run.finish(exit_code=code)
        except KeyboardInterrupt:
            log.warning("W&B: the upload was cut short; `wandb sync` in the run's wandb/ ends it.")
        except Exception as error:
            log.warning("W&B failed at the end (%s).", _first_line(error))


def wandb_settings(
    run_dir: Path,
    config: Mapping[str, Any],
    *,
    project: str,
    group: str,
    name: str,
    tags: list[str],
) -> dict[str, Any]:
    """Returns the arguments of `wandb.init`: online when a key is known, else offline.

    The nested config comes with its flat string keys ("init.mean") beside it, because W&B's tables
    and sweeps filter by flat keys only. A run that goes on in its directory goes on under its id.
    """
    import wandb

    mode = os.environ.get("WANDB_MODE")
    if mode is None:
        mode = "online" if wandb.login(prompt=False, verify=False) else "offline"
    id_file = run_dir / "wandb" / "id"
    if not id_file.exists():
        write_text(id_file, uuid.uuid4().hex[:8])
    return {
        "id": id_file.read_text(encoding="utf-8").strip(),
        "resume": "allow",
        "project": project,
        "group": group[:127],
        "name": name[:127],
        "tags": [tag[:64] for tag in tags],
        "dir": str(run_dir),
        "mode": mode,
        "config": {**config, **flatten(config)},
        # Without a network training begins soon: other processes of the run wait for this one.
        "settings": wandb.Settings(console="off", silent=True, init_timeout=20),
    }


def _in_a_line(run: Any) -> str:
    """Returns where W&B keeps the run: a first user should not have to wonder, nor log in."""
    if run.offline or run.disabled:
        return "W&B: offline, no account needed; `wandb sync` uploads it, logger=none turns it off."
    return f"W&B: {run.url}; logger=none turns it off."


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__

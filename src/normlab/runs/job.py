"""One job of train.py, in order: config, directory, task, model, training, test, summary.

Heavy imports stand inside the functions that need them, so that a mistake in the config is
answered in about a second.
"""

import errno
import logging
import math
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from normlab import registration
from normlab.errors import LOGGED, UserError
from normlab.files import FULL
from normlab.places import experiments
from normlab.ranks import place
from normlab.runs.assemble import assemble
from normlab.runs.config import Config, check
from normlab.runs.directory import RunDirectory, open_directory
from normlab.runs.environment import code_version
from normlab.runs.identity import limits
from normlab.training.signals import Interrupted

if TYPE_CHECKING:
    from normlab.tasks.task import Task
    from normlab.training.progress import Progress
    from normlab.training.tracking import Dashboard

log = logging.getLogger(__name__)

FORBIDDEN = {errno.EROFS, errno.EACCES, errno.EPERM}
INTERRUPTED = 130  # the exit code a shell gives for Ctrl-C


def main(cfg: DictConfig) -> None:
    """Runs one job of train.py; its result is `summary.json` in the run directory.

    A mistake of the user ends a single run with one sentence and exit code 2. In a multirun it is
    raised, so that Hydra marks the job as failed and the others run. Divergence is a result.
    """
    run_dir = Path(HydraConfig.get().runtime.output_dir)
    logging.raiseExceptions = False  # a full disk is said once, not at each line of the log
    logging.getLogger("torch").setLevel(logging.WARNING)  # else it ends with cache statistics
    try:
        summary = run(cfg, run_dir, list(HydraConfig.get().overrides.task))
    except UserError as error:
        log.error("%s", error)  # heard of the first process only
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            raise
        sys.exit(2)
    if summary["status"] == "interrupted":
        sys.exit(INTERRUPTED)  # also ends a multirun, as Ctrl-C should


def run(cfg: DictConfig, run_dir: Path, overrides: list[str]) -> dict[str, Any]:
    """Trains, evaluates and tests what `cfg` describes in `run_dir`; returns the summary.

    Resumes what stands there, and returns at once when it is complete. On any exception the
    summary says `failed` and the log holds the traceback before it goes on.
    """
    here = place()
    try:
        if here.world_size == 1:
            with open_directory(run_dir) as directory:
                return _run(cfg, directory, overrides)
        from normlab import distributed

        with distributed.joined(here):
            if here.rank:
                return _follow(cfg)
            with distributed.leading() as lead, open_directory(run_dir) as directory:
                return _run(cfg, directory, overrides, lead)
    except OSError as error:
        if error.errno in FULL:
            raise UserError(
                f"no disk space left while writing to {run_dir} ({error.strerror}): free some."
            ) from error
        if error.errno in FORBIDDEN:
            raise UserError(f"cannot write to {run_dir} ({error.strerror}).") from error
        raise


def _follow(cfg: DictConfig) -> dict[str, Any]:
    """Trains beside the first process, which owns the directory and writes all there is."""
    from normlab import distributed

    order = distributed.follow()
    if "summary" in order:
        return order["summary"]
    summary: dict[str, Any] = {}
    try:
        _train_and_test(check(cfg), RunDirectory(Path(order["run_dir"])), summary)
    except Exception as error:
        # Its logger is silent; the first process only sees that it has gone.
        print(f"process {distributed.rank()}: {type(error).__name__}: {error}", file=sys.stderr)
        raise
    return summary


def _run(
    cfg: DictConfig,
    directory: RunDirectory,
    overrides: list[str],
    lead: Callable[[dict[str, Any]], None] = lambda order: None,
) -> dict[str, Any]:
    try:
        config = check(cfg)
        summary = _head(config)
    except UserError as error:
        if not directory.has_progress():
            directory.write_summary({"status": "failed", "error": f"UserError: {error}"})
        raise
    plain = config.plain()
    directory.claim(plain)
    if (done := directory.finished(plain)) is not None:
        status, steps = done["status"], done["steps"]
        log.info("This run is complete (%s after %s steps).", status, steps)
        log.info("Delete %s to repeat it.", directory.path)
        lead({"summary": done})
        return done
    directory.record(plain, overrides)
    try:
        # What stands here until the end is true also of a process that is killed.
        directory.write_summary(summary | {"status": "interrupted"})
        lead({"run_dir": str(directory.path)})
        with _memory_in_words():
            _train_and_test(config, directory, summary)
    except BaseException as error:
        summary |= {"status": "failed", "error": f"{type(error).__name__}: {error}"}
        if isinstance(error, KeyboardInterrupt | SystemExit):  # SystemExit: requeued by submitit
            summary["status"] = "interrupted"
        elif not isinstance(error, UserError) and getattr(error, "errno", None) not in (
            FULL | FORBIDDEN
        ):
            _log_traceback(error, directory.path)
        raise
    finally:
        directory.write_summary(summary)
    return summary


def _log_traceback(error: BaseException, run_dir: Path) -> None:
    """Says what failed where the run is watched, and how in its log alone."""
    lines = "".join(traceback.format_exception(error))
    path = run_dir / "train.log"
    with open(path, "a", encoding="utf-8") as file:
        file.write(lines)
    log.error("The run failed: %s: %s (traceback in %s).", type(error).__name__, error, path)
    error.add_note(LOGGED)


@contextmanager
def _memory_in_words() -> Iterator[None]:
    """Turns torch's ways to say that there is no memory left into a sentence."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        text = str(error)
        if not isinstance(error, MemoryError) and not re.search("out of memory|t allocate", text):
            raise
        raise UserError(
            "there is not enough memory: lower data.batch_tokens (trainer.accumulate can make up "
            "for it) or the sizes in model."
        ) from error


def _head(config: Config) -> dict[str, Any]:
    return {
        "status": "failed",
        "task": config.names.task,
        "norm": config.names.norm,
        "norm_impl": None,
        "init_mean": config.init_mean,
        "model": config.names.model,
        "data": config.names.data,
        "seed": config.seed,
        "precision": config.trainer.precision,
        "compile": config.trainer.compile,
        "steps": 0,
        "limits": limits(config.plain()),
        "commit": code_version(),
        "registration": _registration(config),
    }


def _registration(config: Config) -> dict[str, str] | None:
    name = config.names.experiment
    if name is None:
        return None
    try:
        return {"experiment": name, "sha256": registration.digest(experiments(), name)}
    except UserError as error:
        raise UserError(f"names.experiment={name!r}: {error}") from error


def _train_and_test(config: Config, directory: RunDirectory, summary: dict[str, Any]) -> None:
    parts = assemble(config, directory)
    task = parts.task
    summary |= parts.description
    log.info(
        "%s: %s parameters, norm %s (%s), on %s.",
        config.names.model,
        f"{summary['parameters']:,}",
        config.names.norm,
        summary["norm_impl"],
        summary["device"],
    )

    from normlab import distributed
    from normlab.training.console import Console
    from normlab.training.loop import Trainer
    from normlab.training.signals import interrupts
    from normlab.training.tracking import Tracker

    checkpoints = parts.checkpoints
    state = checkpoints.newest_state()
    rank = distributed.rank()
    path, lines = directory.metrics if rank == 0 else None, state["metrics"] if state else ""
    with (
        distributed.losses_said(),
        interrupts(together=distributed.world_size() > 1) as interrupted,
        _dashboard(config, directory, summary) if rank == 0 else nullcontext() as dashboard,
        Tracker(path, dashboard, lines) as tracker,
        Console(config.trainer, task.metric.key, silent=rank > 0) as console,
    ):
        trainer = Trainer(
            parts.model,
            parts.objective,
            parts.optimizer,
            parts.schedule.learning_rate,
            partial(task.batches, rank=rank, world_size=distributed.world_size()),
            parts.evaluate,
            task.metric,
            config.trainer,
            tracker,
            checkpoints,
            parts.device,
            parts.environment,
            console,
            parts.schedule.beta1,
            task.samples,
        )
        progress = trainer.train(state, interrupted)
        summary |= _result(task, progress)
        if progress.status == "completed":
            try:
                with interrupted.at_once():
                    summary |= parts.test(directory, config.trainer.average)
            except Interrupted:
                summary["status"] = "interrupted"
        elif progress.status == "diverged":
            log.warning("Diverged: first non-finite value at step %d.", progress.diverged_at)
            summary["test"] = {name: {task.result: task.metric.worst} for name in task.test_sets}
        if tests := summary.get("test"):
            metrics = {f"test/{name}/{task.result}": t[task.result] for name, t in tests.items()}
            metrics[f"test/{task.result}"] = tests[task.test_sets[0]][task.result]
            tracker.log(progress.step, progress.seconds, metrics)
        tracker.finish(summary)
    for line in _in_words(task, summary, config, directory.path):
        log.info("%s", line)


def _result(task: "Task", progress: "Progress") -> dict[str, Any]:
    from normlab.training.progress import public, speed

    diverged = progress.status == "diverged"
    return {
        "status": progress.status,
        "steps": progress.step,
        "epochs": progress.epoch,
        "training_seconds": progress.seconds,
        "best_dev": {
            "value": task.metric.worst if diverged else progress.best,
            "metric": task.metric.key,
            "step": progress.best_step,
        },
        "dev": progress.latest,
        **_learned(task, progress),
        **({"diverged_at": progress.diverged_at} if diverged else {}),
        **speed(progress.segments),
        "segments": [public(segment) for segment in progress.segments],
    }


def _learned(task: "Task", progress: "Progress") -> dict[str, Any]:
    """Returns what guessing reaches, and whether the run ended at least a tenth below it."""
    guess = task.guessing()
    if guess is None:
        return {"guessing": None, "learned": None}
    key, value = guess
    reached = progress.latest.get(key, math.inf)
    learned = progress.status != "diverged" and reached < 0.9 * value
    return {"guessing": {"metric": key, "value": value}, "learned": learned}


def _dashboard(
    config: Config, directory: RunDirectory, summary: dict[str, Any]
) -> AbstractContextManager["Dashboard | None"]:
    if config.logger.name == "none":
        return nullcontext()
    from normlab.training.wandb import wandb_run, wandb_settings

    names, logger = config.names, config.logger
    values = config.plain() | {"norm_impl": summary["norm_impl"]}
    tags = [*logger.tags, names.task, names.model, names.norm, names.data]
    return wandb_run(
        lambda: wandb_settings(
            directory.path,
            values,
            tags=tags,
            project=logger.project,
            group=logger.group,
            name=names.run,
        )
    )


def _in_words(task: "Task", summary: dict[str, Any], config: Config, run_dir: Path) -> list[str]:
    """Returns the run's result in a few lines: what came out, against what, and what to try."""

    if summary["status"] == "interrupted":
        again = f"the same command with hydra.run.dir={run_dir} goes on from there"
        return [f"Interrupted after {summary['steps']} steps: {again}."]

    def shown(value: float | None) -> str:
        return "-" if value is None else f"{value:.2f}"

    tests = ", ".join(shown(scores[task.result]) for scores in summary.get("test", {}).values())
    lines = [
        f"{summary['status']} after {summary['steps']} steps: best {task.metric.key} "
        f"{shown(summary['best_dev']['value'])}, test {task.result} {tests or '-'}, "
        f"{shown(summary['seconds_per_1k_steps'])} s per 1k steps; all in {run_dir}."
    ]
    if summary["learned"] is None:
        return lines
    key, guess = summary["guessing"]["metric"], summary["guessing"]["value"]
    reached = summary["dev"].get(key)
    what = "It learned" if summary["learned"] else "It has learned next to nothing"
    found = "not finite" if reached is None else f"{reached:.2f}"
    lines.append(f"{what}: {key} is {found}, and guessing without a model gives {guess:.2f}.")
    changes = {}
    if config.init_mean:
        changes[f"norm={config.names.norm} init.mean=0"] = "initial weights around 0"
        if config.names.norm != "layernorm":
            changes[f"norm=layernorm init.mean={config.init_mean:g}"] = "LayerNorm"
    if not summary["learned"] and changes:
        minutes = max(1, round(summary["training_seconds"] / 60))
        lines.append(f"The contrast, some {minutes} min of training each:")
        lines += [f"    python train.py {line}  # {what}" for line, what in changes.items()]
    return lines

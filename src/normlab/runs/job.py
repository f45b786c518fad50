"""One job of train.py, in order: config, directory, task, model, training, test, summary.

Heavy imports stand inside the functions that need them, so that a mistake in the config is
answered in about a second.
"""

import logging
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from normlab.errors import UserError
from normlab.ranks import place
from normlab.runs import components
from normlab.runs.assemble import assemble
from normlab.runs.config import Config, parse_config
from normlab.runs.directory import RunDirectory, open_directory
from normlab.runs.failures import disk_in_words, expected, log_traceback, memory_in_words
from normlab.runs.summary import closing_lines, head, result
from normlab.training.signals import Interrupted

if TYPE_CHECKING:
    from normlab.training.tracking import Dashboard

log = logging.getLogger(__name__)

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
        if _in_sweep():
            raise
        if not any(each.startswith("hydra.run.dir=") for each in HydraConfig.get().overrides.hydra):
            RunDirectory(run_dir).forget_failed_start()
        sys.exit(2)
    # Of several processes the first only: torchrun and srun end all when one has failed, and it may
    # still be writing.
    if summary["status"] == "interrupted" and place().rank == 0:
        sys.exit(INTERRUPTED)  # also ends a multirun, as Ctrl-C should


def _in_sweep() -> bool:
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def run(cfg: DictConfig, run_dir: Path, overrides: list[str]) -> dict[str, Any]:
    """Trains, evaluates and tests what `cfg` describes in `run_dir`; returns the summary.

    Resumes what stands there, and returns at once when it is complete. On any exception the
    summary says `failed` and the log holds the traceback before it goes on; but a finished run that
    cannot go on keeps its result.
    """
    here = place()
    with disk_in_words(run_dir):
        if here.world_size == 1:
            with open_directory(run_dir) as directory:
                return _run(cfg, directory, overrides)
        from normlab import distributed

        with distributed.joined(here, str(OmegaConf.select(cfg, "trainer.device"))):
            if here.rank:
                return _follow(cfg)
            with distributed.leading() as lead, open_directory(run_dir) as directory:
                return _run(cfg, directory, overrides, lead)


def _follow(cfg: DictConfig) -> dict[str, Any]:
    """Trains beside the first process, which owns the directory and writes all there is."""
    from normlab import distributed

    order = distributed.follow()
    if "summary" in order:
        return order["summary"]
    summary: dict[str, Any] = {}
    try:
        _train_and_test(parse_config(cfg), RunDirectory(Path(order["run_dir"])), summary, [])
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
        config = parse_config(cfg)
        summary = head(config)
    except UserError as error:
        if not directory.has_progress():
            directory.write_summary({"status": "failed", "error": f"UserError: {error}"})
        raise
    plain = config.plain()
    directory.claim(plain)
    if (done := directory.finished(plain)) is not None:
        status, steps = done["status"], done["steps"]
        there = (directory.stored_config() or {}).get("data", {}).get("dir")  # of a record: None
        if there not in (None, plain["data"].get("dir")):  # which may hold other data
            directory.check_data(components.build_task(config).contents())
        log.info("This run is complete (%s after %s steps).", status, steps)
        log.info("Delete %s to repeat it.", directory.path)
        lead({"summary": done})
        return done
    begun = False

    def begin() -> None:
        nonlocal begun
        if begun:
            return
        directory.record(plain, overrides)
        # A process that is killed writes nothing more: until the end the summary says so.
        directory.write_summary(summary | {"status": "interrupted"})
        begun = True

    if not directory.ended():  # else its result stays until all that it takes to go on is there
        begin()
    try:
        lead({"run_dir": str(directory.path)})
        with memory_in_words():
            _train_and_test(config, directory, summary, overrides, begin)
    except BaseException as error:
        summary |= {"status": "failed", "error": f"{type(error).__name__}: {error}"}
        if isinstance(error, KeyboardInterrupt | SystemExit):  # SystemExit: requeued by submitit
            summary["status"] = "interrupted"
        elif not expected(error):
            log_traceback(error, directory.path)
        raise
    finally:
        if begun:
            directory.write_summary(summary)
    return summary


def _train_and_test(
    config: Config,
    directory: RunDirectory,
    summary: dict[str, Any],
    overrides: list[str],
    begin: Callable[[], None] = lambda: None,
) -> None:
    """Trains and tests; `summary` is filled as results come, so that a failed run keeps its own.

    `begin` is called when all parts are there, before anything is written.
    """
    from normlab import distributed

    with distributed.lost_process_in_words():
        parts = assemble(config, directory, training=True)
        checkpoints = parts.checkpoints
        state = checkpoints.newest_state()
        distributed.same_everywhere("checkpoint", {"step": state and state["progress"]["step"]})
    task, rank = parts.task, distributed.rank()
    if rank == 0:
        begin()
        directory.forget_outputs()
        directory.record_data(parts.contents, task.model_arguments)
        task.save(directory.path)
    summary |= parts.description
    log.info("Run directory: %s", directory.path)
    log.info(
        "%s: %s parameters, norm %s (%s), on %s.",
        config.names.model,
        f"{summary['parameters']:,}",
        config.names.norm,
        summary["norm_impl"],
        summary["device"],
    )

    from normlab.training.console import Console
    from normlab.training.loop import Trainer
    from normlab.training.signals import interrupts
    from normlab.training.tracking import Tracker

    path, lines = directory.metrics if rank == 0 else None, state["metrics"] if state else ""
    with (
        distributed.lost_process_in_words(),
        # Outside: a job that is preempted asks to be requeued on leaving `interrupts`, before the
        # upload, which may hang.
        _dashboard(config, directory, summary) if rank == 0 else nullcontext() as dashboard,
        interrupts(together=distributed.world_size() > 1) as interrupted,
        Tracker(path, dashboard, lines) as tracker,
        Console(config.trainer, task.metric.key, silent=rank > 0) as console,
    ):
        trainer = Trainer(
            model=parts.model,
            objective=parts.objective,
            optimizer=parts.optimizer,
            learning_rate=parts.schedule.learning_rate,
            batches=partial(task.batches, rank=rank, world_size=distributed.world_size()),
            evaluate=parts.evaluate,
            metric=task.metric,
            settings=config.trainer,
            tracker=tracker,
            checkpoints=checkpoints,
            device=parts.device,
            environment=parts.environment,
            show=console,
            beta1=parts.schedule.beta1,
            samples=task.samples,
        )
        progress = trainer.train(state, interrupted)
        summary |= result(task, progress)
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
        if rank == 0:  # before the upload, in which a signal ends the process
            directory.write_summary(summary)
    alone = None if _in_sweep() else overrides
    for line in closing_lines(task, summary, config, alone, directory.path):
        log.info("%s", line)


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

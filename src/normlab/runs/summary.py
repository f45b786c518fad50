"""What summary.json says of a run, and the last lines on its screen."""

import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from normlab import registration
from normlab.errors import UserError
from normlab.paths import experiments
from normlab.runs.config import Config
from normlab.runs.environment import code_version
from normlab.runs.identity import limits

if TYPE_CHECKING:
    from normlab.tasks.task import Task
    from normlab.training.progress import Progress

LEARNED = 0.75  # of what guessing reaches: below it a run has learned something


def head(config: Config) -> dict[str, Any]:
    """Returns what is known before the run. Raises UserError for an unknown registration."""
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
        "registration": registration_of(config),
    }


def registration_of(config: Config) -> dict[str, str] | None:
    """Returns the experiment of a run and the hash of what is registered for it now."""
    name = config.names.experiment
    if name is None:
        return None
    try:
        return {"experiment": name, "sha256": registration.digest(experiments(), name)}
    except UserError as error:
        raise UserError(f"names.experiment={name!r}: {error}") from error


def result(task: "Task", progress: "Progress") -> dict[str, Any]:
    """Returns what training has come to."""
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
    """Returns what guessing reaches, and whether the run ended clearly below it."""
    guess = task.guessing()
    if guess is None:
        return {"guessing": None, "learned": None}
    key, value = guess
    reached = progress.latest.get(key, math.inf)
    learned = progress.status != "diverged" and reached < LEARNED * value
    return {"guessing": {"metric": key, "value": value}, "learned": learned}


def closing_lines(
    task: "Task",
    summary: dict[str, Any],
    config: Config,
    overrides: list[str] | None,
    run_dir: Path,
) -> list[str]:
    """Returns the run's result in a few lines: what came out, against what, and what to try.

    `overrides` are those that led to `config`; None in a sweep, which is a contrast itself.
    """
    if summary["status"] == "interrupted":
        again = f"the same command with hydra.run.dir={run_dir} goes on from there"
        return [f"Interrupted after {summary['steps']} steps: {again}."]

    def shown(value: float | None) -> str:
        return "-" if value is None else f"{value:.2f}"

    speed = summary["seconds_per_1k_steps"]
    took = f"{speed:.2f} s per 1k steps" if speed is not None else "too few steps to time"
    tests = ", ".join(shown(scores[task.result]) for scores in summary.get("test", {}).values())
    lines = [
        f"{summary['status']} after {summary['steps']} steps: best {task.metric.key} "
        f"{shown(summary['best_dev']['value'])}, test {task.result} {tests or '-'}, "
        f"{took}; all in {run_dir}."
    ]
    if summary["learned"] is None:
        return lines
    key, guess = summary["guessing"]["metric"], summary["guessing"]["value"]
    reached = summary["dev"].get(key, math.nan)
    what = "It learned" if summary["learned"] else "It has learned little or nothing"
    found = f"{reached:.2f}" if math.isfinite(reached) else "not finite"
    lines.append(
        f"{what}: {key} is {found}, and guessing without a model gives {guess:.2f} "
        f"(learned: below {LEARNED:g} of that)."
    )
    if not summary["learned"] and config.init_mean and overrides is not None:
        minutes = round(summary["training_seconds"] / 60)
        long = f"some {minutes} min" if minutes else "less than a minute"
        lines.append(f"The contrast, {long} of training each:")
        norm, mean = config.names.norm, f"init.mean={config.init_mean:g}"
        kept = [o for o in overrides if o.partition("=")[0] not in ("norm", "init.mean")]
        again = shlex.join([f"norm={norm}", "init.mean=0", *kept])
        lines.append(f"    python train.py {again}  # initial weights around 0")
        if norm != "layernorm":  # which may not know the other's options
            kept = [override for override in kept if not override.startswith("norm.")]
            again = shlex.join(["norm=layernorm", mean, *kept])
            lines.append(f"    python train.py {again}  # LayerNorm")
    return lines

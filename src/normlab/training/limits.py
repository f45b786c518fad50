"""When a run is finished: the limits that end it."""

from normlab.training.progress import Progress
from normlab.training.settings import TrainerSettings


def limit_reached(
    settings: TrainerSettings, progress: Progress, running_seconds: float = 0.0
) -> bool:
    """Returns whether a limit on steps, epochs, minutes or patience ends the run here."""
    minutes = (progress.seconds + running_seconds) / 60
    return (
        (settings.max_steps is not None and progress.step >= settings.max_steps)
        or (settings.max_epochs is not None and progress.epoch >= settings.max_epochs)
        or (settings.max_minutes is not None and minutes >= settings.max_minutes)
        or (settings.patience is not None and progress.evaluations_since_best >= settings.patience)
    )


def seconds_left(
    settings: TrainerSettings, progress: Progress, seconds_per_step: float
) -> float | None:
    """Returns the seconds until a limit on steps or minutes, None where there is neither.

    Epochs and patience are left out: nobody knows beforehand how many steps they are.
    """
    left = []
    if settings.max_steps is not None:
        left.append((settings.max_steps - progress.step) * seconds_per_step)
    if settings.max_minutes is not None:
        left.append(60 * settings.max_minutes - progress.seconds)
    return max(0.0, min(left)) if left else None

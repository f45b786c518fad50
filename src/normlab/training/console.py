"""What a person sees of a run while it trains."""

import contextlib
import logging
import os
import sys
import time
from typing import Self

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from normlab.training.limits import seconds_left
from normlab.training.progress import Progress
from normlab.training.settings import TrainerSettings

log = logging.getLogger(__name__)


class Console:
    """Tells a person how training goes: a progress bar on a terminal, log lines elsewhere."""

    def __init__(self, settings: TrainerSettings, metric: str, silent: bool = False):
        self._settings, self._metric, self._silent = settings, metric, silent

    def __enter__(self) -> Self:
        wanted = not self._silent and "NO_PROGRESS" not in os.environ
        self._started = time.monotonic()
        self._open = contextlib.ExitStack()
        self._bar = None
        if wanted and sys.stderr.isatty():
            self._bar = self._open.enter_context(tqdm(total=self._settings.max_steps, unit="step"))
            self._open.enter_context(logging_redirect_tqdm())  # log lines stand above the bar
        return self

    def __exit__(self, *exception: object) -> None:
        self._open.close()

    def __call__(self, progress: Progress, metrics: dict[str, float]) -> None:
        """Shows one line of metrics, with how far the run is and how long it still takes."""
        if self._silent:
            return
        shown = {k: v for k, v in metrics.items() if not k.startswith("hidden/")}
        before = progress.segments[-1]["first_step"] - 1  # what earlier processes did
        if self._bar is not None:
            self._bar.initial, self._bar.n = before, progress.step
            keys = ("train/loss", "train/grad_norm", "dev/loss", self._metric)
            self._bar.set_postfix({k.split("/")[1]: f"{shown[k]:.3g}" for k in keys if k in shown})
            return
        values = "  ".join(f"{key.split('/')[1]} {value:.5g}" for key, value in shown.items())
        kind = next(iter(metrics)).split("/")[0]
        log.info("step %s  %s  %s", self._place(progress, before), kind, values)

    def _place(self, progress: Progress, before: int) -> str:
        """Returns "50 of 1500, 3 min left", as far as that is known."""
        most = self._settings.max_steps
        place = f"{progress.step}" if most is None else f"{progress.step} of {most}"
        done = progress.step - before
        pace = (time.monotonic() - self._started) / done if done else 0.0
        left = seconds_left(self._settings, progress, pace)
        return place if left is None or not done else f"{place}, {duration(left)} left"


def duration(seconds: float) -> str:
    """Returns a time as one says it: "40 s", "3 min", "2.5 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"

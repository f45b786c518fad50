"""What a person sees of a run while it trains."""

import logging
import os
import sys
from typing import Self

from tqdm import tqdm

from normlab.training.progress import Progress

log = logging.getLogger(__name__)


class Console:
    """Tells a person how training goes: a progress bar on a terminal, log lines elsewhere."""

    def __init__(self, max_steps: int | None, metric: str, silent: bool = False):
        self._total, self._metric, self._silent = max_steps, metric, silent

    def __enter__(self) -> Self:
        wanted = not self._silent and "NO_PROGRESS" not in os.environ
        terminal = wanted and sys.stderr.isatty()
        self._bar = tqdm(total=self._total, unit="step") if terminal else None
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, progress: Progress, metrics: dict[str, float]) -> None:
        """Shows one line of metrics."""
        if self._silent:
            return
        shown = {k: v for k, v in metrics.items() if not k.startswith("hidden/")}
        if self._bar is not None:
            self._bar.n = progress.step
            keys = ("train/loss", "train/grad_norm", "dev/loss", self._metric)
            self._bar.set_postfix({k.split("/")[1]: f"{shown[k]:.3g}" for k in keys if k in shown})
            return
        values = "  ".join(f"{key.split('/')[1]} {value:.5g}" for key, value in shown.items())
        log.info("step %d  %s  %s", progress.step, next(iter(metrics)).split("/")[0], values)

"""What a person sees of a run while it trains."""

import logging
import os
import sys
from typing import TYPE_CHECKING

from tqdm import tqdm

if TYPE_CHECKING:
    from normlab.training.loop import Progress

log = logging.getLogger(__name__)


class Reporter:
    """Tells a person how training goes: a progress bar on a terminal, log lines elsewhere."""

    def __init__(self, max_steps: int | None):
        self._total = max_steps

    def __enter__(self) -> "Reporter":
        terminal = sys.stderr.isatty() and "NO_PROGRESS" not in os.environ
        self._bar = tqdm(total=self._total, unit="step") if terminal else None
        return self

    def __exit__(self, *exception) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, progress: "Progress", metrics: dict[str, float]) -> None:
        # Hidden statistics, 80 numbers, are for the file.
        short = {k.split("/")[1]: v for k, v in metrics.items() if not k.startswith("hidden/")}
        if self._bar is not None:
            self._bar.n = progress.step
            shown = {k: short[k] for k in ("loss", "grad_norm", "bleu") if k in short}
            self._bar.set_postfix({k: f"{v:.3g}" for k, v in shown.items()})
            return
        values = "  ".join(f"{key} {value:.5g}" for key, value in short.items())
        log.info("step %d  %s  %s", progress.step, next(iter(metrics)).split("/")[0], values)

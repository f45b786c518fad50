"""The training loop: batch, update, log, evaluate, save; forward to step is `update`."""

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from normlab.data.batching import Batch
from normlab.models.protocol import Seq2Seq
from normlab.schema import Trainer
from normlab.training.checkpoint import Checkpoints
from normlab.training.loss import token_loss
from normlab.training.tracking import Tracker

log = logging.getLogger(__name__)


@dataclass
class Progress:
    """Where a run stands: with the weights, the optimiser and the generators, all of its state."""

    step: int = 0  # optimiser steps done
    epoch: int = 0
    batch: int = 0  # next batch of the epoch
    seconds: float = 0.0  # of training: evaluation and checkpointing excluded
    timed_steps: int = 0  # steps, tokens and seconds that speed is computed from: each process's
    timed_tokens: int = 0  # first log interval is left out (warm-up, compilation)
    timed_seconds: float = 0.0
    best_bleu: float | None = None
    best_step: int = 0
    evaluations_since_best: int = 0
    status: str = "running"
    diverged_at: int | None = None
    window: dict[str, Any] = field(default_factory=dict)  # what the next log line has so far


def train(
    model: Seq2Seq,
    optimizer: torch.optim.Optimizer,
    learning_rate: Callable[[int], float],
    epoch_batches: Callable[[int], Sequence[Callable[[], Batch]]],
    evaluate: Callable[[], dict[str, float]],
    settings: Trainer,
    tracker: Tracker,
    checkpoints: Checkpoints,
    device: torch.device,
    on_metrics: Callable[[Progress, dict[str, float]], None] = lambda progress, metrics: None,
) -> Progress:
    """Trains until a limit, the end of patience, divergence or an interrupt; returns the progress.

    epoch_batches(epoch) gives the epoch's batches as functions that make them, in a fixed order;
    evaluate() gives the `dev/*` metrics; on_metrics is told of every line logged. Starts from the
    newest checkpoint when there is one. The final `status` is `completed`, `diverged` (with the
    first non-finite step in `diverged_at`) or `interrupted`. Loss and gradient norm stay on the
    device until the logging interval.
    """
    progress = restore(checkpoints, model, optimizer)
    window = Window(settings.log_every, device, progress.window)
    parameters = [p for p in model.parameters() if p.requires_grad]
    objective = Objective(model, settings, device)
    clock = Clock(device)
    draw = _in_order(epoch_batches, progress)
    warm = False  # whether this process has passed its first log interval
    with interrupts() as interrupted:
        while progress.status == "running" and not _limit_reached(settings, progress, 0):
            clock.start()
            # batch
            batches = [draw()().to(device) for _ in range(settings.accumulate)]
            # forward, backward, clip, step
            progress.step += 1
            lr = learning_rate(progress.step)
            loss, nll, grad_norm = update(objective, batches, parameters, optimizer, lr, settings)
            window.add(loss, nll, grad_norm, sum(batch.n_tokens for batch in batches))

            last = _limit_reached(settings, progress, window.seconds + clock.seconds)
            to_log = last or progress.step % settings.log_every == 0
            to_evaluate = last or progress.step % settings.eval_every == 0
            to_save = last or progress.step % settings.checkpoint_every == 0
            stop = interrupted.is_set()
            if not (to_log or to_evaluate or to_save or stop):
                continue
            window.seconds += clock.stop()
            bad = window.first_non_finite()
            if bad is not None:
                progress.status = "diverged"
                progress.diverged_at = progress.step - window.count + bad + 1
            # log
            if to_log or bad is not None:
                progress.seconds += window.seconds
                if warm:
                    progress.timed_steps += window.count
                    progress.timed_tokens += window.tokens
                    progress.timed_seconds += window.seconds
                warm = True
                metrics = {**window.means(), "train/lr": learning_rate(progress.step)}
                tracker.log(progress.step, progress.seconds, metrics)
                on_metrics(progress, metrics)
                window.clear()
            if bad is not None:
                break
            # evaluate
            if to_evaluate:
                metrics = evaluate()
                tracker.log(progress.step, progress.seconds + window.seconds, metrics)
                _note_best(progress, metrics, model, checkpoints)
                on_metrics(progress, metrics)
                last = last or _limit_reached(settings, progress, 0)  # patience may have ended
            # save
            if to_save or stop or last:
                save(checkpoints, model, optimizer, progress, window)
            if stop and not last:
                progress.status = "interrupted"
    if progress.status == "running":
        progress.status = "completed"
    return progress


def update(
    objective: "Objective",
    batches: Sequence[Batch],
    parameters: Sequence[nn.Parameter],
    optimizer: torch.optim.Optimizer,
    lr: float,
    settings: Trainer,
) -> tuple[Tensor, Tensor, Tensor]:
    """Does one optimiser step on `batches`; returns loss and NLL sums and the gradient norm."""
    n_tokens = sum(batch.n_tokens for batch in batches)
    loss, nll = (torch.zeros((), device=batches[0].src.device) for _ in range(2))
    for batch in batches:
        batch_loss, batch_nll = objective(batch)
        (batch_loss / n_tokens).backward()
        loss += batch_loss.detach()
        nll += batch_nll
    grad_norm = nn.utils.clip_grad_norm_(parameters, settings.clip or float("inf"))
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss, nll, grad_norm


class Objective:
    """The loss of a batch: forward pass and label-smoothed cross entropy at real positions."""

    def __init__(self, model: Seq2Seq, settings: Trainer, device: torch.device):
        self.model, self.smoothing, self.device = model, settings.label_smoothing, device
        self.bf16 = settings.precision == "bf16"
        forward = self._features
        self.features = model.compiled(forward) if settings.compile else forward

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns two sums over the batch's target tokens, in nats: smoothed loss and NLL."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            features = self.features(batch.src, batch.src_lengths, batch.tgt_in, batch.positions)
            weight, bias = self.model.output()
            return token_loss(features, weight, bias, batch.labels, self.smoothing)

    def _features(self, src, src_lengths, tgt_in, positions):
        features = self.model.decode(self.model.encode(src, src_lengths), tgt_in)
        # (batch, tgt_len, width) -> (n_tokens, width): no logits are computed for padding
        return features.flatten(0, 1).index_select(0, positions)


class Window:
    """The steps since the last log line; sums stay on the device so that no step waits for it."""

    def __init__(self, size: int, device: torch.device, state: dict[str, Any]):
        self.sums = torch.zeros(size, 3, device=device)  # loss, nll, gradient norm of each step
        self.clear()
        if state:
            self.count, self.tokens, self.seconds = (
                state["count"],
                state["tokens"],
                state["seconds"],
            )
            self.sums[: self.count] = state["sums"].to(device)

    def clear(self) -> None:
        self.count = self.tokens = 0
        self.seconds = 0.0

    def add(self, loss: Tensor, nll: Tensor, grad_norm: Tensor, n_tokens: int) -> None:
        self.sums[self.count] = torch.stack((loss, nll, grad_norm))
        self.count += 1
        self.tokens += n_tokens

    def first_non_finite(self) -> int | None:
        """Returns the first step of the window with a non-finite loss or gradient, from 0."""
        bad = (~self.sums[: self.count].isfinite()).any(1).nonzero()
        return int(bad[0]) if len(bad) else None

    def means(self) -> dict[str, float]:
        """Returns loss and NLL per token, the mean gradient norm, and the speed of these steps."""
        sums = self.sums[: self.count].double().cpu()
        return {
            "train/loss": sums[:, 0].sum().item() / self.tokens,
            "train/nll": sums[:, 1].sum().item() / self.tokens,
            "train/grad_norm": sums[:, 2].mean().item(),
            "train/tokens_per_second": self.tokens / self.seconds,
            "train/step_ms": 1000 * self.seconds / self.count,
        }

    def state(self) -> dict[str, Any]:
        """Returns what restores this window."""
        sums = self.sums[: self.count].cpu().clone()
        return {"sums": sums, "count": self.count, "tokens": self.tokens, "seconds": self.seconds}


class Clock:
    """Counts training seconds: runs from start() to stop(), a second start() changes nothing."""

    def __init__(self, device: torch.device):
        self._device = device
        self._started: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds since start(), without waiting for the device."""
        return 0.0 if self._started is None else time.perf_counter() - self._started

    def start(self) -> None:
        if self._started is None:
            self._started = time.perf_counter()

    def stop(self) -> float:
        """Returns the seconds since start() once the device has finished, and stops."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        seconds, self._started = self.seconds, None
        return seconds


def save(
    checkpoints: Checkpoints,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    window: Window,
) -> None:
    """Writes everything that the rest of the run depends on."""
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "progress": {**asdict(progress), "status": "running", "window": window.state()},
        "rng": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["rng_cuda"] = torch.cuda.get_rng_state_all()
    checkpoints.save_state(state, progress.step)


def restore(
    checkpoints: Checkpoints, model: nn.Module, optimizer: torch.optim.Optimizer
) -> Progress:
    """Loads the newest checkpoint, if any, into `model`, `optimizer` and the random generators."""
    state = checkpoints.load_last()
    if state is None:
        return Progress()
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["rng"])
    if "rng_cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["rng_cuda"])
    progress = Progress(**state["progress"])
    log.info("Resuming at step %d (epoch %d).", progress.step, progress.epoch + 1)
    return progress


@contextlib.contextmanager
def interrupts() -> Iterator[threading.Event]:
    """Sets the event on the first Ctrl-C, SIGTERM or preemption; a second Ctrl-C stops at once.

    Preemption is the signal for which submitit has set a handler, which requeues the job and ends
    the process: it is called on leaving, when the checkpoint is written.
    """
    event, preempted = threading.Event(), threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event  # Python delivers signals to the main thread only
        return
    preemption = signal.Signals["SIG" + os.environ.get("SUBMITIT_PREEMPT_SIGNAL", "USR2")]
    requeue = signal.getsignal(preemption)

    def handle(number, frame):
        if event.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        log.warning("Interrupted: saving after this step.")
        event.set()
        if number == preemption:
            preempted.set()

    signals = {signal.SIGINT, signal.SIGTERM} | ({preemption} if callable(requeue) else set())
    previous = {number: signal.signal(number, handle) for number in signals}
    try:
        yield event
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if preempted.is_set() and callable(requeue):
        requeue(preemption, None)


def _in_order(epoch_batches, progress: Progress) -> Callable[[], Callable[[], Batch]]:
    """Returns a function that gives the next batch from `progress` on and moves it one further."""
    batches, epoch = epoch_batches(progress.epoch), progress.epoch

    def draw():
        nonlocal batches, epoch
        if epoch != progress.epoch:
            batches, epoch = epoch_batches(progress.epoch), progress.epoch
        make = batches[progress.batch]
        progress.batch += 1
        if progress.batch == len(batches):
            progress.epoch, progress.batch = progress.epoch + 1, 0
        return make

    return draw


def _limit_reached(settings: Trainer, progress: Progress, running_seconds: float) -> bool:
    minutes = (progress.seconds + running_seconds) / 60
    return (
        (settings.max_steps is not None and progress.step >= settings.max_steps)
        or (settings.max_epochs is not None and progress.epoch >= settings.max_epochs)
        or (settings.max_minutes is not None and minutes >= settings.max_minutes)
        or (settings.patience is not None and progress.evaluations_since_best >= settings.patience)
    )


def _note_best(progress, metrics, model, checkpoints: Checkpoints) -> None:
    bleu = metrics["dev/bleu"]
    if progress.best_bleu is None or bleu > progress.best_bleu:
        progress.best_bleu, progress.best_step = bleu, progress.step
        progress.evaluations_since_best = 0
        checkpoints.save_weights("best", model.state_dict(), step=progress.step, bleu=bleu)
    else:
        progress.evaluations_since_best += 1

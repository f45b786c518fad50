"""The training loop: batch, forward, backward, clip, step, log, evaluate, save."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from normlab import distributed
from normlab.devices import autocast
from normlab.tasks.task import Batch, Metric, Sample
from normlab.training.checkpoint import Checkpoints
from normlab.training.limits import limit_reached
from normlab.training.log_window import Clock, Window
from normlab.training.matrix_speeds import Matrices
from normlab.training.progress import Progress
from normlab.training.schedules import unchanged
from normlab.training.settings import TrainerSettings
from normlab.training.signals import Interrupted, Interrupts
from normlab.training.step import update
from normlab.training.tracking import Tracker

log = logging.getLogger(__name__)

Batches = Sequence[Callable[[], Batch]]


class Trainer:
    """One training run: a model, its objective and optimiser, and where it writes.

    `objective(batch)` gives named sums, "loss" among them (tasks/task.py); `model` holds the
    weights that are saved. `learning_rate(step)` counts from 1. `batches(epoch)` gives the epoch's
    batches as functions that make them, in a fixed order. `evaluate()` gives metrics, one of them
    `metric`. `show(progress, metrics)` is told of every line logged. `environment` is what the
    summary says of this process. `beta1(step)` is Adam's first beta from that step on, None where
    it does not change. `samples(count)` gives what the last evaluation made of some examples.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: nn.Module,
        optimizer: torch.optim.Optimizer,
        learning_rate: Callable[[int], float],
        batches: Callable[[int], Batches],
        evaluate: Callable[[], dict[str, float]],
        metric: Metric,
        settings: TrainerSettings,
        tracker: Tracker,
        checkpoints: Checkpoints,
        device: torch.device,
        environment: Mapping[str, Any],
        show: Callable[[Progress, dict[str, float]], None] = lambda progress, metrics: None,
        beta1: Callable[[int], float | None] = unchanged,
        samples: Callable[[int], Sequence[Sample]] = lambda count: (),
    ):
        self.model, self.objective, self.optimizer = model, objective, optimizer
        self.learning_rate, self.batches, self.evaluate = learning_rate, batches, evaluate
        self.metric, self.settings, self.device = metric, settings, device
        self.tracker, self.checkpoints, self.show = tracker, checkpoints, show
        self.environment, self.beta1, self.samples = environment, beta1, samples
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.matrices = Matrices(model) if settings.per_matrix else None
        if distributed.world_size() > 1:
            self.objective = distributed.replicated(objective)

    def train(self, state: Mapping[str, Any] | None, interrupts: Interrupts) -> Progress:
        """Trains until a limit, divergence or an interrupt; returns the progress.

        Goes on from `state`, a checkpoint, if there is one. The final `status` is `completed`,
        `diverged` (with the first non-finite step in `diverged_at`) or `interrupted`. Loss and
        gradient norm stay on the device until the logging interval.
        """
        settings = self.settings
        self.progress = progress = self._restore(state)
        progress.start_segment(self.environment)
        self.window = window = Window(settings.log_every, self.device, progress.window)
        self.clock = Clock(self.device)
        self._epoch: Batches = ()
        if progress.evaluation_due:  # an interrupt put it off
            self._evaluate(interrupts)
            if progress.evaluation_due:
                progress.status = "interrupted"
                return progress
            self._save(interrupts, regular=progress.step % settings.checkpoint_every == 0)
        # What clocks and signals decide has to be one decision of all processes.
        last = distributed.from_first(limit_reached(settings, progress))
        while progress.status == "running" and not last:
            self.clock.start()
            lr = self._step()
            reached = limit_reached(settings, progress, window.seconds + self.clock.seconds)
            last, stop = distributed.any_of(reached, interrupts.requested)
            to_log = last or progress.step % settings.log_every == 0
            to_evaluate = last or progress.step % settings.eval_every == 0
            to_save = progress.step % settings.checkpoint_every == 0
            if not (to_log or to_evaluate or to_save or stop):
                continue
            window.seconds += self.clock.stop()
            bad = window.first_non_finite()
            if bad is not None:
                progress.status = "diverged"
                progress.diverged_at = progress.step - window.count + bad + 1
            # log
            if to_log or bad is not None:
                self._log(lr)
            if bad is not None:
                break
            # evaluate
            if to_evaluate and stop:
                progress.evaluation_due = True  # put off until the run goes on
            elif to_evaluate:
                if to_save and distributed.world_size() > 1:
                    # Saved before, for these processes cannot cut an evaluation short.
                    progress.evaluation_due = True
                    self._save(interrupts, regular=False)
                self._evaluate(interrupts)
                last = last or distributed.from_first(limit_reached(settings, progress))  # patience
                (stop,) = distributed.any_of(interrupts.requested)
            # save
            if to_save or last or stop:
                self._save(interrupts, regular=to_save)
            if stop and (not last or progress.evaluation_due):
                progress.status = "interrupted"
        if progress.status == "running":
            progress.status = "completed"
        elif progress.status == "interrupted":
            distributed.gather(None)  # none leaves while the first still writes
        return progress

    def _step(self) -> float:
        """Takes one optimiser step, adds it to the window and returns its learning rate."""
        settings, progress = self.settings, self.progress
        batches = [self._next_batch() for _ in range(settings.accumulate)]
        progress.step += 1
        lr = self.learning_rate(progress.step)
        sums, grad_norm = update(
            self.objective,
            batches,
            self.parameters,
            self.optimizer,
            lr,
            clip=settings.clip,
            precision=autocast(settings.precision, self.device),
            beta1=self.beta1(progress.step),
            matrices=self.matrices if progress.step % settings.log_every == 0 else None,
        )
        self.window.add(sums, grad_norm, sum(batch.items for batch in batches))
        return lr

    def _next_batch(self) -> Batch:
        """Returns the next batch on the device, in the next epoch when this one has no more."""
        progress = self.progress
        if not self._epoch:
            self._epoch = self.batches(progress.epoch)
        batch = self._epoch[progress.batch]().to(self.device)
        progress.batch += 1
        if progress.batch == len(self._epoch):
            progress.epoch, progress.batch, self._epoch = progress.epoch + 1, 0, ()
        return batch

    def _log(self, lr: float) -> None:
        window, progress = self.window, self.progress
        progress.add_window(window.count, window.items, window.seconds)
        metrics = {**window.means(), "train/lr": lr}
        matrices = {} if self.matrices is None else self.matrices.take()
        self.tracker.log(progress.step, progress.seconds, metrics | matrices)
        self.show(progress, metrics)
        window.clear()

    def _evaluate(self, interrupts: Interrupts) -> None:
        """Evaluates and keeps the best weights; a signal puts it off until the run goes on."""
        progress = self.progress
        progress.evaluation_due = True
        try:
            with interrupts.at_once():
                metrics = self.evaluate()
        except Interrupted:
            return
        progress.evaluation_due = False
        self.tracker.log(progress.step, progress.seconds + self.window.seconds, metrics)
        progress.latest = metrics
        value = metrics[self.metric.key]
        if progress.best is None or self.metric.better(value, progress.best):
            progress.best, progress.best_step = value, progress.step
            progress.evaluations_since_best = 0
            self.checkpoints.save_best(progress.step, self.model.state_dict(), value)
        else:
            progress.evaluations_since_best += 1
        self.show(progress, metrics)
        samples = self.samples(self.settings.samples)
        for given, wanted, made in samples:
            log.info("sample  %s\n    wanted: %s\n    made:   %s", given, wanted, made)
        self.tracker.show(progress.step, samples)

    def _save(self, interrupts: Interrupts, *, regular: bool) -> None:
        """Writes everything that the rest of the run depends on."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": self.progress.state(self.window.state()),
            "best": None if self.progress.best is None else self.progress.best_step,
            "metrics": self.tracker.text,
            "generators": distributed.gather(self._generators()),
        }
        with interrupts.held():
            self.checkpoints.save_state(state, self.progress.step, regular=regular)

    def _restore(self, state: Mapping[str, Any] | None) -> Progress:
        if state is None:
            return Progress()
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        progress = Progress(**state["progress"])
        self._restore_generators(state["generators"], progress.step)
        log.info("Resuming at step %d (epoch %d).", progress.step, progress.epoch + 1)
        return progress

    def _generators(self) -> dict[str, Tensor]:
        """Returns the state of this process's random generators."""
        states = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self.device)
        return states

    def _restore_generators(self, states: Sequence[Mapping[str, Tensor]], step: int) -> None:
        number, processes = distributed.rank(), distributed.world_size()
        if len(states) != processes:
            log.info("Begun by %d processes, now %d: other dropout masks.", len(states), processes)
            torch.manual_seed(hash((torch.initial_seed(), step, number)))  # the first is the run's
            return
        torch.set_rng_state(states[number]["cpu"])
        if "cuda" in states[number] and self.device.type == "cuda":
            torch.cuda.set_rng_state(states[number]["cuda"], self.device)

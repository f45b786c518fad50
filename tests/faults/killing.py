"""Processes that are killed, asked to stop, stopped, or two on one directory."""

import random
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from processes import steps_done, summary_of

from faults.children import hold, train, wait_for
from faults.outcomes import CLEAR, LOST, SURVIVED, WRONG, Outcome, fault
from faults.scenes import RUN, TOY, Scene, different, refused

PATIENCE = 20.0  # seconds in which a signal must end a run, on a busy machine
PHASES = ("step", "evaluate", "test")


@fault("kill -9 at a random moment", full=20, short=2)
def kill(folder: Path, tries: int, rng: random.Random) -> Iterator[Outcome]:
    """Kills a run anywhere between its start and its end, then starts it again."""
    scenes = [Scene(folder, TOY), Scene(folder, RUN)]
    seconds = []
    for scene in scenes:
        started = time.monotonic()
        scene.start(scene.new()).wait()
        seconds.append(time.monotonic() - started)
    for number in range(tries):
        scene = scenes[number % 2]
        run_dir, moment = scene.new(), rng.uniform(0, seconds[number % 2])
        child = scene.start(run_dir)
        time.sleep(moment)
        child.send(signal.SIGKILL)
        child.wait()
        yield scene.ends(run_dir, f"killed after {moment:.2f} s at step {steps_done(run_dir)}")


def _meet(scene: Scene, phase: str, seconds: float):
    """Starts a run and waits until it is in `phase`, which lasts; returns both."""
    run_dir = scene.new()
    child = scene.start(run_dir, before=partial(hold, run_dir, phase, seconds))
    wait_for(lambda: (run_dir / "phase").exists(), child)
    return run_dir, child


def signals(phase: str, folder: Path, tries: int, rng: random.Random) -> Iterator[Outcome]:
    """Sends each signal in `phase`; the run must end soon with a checkpoint, and go on."""
    scene = Scene(folder)
    names = ["SIGTERM", "SIGHUP", "SIGINT", "SIGUSR1", "SIGUSR2"]
    for name in names[:tries]:
        run_dir, child = _meet(scene, phase, 0.05 if phase == "step" else 60.0)
        time.sleep(rng.uniform(0, 0.5))
        sent = time.monotonic()
        child.send(signal.Signals[name])
        code = child.wait(PATIENCE)
        note = f"{name} in {phase}, ended after {time.monotonic() - sent:.1f} s"
        if code != 130:
            yield Outcome(LOST, f"{note}: exit code {code}; {child.output()[-400:]}")
            continue
        done = summary_of(run_dir)
        if done["status"] != "interrupted" or not (run_dir / "checkpoints/last.pt").exists():
            yield Outcome(LOST, f"{note}: {done['status']}, no checkpoint")
            continue
        yield scene.ends(run_dir, note)


for _phase, _name in zip(PHASES, ("training", "a dev evaluation", "the final test"), strict=True):
    fault(f"TERM, HUP, INT, USR1, USR2 in {_name}", full=5, short=1)(partial(signals, _phase))


@fault("a second Ctrl-C in a dev evaluation", full=3)
def second(folder: Path, tries: int, rng: random.Random) -> Iterator[Outcome]:
    """Presses Ctrl-C twice in the first evaluation, before any checkpoint."""
    scene = Scene(folder)
    for number in range(tries):
        overrides = ("trainer.checkpoint_every=1000",)
        run_dir = scene.new()
        before = partial(hold, run_dir, "evaluate", 60.0)
        child = scene.start(run_dir, *overrides, before=partial(_slow_save, before))
        wait_for(lambda run_dir=run_dir: (run_dir / "phase").exists(), child)
        pause = (0.0, 0.1, 0.3)[number % 3]
        child.send(signal.SIGINT)
        time.sleep(pause)
        child.send(signal.SIGINT)
        code = child.wait(PATIENCE)
        note = f"twice in {pause} s"
        if not (run_dir / "checkpoints/last.pt").exists():
            yield Outcome(LOST, f"{note}: exit code {code}, no checkpoint")
            continue
        scene.start(run_dir, *overrides).wait()
        other = scene.new()
        scene.start(other, *overrides).wait()
        found = different(other, run_dir)
        yield Outcome(WRONG if found else SURVIVED, f"{note}: {found}")


def _slow_save(before) -> None:
    """Makes writing a checkpoint take as long as that of a large model."""
    from normlab.training.checkpoint import Checkpoints

    before()
    kept = Checkpoints._write

    def slow(self, name, content):
        time.sleep(0.5)
        return kept(self, name, content)

    Checkpoints._write = slow


@fault("SIGSTOP for four seconds", full=2)
def stop(folder: Path, tries: int, rng: random.Random) -> Iterator[Outcome]:
    """Stops a process in training and lets it go on: results as ever, and no slower in tables."""
    scene = Scene(folder)
    usual = None
    for _ in range(tries):
        if usual is None:
            run_dir, child = _meet(scene, "step", 0.02)
            child.wait()
            usual = summary_of(run_dir)["seconds_per_1k_steps"]
        run_dir, child = _meet(scene, "step", 0.02)
        wait_for(lambda run_dir=run_dir: steps_done(run_dir) >= 9, child)
        child.send(signal.SIGSTOP)
        time.sleep(4)
        child.send(signal.SIGCONT)
        outcome = scene.outcome(run_dir, child, "stopped")
        summary = summary_of(run_dir)
        # A stop in an evaluation costs no training time, and is no stall.
        if summary["seconds_per_1k_steps"] > 2 * usual:
            took = summary["seconds_per_1k_steps"]
            outcome = Outcome(WRONG, f"{took:.0f} s per 1k steps, usually {usual:.0f}")
        yield outcome


@fault("two processes on one directory", full=3)
def two(folder: Path, tries: int, rng: random.Random) -> Iterator[Outcome]:
    """Starts a run in the directory of one that is training: it is refused, the first goes on."""
    scene = Scene(folder)
    for _ in range(tries):
        run_dir, child = _meet(scene, "step", 0.05)
        time.sleep(rng.uniform(0, 0.5))
        child.send(signal.SIGSTOP)  # or a fast machine's first is done before the second looks
        other = scene.start(run_dir)
        outcome = refused(other, other.wait(), "the second")
        child.send(signal.SIGCONT)
        first = scene.outcome(run_dir, child, "the first")
        yield outcome if first.kind == SURVIVED else first


@fault("five processes started at once in one directory", full=2)
def race(folder: Path, tries: int, rng: random.Random) -> Iterator[Outcome]:
    """Starts five at once: one trains, the others are refused or find it complete."""
    scene = Scene(folder)
    for _ in range(tries):
        run_dir = scene.new()
        children = [train(run_dir, scene.overrides) for _ in range(5)]
        codes = [child.wait() for child in children]
        ends = [refused(c, code, "race") for c, code in zip(children, codes, strict=True) if code]
        found = different(scene.whole, run_dir) if 0 in codes else "nobody trained"
        if found or any(end.kind != CLEAR for end in ends):
            yield Outcome(WRONG if found else LOST, f"exit codes {codes}: {found} {ends}")
        else:
            yield Outcome(SURVIVED, f"exit codes {codes}")

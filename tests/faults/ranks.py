"""Runs on two processes of which one is killed, stopped, signalled, or reads other data."""

import os
import random
import signal
import socket
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from processes import steps_done

from faults.children import Child, hold, train, wait_for
from faults.outcomes import LOST, SURVIVED, WRONG, Outcome, fault
from faults.scenes import RUN, Scene, different, refused

SILENCE = 5  # seconds after which a process counts as lost; distributed.TIMEOUT by default
PATIENCE = 60.0  # seconds in which all processes must have ended


class Pair:
    """Two processes that train one run in `run_dir`, as torchrun would start them."""

    def __init__(
        self, scene: Scene, run_dir: Path, *overrides: str, phase: str = "", places=None, silence=0
    ):
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        self.run_dir = run_dir
        self.children = [
            train(
                run_dir,
                [*scene.overrides, *overrides],
                partial(_before, run_dir, phase, places[rank] if places else None),
                {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2",
                 "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
                 **({"NORMLAB_TIMEOUT": f"{silence}"} if silence else {})},
            )
            for rank in range(2)
        ]  # fmt: skip

    def wait(self) -> list[int | None]:
        """Returns both exit codes, None for a process that hung."""
        end = time.monotonic() + PATIENCE
        return [child.wait(max(0.1, end - time.monotonic())) for child in self.children]


def _before(run_dir: Path, phase: str, place: Path | None) -> None:
    if phase:
        hold(run_dir, phase, 0.05 if phase == "step" else 2.0)
    if place is not None:
        os.chdir(place)


def _whole(scene: Scene) -> Path:
    """Returns the directory of an undisturbed run on two processes."""
    run_dir = scene.shared / "whole_of_two"
    if not run_dir.exists():
        pair = Pair(scene, run_dir)
        assert pair.wait() == [0, 0], [child.output() for child in pair.children]
    return run_dir


def _again(scene: Scene, run_dir: Path, note: str) -> Outcome:
    """Starts both processes again, undisturbed, and compares the result."""
    pair = Pair(scene, run_dir)
    if (codes := pair.wait()) != [0, 0]:
        outputs = [child.output()[-400:] for child in pair.children]
        return Outcome(LOST, f"{note}, then exit codes {codes}: {outputs}")
    found = different(_whole(scene), run_dir)
    return Outcome(WRONG if found else SURVIVED, f"{note}: {found}")


def _left(child: Child, note: str) -> Outcome | None:
    """Returns what is wrong with the end of a process whose peer is gone, None when nothing."""
    code = child.wait(PATIENCE)
    if code in (0, 130):  # it had its part already, or was interrupted as it should be
        return None
    found = refused(child, code, note)
    return found if found.kind == LOST else None


@fault("one of two ranks killed", full=8, short=1)
def killed(folder: Path, tries: int, rng: random.Random) -> Iterator[Outcome]:
    """Kills one process in training, a dev evaluation or the final test; both start again."""
    scene = Scene(folder)
    for number in range(tries):
        rank, phase = number % 2, ("step", "evaluate", "test", "step")[number // 2 % 4]
        run_dir = scene.new()
        pair = Pair(scene, run_dir, phase=phase, silence=SILENCE)
        wait_for(lambda run_dir=run_dir: (run_dir / "phase").exists(), pair.children[0])
        time.sleep(rng.uniform(0, 1))
        note = f"rank {rank} killed in {phase} at step {steps_done(run_dir)}"
        pair.children[rank].send(signal.SIGKILL)
        yield _left(pair.children[1 - rank], note) or _again(scene, run_dir, note)


@fault("one of two ranks stopped", full=4, short=1)
def stopped(folder: Path, tries: int, rng: random.Random) -> Iterator[Outcome]:
    """Stops one process: the other ends with a sentence, and so does it when it goes on."""
    scene = Scene(folder)
    for number in range(tries):
        rank = (number + 1) % 2
        run_dir = scene.new()
        pair = Pair(scene, run_dir, phase="step", silence=SILENCE)
        wait_for(lambda run_dir=run_dir: (run_dir / "phase").exists(), pair.children[0])
        time.sleep(rng.uniform(0, 0.5))
        note = f"rank {rank} stopped at step {steps_done(run_dir)}"
        pair.children[rank].send(signal.SIGSTOP)
        wrong = _left(pair.children[1 - rank], note)
        pair.children[rank].send(signal.SIGCONT)
        yield (
            wrong
            or _left(pair.children[rank], f"{note}, then continued")
            or _again(scene, run_dir, note)
        )


@fault("a signal to one of two ranks", full=4, short=1)
def signalled(folder: Path, tries: int, rng: random.Random) -> Iterator[Outcome]:
    """Asks one process to stop: both do, with a checkpoint, and go on."""
    scene = Scene(folder)
    for number in range(tries):
        rank = number % 2
        name = ("SIGTERM", "SIGUSR1")[number // 2 % 2]
        run_dir = scene.new()
        pair = Pair(scene, run_dir, phase="step")
        wait_for(lambda run_dir=run_dir: (run_dir / "phase").exists(), pair.children[0])
        time.sleep(rng.uniform(0, 0.5))
        pair.children[rank].send(signal.Signals[name])
        codes, note = pair.wait(), f"{name} to rank {rank}"
        if codes != [130, 0] or not (run_dir / "checkpoints/last.pt").exists():
            outputs = [child.output()[-400:] for child in pair.children]
            yield Outcome(LOST, f"{note}: exit codes {codes}, {outputs}")
            continue
        yield _again(scene, run_dir, note)


@fault("a rank with other data", full=4, short=1)
def other_data(folder: Path, tries: int, rng: random.Random) -> Iterator[Outcome]:
    """Each process reads files of one name that differ in a line: both say so and end."""
    for number in range(tries):
        scene = Scene(folder / str(number), (*RUN, "data=text", "data.dir=corpus"))
        scene.overrides = [o for o in scene.overrides if not _of_grammar(o)]
        scene.overrides.append(f"data.cache_dir={folder / str(number) / 'cache'}")
        changed = ("train.de", "val.en", "test.de", "train.en")[number % 4]
        places = [_corpus(folder / str(number) / str(rank), changed, rank) for rank in range(2)]
        names = ("data.dev=val", "data.test=[test]")
        run_dir = scene.new()
        pair = Pair(scene, run_dir, *names, places=places)
        codes, note = pair.wait(), f"another line in {changed}"
        ends = [refused(c, code, note) for c, code in zip(pair.children, codes, strict=True)]
        lost = [end for end in ends if end.kind == LOST]
        if 0 in codes:
            yield Outcome(WRONG, f"{note}: trained, exit codes {codes}")
        elif lost:
            yield lost[0]
        else:
            pair = Pair(scene, run_dir, *names, places=[places[0]] * 2)
            codes = pair.wait()  # the corrected command goes on
            yield ends[0] if codes == [0, 0] else Outcome(LOST, f"{note}: then {codes}")


def _of_grammar(override: str) -> bool:
    return override.startswith(("data.train=", "data.dev=", "data.test="))


def _corpus(place: Path, changed: str, rank: int) -> Path:
    """Writes a small corpus to `place`/corpus; in rank 1's, one file has another last line."""
    corpus = place / "corpus"
    corpus.mkdir(parents=True)
    for name, start in (("train", 0), ("val", 60), ("test", 70)):
        for side in ("en", "de"):
            lines = [
                f"{side} sentence {start + i} of some words" for i in range(10 + 40 * (not start))
            ]
            if rank and f"{name}.{side}" == changed:
                lines[-1] = f"{side} sentence of other words"
            (corpus / f"{name}.{side}").write_text("".join(f"{line}\n" for line in lines))
    return place

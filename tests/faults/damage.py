"""Files of a run directory with a flipped bit, cut short, emptied, gone, or another run's."""

import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

from faults.children import Child
from faults.outcomes import CLEAR, LOST, SURVIVED, WRONG, Outcome, fault
from faults.scenes import TOY, Scene, different, refused, translating

EVERY = (
    "checkpoints/last.pt", "checkpoints/best.pt", ".hydra/config.yaml", ".hydra/overrides.yaml",
    "data.json", "tokenizer.json", "summary.json", "metrics.jsonl", "train.log",
)  # fmt: skip


def flip(path: Path, rng: random.Random) -> str:
    """Flips one bit of a file; returns where."""
    content = bytearray(path.read_bytes())
    place, bit = rng.randrange(len(content)), rng.randrange(8)
    content[place] ^= 1 << bit
    path.write_bytes(content)
    return f"{path.name} byte {place} bit {bit}"


def goes_on(scene: Scene, run_dir: Path, note: str) -> Outcome:
    """Resumes a damaged run: it ends as the undisturbed one, or is refused and nothing is lost."""
    before = {p: p.read_bytes() for p in run_dir.glob("checkpoints/*.pt")}
    outcome = scene.ends(run_dir, note)
    gone = [p.name for p, content in before.items() if not p.exists() or p.read_bytes() != content]
    if outcome.kind == CLEAR and gone:
        return Outcome(LOST, f"{outcome.note}; {gone} changed")
    return outcome


def is_read(scene: Scene, run_dir: Path, note: str) -> Outcome:
    """Translates the test set with a damaged run: the stored hypotheses, or one sentence."""
    child = translating(scene, run_dir)
    code = child.wait()
    if code != 0:
        return refused(child, code, note)
    expected = (scene.whole / "hypotheses/test.txt").read_text("utf-8")
    found = "".join(
        line + "\n"
        for line in child.output().split("\n")[:-1]
        if not line.startswith(("[", "cut to"))
    )
    return Outcome(SURVIVED if found == expected else WRONG, f"translate, {note}")


@fault("a flipped bit in a run directory, then a resume", full=27, short=2)
def flipped(folder: Path, tries: int, rng: random.Random) -> Iterator[Outcome]:
    """Flips one bit in a file of a run that was stopped midway, and starts it again."""
    scene = Scene(folder)
    for number in range(tries):
        run_dir = scene.copy(scene.stopped)
        note = flip(run_dir / EVERY[number % len(EVERY)], rng)
        yield goes_on(scene, run_dir, note)


@fault("a flipped bit in a run directory, then translate", full=16, short=2)
def flipped_read(folder: Path, tries: int, rng: random.Random) -> Iterator[Outcome]:
    """Flips one bit in what translate reads of a finished run."""
    scene = Scene(folder)
    names = ("checkpoints/best.pt", "tokenizer.json", "data.json", ".hydra/config.yaml")
    for number in range(tries):
        run_dir = scene.copy(scene.whole)
        yield is_read(scene, run_dir, flip(run_dir / names[number % len(names)], rng))


@fault("a flipped bit in results, then a table", full=200, short=20)
def flipped_results(folder: Path, tries: int, rng: random.Random) -> Iterator[Outcome]:
    """Flips one bit in what tables and figures are made of, and reads the record."""
    from normlab.errors import UserError
    from normlab.reports.records import read_record

    scene = Scene(folder)
    intact = read_record(scene.whole)
    run_dir = scene.copy(scene.whole)
    names = ("summary.json", "metrics.jsonl", ".hydra/config.yaml", "hypotheses/test.txt")
    for number in range(tries):
        path = run_dir / names[number % len(names)]
        content = path.read_bytes()
        note = flip(path, rng)
        try:
            found = read_record(run_dir)
        except UserError as error:
            yield Outcome(CLEAR, f"{note}: {error}")
        except Exception as error:
            yield Outcome(LOST, f"{note}: {type(error).__name__}: {error}")
        else:
            same = (found.summary, found.config, found.metrics) == (
                intact.summary, intact.config, intact.metrics,
            )  # fmt: skip
            yield Outcome(SURVIVED if same else WRONG, note)
        path.write_bytes(content)


@fault("a file cut short, emptied or gone, then a resume", full=27, short=2)
def torn(folder: Path, tries: int, rng: random.Random) -> Iterator[Outcome]:
    """Damages a file of a stopped run as a crash does, and starts it again."""
    scene = Scene(folder)
    cases = [(name, how) for name in EVERY for how in ("cut short", "emptied", "gone")]
    for name, how in rng.sample(cases, min(tries, len(cases))):
        run_dir = scene.copy(scene.stopped)
        tear(run_dir / name, how, rng)
        yield goes_on(scene, run_dir, f"{name} {how}")


@fault("a file cut short, emptied or gone, then translate", full=12, short=1)
def torn_read(folder: Path, tries: int, rng: random.Random) -> Iterator[Outcome]:
    """Damages what translate reads of a finished run."""
    scene = Scene(folder)
    names = ("checkpoints/best.pt", "tokenizer.json", "data.json", ".hydra/config.yaml")
    cases = [(name, how) for name in names for how in ("cut short", "emptied", "gone")]
    for name, how in rng.sample(cases, min(tries, len(cases))):
        run_dir = scene.copy(scene.whole)
        tear(run_dir / name, how, rng)
        yield is_read(scene, run_dir, f"{name} {how}")


def tear(path: Path, how: str, rng: random.Random) -> None:
    """Cuts a file short, empties or removes it."""
    if how == "gone":
        path.unlink()
    else:
        content = path.read_bytes()
        path.write_bytes(content[: 0 if how == "emptied" else rng.randrange(1, len(content))])


@fault("checkpoints of another run of the same shape", full=4, short=2)
def foreign(folder: Path, tries: int, rng: random.Random) -> Iterator[Outcome]:
    """Puts best.pt and last.pt of another seed into a run; resumes and translates."""
    scene = Scene(folder)
    other = scene.new()
    assert scene.start(other, "seed=2", "trainer.max_steps=25").wait() == 0
    for number in range(tries):
        name = ("best", "last")[number // 2 % 2]
        run_dir = scene.copy((scene.stopped, scene.whole)[number % 2])
        target = run_dir / "checkpoints" / f"{name}.pt"
        target.unlink()
        shutil.copy(other / "checkpoints" / f"{name}.pt", target)
        act = (goes_on, is_read)[number % 2]
        yield act(scene, run_dir, f"a foreign {name}.pt")


@fault("power fails between best weights and checkpoint", full=2, short=1)
def between(folder: Path, tries: int, rng: random.Random) -> Iterator[Outcome]:
    """Best weights newer than the state, then a smaller limit: the state's own are tested."""
    scene = Scene(folder, TOY)
    for number in range(tries):
        limit = f"trainer.max_steps={51 + number}"  # after 50, where the last state will be
        expected = scene.new()
        assert scene.start(expected, limit).wait() == 0
        run_dir = scene.copy(scene.whole)
        checkpoints = run_dir / "checkpoints"
        (run_dir / "summary.json").unlink()
        for path in (checkpoints / "last.pt", checkpoints / "step_00000060.pt"):
            path.unlink()
        os.link(checkpoints / "step_00000050.pt", checkpoints / "last.pt")
        child: Child = scene.start(run_dir, limit)
        code = child.wait()
        if code:
            yield refused(child, code, "a smaller limit")
        elif found := different(expected, run_dir):
            said = json.loads((run_dir / "summary.json").read_text())["best_dev"]
            yield Outcome(WRONG, f"try {number}: {found} {said}")
        else:
            yield Outcome(SURVIVED)

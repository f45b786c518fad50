"""Runs that are disturbed, the undisturbed one they are compared with, and how they compare."""

import hashlib
import json
import shutil
import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import tiny
import torch
from processes import comparable, steps_done

from faults.children import ROOT, Child, hold, script, told, train, wait_for
from faults.outcomes import CLEAR, LOST, SURVIVED, WRONG, Outcome

# Long enough to be met anywhere: evaluations, regular checkpoints, a patient best.
RUN = (
    *(o for o in tiny.TINY if not o.startswith("trainer.")),
    "data.dev=3",
    "data.test=3",
    "data.max_length=40",
    "model.max_length=40",
    "init.scale=2",
    "schedule.lr=0.02",
    "schedule.warmup=4",
    "trainer.max_steps=30",
    "trainer.log_every=3",
    "trainer.eval_every=7",
    "trainer.checkpoint_every=5",
)
TOY = (
    *tiny.TOY,
    "trainer.max_steps=60",
    "trainer.log_every=7",
    "trainer.eval_every=6",
    "trainer.checkpoint_every=10",
)
STOPPED = 18  # steps after which the run is stopped that damage is done to


class Scene:
    """A folder for runs; beside it an undisturbed one and a stopped one, shared by all faults."""

    def __init__(self, folder: Path, overrides: Sequence[str] = RUN):
        name = "toy" if overrides is TOY else "translation"
        self.folder, self.shared = folder / name, folder.parent / "shared" / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.overrides = list(overrides)
        if overrides is RUN:
            self.overrides.append(f"data.cache_dir={self.shared / 'cache'}")
        self._number = 0

    @property
    def whole(self) -> Path:
        """The directory of the undisturbed run, made on first use."""
        run_dir = self.shared / "whole"
        if not run_dir.exists():
            assert train(run_dir, self.overrides).wait() == 0
        return run_dir

    @property
    def stopped(self) -> Path:
        """The directory of a run that was stopped midway: to be copied."""
        run_dir = self.shared / "stopped"
        if not run_dir.exists():
            child = train(run_dir, self.overrides, partial(hold, run_dir, "step", 0.02))
            assert wait_for(lambda: steps_done(run_dir) >= STOPPED, child)
            child.send(signal.SIGTERM)
            assert child.wait() == 130, child.output()
        return run_dir

    def new(self) -> Path:
        """Returns a run directory that does not exist yet."""
        self._number += 1
        return self.folder / f"run{self._number}"

    def copy(self, run_dir: Path) -> Path:
        """Returns a copy of a run directory."""
        return Path(shutil.copytree(run_dir, self.new()))

    def start(self, run_dir: Path, *overrides: str, **options: Any) -> Child:
        """Starts train.py in `run_dir`."""
        return train(run_dir, [*self.overrides, *overrides], **options)

    def ends(self, run_dir: Path, note: str, *overrides: str) -> Outcome:
        """Starts the run's command again, without a fault, and says how it ended."""
        child = self.start(run_dir, *overrides)
        return self.outcome(run_dir, child, note)

    def outcome(self, run_dir: Path, child: Child, note: str) -> Outcome:
        """Waits for a train.py that was left alone; says how it ended."""
        code = child.wait()
        if code == 0:
            other = different(self.whole, run_dir)
            return Outcome(WRONG, f"{note}: {other}") if other else Outcome(SURVIVED, note)
        return refused(child, code, note)


def refused(child: Child, code: int | None, note: str) -> Outcome:
    """Returns CLEAR for a process that ended with one sentence, else LOST."""
    output = child.output().strip()
    if code is None:
        return Outcome(LOST, f"{note}: hangs; {output[-300:]}")
    last = output.split("\n")[-1]
    if "HYDRA_FULL_ERROR" in output:
        return Outcome(LOST, f"{note}: {output[-600:]}")
    if code not in (1, 2) or "Traceback" in output or not last.endswith((".", "?")):
        return Outcome(LOST, f"{note}: exit code {code}: {output[-600:]}")
    return Outcome(CLEAR, f"{note}: {last}")


def different(one: Path, other: Path) -> str:
    """Returns in what the results of two runs differ, "" when in nothing but the clock."""
    for name in sorted(weights(one).keys() | weights(other).keys()):
        if weights(one).get(name) != weights(other).get(name):
            return f"the weights {name} differ"
    if comparable(one) != comparable(other):
        return "metrics.jsonl differs"
    first, second = (json.loads((r / "summary.json").read_text("utf-8")) for r in (one, other))
    for key in ("status", "steps", "best_dev", "test", "parameters", "norm_impl", "init_mean"):
        if first[key] != second[key]:
            return f"summary.json: {key} is {second[key]}, not {first[key]}"
    for file in ("hypotheses/test.txt", "references/test.txt", "tokenizer.json"):
        if (one / file).exists() and (one / file).read_bytes() != (other / file).read_bytes():
            return f"{file} differs"
    return ""


def weights(run_dir: Path) -> dict[str, str]:
    """Returns a hash of the weights in best.pt and last.pt."""
    found = {}
    for name in ("best", "last"):
        path = run_dir / "checkpoints" / f"{name}.pt"
        if path.exists():
            model = torch.load(path, weights_only=True)["model"]
            text = [model[key].numpy().tobytes() for key in sorted(model)]
            found[name] = hashlib.sha256(b"".join(text)).hexdigest()
    return found


def translating(scene: Scene, run_dir: Path) -> Child:
    """Starts scripts/translate.py on the test set's sources."""
    return Child(
        partial(script, ["scripts/translate.py", str(run_dir)], stdin=sources(scene)),
        run_dir.with_name(f"{run_dir.name}.translate.log"),
    )


def sources(scene: Scene) -> Path:
    """Returns a file with the test set's source sentences."""
    path = scene.shared / "sources.txt"
    if not path.exists():
        child = Child(partial(_say_sources, scene.overrides), scene.folder / "sources.log")
        assert child.wait() == 0, child.output()
        path.write_text("".join(line + "\n" for line in told(child)), encoding="utf-8")
    return path


def _say_sources(overrides: Sequence[str]) -> None:
    from faults.children import say
    from normlab.runs.components import build_task
    from normlab.runs.config import parse_config
    from normlab.runs.sweeps import compose_job

    say(
        build_task(parse_config(compose_job(ROOT / "conf", list(overrides))))
        .corpus.test["test"]
        .src
    )

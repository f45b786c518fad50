"""Disks that are full or cannot be written to."""

import random
import resource
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from faults.outcomes import CLEAR, LOST, NotHere, Outcome, fault
from faults.scenes import Scene, refused


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[Path]:
    """Mounts something at `folder` until the end; raises NotHere where that is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True)
    if done.returncode:
        raise NotHere(f"mount is not allowed ({done.stderr.strip()})")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@fault("a full disk, then space again", full=6, short=1)
def full(folder: Path, tries: int, rng: random.Random) -> Iterator[Outcome]:
    """Fills a small file system with a run; the run goes on once there is space."""
    scene = Scene(folder)
    for number in range(tries):
        size = ("16k", "200k", "500k", "800k", "1200k", "64k")[number % 6]
        with mounted(scene.new(), "-t", "tmpfs", "-o", f"size={size}", "none") as disk:
            child = scene.start(disk / "run")
            code = child.wait()
            if code == 0:
                yield scene.ends(disk / "run", f"{size} of space, enough")
                continue
            ended = refused(child, code, f"{size} of space")
            if ended.kind != CLEAR:
                yield ended
                continue
            subprocess.run(["mount", "-o", "remount,size=100m", str(disk)], check=True)
            yield scene.ends(disk / "run", f"{size} of space, then more")


@fault("files that may not grow (RLIMIT_FSIZE)", full=3, short=1)
def limited(folder: Path, tries: int, rng: random.Random) -> Iterator[Outcome]:
    """Lets no file be larger than a limit that a checkpoint, or the log, exceeds."""
    scene = Scene(folder)
    for number in range(tries):
        run_dir = scene.new()
        size = (20_000, 2_000, 100_000)[number % 3]
        child = scene.start(run_dir, before=partial(_limit, size))
        ended = refused(child, child.wait(), f"{size} bytes a file")
        yield scene.ends(run_dir, ended.note) if ended.kind == CLEAR else ended


def _limit(size: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@fault("a read-only directory", full=3, short=1)
def read_only(folder: Path, tries: int, rng: random.Random) -> Iterator[Outcome]:
    """Starts where nothing can be written: before the run, and in a stopped run."""
    scene = Scene(folder)
    for number in range(tries):
        kind = ("new", "stopped", "whole")[number % 3]
        place = scene.new() if kind == "new" else scene.copy(getattr(scene, kind))
        with mounted(place, "--bind", str(place)):
            remount = ["mount", "-o", "remount,ro,bind", str(place)]
            if subprocess.run(remount, capture_output=True).returncode:
                raise NotHere("a read-only mount is not allowed")
            run_dir = place / "run" if kind == "new" else place
            child = scene.start(run_dir)
            code = child.wait()
            if kind == "whole" and code == 0:
                yield Outcome(CLEAR, "complete")
                continue
            ended = refused(child, code, f"read-only, {kind}")
        if ended.kind == CLEAR:
            after = scene.ends(run_dir, ended.note)
            yield ended if after.kind != LOST else after
        else:
            yield ended

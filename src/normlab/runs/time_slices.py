"""Long work in short slices: commands that stop at a deadline and go on on any other machine.

A machine with a GPU may be had for minutes only, and the next one knows nothing of it. A slice runs
commands, several at once, until its time is over; what they leave behind is packed into a few small
files, and the next slice begins by unpacking them.
"""

import io
import json
import os
import shlex
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from normlab.errors import UserError
from normlab.files import write_bytes, write_json

PART_BYTES = 15 << 20  # of a packed file
MOST_PARTS = 4
GRACE = 30.0  # seconds that a command has to write a checkpoint after SIGTERM


@dataclass(frozen=True)
class Command:
    """One line to run; `alone`: nothing else runs beside it, because it measures time."""

    name: str
    argv: Sequence[str]
    alone: bool = False
    minutes: float = 0.0  # it is not begun when less is left of the slice
    environment: dict[str, str] = field(default_factory=dict)


class Queue:
    """Which commands have ended, and how, kept in `folder`/queue.json; output in `folder`/logs."""

    def __init__(self, folder: Path):
        self.folder, self.path = folder, folder / "queue.json"
        self.ended: dict[str, dict[str, Any]] = {}
        if self.path.exists():
            self.ended = json.loads(self.path.read_text(encoding="utf-8"))

    def run(
        self,
        commands: Sequence[Command],
        seconds: float,
        parallel: int,
        say: Callable[[str], None] = print,
    ) -> bool:
        """Runs what has not ended well, in order, for at most `seconds`; returns whether all has.

        At the deadline every command is asked to stop (SIGTERM). A command that failed has not
        ended well: the next slice tries it again, after the others.
        """
        deadline = time.monotonic() + seconds
        waiting = [c for c in commands if c.name not in self.ended]
        failed = self.failed(commands)
        waiting += [c for c in commands if c.name in failed]
        running: dict[str, tuple[Command, subprocess.Popen, float]] = {}
        while waiting or running:
            left = deadline - time.monotonic()
            if left <= 0:
                self._stop(running, say)
                return False
            if waiting and self._may_start(waiting[0], running, parallel):
                command = waiting.pop(0)
                if 60 * command.minutes > left:
                    say(f"later: {command.name} needs {command.minutes:g} minutes")
                    continue
                say(f"start: {command.name}")
                running[command.name] = (command, self._start(command), time.monotonic())
                continue
            for name in [
                name for name, (_, process, _) in running.items() if process.poll() is not None
            ]:
                _, process, started = running.pop(name)
                self._note(name, process.returncode, time.monotonic() - started, say)
            time.sleep(0.1)
        return all(self.ended.get(c.name, {}).get("code") == 0 for c in commands)

    def failed(self, commands: Sequence[Command]) -> list[str]:
        """Returns the names of those of `commands` whose last exit code was not 0."""
        return [c.name for c in commands if self.ended.get(c.name, {}).get("code", 0) != 0]

    def _may_start(self, command: Command, running: dict, parallel: int) -> bool:
        if command.alone or any(other.alone for other, _, _ in running.values()):
            return not running
        return len(running) < parallel

    def _start(self, command: Command) -> subprocess.Popen:
        self.ended.pop(command.name, None)  # it failed before
        log = self.folder / "logs" / f"{command.name.replace('/', '_')}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "a", encoding="utf-8") as output:
            output.write(f"$ {shlex.join(command.argv)}\n")
            output.flush()
            return subprocess.Popen(
                list(command.argv),
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **command.environment},
                start_new_session=True,
            )

    def _note(self, name: str, code: int, seconds: float, say: Callable[[str], None]) -> None:
        self.ended[name] = {"code": code, "seconds": round(seconds, 1)}
        write_json(self.path, self.ended)
        say(f"ended: {name}, exit code {code}, {seconds:.0f} s")

    def _stop(self, running: dict, say: Callable[[str], None]) -> None:
        for _, process, _ in running.values():
            process.send_signal(signal.SIGTERM)
        end = time.monotonic() + GRACE
        for name, (_, process, started) in running.items():
            try:
                process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            if process.returncode == 0:  # it ended in the last moment
                self._note(name, 0, time.monotonic() - started, say)
            else:
                say(f"stopped: {name}")


def pack(root: Path, files: Sequence[Path], out: Path, part_bytes: int = PART_BYTES) -> list[Path]:
    """Writes `files` below `root` to out/state.000, state.001, ...; returns what found no room.

    Files come in the order of their importance: what does not fit into the parts is left out. The
    checkpoints of a run, which need each other, come one after another and stay or go together: a
    run without them begins again.
    """
    room, chosen, left_out = MOST_PARTS * part_bytes, [], []
    for _, group in groupby(files, key=lambda file: file.parent if file.suffix == ".pt" else file):
        together = list(group)
        size = len(_packed(root, together))
        if size <= room:
            chosen += together
            room -= size
        else:
            left_out += together
    content = _packed(root, chosen)
    for number, start in enumerate(range(0, len(content), part_bytes)):
        write_bytes(out / f"state.{number:03d}", content[start : start + part_bytes])
    return left_out


def unpack(parts: Path, root: Path) -> None:
    """Restores below `root` what `pack` wrote to the folder `parts`."""
    files = sorted(parts.glob("state.[0-9][0-9][0-9]"))
    if not files:
        raise UserError(f"{parts} holds no state of an earlier slice (state.000, ...).")
    content = b"".join(file.read_bytes() for file in files)
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
            archive.extractall(root, filter="data")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise UserError(
            f"the state in {parts} is damaged ({error}): bring all of its parts."
        ) from (error)


def _packed(root: Path, files: Sequence[Path]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        for file in files:
            archive.add(file, arcname=str(file.relative_to(root)))
    return buffer.getvalue()

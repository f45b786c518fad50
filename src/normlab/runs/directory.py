"""A run's directory: one process at a time owns it, and only the same run goes on in it."""

import contextlib
import errno
import fcntl
import logging
import os
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from omegaconf import OmegaConf

from normlab.errors import UserError
from normlab.files import hash_file, read_sealed, write_sealed, write_text
from normlab.registration import ENDED
from normlab.runs.identity import differences, limits, within

log = logging.getLogger(__name__)

# What flock says where a file system has no locks: Lustre without -o flock, NFS without lockd.
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
OUTPUTS = ("hypotheses", "references")  # what a test leaves behind


class RunDirectory:
    """The files of one run by name; `open_directory` says whose they are."""

    def __init__(self, path: Path):
        self.path = path
        self.config, self.overrides = path / ".hydra/config.yaml", path / ".hydra/overrides.yaml"
        self.summary, self.metrics = path / "summary.json", path / "metrics.jsonl"
        self.data, self.checkpoints = path / "data.json", path / "checkpoints"

    def stored_config(self) -> dict[str, Any] | None:
        """Returns the config of the run that is here, None where there is none."""
        if not self.config.exists():
            return None
        try:
            found = OmegaConf.to_container(OmegaConf.load(self.config))
        except Exception as error:  # YAML and OmegaConf raise many types
            found = str(error).split("\n")[0]
        if not isinstance(found, dict) or "trainer" not in found:
            raise UserError(f"{self.config} is damaged: restore it, or delete {self.path}.")
        return {str(key): value for key, value in found.items()}

    def stored_summary(self) -> dict[str, Any] | None:
        """Returns the summary of the run that is here; a damaged one counts as none."""
        try:
            found = read_sealed(self.summary)
        except UserError:
            return None
        return found if "status" in found else None

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Writes the summary, with hashes of the other files that tables and figures are made of.

        A run that has not ended has none of them: they are still being written.
        """
        files: dict[str, str] = {}
        if summary["status"] in ENDED:
            paths = [self.metrics, self.config]
            for kind in OUTPUTS:
                paths += sorted((self.path / kind).glob("*.txt"))
            files = {str(path.relative_to(self.path)): hash_file(path) for path in paths}
        write_sealed(self.summary, {**summary, "files": files})

    def has_progress(self) -> bool:
        """Returns whether there is something to lose: a checkpoint or a result."""
        return self.ended() or any(self.checkpoints.glob("*.pt"))

    def ended(self) -> bool:
        """Returns whether a run has come to an end here, completed or diverged."""
        return (self.stored_summary() or {}).get("status") in ENDED

    def forget_failed_start(self) -> None:
        """Removes a directory in which a mistake was found before anything was trained or tracked.

        For those that nobody named: each start makes its own, and what it says stands on screen.
        """
        if not any(path.exists() for path in (self.metrics, self.checkpoints, self.path / "wandb")):
            shutil.rmtree(self.path, ignore_errors=True)

    def forget_outputs(self) -> None:
        """Removes the test outputs of an earlier end, and its average: the next may have none."""
        for kind in OUTPUTS:
            shutil.rmtree(self.path / kind, ignore_errors=True)
        (self.checkpoints / "average.pt").unlink(missing_ok=True)

    def claim(self, config: Mapping[str, Any]) -> None:
        """Raises UserError when another run has progress here; its files stay as they are.

        A start that failed before the first checkpoint leaves nothing that stops a corrected one.
        """
        if not self.has_progress():
            return
        there = self.stored_config()
        if there is None:
            raise UserError(
                f"{self.path} holds checkpoints but no {self.config}: restore it, or choose "
                "another hydra.run.dir."
            )
        if other := differences(there, config):
            shown = ", ".join(other[:3]) + (f" and {len(other) - 3} more" if other[3:] else "")
            raise UserError(
                f"{self.path} holds a run of another config: {shown}. Choose another "
                "hydra.run.dir, or delete that one."
            )

    def finished(self, config: Mapping[str, Any]) -> dict[str, Any] | None:
        """Returns the summary of a run that has ended under these limits, or None."""
        summary = self.stored_summary()
        if summary is None or summary["status"] not in ENDED:
            return None
        ended = summary["status"] == "diverged" or within(limits(config), summary["limits"])
        return summary if ended else None

    def record(self, config: Mapping[str, Any], overrides: list[str]) -> None:
        """Writes the resolved config and the overrides that led to it."""
        # Hydra's own copy is off (hydra.output_subdir): it would overwrite the config of the run
        # that stands in this directory before anyone could compare the two.
        write_text(self.config, OmegaConf.to_yaml(OmegaConf.create(dict(config))))
        write_text(self.overrides, OmegaConf.to_yaml(overrides))

    def stored_data(self) -> dict[str, Any] | None:
        """Returns what `record_data` stored, None when it is missing or damaged."""
        try:
            found = read_sealed(self.data)
        except UserError:
            return None
        return found if {"contents", "model_arguments"} <= found.keys() else None

    def check_data(self, contents: Mapping[str, Any]) -> None:
        """Raises UserError when the run here began with other data."""
        there = self.stored_data()
        before = contents if there is None or not self.has_progress() else there["contents"]
        if other := [key for key in contents if before.get(key) != contents[key]]:
            raise UserError(
                f"the data have changed since the run in {self.path} began "
                f"({', '.join(other)}): restore them, or choose another hydra.run.dir."
            )

    def record_data(self, contents: Mapping[str, Any], model_arguments: Mapping[str, Any]) -> None:
        """Stores what the data hold, and what follows from them for the model."""
        write_sealed(self.data, {"contents": contents, "model_arguments": model_arguments})


@contextlib.contextmanager
def open_directory(path: Path) -> Iterator[RunDirectory]:
    """Yields the run directory `path`, made if need be, owned by this process until the end.

    Raises UserError when another process has it, or nothing can be written there. The system
    releases the lock of a process that dies.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = open(path / ".lock", "a+", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise UserError(f"cannot write to {path} ({error.strerror}): choose another.") from error
    with lock:
        if not _locked(lock):
            lock.seek(0)
            owner = lock.read().strip() or "another process"
            raise UserError(f"{path} is in use by {owner}: wait for it, or stop it.")
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}")
        lock.flush()
        yield RunDirectory(path)


def _locked(lock: TextIO, seconds: float = 2.0) -> bool:
    """Returns whether the lock could be had within `seconds`, or there are none to be had.

    A process that is killed while it starts a program (git, a compiler) leaves a child that holds
    its locks for the moment until that program begins.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > end:
                return False
            time.sleep(0.05)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            log.warning("No locks on this file system: start no second process in this directory.")
            return True

"""Checkpoints: written whole or not at all, verified when read, and found again after a crash."""

import hashlib
import io
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from normlab import distributed
from normlab.errors import UserError
from normlab.files import FULL, sync_directory, write_bytes

log = logging.getLogger(__name__)


class Checkpoints:
    """The `checkpoints/` folder of one run.

    `last.pt` is the newest full training state, `step_<n>.pt` are those of the last `keep` regular
    intervals, `best.pt` and `average.pt` hold weights only. A state knows which step had the best
    weights so far, and these are there as `best_<n>.pt`, of which `best.pt` is the newest: a run
    that goes on from the state has them, also when a better evaluation came between the state and
    the crash.

    All are dicts with the weights under `model`, readable with `torch.load(...,
    weights_only=True)`; `sha256` is the hash of all the rest, and `owner` says whose they are
    (config, data): a checkpoint of another owner is refused.
    """

    def __init__(self, folder: Path, keep: int = 2, owner: Mapping[str, str] | None = None):
        self.folder, self.keep, self.owner = folder, keep, dict(owner or {})

    def save_state(self, state: dict[str, Any], step: int, *, regular: bool) -> None:
        """Writes the training state of `step`; a `regular` one is kept beside the newest.

        Only regular ones count for the average: it must not depend on when a run was interrupted.
        `state["best"]` is the step of the best weights so far, None where there are none.
        """
        if distributed.rank():
            return
        if regular:
            self._also(self._write(f"step_{step:08d}", state), "last")
            for old in self.regular()[: -self.keep]:
                old.unlink()
        else:
            self._write("last", state)
        oldest = min([step, *map(_step, self.regular())])
        for old in [path for path in self._bests() if _step(path) <= oldest][:-1]:
            old.unlink()  # no state that is kept would go back to it
        sync_directory(self.folder)

    def save_best(self, step: int, model: dict[str, Tensor], value: float) -> None:
        """Writes the best weights so far; those that the last state knows of stay beside them."""
        if distributed.rank() == 0:
            content = {"model": model, "step": step, "value": value}
            self._also(self._write(f"best_{step:08d}", content), "best")
            sync_directory(self.folder)

    def save_weights(self, name: str, model: dict[str, Tensor], **values: Any) -> None:
        """Writes `<name>.pt`: the weights under `model`, and plain `values` beside them."""
        if distributed.rank() == 0:
            self._write(name, {"model": model, **values})

    def regular(self) -> list[Path]:
        """Returns the checkpoints of regular intervals, oldest first."""
        return sorted(self.folder.glob("step_*.pt"))

    def newest_state(self) -> dict[str, Any] | None:
        """Returns the newest intact training state, or None for a fresh run.

        A file that cannot be read (a crashed machine, a full disk) is reported and passed over, and
        so is a state whose best weights cannot. `best.pt` then holds those of the state. Raises
        UserError when there are states and none can be used.
        """
        paths = [p for p in (self.folder / "last.pt",) if p.exists()] + self.regular()[::-1]
        reason = ""
        for path in paths:
            try:
                state = self.read(path.stem)
                self._restore_best(state.get("best"))
                return state
            except UserError as error:
                log.warning("%s Falling back to the checkpoint before it.", error)
                reason = str(error).rstrip(".")
        if paths:
            raise UserError(
                f"none of the {len(paths)} checkpoints in {self.folder} can be used ({reason}): "
                "delete the folder to start the run again."
            )
        return None

    def read(self, name: str) -> dict[str, Any]:
        """Returns `<name>.pt`. Raises UserError if it is missing, damaged or another run's."""
        path = self.folder / f"{name}.pt"
        content = read_checkpoint(path)
        found = content["owner"]
        if other := [key for key in self.owner if found.get(key) != self.owner[key]]:
            raise UserError(
                f"checkpoint {path} belongs to another run: its {' and '.join(other)} "
                "differ from this directory's."
            )
        return content

    def average(
        self, count: int, last: dict[str, Tensor], step: int
    ) -> tuple[dict[str, Tensor], int]:
        """Returns the mean of the `count` newest weights, and of how many it is the mean.

        They are those of the regular checkpoints and `last`, the weights at the end of training,
        when `step`, the last one, has no regular one.
        """
        regular = self.regular()[-count:]
        states = [self.read(path.stem)["model"] for path in regular]
        ends_between = not regular or _step(regular[-1]) != step
        weights = [*states, last][-count:] if ends_between else states
        if len(weights) < count:
            log.warning("Averaging %d checkpoints, not %d: there are no more.", len(weights), count)
        mean = {
            name: torch.stack([w[name].double() for w in weights]).mean(0).to(first.dtype)
            if first.is_floating_point()
            else first
            for name, first in weights[-1].items()
        }
        return mean, len(weights)

    def _bests(self) -> list[Path]:
        return sorted(self.folder.glob("best_*.pt"))

    def _restore_best(self, step: int | None) -> None:
        """Makes `best.pt` the weights of `step`, and forgets those of later steps."""
        if step is not None:
            path = self.folder / f"best_{step:08d}.pt"
            self.read(path.stem)
        if distributed.rank():
            return
        if step is not None:
            self._also(path, "best")
        for later in self._bests():
            if step is None or _step(later) > step:
                later.unlink()

    def _also(self, path: Path, name: str) -> None:
        """Gives a checkpoint a second name, without a second copy."""
        link = self.folder / f"{name}.pt.tmp"
        link.unlink(missing_ok=True)
        os.link(path, link)
        os.replace(link, self.folder / f"{name}.pt")

    def _write(self, name: str, content: dict[str, Any]) -> Path:
        path = self.folder / f"{name}.pt"
        content = {**content, "owner": self.owner}
        buffer = io.BytesIO()  # in memory first: torch's own writer hides why a disk write failed
        torch.save({**content, "sha256": digest(content)}, buffer)
        try:
            write_bytes(path, buffer.getbuffer())
        except OSError as error:
            if error.errno in FULL:
                size = buffer.getbuffer().nbytes / 2**20
                raise UserError(
                    f"no disk space for checkpoint {path} ({size:.0f} MiB): free some and start "
                    "the same command again, it resumes from the checkpoint before."
                ) from error
            raise
        return path


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Returns the checkpoint at `path`, on CPU; raises UserError if it is missing or damaged."""
    if not path.exists():
        raise UserError(f"there is no checkpoint {path}: has the run reached its first one?")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        expected = content.pop("sha256")
    except Exception as error:  # torch raises many types for a damaged file
        reason = str(error).split("\n")[0]
        raise UserError(f"checkpoint {path} is truncated or damaged ({reason}).") from error
    if digest(content) != expected:
        raise UserError(f"checkpoint {path} is damaged: its content does not match its checksum.")
    return content


def digest(content: Any) -> str:
    """Returns the SHA-256 of nested dicts, lists, tensors and plain values."""
    found = hashlib.sha256()
    _feed(found, content)
    return found.hexdigest()


def _feed(into: Any, value: Any) -> None:
    if isinstance(value, Tensor):
        tensor = value.detach().cpu().contiguous()
        into.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        into.update(tensor.reshape(-1).view(torch.uint8).numpy())
    elif isinstance(value, Mapping):
        for key, item in value.items():
            into.update(f"{key!r}:".encode())
            _feed(into, item)
        into.update(b"}")
    elif isinstance(value, (list, tuple)):
        for item in value:
            _feed(into, item)
        into.update(b"]")
    else:
        into.update(f"{value!r};".encode())


def _step(path: Path) -> int:
    return int(path.stem.rpartition("_")[2])

"""Checkpoints: written whole or not at all, and found again after a crash."""

import errno
import io
import logging
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from normlab.errors import UserError

log = logging.getLogger(__name__)


class Checkpoints:
    """The `checkpoints/` folder of one run.

    `step_<n>.pt` are the last `keep` full training states, `last.pt` is the newest of them under a
    fixed name, `best.pt` and `average.pt` hold weights only. All are dicts with the weights under
    `model`, readable with `torch.load(..., weights_only=True)`.
    """

    def __init__(self, folder: Path, keep: int = 2):
        self.folder, self.keep = folder, keep

    def save_state(self, state: dict[str, Any], step: int) -> None:
        """Writes the training state of `step`, then drops all but the newest `keep`."""
        path = self.folder / f"step_{step:08d}.pt"
        write_whole(path, state)
        link = self.folder / "last.pt.tmp"
        link.unlink(missing_ok=True)
        os.link(path, link)  # a second name, not a second copy
        os.replace(link, self.folder / "last.pt")
        for old in self.steps()[: -self.keep]:
            old.unlink()

    def save_weights(self, name: str, model: dict[str, Tensor], **values: Any) -> None:
        """Writes `<name>.pt`: the weights under `model`, and plain `values` beside them."""
        write_whole(self.folder / f"{name}.pt", {"model": model, **values})

    def steps(self) -> list[Path]:
        """Returns the step checkpoints, oldest first."""
        return sorted(self.folder.glob("step_*.pt"))

    def load_last(self) -> dict[str, Any] | None:
        """Returns the newest readable training state, or None for a fresh run.

        A file that cannot be read (a crashed machine, a full disk) is reported and passed over.
        Raises UserError when there are states and none is readable.
        """
        paths = self.steps()
        for path in reversed(paths):
            try:
                return load(path)
            except UserError as error:
                log.warning("%s Falling back to the checkpoint before it.", error)
        if paths:
            raise UserError(
                f"none of the {len(paths)} checkpoints in {self.folder} can be read: "
                "delete the folder to start the run again."
            )
        return None

    def average(self, count: int) -> dict[str, Tensor]:
        """Returns the mean of the weights of the newest `count` step checkpoints."""
        paths = self.steps()[-count:]
        weights = [load(path)["model"] for path in paths]
        return {
            name: torch.stack([w[name].double() for w in weights]).mean(0).to(first.dtype)
            if first.is_floating_point()
            else first
            for name, first in weights[-1].items()
        }


def load(path: Path) -> dict[str, Any]:
    """Returns the checkpoint at `path`, on CPU; raises UserError if it is missing or damaged."""
    if not path.exists():
        raise UserError(f"there is no checkpoint {path}: has the run reached its first one?")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for a damaged file
        raise UserError(f"checkpoint {path} is truncated or damaged ({error}).") from error


def write_whole(path: Path, content: dict[str, Any]) -> None:
    """Writes `content` so that `path` holds either its old bytes or all of the new ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()  # in memory first: torch's own writer hides why a disk write failed
    torch.save(content, buffer)
    temporary = path.with_suffix(".tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            size = buffer.getbuffer().nbytes / 2**20
            raise UserError(
                f"no disk space for checkpoint {path} ({size:.0f} MiB): free some and start the "
                "same command again, it resumes from the checkpoint before."
            ) from error
        raise

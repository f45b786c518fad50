"""Arrays that take long to make, kept on disk by what they are made of."""

import logging
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np

from normlab.files import hash_file

log = logging.getLogger(__name__)

Arrays = dict[str, np.ndarray]
HASHES = "sha256"  # the file of an entry that names its arrays with their hashes


def cached(folder: str | Path, key: str, make: Callable[[], Arrays]) -> Arrays:
    """Returns the arrays of entry `key` of `folder`, mapped from disk; makes them when missing.

    `key` names all that the arrays depend on, so an entry is never stale. A damaged one is made
    again. Processes that start together may each make it; the first one's stays. Without a place to
    write, warns and goes on.
    """
    entry = Path(folder).expanduser() / key
    found = _read(entry)
    if found is not None:
        log.info("read %s", entry)
        return found
    arrays = make()
    _write(arrays, entry)
    return arrays


def _read(entry: Path) -> Arrays | None:
    """Returns the arrays of an entry, None when it is missing or damaged."""
    if not entry.exists():
        return None
    try:
        lines = (entry / HASHES).read_text("utf-8").split("\n")
        hashes = dict(line.split() for line in lines if line)
        files = {file.stem: file for file in entry.glob("*.npy")}
        if not hashes or hashes != {name: hash_file(file) for name, file in files.items()}:
            raise ValueError("it does not hold what was written")
        return {name: np.asarray(np.load(files[name], mmap_mode="r")) for name in hashes}
    except (OSError, ValueError) as error:
        log.warning("the cache entry %s is damaged (%s): making it again", entry, error)
        return None


def _write(arrays: Arrays, entry: Path) -> None:
    """Writes an entry whole or not at all."""
    scratch = entry.with_name(f".{entry.name}.{uuid.uuid4().hex}")
    try:
        scratch.mkdir(parents=True)  # not by tempfile, whose directories only their maker can read
        lines = []
        for name, array in arrays.items():
            np.save(file := scratch / f"{name}.npy", array)
            lines.append(f"{name} {hash_file(file)}\n")
        (scratch / HASHES).write_text("".join(lines), encoding="utf-8")
        _install(scratch, entry)
    except OSError as error:
        log.warning("cannot cache arrays in %s (%s): going on", entry.parent, error)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _install(scratch: Path, entry: Path) -> None:
    """Moves `scratch` to `entry` in one step; an entry that another run has put there stays."""
    try:
        os.replace(scratch, entry)
    except OSError:  # a directory replaces an empty one only
        if not entry.is_dir() or _read(entry) is not None:
            return
        # Ours replaces a damaged one, which may not be deleted in place: others are reading.
        damaged = scratch.with_name(f"{scratch.name}.damaged")
        os.replace(entry, damaged)
        os.replace(scratch, entry)
        shutil.rmtree(damaged, ignore_errors=True)

"""Arrays that take long to make, kept on disk by what they are made of."""

import logging
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np

from normlab.files import hash_bytes

log = logging.getLogger(__name__)

Arrays = dict[str, np.ndarray]


def cached(folder: str | Path, key: str, make: Callable[[], Arrays]) -> Arrays:
    """Returns the arrays of entry `key` of `folder`, mapped from disk; makes them when missing.

    `key` names all that the arrays depend on, so an entry is never stale. Processes that start
    together may each make it; the first one's stays. Without a place to write, warns and goes on.
    """
    entry = Path(folder).expanduser() / key
    found = _read(entry)
    if found is not None:
        log.info("read %s from %s", ", ".join(found), entry)
        return found
    arrays = make()
    _write(arrays, entry)
    return arrays


def _read(entry: Path) -> Arrays | None:
    try:
        hashes = dict(line.split() for line in (entry / "sha256").read_text("utf-8").splitlines())
        arrays = {name: np.load(entry / f"{name}.npy", mmap_mode="r") for name in hashes}
    except (OSError, ValueError):
        return None
    for name, array in arrays.items():
        if hash_bytes(array) != hashes[name]:
            log.warning("the cache entry %s is damaged: delete it; making it again", entry)
            return None
    return arrays


def _write(arrays: Arrays, entry: Path) -> None:
    scratch = entry.with_name(f".{entry.name}.{uuid.uuid4().hex}")
    try:
        scratch.mkdir(parents=True)  # not by tempfile, whose directories only their maker can read
        for name, array in arrays.items():
            np.save(scratch / f"{name}.npy", array)
        lines = [f"{name} {hash_bytes(array)}\n" for name, array in arrays.items()]
        (scratch / "sha256").write_text("".join(lines), encoding="utf-8")
        if not entry.exists():
            os.replace(scratch, entry)
    except OSError as error:
        log.warning("cannot cache arrays in %s (%s): going on", entry.parent, error)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)

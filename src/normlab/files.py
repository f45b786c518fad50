"""Files that are written whole or not at all, and JSON that every reader accepts."""

import csv
import errno
import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from normlab.errors import UserError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # of an OSError: there is no space to write


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Writes `content` so that `path` holds either its old bytes or all of the new ones.

    The file and its directory are synced: what has been written survives a power failure.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_directory(path.parent)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Writes `text` as UTF-8, whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes `content`, whole or not at all; a non-finite number becomes null (JSON has none)."""
    write_text(path, json.dumps(_jsonable(content), indent=2, ensure_ascii=False) + "\n")


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Writes `content` as `write_json` does, with its checksum under `sha256`."""
    plain = _jsonable(content)
    write_json(path, {**plain, "sha256": hash_json(plain)})


def read_sealed(path: Path) -> dict[str, Any]:
    """Returns the content of a file that `write_sealed` wrote, or one that has no checksum.

    Raises UserError when it is missing, torn, or not what was written.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}).") from error
    except ValueError as error:
        raise UserError(f"{path} is damaged: it is no JSON ({error}); restore it.") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} is damaged: it holds no JSON object; restore it.")
    if "sha256" in found and found.pop("sha256") != hash_json(found):
        raise UserError(f"{path} is damaged: its content does not match its checksum; restore it.")
    return found


def sync_directory(path: Path) -> None:
    """Makes the names of the files in `path` survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def finite(value: float) -> float | None:
    """Returns `value`, or None when it is infinite or not a number."""
    return value if math.isfinite(value) else None


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns `nested` with "a.b" keys in place of dicts in dicts."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    return finite(value) if isinstance(value, float) else value


def read_csv(path: Path) -> list[dict[str, str]]:
    """Returns the rows of a table by its first line's names; a line that begins with # is none."""
    lines = path.read_text(encoding="utf-8").split("\n")
    return list(csv.DictReader(line for line in lines if line[:1] not in ("", "#")))


def hash_text(text: str) -> str:
    """Returns the SHA-256 of `text`."""
    return hash_bytes(text.encode("utf-8"))


def hash_bytes(content: Any) -> str:
    """Returns the SHA-256 of what lies in memory: bytes, or an array in one piece."""
    return hashlib.sha256(content).hexdigest()


def hash_file(path: Path) -> str:
    """Returns the SHA-256 of the bytes of `path`."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_files(folder: Path, expected: Mapping[str, str]) -> None:
    """Raises UserError unless each file of `folder` that is there has the hash `expected` says."""
    for name, sha256 in expected.items():
        path = folder / name
        if path.exists() and hash_file(path) != sha256:
            raise UserError(f"{path} is damaged: it is not what its run wrote; restore it.")


def hash_json(content: Any) -> str:
    """Returns the SHA-256 of plain nested values, whatever the order of their keys."""
    return hash_text(json.dumps(content, sort_keys=True))

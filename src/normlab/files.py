"""Files that are written whole or not at all, and JSON that every reader accepts."""

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


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


def hash_text(text: str) -> str:
    """Returns the SHA-256 of `text`."""
    return hash_bytes(text.encode("utf-8"))


def hash_bytes(content: Any) -> str:
    """Returns the SHA-256 of what lies in memory: bytes, or an array in one piece."""
    return hashlib.sha256(content).hexdigest()


def hash_json(content: Any) -> str:
    """Returns the SHA-256 of plain nested values, whatever the order of their keys."""
    return hash_text(json.dumps(content, sort_keys=True))

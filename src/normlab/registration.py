"""Which registration a run belongs to."""

import hashlib
from pathlib import Path


def digest(experiments: Path, name: str) -> str:
    """Returns the SHA-256 of the registration of experiment `name`, as "table4/multi30k"."""
    experiment = name.partition("/")[0]
    return hashlib.sha256((experiments / experiment / "experiment.toml").read_bytes()).hexdigest()

"""What a run measures: a line of JSON first, a dashboard second."""

import contextlib
import json
import math
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Tracker:
    """Appends metrics to `metrics.jsonl` and mirrors them to a W&B run when there is one.

    A context manager; the W&B run ends with it, also on an exception, so that it cannot leak into
    the next job of a multirun.
    """

    def __init__(self, run_dir: Path, wandb_settings: Mapping[str, Any] | None = None):
        self.path = run_dir / "metrics.jsonl"
        self._settings = wandb_settings
        self._exit = contextlib.ExitStack()
        self._wandb: Any = None

    def __enter__(self) -> "Tracker":
        self._file = self._exit.enter_context(open(self.path, "a", encoding="utf-8"))
        if self._settings is not None:
            import wandb  # heavy, and not needed with logger=none

            self._wandb = self._exit.enter_context(wandb.init(**self._settings))
        return self

    def __exit__(self, *exception) -> None:
        self._exit.__exit__(*exception)

    def log(self, step: int, seconds: float, metrics: Mapping[str, float]) -> None:
        """Records `metrics` at `step` after `seconds` of training; a non-finite number as null."""
        line: dict[str, float | None] = {"step": step, "time": round(seconds, 4)}
        line |= {key: finite(value) for key, value in metrics.items()}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        if self._wandb is not None:
            self._wandb.log({**metrics, "time": seconds}, step=step)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Copies the run's result into the W&B summary and its status into the tags."""
        if self._wandb is not None:
            self._wandb.summary.update(flatten(summary))
            self._wandb.tags = (*(self._wandb.tags or ()), summary["status"])


def wandb_settings(
    run_dir: Path,
    config: Mapping[str, Any],
    *,
    project: str,
    group: str,
    name: str,
    tags: list[str],
) -> dict[str, Any]:
    """Returns the arguments of `wandb.init`: online when a key is known, else offline.

    The nested config comes with its flat string keys ("init.mean") beside it, because W&B's tables
    and sweeps filter by flat keys only. A run that goes on in its directory goes on under its id.
    """
    import wandb

    mode = os.environ.get("WANDB_MODE")
    if mode is None:
        mode = "online" if wandb.login(prompt=False, verify=False) else "offline"
    id_file = run_dir / "wandb" / "id"
    if not id_file.exists():
        write_text(id_file, uuid.uuid4().hex[:8])
    return {
        "id": id_file.read_text(),
        "resume": "allow",
        "project": project,
        "group": group[:127],
        "name": name[:127],
        "tags": [tag[:64] for tag in tags],
        "dir": str(run_dir),
        "mode": mode,
        "config": {**config, **flatten(config)},
        "settings": wandb.Settings(console="off", silent=True),
    }


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns `nested` with "a.b" keys in place of dicts in dicts."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def truncate_metrics(path: Path, step: int) -> None:
    """Drops the lines after `step` that a killed run wrote beyond its last checkpoint."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").split("\n"):
        with contextlib.suppress(ValueError):  # the line it was writing when it was killed
            if line and json.loads(line)["step"] <= step:
                kept.append(line + "\n")
    write_text(path, "".join(kept))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes `content` atomically, with null for every non-finite number (JSON has none)."""
    write_text(path, json.dumps(_jsonable(content), indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes `text` so that `path` holds either the old text or all of the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def finite(value: float) -> float | None:
    """Returns `value`, or None when it is infinite or not a number."""
    return value if math.isfinite(value) else None


def _jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    return finite(value) if isinstance(value, float) else value

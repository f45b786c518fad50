"""Data sets of the Hugging Face hub, with errors that say what to do."""

import logging
from collections.abc import Sequence
from pathlib import Path

from normlab.errors import UserError

log = logging.getLogger(__name__)


def load_splits(
    path: str, config: str | None, revision: str, names: Sequence[str], instead: str
) -> dict:
    """Returns {split: datasets.Dataset}; `instead` ends the error when there is no network.

    Without network `datasets` takes the newest cached version, whatever `revision` asks for, so
    a pin is compared with what was loaded.
    """
    import datasets  # takes a second, and only this function needs it

    try:
        tables = datasets.load_dataset(path, config, revision=revision, split=list(names))
    except ConnectionError as error:
        raise UserError(
            f"{path} is not cached under {datasets.config.HF_DATASETS_CACHE} and the Hugging Face "
            "hub cannot be reached: run once with network (or copy that directory here and set "
            f"HF_HOME), or {instead}."
        ) from error
    except (OSError, ValueError, datasets.exceptions.DatasetGenerationError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise UserError(
            f"cannot load splits {', '.join(names)} of {path} (config {config}, revision "
            f"{revision}): {reason}; check path, config, revision and the splits."
        ) from error
    files = [file["filename"] for table in tables for file in table.cache_files]
    log.info("read %s from %s", path, sorted({str(Path(file).parent) for file in files}))
    pinned = len(revision) == 40 and not Path(path).is_dir()
    if pinned and not all(revision in Path(file).parts for file in files):
        log.warning("%s: the cache holds another revision than revision=%s", path, revision)
    return dict(zip(names, tables, strict=True))

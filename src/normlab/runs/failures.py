"""What goes wrong outside the program, in words; and where a traceback goes when it is a fault."""

import errno
import logging
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from normlab.errors import LOGGED, UserError
from normlab.files import FULL

log = logging.getLogger(__name__)

NO_MEMORY = "out of memory|t allocate|ALLOC_FAILED"  # torch's words, cuBLAS's and cuDNN's
FORBIDDEN = {errno.EROFS, errno.EACCES, errno.EPERM}


@contextmanager
def disk_in_words(run_dir: Path) -> Iterator[None]:
    """Turns a full disk and a missing permission into a UserError."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise UserError(
                f"no disk space left while writing to {run_dir} ({error.strerror}): free some."
            ) from error
        if error.errno in FORBIDDEN:
            raise UserError(f"cannot write to {run_dir} ({error.strerror}).") from error
        raise


@contextmanager
def memory_in_words() -> Iterator[None]:
    """Turns torch's ways to say that there is no memory left into a UserError."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        text = str(error)
        if not isinstance(error, MemoryError) and not re.search(NO_MEMORY, text):
            raise
        raise UserError(
            "there is not enough memory: lower data.batch_tokens (trainer.accumulate can make up "
            "for it) or the sizes in model."
        ) from error


def expected(error: BaseException) -> bool:
    """Returns whether `error` is a mistake or the machine's, and no fault of the program."""
    return isinstance(error, UserError) or getattr(error, "errno", None) in (FULL | FORBIDDEN)


def log_traceback(error: BaseException, run_dir: Path) -> None:
    """Says what failed where the run is watched, and how in its log alone."""
    lines = "".join(traceback.format_exception(error))
    path = run_dir / "train.log"
    with open(path, "a", encoding="utf-8") as file:
        file.write(lines)
    log.error("The run failed: %s: %s (traceback in %s).", type(error).__name__, error, path)
    error.add_note(LOGGED)

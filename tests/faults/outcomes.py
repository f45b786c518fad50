"""What a fault may end in, and the list of faults."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

SURVIVED = "survived"  # the result is exactly that of an undisturbed run
CLEAR = "clear error"  # one sentence that says what is wrong and what to do; no file is lost
LOST = "lost"  # a traceback, a process that hangs, work that cannot be gone on with
WRONG = "wrong number"  # a result that differs from the undisturbed one, without a word
KINDS = (SURVIVED, CLEAR, LOST, WRONG)


class Outcome(NamedTuple):
    """How one try ended; `note` says what was done and seen."""

    kind: str
    note: str = ""


Body = Callable[[Path, int, random.Random], Iterator[Outcome]]


@dataclass(frozen=True)
class Fault:
    """`body(folder, tries, rng)` does the fault `tries` times; `short` of them in CI."""

    name: str
    full: int
    short: int
    body: Body


FAULTS: list[Fault] = []


def fault(name: str, *, full: int, short: int = 1) -> Callable[[Body], Body]:
    """Puts a function on the list."""

    def add(body: Body) -> Body:
        FAULTS.append(Fault(name, full, short, body))
        return body

    return add


class NotHere(Exception):
    """Raised by a fault that this machine does not allow; the message says why."""

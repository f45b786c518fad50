"""Signals that end a run early, with a checkpoint."""

import _thread
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

log = logging.getLogger(__name__)

NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
PATIENCE = 2.0  # seconds after a signal in which a Ctrl-C is the same request


class Interrupted(BaseException):
    """Raised by a signal inside `Interrupts.at_once`: what stands there can be done again."""


class Interrupts:
    """Whether a signal has asked the run to stop; a later Ctrl-C ends the process at once.

    One within two seconds does not: make and torchrun pass on what the terminal has sent already.
    Nor does one while a checkpoint is written, however long that takes.
    """

    def __init__(self, together: bool = False) -> None:
        self.requested = False
        self._together = together
        self._raise = self._held = False
        self._since = 0.0

    @contextmanager
    def held(self) -> Iterator[None]:
        """Lets no Ctrl-C end the process inside: for what must be written to its end."""
        self._held = True
        try:
            yield
        finally:
            self._held = False

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Lets a signal raise `Interrupted` inside: for work that loses nothing when cut short.

        Not where several processes work together: one that left would leave the others waiting.
        """
        if self._together:
            yield
            return
        self._raise = True
        try:
            if self.requested:  # asked after: a signal in between is not missed
                raise Interrupted
            yield
        finally:
            self._raise = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.requested:
            # In a thread, for the signal may have broken into another line of the log; and in one
            # that takes no lock to start, for it may have broken into the start of a thread.
            said = "%s: saving, then stopping.", signal.Signals(number).name
            _thread.start_new_thread(log.warning, said)
            self.requested, self._since = True, time.monotonic()
        elif (
            number == signal.SIGINT and not self._held and time.monotonic() > self._since + PATIENCE
        ):
            raise KeyboardInterrupt
        if self._raise:
            self._raise = False
            raise Interrupted


@contextmanager
def interrupts(together: bool = False) -> Iterator[Interrupts]:
    """Catches the signals that end a run: Ctrl-C, TERM, HUP, USR1, USR2.

    `together`: several processes train the run, and decide together when to stop.

    One of them may be submitit's preemption signal, for which it has set a handler that requeues
    the job and ends the process: that handler is called on leaving, when the checkpoint is written.
    """
    state = Interrupts(together)
    if threading.current_thread() is not threading.main_thread():
        yield state  # Python delivers signals to the main thread only
        return
    preemption = signal.Signals["SIG" + os.environ.get("SUBMITIT_PREEMPT_SIGNAL", "USR2")]
    requeue = signal.getsignal(preemption)
    received: set[int] = set()

    def handle(number: int, frame: FrameType | None) -> None:
        received.add(number)
        state._handle(number, frame)

    numbers = {signal.Signals[name] for name in NAMES} | {preemption}
    numbers = {n for n in numbers if signal.getsignal(n) is not signal.SIG_IGN}  # under nohup
    previous = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield state
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if preemption in received and callable(requeue):
        requeue(preemption, None)

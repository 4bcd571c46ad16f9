"""Signals that ask to stop, taken over for a while."""

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # Ctrl-C; a queue or `kill`; a terminal that is closed


class Takeover:
    """Have a function called for a signal, instead of what was called before.

    Args:
        handler: Called with the signal's number; only ever in the main thread.
    """

    def __init__(self, handler: Callable[[int, FrameType | None], object]) -> None:
        self._handler = handler
        self._previous: dict[int, Any] = {}

    def take(self) -> None:
        """Take over all that are not ignored, as `nohup` has SIGHUP, nor taken already."""
        for signum in SIGNALS:
            if signum not in self._previous and signal.getsignal(signum) != signal.SIG_IGN:
                self._previous[signum] = signal.signal(signum, self._handler)

    def give_back(self) -> None:
        """Give them back."""
        while self._previous:
            signal.signal(*self._previous.popitem())

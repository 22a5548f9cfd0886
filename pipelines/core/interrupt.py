"""Ctrl-C that waits for a good moment, and Ctrl-C that is not forgotten. jax-free."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def deferred_interrupt(strike: bool = False) -> Iterator[Callable[[], bool]]:
    """Turns the first SIGINT or SIGTERM into a flag that the yielded function reads; the second one strikes.

    With `strike` the first one strikes too, and the flag tells of it where the exception was swallowed: Python drops
    what is raised in a gc callback, and jax has one.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    found = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in found.items() if handler is not signal.SIG_IGN}  # as nohup asks

    def handle(number: int, frame: FrameType | None) -> None:
        again = asked.is_set()
        asked.set()
        if strike or again:
            raise KeyboardInterrupt

    for number in before:
        signal.signal(number, handle)
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

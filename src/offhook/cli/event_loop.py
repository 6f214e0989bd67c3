"""Runs a command's coroutine on uvloop where there is one, and turns Ctrl-C and SIGTERM into an event."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

if sys.platform == "win32":
    _new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
else:
    import uvloop

    _new_loop = uvloop.new_event_loop


def run(main: Coroutine[Any, Any, T]) -> T:
    """Like ``asyncio.run``, on the faster loop."""
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        return runner.run(main)


def on_hangup(act: Callable[[], None]) -> None:
    """Call ``act`` at each SIGHUP, where the system has that."""
    if hasattr(signal, "SIGHUP"):
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, act)


class DrainSignals:
    """What a server that drains is told by the system.

    ``stopping``: set by the first signal of any kind. ``ending``: set by Ctrl-C, and by a second SIGTERM. After that
    one more signal ends the process the hard way.
    """

    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        self.ending = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._terminated)
        loop.add_signal_handler(signal.SIGINT, self._end)

    def _terminated(self) -> None:
        if self.stopping.is_set():
            self._end()
        self.stopping.set()

    def _end(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        self.stopping.set()
        self.ending.set()


def stop_signals() -> asyncio.Event:
    """Set by the first Ctrl-C or SIGTERM; a second one ends the process the hard way."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop(number: signal.Signals) -> None:
        loop.remove_signal_handler(number)
        stopped.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    return stopped

"""TLS handshakes of those who connect to us: counted before they begin, ended by a deadline, failures in words."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections import Counter, OrderedDict
from functools import partial
from typing import Protocol

from offhook.signaling.budget import WorkBudget
from offhook.signaling.tls import HANDSHAKE_S, TlsContexts, explain_handshake

HANDSHAKE_COST_S = 0.001
"""Charged to the ``WorkBudget`` for each, measured at 0.8 ms with P-256 keys: a flood of them leaves media its time."""

BACKLOG = 512
"""Connections that wait for their handshake to begin: a second's worth at the pace the budget sets. In a shorter queue
a burst would lose its SYNs, and each of those costs its sender a second."""

ACCEPT_AGAIN_S = 1.0
"""Pause after the system had no descriptor for a connection: its socket stays readable and would spin the loop."""

TELL_AGAIN_S = 60.0
"""Between two log lines about failed handshakes of one source."""

TOLD_SOURCES = 2000
"""Sources whose last log line is remembered; the oldest is forgotten first."""

_log = logging.getLogger("offhook.sip")


class HandshakeOwner(Protocol):
    """Who decides about connections and gets those that are secured. Called on the event loop."""

    def may_begin(self, host: str, waiting: int, waiting_there: int) -> bool:
        """Whether there is room for one more, beside ``waiting`` handshakes, ``waiting_there`` of them by ``host``'s
        peer; a False is counted as refused."""
        ...

    def new_connection(self) -> asyncio.BufferedProtocol: ...

    def peer_of(self, host: str) -> str:
        """Whom the limits count ``host`` as."""
        ...

    def handshake_failed(self) -> None: ...


class Handshakes:
    """The TLS listeners of an endpoint, and the handshakes that go on."""

    def __init__(
        self, owner: HandshakeOwner, loop: asyncio.AbstractEventLoop, budget: WorkBudget, tls: TlsContexts | None
    ) -> None:
        self._owner = owner
        self._loop = loop
        self._budget = budget
        self._tls = tls
        self._listening: list[socket.socket] = []
        self._running: set[asyncio.Task[None]] = set()
        self._running_from: Counter[str] = Counter()
        self._told: OrderedDict[str, float] = OrderedDict()

    def listen(self, bound: socket.socket) -> None:
        """Accept on ``bound``, a non-blocking TCP socket that listens, until ``close``."""
        bound.listen(BACKLOG)
        self._listening.append(bound)
        self._watch(bound)

    async def close(self) -> None:
        """Stop accepting, and end the handshakes that go on."""
        for bound in self._listening:
            self._loop.remove_reader(bound.fileno())
            bound.close()
        self._listening.clear()
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    # ── inside ──

    def _watch(self, bound: socket.socket) -> None:
        if bound.fileno() != -1:
            self._loop.add_reader(bound.fileno(), self._accept, bound)

    def _accept(self, bound: socket.socket) -> None:
        """Take one connection and count it; its handshake goes on beside."""
        if self._budget.exhausted:
            self._loop.remove_reader(bound.fileno())
            self._budget.when_refilled(partial(self._watch, bound))
            return
        try:
            accepted, address = bound.accept()
        except (BlockingIOError, InterruptedError, ConnectionError):  # it is gone again
            return
        except OSError:  # no descriptor or memory is left: those who wait stay in the backlog
            self._loop.remove_reader(bound.fileno())
            self._loop.call_later(ACCEPT_AGAIN_S, self._watch, bound)
            return
        accepted.setblocking(False)
        self._begin(accepted, str(address[0]))

    def _begin(self, accepted: socket.socket, host: str) -> None:
        context = None if self._tls is None else self._tls.server
        peer = self._owner.peer_of(host)
        if not self._owner.may_begin(host, len(self._running), self._running_from[peer]) or context is None:
            accepted.close()
            return
        self._budget.charge(time.monotonic() - HANDSHAKE_COST_S)
        self._running_from[peer] += 1
        task = self._loop.create_task(self._secure(accepted, host, context))
        self._running.add(task)
        task.add_done_callback(partial(self._ended, peer))

    async def _secure(self, accepted: socket.socket, host: str, context: ssl.SSLContext) -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._owner.new_connection, accepted, ssl=context, ssl_handshake_timeout=HANDSHAKE_S
            )
        except (OSError, TimeoutError) as error:  # ssl.SSLError is an OSError
            self._owner.handshake_failed()
            accepted.close()
            self._tell(host, explain_handshake(error, ""))
        except asyncio.CancelledError:
            accepted.close()
            raise

    def _ended(self, peer: str, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._running_from[peer] -= 1
        if not self._running_from[peer]:
            del self._running_from[peer]

    def _tell(self, host: str, problem: str) -> None:
        """Log a failed handshake, once a minute for each source."""
        now = time.monotonic()
        if now - self._told.get(host, -TELL_AGAIN_S) < TELL_AGAIN_S:
            return
        self._told.pop(host, None)
        while len(self._told) >= TOLD_SOURCES:
            self._told.popitem(last=False)
        self._told[host] = now
        _log.warning("TLS from %s: %s", host, problem)

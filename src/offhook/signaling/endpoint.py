"""The pump of SIP: sockets in, ``UserAgent``, sockets and events out, and one timer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar, assert_never

from offhook.model.errors import SipParseError
from offhook.signaling.advertised import AdvertisedAddresses
from offhook.signaling.name_service import Asked
from offhook.signaling.tls import TlsContexts
from offhook.signaling.trace import Trace, TraceRecord, redacted
from offhook.signaling.transports import Transports
from offhook.sip.events import (
    Address,
    AnswerReceived,
    Flow,
    Hop,
    Inbound,
    InviteReceived,
    RegistrationChanged,
    SipEvent,
    Transport,
)
from offhook.sip.message import Request, Response, SipMessage, serialize
from offhook.sip.parser import Broken, KeepAlive, StreamItem
from offhook.sip.user_agent import UserAgent

PUMP_ROUNDS = 64
"""Events delivered before the loop may serve media; the rest follows in its next turn."""

TIMER_FLOOR_S = 0.001
"""uvloop's timers count milliseconds: one that is due in less would fire early and again."""

TIMER_AFTER_FAULT_S = 0.5
"""A core that raised on its timer is asked again after T1, not in a hot loop."""

EVIDENCE_BYTES = 4096
"""Of the message that met a bug, in the log."""

T = TypeVar("T")

log = logging.getLogger("offhook.sip")


class SipEndpoint:
    """Joins one ``UserAgent`` to its sockets. Made, used and closed on one running event loop.

    After any command to ``user_agent`` call ``flush``. Whatever ``listener``, ``trace`` or the core raises is
    logged once per place in the code, with the message that caused it, and counted: the endpoint lives on.
    """

    def __init__(
        self,
        *,
        user_agent: UserAgent,
        listener: Callable[[SipEvent], None],
        trace: Trace | None = None,
        tls: TlsContexts | None = None,
        nameservers: Sequence[str] = (),
        advertised: AdvertisedAddresses | None = None,
    ) -> None:
        self._user_agent = user_agent
        self._listener = listener
        self._trace = trace
        self._loop = asyncio.get_running_loop()
        self._faults = _Faults()
        self._transports = Transports(
            self,
            self._loop,
            trace=None if trace is None else self._record,
            tls=tls,
            nameservers=nameservers,
            advertised=advertised,
        )
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._pumping = False
        self._closed = False
        self._arriving_on = 0  # the connection of the message being received

    @property
    def user_agent(self) -> UserAgent:
        return self._user_agent

    @property
    def listening(self) -> tuple[tuple[Transport, Address], ...]:
        return self._transports.listening

    async def listen(self, transport: Transport, host: str, port: int) -> Address:
        """Open a listening socket and return its address.

        ``host`` is an IP address of this machine; ``0.0.0.0`` or ``::`` for all of one family, "" for all of
        both (the IPv4 one is returned). ``port`` 0: any free one. Raises ``ListenError``.
        """
        return await self._transports.listen(transport, host, port)

    async def ways_to(self, hop: Hop, choices: tuple[Transport, ...] = ()) -> tuple[tuple[Flow, Hop], ...]:
        """How to reach ``hop``, best way first: each the flow for Via and Contact, and a hop with an IP address.

        ``choices``: the transports DNS may choose from where the URI named none. Raises ``UnreachableError``: no such
        name, no route, no socket of its address family; and ``LocalProtocolError`` before ``listen`` was called for
        that transport.
        """
        return await self._transports.ways_to(hop, choices)

    def reached(self, hop: Hop, *, works: bool) -> None:
        """What came of a way: one that failed comes last for a while, and its name is looked up anew."""
        resolver = self._transports.resolver
        if works:
            resolver.mark_working(hop)
        else:
            resolver.mark_failed(hop)

    def forget_name(self, host: str) -> None:
        """Look ``host`` up anew next time."""
        self._transports.resolver.forget(host)

    @property
    def names_asked(self) -> tuple[Asked, ...]:
        """The latest questions to DNS and their answers."""
        return tuple(self._transports.resolver.names.journal)

    async def discover(self, server: Hop) -> bool:
        """Ask a STUN server for our public address; True when it changed. Raises ``UnreachableError``."""
        return await self._transports.discover(server)

    @property
    def advertised(self) -> AdvertisedAddresses:
        return self._transports.advertised

    def keep_open(self, flow: Flow) -> None:
        """A packet without meaning that keeps a translator's way back to us open (UDP; streams do it themselves)."""
        self._transports.keep_open(flow)

    def flush(self) -> None:
        """Send what the core has to send, deliver its events, re-arm its timer. Cheap when there is nothing."""
        if self._pumping or self._closed:
            return  # called by the listener: the round that called it goes on with what it caused
        self._pumping = True
        try:
            if not self._faults.guard(None, True, self._pump):
                self._loop.call_soon(self.flush)
        finally:
            self._pumping = False
        self._arm(TIMER_FLOOR_S)

    async def close(self) -> None:
        """Close every socket at once; calls are not ended (the caller did that before). Idempotent."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self._transports.close()

    def counts(self) -> Mapping[str, int]:
        """Counters and gauges of the shell, for metrics and tests."""
        datagrams, streams = self._transports.datagram_counts, self._transports.stream_counts
        return {
            "faults": self._faults.count,
            "keepalives": datagrams.keepalives,
            "unsent": datagrams.unsent,
            "pauses": self._transports.budget.exhaustions,
            "connections": len(self._transports.streams),
            "accepted": streams.accepted,
            "dialled": streams.dialled,
            "refused": streams.refused,
            "expired": streams.expired,
            "broken": streams.broken,
            "choked": streams.choked,
            "handshakes_failed": streams.handshakes_failed,
        }

    # ── for Transports ──

    def datagram_received(self, data: bytes, flow: Flow) -> None:
        self._trace_received(data, flow)
        inbound = Inbound(data=data, flow=flow)
        self._faults.guard(data, None, self._user_agent.receive, inbound, time.monotonic())
        self.flush()

    def stream_received(self, item: StreamItem, flow: Flow) -> None:
        self._arriving_on = flow.connection
        try:
            match item:
                case KeepAlive():  # answered where it arrived
                    pass
                case Broken(error):
                    self._malformed(error, flow)
                case SipParseError():
                    self._malformed(item, flow)
                case Request() | Response():
                    self._stream_message(item, flow)
                case _:
                    assert_never(item)
        finally:
            self._arriving_on = 0

    def connection_lost(self, number: int) -> None:
        now = time.monotonic()
        self._faults.guard(number, None, self._user_agent.connection_lost, number, now)
        self.flush()

    def send_failed(self, token: int, problem: str) -> None:
        self._faults.guard(problem, None, self._user_agent.transport_failed, token, problem, time.monotonic())
        self.flush()

    def unreachable(self, remote: Address, problem: str) -> None:
        self._faults.guard(remote, None, self._user_agent.peer_unreachable, remote, problem, time.monotonic())
        self.flush()

    # ── inside ──

    def _stream_message(self, message: SipMessage, flow: Flow) -> None:
        if self._trace is not None:
            self._trace_received(self._faults.guard(message, b"", serialize, message), flow)
        self._faults.guard(message, None, self._user_agent.receive_message, message, flow, time.monotonic())
        self.flush()

    def _trace_received(self, data: bytes, flow: Flow) -> None:
        if self._trace is not None:
            self._record(TraceRecord(at=time.time(), direction="received", flow=flow, data=data))

    def _pump(self) -> bool:
        """Send and deliver until nothing is left; False: there is more."""
        for _ in range(PUMP_ROUNDS):
            packets = self._user_agent.packets_to_send()
            for packet in packets:
                self._faults.guard(packet.data, None, self._transports.send, packet)
            event = self._user_agent.next_event()
            if event is not None:
                self._deliver(event)
            elif not packets:
                return True
        return False

    def _deliver(self, event: SipEvent) -> None:
        if self._arriving_on and isinstance(event, InviteReceived | AnswerReceived | RegistrationChanged):
            self._transports.streams.keep(self._arriving_on)
        self._faults.guard(event, None, self._listener, event)

    def _arm(self, floor_s: float) -> None:
        """One timer for the core. One that fires too early costs less than re-arming at each message."""
        if self._closed:
            return
        due = self._faults.guard(None, None, self._user_agent.get_timer)
        if due is None or (self._timer is not None and self._timer_at <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        self._timer = self._loop.call_later(max(due - time.monotonic(), floor_s), self._time_out)

    def _time_out(self) -> None:
        self._timer = None
        faults = self._faults.count
        self._faults.guard("a timer", None, self._user_agent.handle_timer, time.monotonic())
        if self._faults.count != faults:
            self._arm(TIMER_AFTER_FAULT_S)
        self.flush()

    def _malformed(self, error: SipParseError, flow: Flow) -> None:
        now = time.monotonic()
        self._faults.guard(error, None, self._user_agent.receive_malformed, error, flow, now)
        self.flush()

    def _record(self, record: TraceRecord) -> None:
        if self._trace is not None:
            self._faults.guard(record.data, None, self._trace, record)


class _Faults:
    """Bugs met at run time: each place in the code is logged once, with what it was given, and all are counted."""

    def __init__(self) -> None:
        self.count = 0
        self._logged: set[tuple[str, int]] = set()

    def guard(self, evidence: object, otherwise: T, function: Callable[..., T], *arguments: object) -> T:
        """Call ``function``; when it raises, note the bug with ``evidence`` and return ``otherwise``."""
        try:
            return function(*arguments)
        except Exception as error:  # the boundary: nothing of one message may end the endpoint
            self.count += 1
            self._log(error, evidence)
            return otherwise

    def _log(self, error: Exception, evidence: object) -> None:
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = ("", 0) if trace is None else (trace.tb_frame.f_code.co_filename, trace.tb_lineno)
        if place not in self._logged:
            self._logged.add(place)
            log.error("a bug in offhook, met with:\n%s", _shown(evidence), exc_info=error)


def _shown(evidence: object) -> str:
    raw = evidence if isinstance(evidence, bytes) else repr(evidence).encode()
    return redacted(raw)[:EVIDENCE_BYTES].decode("utf-8", "backslashreplace")

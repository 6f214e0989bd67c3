"""The language of the call tests: whole phones on loopback, with scripted agents, and what became of each call."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from itertools import cycle
from pathlib import Path
from typing import Any, TypeVar

from tests.interop.tools import free_sip_port

from offhook.bridge.registry import SCRIPTED, BridgeRegistry
from offhook.call.account_limits import NoLimits
from offhook.call.agent_session import Bridges
from offhook.call.asking import NobodyToAsk
from offhook.call.dialling import PlaceCall
from offhook.call.inbox import HangUp
from offhook.call.ports import EventSink, Limits, Questions
from offhook.call.session import CallSession
from offhook.media.ports import PortPool
from offhook.model.audio import Encoding
from offhook.model.call_events import CallAnswered, CallEnded, CallEvent, CallRinging, DigitReceived, WayTaken
from offhook.model.records import Agent, Number
from offhook.model.trunks import CallRules, OpenTrunk, Trunk
from offhook.server.phone import Phone, Surroundings, build_phone
from offhook.sip.events import Address
from offhook.sip.uri import SipUri
from offhook.store.directory import InMemoryDirectory

HOST = "127.0.0.1"
PATIENCE_S = 20
"""Guards against hanging only; nothing is measured with it."""

_RTP_PORTS = 400
"""Two hundred legs: a test makes at most a hundred calls, and other programs hold some ports of the range."""

_RTP_RANGES = cycle(range(40000, 65000, _RTP_PORTS))

F = TypeVar("F")

NARROW = OpenTrunk(trunk_id="", rules=CallRules(codecs=(Encoding.PCMU, Encoding.PCMA)))
"""Most tests look at the bytes of G.711."""


def scripted(agent_id: str = "agent", *, record: bool = False, **script: Any) -> Agent:
    """An agent that follows a script of ``bridge.scripted``."""
    return Agent(agent_id=agent_id, provider="scripted", record=record, options={"script": json.dumps(script)})


SILENT = scripted("silent")


HEARD = (CallRinging, CallAnswered, WayTaken)
"""What others hear of a call: never before its first fact is on disk."""


class Facts(EventSink):
    """Every fact of a phone, awaitable. ``disk`` is how it keeps them: at once, unless a test says otherwise.

    ``legs``: what is saved of each leg; ``saves``: whenever that changed. ``too_early``: what broke the promise.
    """

    def __init__(self) -> None:
        self.events: list[CallEvent] = []
        self.disk: Callable[[], Awaitable[None]] = _at_once
        self.legs: dict[tuple[str, str], bytes] = {}
        self.saves: list[tuple[str, bytes | None]] = []
        self.too_early: list[CallEvent] = []
        self._kept: set[str] = set()
        self._changed = asyncio.Event()
        self._watchers: list[Callable[[CallEvent], None]] = []

    def watch(self, watcher: Callable[[CallEvent], None]) -> None:
        self._watchers.append(watcher)

    def append(self, event: CallEvent) -> None:
        self.events.append(event)
        for watcher in self._watchers:
            watcher(event)
        if isinstance(event.fact, HEARD) and event.call_id not in self._kept:
            self.too_early.append(event)
        self._changed.set()

    async def kept(self, event: CallEvent) -> None:
        await self.disk()
        self._kept.add(event.call_id)

    def hold_back(self) -> asyncio.Event:
        """Nothing is on disk until this is set."""
        let_go = asyncio.Event()

        async def disk() -> None:
            await let_go.wait()

        self.disk = disk
        return let_go

    def save_leg(self, call_id: str, leg_id: str, saved: bytes | None) -> None:
        self.saves.append((leg_id, saved))
        if saved is None:
            self.legs.pop((call_id, leg_id), None)
        else:
            self.legs[call_id, leg_id] = saved
        self._changed.set()

    def legs_of(self, call_id: str) -> dict[str, bytes]:
        return {leg_id: saved for (one, leg_id), saved in self.legs.items() if one == call_id}

    def of(self, kind: type[F]) -> list[F]:
        return [event.fact for event in self.events if isinstance(event.fact, kind)]

    def names(self, call_id: str | None = None) -> list[str]:
        return [type(event.fact).__name__ for event in self.events if call_id in (None, event.call_id)]

    async def until(self, kind: type[F], number: int = 1, where: Callable[[F], bool] = lambda fact: True) -> F:
        """The ``number``th fact of a kind, as soon as it is there."""
        async with asyncio.timeout(PATIENCE_S):
            while len(found := [fact for fact in self.of(kind) if where(fact)]) < number:
                self._changed.clear()
                await self._changed.wait()
        return found[number - 1]


async def _at_once() -> None:
    pass


class TestPhone:
    """A phone that listens on loopback, and what happened to its calls."""

    __test__ = False

    def __init__(
        self, phone: Phone, facts: Facts, ports: PortPool, address: Address, trunks: tuple[Trunk, ...] = ()
    ) -> None:
        self.phone = phone
        self.trunks = trunks
        self.facts = facts
        self.ports = ports
        self.address = address

    def call(
        self,
        other: TestPhone | Address,
        agent: Agent = SILENT,
        *,
        user: str = "demo",
        tcp: bool = False,
        trunk: Trunk | None = NARROW,
    ) -> CallSession:
        """In G.711, unless another trunk says otherwise."""
        address = other.address if isinstance(other, TestPhone) else other
        transport = ";transport=tcp" if tcp else ""
        target = SipUri.parse(f"sip:{user}@{address.host}:{address.port}{transport}")
        return self.phone.manager.place(PlaceCall(target=target, agent=agent, trunk=trunk))

    def hang_up(self, call: CallSession) -> None:
        call.deliver(HangUp(by="agent", cause="hangup"))

    async def digits(self, number: int) -> str:
        """The first ``number`` digits that came."""
        await self.facts.until(DigitReceived, number)
        return "".join(fact.digit for fact in self.facts.of(DigitReceived))

    async def ended(self, number: int = 1) -> CallEnded:
        return await self.facts.until(CallEnded, number)

    async def over(self, call: CallSession) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self.phone.manager.wait(call)

    @property
    def only_call(self) -> CallSession:
        (call,) = self.phone.manager.calls.values()
        return call

    async def drop_dead(self) -> None:
        """Like kill -9: the sockets are gone and nobody said goodbye."""
        await self.phone.endpoint.close()
        for call in self.phone.manager.calls.values():
            if call.leg is not None:
                call.leg.media.close()

    @property
    def left_over(self) -> dict[str, int]:
        """What must be zero when every call is over: usages, dialogs, calls, RTP ports."""
        counts = self.phone.endpoint.user_agent.counts()
        return {
            "usages": counts["usages"],
            "dialogs": counts["dialogs"],
            "calls": len(self.phone.manager.calls),
            "ports": self.ports.in_use,
        }

    async def quiet(self) -> None:
        """Returns when nothing is left over."""
        async with asyncio.timeout(PATIENCE_S):
            while self.left_over != NOTHING_LEFT:  # noqa: ASYNC110 the core has no event for it
                await asyncio.sleep(0.01)


NOTHING_LEFT = {"usages": 0, "dialogs": 0, "calls": 0, "ports": 0}


@asynccontextmanager
async def phone(
    *agents: Agent,
    max_calls: int = 50,
    folder: Path = Path(),
    port: int = 0,
    media_timeout_s: float = 60.0,
    teardown_s: float = 2.0,
    trunks: tuple[Trunk, ...] = (),
    limits: Limits | None = None,
    questions: Questions | None = None,
    numbers: Iterable[Number] = (),
    bridges: Bridges | None = None,
    **around: Any,
) -> AsyncIterator[TestPhone]:
    """A phone on UDP and TCP; the first agent answers every number, the others the number of their id.

    But for the ``numbers`` that say otherwise. ``around``: more of ``Surroundings``.
    """
    numbers = [*(Number(user=agent.agent_id, agent_id=agent.agent_id) for agent in agents[1:]), *numbers]
    numbers += [Number(user="*", agent_id=agent.agent_id) for agent in agents[:1]]
    facts = Facts()
    low = next(_RTP_RANGES)
    ports = PortPool(low, low + _RTP_PORTS - 1)
    built = build_phone(
        bridges=bridges or BridgeRegistry({"scripted": SCRIPTED}),
        directory=InMemoryDirectory(agents, numbers),
        events=facts,
        max_calls=max_calls,
        ports=ports,
        recordings_folder=folder,
        media_timeout_s=media_timeout_s,
        teardown_s=teardown_s,
        surroundings=Surroundings(
            trunks=trunks, limits=limits or NoLimits(), questions=questions or NobodyToAsk(), **around
        ),
    )
    try:
        address = await built.endpoint.listen("UDP", HOST, port or free_sip_port(HOST))
        await built.endpoint.listen("TCP", HOST, address.port)
        yield TestPhone(built, facts, ports, address, trunks)
    finally:
        await built.close()


class Ear:
    """Collects what a leg hears, frame by frame."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self._frames = 0
        self._changed = asyncio.Event()

    def __call__(self, frame: bytes) -> None:
        self.heard += frame
        self._frames += 1
        self._changed.set()

    async def frames(self, number: int) -> bytes:
        """Everything heard once ``number`` frames of 20 ms came."""
        async with asyncio.timeout(PATIENCE_S):
            while self._frames < number:
                self._changed.clear()
                await self._changed.wait()
        return bytes(self.heard)


class RawPeer:
    """A SIP peer of bare bytes on a UDP socket: sends what no phone would. Octets that are no UTF-8 are surrogates."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((HOST, 0))
        self._socket.setblocking(False)
        self.address = Address(*self._socket.getsockname())

    def send(self, target: Address, text: str) -> None:
        self._socket.sendto(text.replace("\n", "\r\n").encode("utf-8", "surrogateescape"), target)

    async def receive(self) -> str:
        """The next message, as text."""
        async with asyncio.timeout(PATIENCE_S):
            data = await asyncio.get_running_loop().sock_recv(self._socket, 65535)
        return data.decode("utf-8", "surrogateescape")

    async def final_response(self) -> str:
        while (message := await self.receive()).startswith("SIP/2.0 1"):
            pass
        return message

    def invite(self, target: Address, *, sdp: str = "", user: str = "demo", extra: str = "") -> str:
        """An INVITE's text; ``sdp`` empty makes it offerless."""
        here = f"{self.address.host}:{self.address.port}"
        return (
            f"INVITE sip:{user}@{target.host}:{target.port} SIP/2.0\n"
            f"Via: SIP/2.0/UDP {here};branch=z9hG4bK-{id(self)}-{user}\n"
            f"Max-Forwards: 70\nFrom: <sip:raw@{here}>;tag=raw\nTo: <sip:{user}@{target.host}>\n"
            f"Call-ID: raw-{id(self)}@{here}\nCSeq: 1 INVITE\nContact: <sip:raw@{here}>\n{extra}{_content(sdp)}"
        )

    def ack(self, answer: str, target: Address, *, sdp: str = "") -> str:
        """The ACK of a 2xx to ``invite``; ``sdp`` is the late answer."""
        here = f"{self.address.host}:{self.address.port}"
        to = next(line for line in answer.split("\r\n") if line.startswith("To:"))
        return (
            f"ACK sip:{target.host}:{target.port} SIP/2.0\n"
            f"Via: SIP/2.0/UDP {here};branch=z9hG4bK-ack-{id(self)}\n"
            f"Max-Forwards: 70\nFrom: <sip:raw@{here}>;tag=raw\n{to}\n"
            f"Call-ID: raw-{id(self)}@{here}\nCSeq: 1 ACK\n{_content(sdp)}"
        )

    def ok(self, request: str) -> str:
        """A 200 to what came."""
        kept = ("Via:", "From:", "To:", "Call-ID:", "CSeq:")
        lines = [line for line in request.split("\r\n") if line.startswith(kept)]
        return "\n".join(["SIP/2.0 200 OK", *lines, _content("")])

    def close(self) -> None:
        self._socket.close()


def _content(sdp: str) -> str:
    """The last header lines, and the body."""
    if not sdp:
        return "Content-Length: 0\n\n"
    length = len(sdp.replace("\n", "\r\n"))
    return f"Content-Type: application/sdp\nContent-Length: {length}\n\n{sdp}"


def sdp(*, payloads: str = "0 8 101", port: int = 40000, media: str = "audio", profile: str = "RTP/AVP") -> str:
    return (
        f"v=0\no=- 1 1 IN IP4 {HOST}\ns=-\nc=IN IP4 {HOST}\nt=0 0\n"
        f"m={media} {port} {profile} {payloads}\na=rtpmap:101 telephone-event/8000\n"
    )

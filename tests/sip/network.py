"""The tests' language for the SIP core: user agents and hand-driven peers on a network of virtual time.

    net = Network()
    alice, bob = net.phone("alice"), net.phone("bob")
    call = dial(alice, bob)             # set up, answered, acknowledged
    net.drop(lambda sent: sent.is_a("BYE"), times=1)
    alice.agent.bye(call.caller, net.now)
    net.advance(0.5)
    assert [...] == [str(sent) for sent in net.wire]

Nothing here waits: ``advance`` runs timers and deliveries in the order of their moments.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import TypeVar

from offhook.model.errors import LocalProtocolError
from offhook.model.trunks import ReliableProvisional
from offhook.sip.digest import DigestClient
from offhook.sip.events import Address, Flow, Hop, Inbound, Outbound, SipEvent, Transport
from offhook.sip.headers import NameAddr
from offhook.sip.message import Request, Response, SipMessage, response_to, serialize
from offhook.sip.parser import parse_message
from offhook.sip.parts import UserAgentLimits
from offhook.sip.session_interval import DEFAULT_SESSION_TIMER, SessionTimerRules
from offhook.sip.uri import SipUri
from offhook.sip.user_agent import UserAgent

OFFER = b"v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=offer\r\nt=0 0\r\n"
ANSWER = b"v=0\r\no=- 2 1 IN IP4 10.0.0.2\r\ns=answer\r\nt=0 0\r\n"

Event = TypeVar("Event")


@dataclass(frozen=True, kw_only=True)
class Sent:
    """One message as it was put on the wire."""

    at: float
    source: Address
    destination: Address
    transport: Transport
    data: bytes
    message: SipMessage

    def is_a(self, what: str | int) -> bool:
        """A request of that method, or a response of that status."""
        if isinstance(self.message, Request):
            return self.message.method == what
        return self.message.status == what

    def __str__(self) -> str:
        what = self.message.method if isinstance(self.message, Request) else str(self.message.status)
        return f"{self.message.cseq.method} {what}" if isinstance(self.message, Response) else what


@dataclass(order=True)
class _Delivery:
    at: float
    order: int
    sent: Sent = field(compare=False)
    connection: int = field(compare=False)


@dataclass
class _Rule:
    matches: Callable[[Sent], bool]
    times: int


class Network:
    """Who is where, what is under way, and what time it is. ``rewrite``: what a box between does to each message."""

    def __init__(self, *, transport: Transport = "UDP", seed: int = 0, limits: UserAgentLimits | None = None) -> None:
        self.now = 1000.0
        self.transport: Transport = transport
        self.limits = limits or UserAgentLimits()
        self.delay_s = 0.01
        self.jitter_s = 0.0
        self.loss = 0.0
        self.duplication = 0.0
        self.rewrite: Callable[[bytes], bytes] = _as_it_is
        self.wire: list[Sent] = []
        self.phones: dict[Address, Phone] = {}
        self.peers: dict[Address, Peer] = {}
        self._random = Random(seed)
        self._deliveries: list[_Delivery] = []
        self._order = count()
        self._drops: list[_Rule] = []
        self._connections: dict[frozenset[Address], int] = {}

    # ── who is there ─────────────────────────────────────────────────────────────────────────────────────

    def phone(self, name: str, *, host: str = "", limits: UserAgentLimits | None = None) -> Phone:
        address = Address(host or f"10.0.0.{len(self.phones) + len(self.peers) + 1}", 5060)
        phone = self.phones[address] = Phone(self, name, address, limits or self.limits)
        return phone

    def peer(self, *, host: str = "", port: int = 5060) -> Peer:
        address = Address(host or f"10.0.0.{len(self.phones) + len(self.peers) + 1}", port)
        peer = self.peers[address] = Peer(self, address)
        return peer

    # ── what goes wrong ──────────────────────────────────────────────────────────────────────────────────

    def drop(self, matches: Callable[[Sent], bool], *, times: int = 1_000_000) -> None:
        """Lose the next ``times`` messages that match; they still stand in ``wire``."""
        self._drops.append(_Rule(matches, times))

    def pass_all(self) -> None:
        self._drops.clear()

    # ── what happens ─────────────────────────────────────────────────────────────────────────────────────

    def put(self, source: Address, destination: Address, data: bytes, transport: Transport) -> None:
        data = self.rewrite(data)
        sent = Sent(
            at=self.now,
            source=source,
            destination=destination,
            transport=transport,
            data=data,
            message=parse_message(data),
        )
        self.wire.append(sent)
        if self._lost(sent):
            return
        copies = 2 if transport == "UDP" and self._random.random() < self.duplication else 1
        for _ in range(copies):
            jitter_s = self._random.random() * self.jitter_s if transport == "UDP" else 0.0
            delivery = _Delivery(
                self.now + self.delay_s + jitter_s, next(self._order), sent, self.connection(source, destination)
            )
            heapq.heappush(self._deliveries, delivery)

    def _lost(self, sent: Sent) -> bool:
        for rule in self._drops:
            if rule.times > 0 and rule.matches(sent):
                rule.times -= 1
                return True
        return sent.transport == "UDP" and self._random.random() < self.loss

    def connection(self, one: Address, other: Address) -> int:
        """The id of the TCP connection between two addresses; 0 on UDP."""
        if self.transport == "UDP":
            return 0
        return self._connections.setdefault(frozenset((one, other)), len(self._connections) + 1)

    def advance(self, seconds: float) -> None:
        """Let time pass, doing at each moment what is due then."""
        end = self.now + seconds
        self.pump()
        while (moment := self._next_moment()) is not None and moment <= end:
            self.now = max(self.now, moment)
            while self._deliveries and self._deliveries[0].at <= self.now:
                self._deliver(heapq.heappop(self._deliveries))
            for phone in self.phones.values():
                phone.agent.handle_timer(self.now)
            self.pump()
        self.now = end

    def _next_moment(self) -> float | None:
        moments = [phone.agent.get_timer() for phone in self.phones.values()]
        if self._deliveries:
            moments.append(self._deliveries[0].at)
        return min((moment for moment in moments if moment is not None), default=None)

    def _deliver(self, delivery: _Delivery) -> None:
        sent = delivery.sent
        peer = self.peers.get(sent.destination)
        if peer is not None:
            peer.take(sent)
        phone = self.phones.get(sent.destination)
        if phone is not None:
            flow = Flow(
                transport=sent.transport, local=phone.address, remote=sent.source, connection=delivery.connection
            )
            phone.agent.receive(Inbound(data=sent.data, flow=flow), self.now)
            phone.pump()

    def pump(self) -> None:
        for phone in self.phones.values():
            phone.pump()

    # ── what was seen ────────────────────────────────────────────────────────────────────────────────────

    def sent(self, what: str | int, *, by: Phone | Peer | None = None) -> list[Sent]:
        """The requests of a method, or the responses of a status, put on the wire so far."""
        return [sent for sent in self.wire if sent.is_a(what) and (by is None or sent.source == by.address)]

    def steps(self) -> list[str]:
        """The wire in short: ``INVITE``, ``INVITE 100``, …"""
        return [str(sent) for sent in self.wire]


class Phone:
    """A user agent with an address, and the events it gave. ``react`` is called with each of them."""

    def __init__(self, network: Network, name: str, address: Address, limits: UserAgentLimits) -> None:
        self.network = network
        self.name = name
        self.address = address
        self.events: list[SipEvent] = []
        self.outbound: list[Outbound] = []
        self.react: Callable[[SipEvent], None] = _ignore
        self._tokens = count(1)
        self.agent = self.new_agent(limits)

    def new_agent(self, limits: UserAgentLimits | None = None) -> UserAgent:
        return UserAgent(product="offhook-test", new_token=self.token, limits=limits or self.network.limits)

    def token(self) -> str:
        return f"{self.name}{next(self._tokens):08}"

    def flow_to(self, other: Phone | Peer) -> Flow:
        return Flow(transport=self.network.transport, local=self.address, remote=other.address)

    @property
    def identity(self) -> NameAddr:
        return NameAddr(uri=str(SipUri(user=self.name, host=self.address.host)))

    def pump(self) -> None:
        """Send and take events until there is nothing left of either."""
        while True:
            packets = self.agent.packets_to_send()
            for packet in packets:
                self._send(packet)
            event = self.agent.next_event()
            if event is None and not packets:
                return
            if event is not None:
                self.events.append(event)
                self.react(event)

    def _send(self, packet: Outbound) -> None:
        self.outbound.append(packet)
        hop, flow = packet.next_hop, packet.flow
        destination = flow.remote if hop is None else Address(hop.host, hop.port)
        self.network.put(self.address, destination, packet.data, flow.transport if hop is None else hop.transport)

    def invite(
        self,
        callee: Phone | Peer,
        *,
        offer: bytes = OFFER,
        headers: Iterable[tuple[str, str]] = (),
        credentials: DigestClient | None = None,
        session_timer: SessionTimerRules = DEFAULT_SESSION_TIMER,
        reliable: ReliableProvisional = "supported",
    ) -> int:
        """Send an INVITE to ``callee`` and return the usage."""
        usage_id = self.agent.invite(
            target=SipUri(user="demo", host=callee.address.host, port=callee.address.port),
            from_=self.identity,
            flow=self.flow_to(callee),
            next_hop=Hop(transport=self.network.transport, host=callee.address.host, port=callee.address.port),
            offer=offer,
            headers=headers,
            credentials=credentials,
            session_timer=session_timer,
            reliable=reliable,
            now=self.network.now,
        )
        self.pump()
        return usage_id

    def of(self, kind: type[Event]) -> list[Event]:
        """The events of one kind so far."""
        return [event for event in self.events if isinstance(event, kind)]

    def one(self, kind: type[Event]) -> Event:
        """The only event of that kind so far."""
        (event,) = self.of(kind)
        return event

    def attempt(self, command: str, usage_id: int, **arguments: object) -> bool:
        """Give a command that may come too late; False: it did."""
        try:
            when = () if command == "snapshot" else (self.network.now,)
            getattr(self.agent, command)(usage_id, *when, **arguments)
        except LocalProtocolError:
            return False
        return True

    @property
    def kinds(self) -> list[str]:
        return [type(event).__name__ for event in self.events]


def _as_it_is(data: bytes) -> bytes:
    return data


def _ignore(event: SipEvent) -> None:
    pass


class Peer:
    """A SIP endpoint driven by hand: it sends what the test says and keeps what comes."""

    def __init__(self, network: Network, address: Address) -> None:
        self.network = network
        self.address = address
        self.received: list[SipMessage] = []
        self._branches = count(1)

    def take(self, sent: Sent) -> None:
        self.received.append(sent.message)

    def send(self, message: SipMessage | bytes, to: Phone) -> None:
        data = message if isinstance(message, bytes) else serialize(message)
        self.network.put(self.address, to.address, data, self.network.transport)

    def request(
        self,
        method: str,
        to: Phone,
        *,
        cseq: int = 1,
        branch: str | None = None,
        to_tag: str | None = None,
        from_tag: str = "peertag",
        call_id: str = "peercall",
        uri: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        content_type: str = "application/sdp",
    ) -> Request:
        """Build a request to ``to`` and send it. A new branch each time unless one is given."""
        request = self.build(
            method,
            to,
            cseq=cseq,
            branch=branch,
            to_tag=to_tag,
            from_tag=from_tag,
            call_id=call_id,
            uri=uri,
            headers=headers,
            body=body,
            content_type=content_type,
        )
        self.send(request, to)
        return request

    def build(
        self,
        method: str,
        to: Phone,
        *,
        cseq: int = 1,
        branch: str | None = None,
        to_tag: str | None = None,
        from_tag: str = "peertag",
        call_id: str = "peercall",
        uri: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        content_type: str = "application/sdp",
    ) -> Request:
        host, port = self.address
        branch = branch or f"z9hG4bKpeer{next(self._branches)}"
        tagged = f";tag={to_tag}" if to_tag else ""
        text = [
            f"{method} {uri or f'sip:demo@{to.address.host}'} SIP/2.0",
            f"Via: SIP/2.0/{self.network.transport} {host}:{port};rport;branch={branch}",
            "Max-Forwards: 70",
            f"From: <sip:peer@{host}>;tag={from_tag}",
            f"To: <sip:demo@{to.address.host}>{tagged}",
            f"Call-ID: {call_id}",
            f"CSeq: {cseq} {method}",
            f"Contact: <sip:peer@{host}:{port}>",
            *(f"{name}: {value}" for name, value in headers),
            *([f"Content-Type: {content_type}"] if body else []),
            f"Content-Length: {len(body)}",
        ]
        message = parse_message("\r\n".join([*text, "", ""]).encode() + body)
        assert isinstance(message, Request)
        return message

    def respond(
        self,
        request: Request,
        status: int,
        to: Phone,
        *,
        tag: str | None = "remote",
        headers: Iterable[tuple[str, str]] = (),
        contact: bool = True,
        body: bytes = b"",
    ) -> Response:
        """Answer a request that came from ``to``."""
        own = [("Contact", f"<sip:peer@{self.address.host}:{self.address.port}>")] if contact else []
        response = response_to(
            request,
            status,
            to_tag=tag,
            headers=[*own, *headers],
            body=body,
            content_type="application/sdp" if body else None,
        )
        self.send(response, to)
        return response

    def requests(self, method: str) -> list[Request]:
        return [message for message in self.received if isinstance(message, Request) and message.method == method]

    def distinct(self, method: str) -> list[Request]:
        """The same without their copies."""
        return list({request.via_top.branch: request for request in self.requests(method)}.values())

    def responses(self, method: str = "INVITE") -> list[Response]:
        """The responses to requests of a method that came, in order."""
        return [message for message in self.received if isinstance(message, Response) and message.cseq.method == method]

    def statuses(self, method: str = "INVITE") -> list[int]:
        return [response.status for response in self.responses(method)]


# ── calls ────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Call:
    """An established call between two phones: the usage on each side."""

    caller: int
    callee: int


def dial(
    caller: Phone, callee: Phone, *, offer: bytes = OFFER, session_timer: SessionTimerRules = DEFAULT_SESSION_TIMER
) -> Call:
    """Call, answer, acknowledge; fails the test where that does not come off."""
    network = caller.network
    calling = caller.invite(callee, offer=offer, session_timer=session_timer)
    network.advance(0.05)
    called = callee.events[-1]
    usage_id = getattr(called, "usage_id", None)
    assert isinstance(usage_id, int), called
    callee.agent.answer(usage_id, network.now, body=ANSWER)
    network.advance(0.05)
    return Call(caller=calling, callee=usage_id)


def nothing_left(*phones: Phone) -> None:
    """Assert that no transaction, dialog, usage, timer, packet or event is held."""
    for phone in phones:
        counts = phone.agent.counts()
        assert not any(counts.values()), (phone.name, counts)

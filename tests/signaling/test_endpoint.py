"""The pump: two user agents on real sockets call each other, and nothing a stranger does ends the endpoint."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TypeVar

import pytest
from tests.signaling.dns_server import DnsServer
from tests.signaling.wire import Telnet, request

from offhook.signaling.endpoint import TIMER_AFTER_FAULT_S, SipEndpoint
from offhook.signaling.trace import TraceRecord
from offhook.sip.events import (
    AckReceived,
    Address,
    AnswerReceived,
    ByeReceived,
    CancelReceived,
    Flow,
    Hop,
    Inbound,
    InviteFailed,
    InviteReceived,
    OptionsAnswered,
    ProvisionalReceived,
    SipEvent,
    Transport,
    UsageEnded,
)
from offhook.sip.headers import NameAddr
from offhook.sip.uri import SipUri
from offhook.sip.user_agent import UserAgent

OFFER = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"
E = TypeVar("E", bound=SipEvent)
_numbers = itertools.count(1)


def new_token() -> str:
    return f"token-{next(_numbers):016d}"


class Phone:
    """A SipEndpoint whose events are kept; ``await phone.gets(InviteReceived)`` waits for one, each is given once."""

    def __init__(self, user_agent: UserAgent | None = None, trace: Callable[[TraceRecord], None] | None = None) -> None:
        self.user_agent = user_agent or UserAgent(product="test", new_token=new_token)
        self.events: list[SipEvent] = []
        self._taken = 0
        self._changed = asyncio.Event()
        self.reaction: Callable[[SipEvent], None] = lambda event: None
        self.endpoint = SipEndpoint(user_agent=self.user_agent, listener=self._note, trace=trace)
        self.address = Address("", 0)

    async def listen(self, transport: Transport = "UDP", host: str = "127.0.0.1", port: int = 0) -> Phone:
        self.address = await self.endpoint.listen(transport, host, port)
        return self

    async def call(
        self, callee: Address, transport: Transport = "UDP", *, offer: bytes = OFFER, host: str | None = None
    ) -> int:
        ((flow, hop), *_) = await self.endpoint.ways_to(
            Hop(transport=transport, host=host or callee.host, port=callee.port)
        )
        target = SipUri(user="demo", host=callee.host, port=callee.port, params=(("transport", transport.lower()),))
        from_ = NameAddr(uri=str(SipUri(user="caller", host=flow.local.host)))
        usage_id = self.user_agent.invite(
            target=target, from_=from_, flow=flow, next_hop=hop, offer=offer, now=time.monotonic()
        )
        self.endpoint.flush()
        return usage_id

    async def gets(self, kind: type[E], timeout_s: float = 5.0) -> E:
        """The next event that is of ``kind``; those before it are passed over."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    while self._taken < len(self.events):
                        event = self.events[self._taken]
                        self._taken += 1
                        if isinstance(event, kind):
                            return event
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"no {kind.__name__} among {self.events[-3:]}") from None

    def do(self, command: Callable[..., None], *arguments: object, **options: object) -> None:
        command(*arguments, time.monotonic(), **options)
        self.endpoint.flush()

    def _note(self, event: SipEvent) -> None:
        self.events.append(event)
        self._changed.set()
        self.reaction(event)


@contextlib.asynccontextmanager
async def phones(count: int = 2) -> AsyncIterator[list[Phone]]:
    made = [Phone() for _ in range(count)]
    try:
        yield made
    finally:
        for one in made:
            await one.endpoint.close()
            assert one.endpoint.counts()["faults"] == 0


@contextlib.contextmanager
def stranger_towards(address: Address) -> Iterator[socket.socket]:
    """A bare UDP socket connected to ``address``."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.setblocking(False)
        stranger.connect(address)
        yield stranger


async def received(stranger: socket.socket) -> bytes:
    return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(stranger, 65_535), 5)


# ── calls ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("transport", ["UDP", "TCP"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("who_hangs_up", ["caller", "callee"])
async def test_a_call_from_invite_to_bye(transport: Transport, host: str, who_hangs_up: str) -> None:
    async with phones() as (caller, callee):
        await caller.listen(transport, host)
        await callee.listen(transport, host)
        calling = await caller.call(callee.address, transport)
        invited = await callee.gets(InviteReceived)
        assert invited.request.body == OFFER
        assert invited.flow.transport == transport
        assert invited.flow.local == callee.address
        callee.do(callee.user_agent.ring, invited.usage_id)
        assert (await caller.gets(ProvisionalReceived)).status == 180
        callee.do(callee.user_agent.answer, invited.usage_id, body=OFFER)
        assert (await caller.gets(AnswerReceived)).response.body == OFFER
        await callee.gets(AckReceived)
        if who_hangs_up == "caller":
            caller.do(caller.user_agent.bye, calling)
            assert (await callee.gets(ByeReceived)).usage_id == invited.usage_id
            assert await caller.gets(UsageEnded) == UsageEnded(usage_id=calling, cause="bye_answered")
        else:
            callee.do(callee.user_agent.bye, invited.usage_id)
            assert (await caller.gets(ByeReceived)).usage_id == calling
            assert (await callee.gets(UsageEnded)).cause == "bye_answered"
        if transport == "TCP":  # one connection carried it all
            assert (caller.endpoint.counts()["dialled"], callee.endpoint.counts()["dialled"]) == (1, 0)


@pytest.mark.parametrize("transport", ["UDP", "TCP"])
async def test_a_call_is_cancelled_while_it_rings(transport: Transport) -> None:
    async with phones() as (caller, callee):
        await caller.listen(transport)
        await callee.listen(transport)
        calling = await caller.call(callee.address, transport)
        invited = await callee.gets(InviteReceived)
        callee.do(callee.user_agent.ring, invited.usage_id)
        await caller.gets(ProvisionalReceived)
        caller.do(caller.user_agent.cancel, calling)
        assert (await callee.gets(CancelReceived)).usage_id == invited.usage_id
        failed = await caller.gets(InviteFailed)
        assert (failed.status, failed.cause) == (487, "cancelled")


async def test_a_callee_by_name() -> None:
    async with phones() as (caller, callee):
        await caller.listen()
        await callee.listen()
        await caller.call(callee.address, host="localhost")
        await callee.gets(InviteReceived)


@pytest.mark.parametrize("transport", ["UDP", "TCP"])
async def test_called_at_any_of_its_addresses_a_wildcard_answers_from_there(transport: Transport) -> None:
    async with phones() as (caller, callee):
        await caller.listen(transport)
        port = (await callee.listen(transport, "")).address.port
        await caller.call(Address("127.0.0.2", port), transport)
        invited = await callee.gets(InviteReceived)
        assert invited.flow.local == Address("127.0.0.2", port)
        callee.do(callee.user_agent.answer, invited.usage_id, body=OFFER)
        answered = await caller.gets(AnswerReceived)
        assert answered.response.contact is not None
        assert answered.response.contact.sip_uri().host == "127.0.0.2"
        await callee.gets(AckReceived)  # it went to the Contact


async def test_names_are_asked_of_the_nameservers_given() -> None:
    async with DnsServer() as server:
        server.zone("pbx.example.org. 60 IN A 127.0.0.7")
        user_agent = UserAgent(product="test", new_token=new_token)
        one = SipEndpoint(user_agent=user_agent, listener=lambda event: None, nameservers=[server.text])
        await one.listen("UDP", "127.0.0.1", 0)
        ((flow, hop), *_) = await one.ways_to(Hop(transport="UDP", host="pbx.example.org", port=5060))
        await one.close()
    assert (flow.remote, hop.host) == (Address("127.0.0.7", 5060), "127.0.0.7")
    assert ("pbx.example.org", "A") in [(name.rstrip("."), kind) for name, kind in server.asked]


async def test_a_stranger_gets_his_reply_from_the_address_he_called() -> None:
    async with phones(1) as (callee,):
        await callee.listen("UDP", "0.0.0.0")
        with stranger_towards(Address("127.0.0.2", callee.address.port)) as stranger:
            stranger.send(request(transport="UDP"))
            # a connected socket gets nothing that comes from elsewhere
            assert (await received(stranger)).startswith(b"SIP/2.0 200 OK\r\n")


async def test_nobody_there_ends_the_call_over_tcp_at_once() -> None:
    async with phones(1) as (caller,):
        await caller.listen("TCP")
        calling = await caller.call(Address("127.0.0.1", 9), "TCP")
        failed = await caller.gets(InviteFailed)
        assert (failed.usage_id, failed.cause) == (calling, "transport")


async def test_an_unknown_name_in_a_contact_ends_only_that_request() -> None:
    async with phones(1) as (caller,):
        await caller.listen()
        ((flow, hop), *_) = await caller.endpoint.ways_to(Hop(transport="UDP", host="127.0.0.1", port=9))
        caller.user_agent.options(
            target=SipUri(user="x", host="name.invalid"),
            from_=NameAddr(uri="sip:me@127.0.0.1"),
            flow=flow,
            next_hop=Hop(transport="UDP", host="name.invalid", port=hop.port),
            now=time.monotonic(),
        )
        caller.endpoint.flush()
        assert (await caller.gets(OptionsAnswered, timeout_s=10)).response is None


async def test_retransmissions_come_by_the_timer() -> None:
    """Nobody answers over UDP: timer A repeats the INVITE after 0.5 s and 1 s more (RFC 3261 §17.1.1.2)."""
    async with phones(1) as (caller,):
        await caller.listen()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
            deaf.setblocking(False)
            deaf.bind(("127.0.0.1", 0))
            await caller.call(Address(*deaf.getsockname()))
            times, texts = [], set()
            for _ in range(3):
                texts.add(await received(deaf))
                times.append(time.monotonic())
        assert len(texts) == 1
        assert [round(later - earlier, 1) for earlier, later in itertools.pairwise(times)] == pytest.approx(
            [0.5, 1.0], abs=0.15
        )


async def test_a_listener_may_command_and_flush_from_within() -> None:
    async with phones() as (caller, callee):
        await caller.listen()
        await callee.listen()

        def answer_at_once(event: SipEvent) -> None:
            if isinstance(event, InviteReceived):
                callee.do(callee.user_agent.ring, event.usage_id)
                callee.do(callee.user_agent.answer, event.usage_id, body=OFFER)

        callee.reaction = answer_at_once
        await caller.call(callee.address)
        await caller.gets(ProvisionalReceived)
        await caller.gets(AnswerReceived)
        await callee.gets(AckReceived)


async def test_what_went_over_the_wire_is_traced_in_order() -> None:
    records: list[TraceRecord] = []
    callee = await Phone(trace=records.append).listen("TCP")
    client = await Telnet.to(callee.address)
    await client.send(request(call_id="traced"))
    reply = await client.read_message()
    assert [record.direction for record in records] == ["received", "sent"]
    assert records[0].data == request(call_id="traced")
    assert records[1].data == reply
    assert {record.flow for record in records} == {
        Flow(transport="TCP", local=callee.address, remote=client.address, connection=1)
    }
    assert abs(records[0].at - time.time()) < 60
    await client.close()
    await callee.endpoint.close()


# ── strangers ────────────────────────────────────────────────────────────────────────────────────────────


async def answers_options(phone: Phone) -> bool:
    """The endpoint lives: it answers a stranger."""
    with stranger_towards(phone.address) as stranger:
        stranger.send(request(transport="UDP", call_id=new_token()))
        return (await received(stranger)).startswith(b"SIP/2.0 200")


async def test_garbage_on_udp_is_survived() -> None:
    chosen = random.Random(2543)
    good = request("INVITE", transport="UDP")
    async with phones(1) as (callee,):
        await callee.listen()
        with stranger_towards(callee.address) as stranger:
            for count in range(500):
                garbage = bytearray(chosen.randbytes(chosen.randrange(1, 1500)) if count % 2 else good)
                for _ in range(chosen.randrange(1, 20)):
                    garbage[chosen.randrange(len(garbage))] = chosen.randrange(256)
                with contextlib.suppress(BlockingIOError):
                    stranger.send(garbage)
                if count % 50 == 0:
                    await asyncio.sleep(0)
        assert await answers_options(callee)


async def test_garbage_on_tcp_ends_only_its_connection() -> None:
    async with phones(1) as (callee,):
        await callee.listen("TCP")
        for garbage in (b"\xff" * 70_000, b"GET / HTTP/1.0\r\n\r\n", request().replace(b"Content-Length: 0", b"L: x")):
            stranger = await Telnet.to(callee.address)
            with contextlib.suppress(ConnectionError):
                await stranger.send(garbage)
            assert await stranger.closed_by_peer()
            await stranger.close()
        good = await Telnet.to(callee.address)
        await good.send(request())
        assert (await good.read_message()).startswith(b"SIP/2.0 200")
        await good.close()


async def test_a_malformed_request_is_answered_on_its_connection() -> None:
    async with phones(1) as (callee,):
        await callee.listen("TCP")
        client = await Telnet.to(callee.address)
        await client.send(request(call_id="bad").replace(b"SIP/2.0\r\n", b"SIP/7.0\r\n", 1))
        assert (await client.read_message()).startswith(b"SIP/2.0 505 ")
        await client.send(request(call_id="good"))
        assert (await client.read_message()).startswith(b"SIP/2.0 200 ")
        await client.close()


async def test_a_flood_of_calls_leaves_time_for_media() -> None:
    """A thousand INVITEs wait in the socket, and the loop has its turns between them: each reads what 2 ms allow.

    No time is measured: whoever takes the processor from us makes a turn longer, and never fuller.
    """
    async with phones(1) as (callee,):
        await callee.listen()
        with stranger_towards(callee.address) as stranger:
            for number in range(1000):
                with contextlib.suppress(BlockingIOError):
                    stranger.send(request("INVITE", transport="UDP", call_id=f"f{number}"))
            turns = [0]
            while len(callee.events) < 100:  # what the kernel's smallest usual buffer holds
                await asyncio.sleep(0)
                turns.append(len(callee.events))
        assert all(isinstance(event, InviteReceived) for event in callee.events)
        assert callee.endpoint.counts()["pauses"] > 0
        assert max(later - earlier for earlier, later in itertools.pairwise(turns)) < 50


# ── bugs ─────────────────────────────────────────────────────────────────────────────────────────────────


class Buggy(UserAgent):
    """A core with a bug that an OPTIONS from ``bug`` meets, and one in its timer."""

    def __init__(self) -> None:
        super().__init__(product="test", new_token=new_token)
        self.timer_faults = 0
        self.timer_at: float | None = None

    def receive(self, inbound: Inbound, now: float) -> None:
        if b"Call-ID: bug" in inbound.data:
            raise ZeroDivisionError("a bug of the core")
        super().receive(inbound, now)

    def get_timer(self) -> float | None:
        return self.timer_at

    def handle_timer(self, now: float) -> None:
        self.timer_faults += 1
        raise IndexError("a bug in a timer")


async def test_a_bug_of_the_core_is_logged_once_with_its_message_and_the_endpoint_lives(
    caplog: pytest.LogCaptureFixture,
) -> None:
    phone = await Phone(Buggy()).listen()
    bad = request(transport="UDP", call_id="bug").replace(
        b"Max-Forwards", b"Authorization: Digest response=secret\r\nMax-Forwards"
    )
    with caplog.at_level(logging.ERROR, logger="offhook.sip"), stranger_towards(phone.address) as stranger:
        for _ in range(5):
            stranger.send(bad)
        assert await answers_options(phone)
    [record] = caplog.records
    assert "Call-ID: bug" in record.getMessage()
    assert "secret" not in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError
    assert phone.endpoint.counts()["faults"] == 5
    await phone.endpoint.close()


async def test_a_bug_of_the_listener_is_logged_and_the_next_event_comes(caplog: pytest.LogCaptureFixture) -> None:
    async with contextlib.AsyncExitStack() as cleanup:
        callee, caller = await Phone().listen(), await Phone().listen()
        cleanup.push_async_callback(callee.endpoint.close)
        cleanup.push_async_callback(caller.endpoint.close)

        def fail(event: SipEvent) -> None:
            raise KeyError("a bug of the application")

        callee.reaction = fail
        for _ in range(2):
            await caller.call(callee.address)
            await callee.gets(InviteReceived)
        assert callee.endpoint.counts()["faults"] == 2
        assert [record.levelname for record in caplog.records] == ["ERROR"]


async def test_a_bug_in_a_timer_does_not_spin(caplog: pytest.LogCaptureFixture) -> None:
    core = Buggy()
    phone = await Phone(core).listen()
    core.timer_at = time.monotonic()
    phone.endpoint.flush()
    await asyncio.sleep(TIMER_AFTER_FAULT_S / 2)
    assert core.timer_faults == 1
    assert len(caplog.records) == 1
    await phone.endpoint.close()


async def test_after_close_nothing_is_sent_and_nothing_is_armed() -> None:
    phone = await Phone().listen()
    await phone.call(Address("127.0.0.1", 9))
    await phone.endpoint.close()
    await phone.endpoint.close()
    phone.endpoint.flush()
    assert phone.endpoint.listening == ()
    assert phone.endpoint._timer is None


# ── long life ────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_idle_tcp_connection_of_a_call_outlives_the_idle_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("offhook.signaling.streams.SWEEP_S", 0.01)
    monkeypatch.setattr("offhook.signaling.streams.IDLE_S", 0.05)
    async with phones() as (caller, callee):
        await caller.listen("TCP")
        await callee.listen("TCP")
        await caller.call(callee.address, "TCP")
        invited = await callee.gets(InviteReceived)
        callee.do(callee.user_agent.answer, invited.usage_id, body=OFFER)
        await caller.gets(AnswerReceived)
        await asyncio.sleep(0.2)
        assert callee.endpoint.counts()["expired"] + caller.endpoint.counts()["expired"] == 0
        callee.do(callee.user_agent.bye, invited.usage_id)
        await caller.gets(ByeReceived)
        assert callee.endpoint.counts()["dialled"] == 0

"""The user agent as a whole: loss, leaks, limits, what reaches whom, and RFC 4475's messages."""

from __future__ import annotations

import csv
from collections import Counter
from contextlib import suppress
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sip.network import ANSWER, OFFER, Network, Peer, Phone, dial, nothing_left
from tests.vectors.location import vectors

from offhook.model.errors import LocalProtocolError
from offhook.sip.events import (
    AnswerReceived,
    ByeReceived,
    Flow,
    Inbound,
    InviteFailed,
    InviteReceived,
    MessageRejected,
    ReferReceived,
    ReinviteReceived,
    SipEvent,
    UsageEnded,
)
from offhook.sip.inspection import ALLOW
from offhook.sip.message import Request, Response, serialize
from offhook.sip.parser import parse_message
from offhook.sip.parts import UserAgentLimits

CALLS = 200

# ── a bad network ────────────────────────────────────────────────────────────────────────────────────────


def answer_everything(phone: Phone) -> None:
    """From now on the phone answers each INVITE and re-INVITE as it comes."""

    def react(event: SipEvent) -> None:
        if isinstance(event, InviteReceived | ReinviteReceived):
            phone.agent.answer(event.usage_id, phone.network.now, body=ANSWER)

    phone.react = react


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_with_a_fifth_of_all_messages_lost_every_call_is_set_up_and_ends_on_both_sides(seed: int) -> None:
    net, random = Network(seed=seed), Random(seed)
    net.loss, net.jitter_s, net.duplication = 0.2, 0.08, 0.05
    alice, bob = net.phone("alice"), net.phone("bob")
    answer_everything(bob)
    callers = []
    for _ in range(CALLS):
        callers.append(alice.invite(bob))
        net.advance(random.random() * 0.1)
    net.advance(32)
    answered = {event.usage_id for event in alice.of(AnswerReceived)}
    # Seven copies of an INVITE are all lost once in 78,125 times: then it has failed, and bob knows nothing of it; or
    # he hears the last one, and his answer comes too late. As rarely no ACK reaches him, and he hangs up by himself.
    unheard = {event.usage_id for event in alice.of(InviteFailed) if event.cause == "timeout"}
    assert (answered | unheard, answered & unheard, len(unheard) <= 2) == (set(callers), set(), True)
    assert len(answered) <= len(bob.of(InviteReceived)) <= len(callers)
    callers = sorted(answered)
    for usage in callers[::2]:
        alice.attempt("bye", usage)
    halfway = {event.request.sip_call_id: event.usage_id for event in bob.of(InviteReceived)}
    by_call = {sent.message.sip_call_id for sent in net.sent("INVITE")}
    assert by_call >= set(halfway)
    net.advance(1)
    still = [event for event in bob.of(InviteReceived) if event.usage_id not in ended(bob)]
    for event in still[:: max(1, len(still) // 90)]:
        bob.attempt("bye", event.usage_id)
    net.advance(32)
    for usage in callers:
        alice.attempt("bye", usage)
    net.advance(64)
    assert ended(alice) == set(callers)
    assert ended(bob) == set(halfway.values())
    causes = {event.cause for phone in (alice, bob) for event in phone.of(UsageEnded)}
    assert causes <= {"bye_answered", "bye_timeout", "ack_missing"}
    nothing_left(alice, bob)


def ended(phone: Phone) -> set[int]:
    return {event.usage_id for event in phone.events if isinstance(event, UsageEnded | ByeReceived)}


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_calls_cancelled_at_any_moment_leave_nothing_on_a_bad_network(seed: int) -> None:
    net, random = Network(seed=seed), Random(seed)
    net.loss, net.jitter_s, net.duplication = 0.2, 0.3, 0.1
    alice, bob = net.phone("alice"), net.phone("bob")
    usages = set[int]()
    for _ in range(40):
        usage = alice.invite(bob)
        net.advance(random.random())
        if bob.of(InviteReceived) and random.random() < 0.5:
            bob.attempt("answer", bob.of(InviteReceived)[-1].usage_id, body=ANSWER)
        alice.attempt("cancel", usage)
        usages.add(usage)
    net.advance(70)
    for answered in alice.of(AnswerReceived):
        alice.attempt("bye", answered.usage_id)
    net.advance(140)
    over = {event.usage_id for event in alice.events if isinstance(event, UsageEnded | ByeReceived | InviteFailed)}
    assert over == usages
    for invited in bob.of(InviteReceived):
        bob.attempt("reject", invited.usage_id, status=480)
    net.advance(140)
    nothing_left(alice, bob)


def test_a_thousand_calls_in_a_row_leave_nothing() -> None:
    net = Network()
    alice, bob = net.phone("alice"), net.phone("bob")
    for number in range(1000):
        call = dial(alice, bob)
        one, usage = (alice, call.caller) if number % 2 else (bob, call.callee)
        one.agent.bye(usage, net.now)
        net.advance(1)
        alice.events.clear()
        bob.events.clear()
        net.wire.clear()
        alice.outbound.clear()
        bob.outbound.clear()
    assert alice.agent.counts()["transactions"] < 200
    net.advance(33)
    nothing_left(alice, bob)


# ── a bad peer ───────────────────────────────────────────────────────────────────────────────────────────

REQUESTS = ("INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "INFO", "MESSAGE", "REFER", "NOTIFY", "NOTIFY")
COMMANDS = ("ring", "answer", "reject", "ack", "cancel", "bye", "reinvite", "snapshot", "refer", "info", "message")
REFERRED = ("accept_refer", "reject_refer", "notify_refer")
STATUSES = (100, 180, 199, 200, 202, 302, 408, 481, 487, 491, 603)


class Chaos:
    """A peer that says anything in any order to a user agent that is commanded anything in any order."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.net = Network(seed=seed)
        self.net.loss = 0.1
        self.peer, self.phone = self.net.peer(), self.net.phone("bob")
        self.usages: list[int] = []

    def step(self) -> None:
        steps = (self.request, self.respond, self.command, self.referred, self.call)
        self.random.choices(steps, weights=(8, 6, 6, 2, 1))[0]()
        self.net.advance(self.random.choice((0.0, 0.01, 0.02, 0.3, 2.0, 35.0 if self.random.random() < 0.1 else 0.0)))
        self.collect()

    def collect(self) -> None:
        for event in self.phone.events:
            usage_id = getattr(event, "usage_id", None)
            if isinstance(usage_id, int) and usage_id not in self.usages:
                self.usages.append(usage_id)

    def request(self) -> None:
        call_id, ours, its = self.names()
        method = self.random.choice(REQUESTS)
        self.peer.request(
            method,
            self.phone,
            cseq=self.random.randrange(1, 6),
            branch=f"z9hG4bK{self.random.randrange(6)}" if self.random.random() < 0.5 else None,
            to_tag=ours,
            from_tag=its,
            call_id=call_id,
            headers=self.headers(),
            body=OFFER if method in ("INVITE", "ACK") and self.random.random() < 0.6 else b"",
        )

    def headers(self) -> list[tuple[str, str]]:
        """What REFER and NOTIFY say, and others should not: right, wrong or missing."""
        given = {
            "Refer-To": ("<sip:a@b>", "<sip:a@b?Replaces=one%3Bto-tag%3Dx%3Bfrom-tag%3Dpeertag>", "tel:+1", "?", ""),
            "Refer-Sub": ("true", "false"),
            "Event": ("refer", "refer;id=2", "refer;id=3", "presence", ";"),
            "Subscription-State": ("active", "terminated", "active;expires=5", "?;"),
        }
        return [(name, self.random.choice(values)) for name, values in given.items() if self.random.random() < 0.8]

    def names(self) -> tuple[str, str | None, str]:
        """Call-ID, the phone's tag, the peer's: mostly of a dialog that there was, sometimes of none."""
        dialogs = [
            (message.sip_call_id, message.to.tag, message.from_.tag)
            if isinstance(message, Response)
            else (message.sip_call_id, message.from_.tag, message.to.tag)
            for message in self.peer.received
        ]
        if dialogs and self.random.random() < 0.7:
            call_id, ours, its = self.random.choice(dialogs[-20:])
            return call_id, ours, its or self.random.choice(["remote0", "remote1"])
        return self.random.choice(["one", "two", "three"]), self.random.choice([None, None, "x"]), "peertag"

    def respond(self) -> None:
        asked = [message for message in self.peer.received if isinstance(message, Request) and message.method != "ACK"]
        if asked:
            tag = self.random.choice([None, "remote0", "remote1"])
            self.peer.respond(self.random.choice(asked), self.random.choice(STATUSES), self.phone, tag=tag, body=ANSWER)

    def call(self) -> None:
        self.usages.append(self.phone.invite(self.peer, offer=self.random.choice([OFFER, b""])))

    def command(self) -> None:
        if not self.usages:
            return
        name = self.random.choice(COMMANDS)
        wanted: dict[str, dict[str, object]] = {
            "answer": {"body": ANSWER},
            "reinvite": {"offer": OFFER},
            "refer": {"refer_to": "sip:operator@pbx.example"},
            "info": {"content_type": "application/dtmf", "body": b"5"},
            "message": {"body": b"hi"},
        }
        arguments = wanted.get(name, {})
        if name == "reject":
            arguments = {"status": self.random.choice((302, 486))}
        self.phone.attempt(name, self.random.choice(self.usages), **arguments)

    def referred(self) -> None:
        """Answer a REFER that came, or tell how it goes; maybe too late."""
        asked = self.phone.of(ReferReceived)
        if not asked:
            return
        event, name = self.random.choice(asked), self.random.choice(REFERRED)
        status = {"status": self.random.choice((180, 200, 486))} if name == "notify_refer" else {}
        with suppress(LocalProtocolError):
            getattr(self.phone.agent, name)(event.usage_id, event.refer_id, self.net.now, **status)

    def end(self) -> None:
        """Hang up whatever can be, wait, and look."""
        self.net.advance(1)
        self.collect()
        for usage in self.usages:
            for command, arguments in (("reject", {"status": 480}), ("cancel", {}), ("bye", {})):
                self.phone.attempt(command, usage, **arguments)
        self.net.advance(150)
        for usage in self.usages:
            self.phone.attempt("bye", usage)
        self.net.advance(400)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_whatever_comes_in_whatever_order_nothing_raises_and_nothing_is_left(seed: int) -> None:
    chaos = Chaos(seed)
    for _ in range(60):
        chaos.step()
    chaos.end()
    nothing_left(chaos.phone)


# ── what reaches whom ────────────────────────────────────────────────────────────────────────────────────


def called(**limits: int) -> tuple[Network, Peer, Phone]:
    net = Network(limits=UserAgentLimits(**limits))
    return net, net.peer(), net.phone("bob")


@pytest.mark.parametrize("method", ["REGISTER", "SUBSCRIBE", "NEWMETHOD", "PUBLISH", "invite"])
def test_a_method_we_do_not_have_gets_405_with_those_we_have(method: str) -> None:
    net, peer, bob = called()
    request = peer.request(method, bob)
    peer.send(request, bob)
    net.advance(0.05)
    assert peer.statuses(method) == [405, 405]
    first, second = peer.responses(method)
    assert first.headers.get("Allow") == ALLOW[1]
    assert first.to.tag == second.to.tag
    assert first.to.tag
    nothing_left(bob)


@pytest.mark.parametrize("method", ["BYE", "OPTIONS", "INVITE", "PRACK"])
def test_in_a_dialog_that_is_not_there_a_request_gets_481(method: str) -> None:
    net, peer, bob = called()
    peer.request(method, bob, to_tag="nobody", body=OFFER if method == "INVITE" else b"")
    net.advance(0.05)
    assert peer.statuses(method) == [481]


def test_an_ack_of_nothing_gets_no_answer() -> None:
    net, peer, bob = called()
    peer.request("ACK", bob, to_tag="nobody")
    peer.request("ACK", bob, headers=[("Require", "nothing")])
    net.advance(5)
    assert peer.received == []


def test_a_response_to_nothing_gets_no_answer_and_is_reported() -> None:
    net, peer, bob = called()
    request = peer.build("INVITE", bob)
    peer.respond(request, 200, bob)
    net.advance(5)
    assert peer.received == []
    assert bob.one(MessageRejected).status is None


def test_a_response_that_went_astray_is_discarded() -> None:
    net = Network()
    alice, peer = net.phone("alice"), net.peer()
    alice.invite(peer)
    net.advance(0.05)
    invite = peer.requests("INVITE")[0]
    invite.headers.add("Via", "SIP/2.0/UDP elsewhere;branch=z9hG4bKx")
    peer.respond(invite, 200, alice)
    net.advance(0.05)
    assert alice.of(AnswerReceived) == []
    assert alice.one(MessageRejected).rule == "response with several Via"


def test_keep_alives_mean_nothing() -> None:
    net, peer, bob = called()
    flow = Flow(transport="UDP", local=bob.address, remote=peer.address)
    for data in (b"", b"\r\n\r\n", b"\0\0"):
        bob.agent.receive(Inbound(data=data, flow=flow), net.now)
    bob.pump()
    assert bob.events == []
    nothing_left(bob)


def test_a_malformed_request_is_answered_and_reported() -> None:
    net, peer, bob = called()
    good = peer.build("INVITE", bob, body=OFFER)
    good.headers.set("CSeq", "1 OPTIONS")
    flow = Flow(transport="UDP", local=bob.address, remote=peer.address)
    data = f"INVITE {good.uri} SIP/2.0\r\n" + "".join(f"{n}: {v}\r\n" for n, v in good.headers.items()) + "\r\n"
    bob.agent.receive(Inbound(data=data.encode() + OFFER, flow=flow), net.now)
    net.advance(0.05)
    (answer,) = [message for message in peer.received if isinstance(message, Response)]
    assert answer.status == 400
    assert bob.one(MessageRejected) == MessageRejected(
        source=peer.address,
        status=400,
        rule="malformed CSeq",
        evidence="method is OPTIONS, not INVITE",
        fix="correct CSeq as RFC 3261 §25.1 has it",
    )
    nothing_left(bob)


def test_a_reply_goes_where_rport_says_and_names_the_source() -> None:
    net, peer, bob = called()
    request = peer.build("OPTIONS", bob)
    request.headers.set("Via", "SIP/2.0/UDP private.example:7777;rport;branch=z9hG4bKr;received=6.6.6.6")
    peer.send(request, bob)
    net.advance(0.05)
    via = peer.responses("OPTIONS")[0].via_top
    assert (via.received, via.rport, via.host, via.port) == (peer.address.host, "5060", "private.example", 7777)


def test_a_reply_without_rport_goes_to_the_port_of_the_via() -> None:
    net = Network()
    peer, listener, bob = net.peer(port=40_000), net.peer(host="10.0.0.1", port=5070), net.phone("bob")
    request = peer.build("OPTIONS", bob)
    request.headers.set("Via", "SIP/2.0/UDP 10.0.0.1:5070;branch=z9hG4bKr")
    peer.send(request, bob)
    net.advance(0.05)
    assert peer.received == []
    assert listener.statuses("OPTIONS") == [200]
    assert listener.responses("OPTIONS")[0].via_top.received is None


def test_over_ipv6_addresses_stand_in_brackets() -> None:
    net = Network()
    alice, bob = net.phone("alice", host="2001:db8::1"), net.phone("bob", host="2001:db8::2")
    call = dial(alice, bob)
    invite = net.sent("INVITE")[0].message
    assert invite.headers.get("Contact") == "<sip:alice@[2001:db8::1]:5060>"
    assert invite.via_top.host == "2001:db8::1"
    assert "[2001:db8::1]:5060" in (invite.headers.get("Via") or "")
    bob.agent.bye(call.callee, net.now)
    net.advance(0.05)
    assert bob.one(UsageEnded).cause == "bye_answered"


def test_over_tcp_everything_stays_on_the_connection() -> None:
    net = Network(transport="TCP")
    alice, bob = net.phone("alice"), net.phone("bob")
    call = dial(alice, bob)
    bob.agent.bye(call.callee, net.now)
    net.advance(0.05)
    connection = net.connection(alice.address, bob.address)
    first, *later = alice.outbound
    assert first.flow.connection == 0
    for packet in (*later, *bob.outbound):
        assert (packet.flow.connection, packet.next_hop) == (connection, None), packet.data
    assert all("TCP" in (sent.message.headers.get("Via") or "") for sent in net.wire)


def test_after_a_lost_connection_a_request_goes_to_the_contact() -> None:
    net = Network(transport="TCP")
    alice, bob = net.phone("alice"), net.phone("bob")
    call = dial(alice, bob)
    bob.agent.connection_lost(net.connection(alice.address, bob.address), net.now)
    bob.agent.bye(call.callee, net.now)
    bob.pump()
    packet = bob.outbound[-1]
    assert packet.flow.connection == 0
    assert packet.next_hop is not None
    assert (packet.next_hop.transport, packet.next_hop.host) == ("TCP", alice.address.host)


def test_merged_options_and_unknown_methods_leave_no_state_however_many() -> None:
    net, peer, bob = called()
    for number in range(500):
        peer.request("OPTIONS", bob, call_id=f"scan{number}")
        peer.request("REGISTER", bob, call_id=f"scan{number}")
    net.advance(0.05)
    assert Counter(peer.statuses("OPTIONS")) == {200: 500}
    assert Counter(peer.statuses("REGISTER")) == {405: 500}
    nothing_left(bob)


def test_beyond_the_limit_of_transactions_new_calls_get_503_and_a_running_one_can_end() -> None:
    net, peer, bob = called(transactions=3)
    peer.request("INVITE", bob, call_id="running", body=OFFER)
    net.advance(0.05)
    usage = bob.one(InviteReceived).usage_id
    bob.agent.answer(usage, net.now, body=ANSWER)
    net.advance(0.05)
    tag = peer.responses()[-1].to.tag
    peer.request("ACK", bob, call_id="running", to_tag=tag)
    for number in range(5):
        peer.request("INVITE", bob, call_id=f"flood{number}", body=OFFER)
    net.advance(0.05)
    assert Counter(peer.statuses()) == {100: 3, 200: 1, 503: 3}
    peer.request("BYE", bob, cseq=2, call_id="running", to_tag=tag)
    net.advance(0.05)
    assert peer.statuses("BYE") == [200]
    assert bob.one(ByeReceived).usage_id == usage


def test_reports_are_dropped_and_counted_when_nobody_takes_them_but_calls_are_not() -> None:
    net, peer, bob = called(events=5)
    flow = Flow(transport="UDP", local=bob.address, remote=peer.address)
    for number in range(20):
        request = peer.build("PUBLISH", bob, call_id=f"p{number}")
        bob.agent.receive(Inbound(data=serialize(request), flow=flow), net.now)
    bob.agent.receive(Inbound(data=serialize(peer.build("INVITE", bob, body=OFFER)), flow=flow), net.now)
    assert bob.agent.events_dropped == 15
    bob.pump()
    assert Counter(bob.kinds) == {"MessageRejected": 5, "InviteReceived": 1}


# ── RFC 4475 ─────────────────────────────────────────────────────────────────────────────────────────────

EXPECTED: dict[str, tuple[set[int | None], str]] = {
    # name: the statuses that are right for an endpoint (None: no answer), and what else must be seen
    "wsinv": ({481}, ""),  # readable, but its To has a tag, and we have no such dialog (RFC 3261 §12.2.2)
    "intmeth": ({405}, "allow"),
    "esc01": ({100}, "invite"),
    "escnull": ({405}, "allow"),
    "esc02": ({405}, "allow"),
    "lwsdisp": ({200}, "options"),
    "longreq": ({100}, "invite"),
    "dblreq": ({405}, "allow"),
    "semiuri": ({200}, "options"),
    "transports": ({200}, "options"),
    "mpart01": ({405}, "allow"),
    "unreason": ({None}, ""),
    "noreason": ({None}, ""),
    "badinv01": ({400}, ""),
    "clerr": ({400}, ""),
    "ncl": ({400}, ""),
    "scalar02": ({400}, ""),
    "scalarlg": ({None}, ""),
    "quotbal": ({400}, ""),
    "ltgtruri": ({400}, ""),
    "lwsruri": ({400}, ""),
    "lwsstart": ({400}, ""),
    "trws": ({400}, ""),
    "escruri": ({400}, ""),
    "baddate": ({100, 400}, ""),
    "regbadct": ({400, 405}, ""),
    "badaspec": ({200, 400}, ""),
    "baddn": ({200, 400}, ""),
    "badvers": ({505}, ""),
    "mismatch01": ({400}, ""),
    "mismatch02": ({400, 501}, ""),
    "bigcode": ({None}, ""),
    "badbranch": ({200, 400}, ""),
    "insuf": ({400}, ""),
    "unkscm": ({416}, ""),
    "novelsc": ({416}, ""),
    "unksm2": ({405}, "allow"),
    "bext01": ({420}, "unsupported"),
    "invut": ({415}, "accept"),
    "regaut01": ({405}, "allow"),
    "multi01": ({400}, ""),
    "mcl01": ({400}, ""),
    "bcast": ({None}, ""),
    "zeromf": ({200}, "options"),
    "cparam01": ({405}, "allow"),
    "cparam02": ({405}, "allow"),
    "regescrt": ({405}, "allow"),
    "sdp01": ({406}, "accept"),
    "inv2543": ({100}, "invite"),
}


def test_every_message_of_rfc_4475_has_its_expectation() -> None:
    with vectors("sip", "rfc4475_expect.tsv").open(encoding="utf-8") as file:
        names = {row[0] for row in csv.reader(file, delimiter="\t") if row and not row[0].startswith("#")}
    assert names == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_rfc_4475(name: str) -> None:
    """Every torture message gets the answer an endpoint owes it, and the user agent takes the next call."""
    net, peer, bob = called()
    flow = Flow(transport="UDP", local=bob.address, remote=peer.address)
    bob.agent.receive(Inbound(data=vectors("sip", "rfc4475", f"{name}.dat").read_bytes(), flow=flow), net.now)
    answers = [packet.data for packet in bob.agent.packets_to_send()]
    bob.pump()
    statuses: set[int | None] = {int(data.split(b" ", 2)[1]) for data in answers}
    right, what = EXPECTED[name]
    assert (statuses or {None}) <= right, statuses
    head = answers[0].partition(b"\r\n\r\n")[0].decode("utf-8", "replace") if answers else ""
    match what:
        case "invite":
            assert bob.kinds == ["InviteReceived"]
            usage = bob.one(InviteReceived).usage_id
            bob.agent.answer(usage, net.now, body=ANSWER)
            answer = parse_message(bob.agent.packets_to_send()[-1].data)
            assert isinstance(answer, Response)
            assert (answer.status, answer.body) == (200, ANSWER)
        case "allow":
            assert "\r\nAllow: INVITE, ACK, CANCEL, BYE, OPTIONS" in head
        case "unsupported":
            assert "\r\nUnsupported: nothingSupportsThis, nothingSupportsThisEither\r\n" in head
        case "accept":
            assert "\r\nAccept: application/sdp\r\n" in head
        case "options":
            assert "\r\nAccept: application/sdp\r\n" in head
            assert "\r\nSupported:" in head
    peer.request("INVITE", bob, call_id="afterwards", body=OFFER)
    net.advance(0.05)
    assert 100 in peer.statuses()

"""INFO and MESSAGE in a call, both ways."""

from __future__ import annotations

import pytest
from tests.sip.network import ANSWER, OFFER, Network, Peer, Phone, dial, nothing_left

from offhook.model.errors import LocalProtocolError
from offhook.sip.events import InfoReceived, InviteReceived, MessageReceived, MessageRejected, RequestAnswered
from offhook.sip.parts import UserAgentLimits

RELAY = b"Signal=5\r\nDuration=160\r\n"


def called(limits: UserAgentLimits | None = None) -> tuple[Network, Peer, Phone, int, str]:
    """A peer has called bob: his usage and his tag."""
    net = Network(limits=limits)
    peer, bob = net.peer(), net.phone("bob")
    peer.request("INVITE", bob, body=OFFER)
    net.advance(0.05)
    usage = bob.one(InviteReceived).usage_id
    bob.agent.answer(usage, net.now, body=ANSWER)
    net.advance(0.05)
    tag = peer.responses()[-1].to.tag
    assert tag is not None
    peer.request("ACK", bob, to_tag=tag)
    net.advance(0.05)
    return net, peer, bob, usage, tag


# ── in ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("method", "content_type"),
    [
        ("INFO", "application/dtmf-relay"),
        ("INFO", "Application/DTMF-Relay ; x=y"),
        ("INFO", "application/dtmf"),
        ("INFO", "text/plain"),
        ("MESSAGE", "text/plain"),
        ("MESSAGE", "text/plain;charset=UTF-8"),
    ],
)
def test_what_is_understood_is_answered_at_once_and_told_once(method: str, content_type: str) -> None:
    net, peer, bob, usage, tag = called()
    request = peer.request(method, bob, cseq=2, to_tag=tag, body=RELAY, content_type=content_type)
    peer.send(request, bob)
    net.advance(0.05)
    assert peer.statuses(method) == [200, 200]
    event = bob.one(InfoReceived) if method == "INFO" else bob.one(MessageReceived)
    assert (event.usage_id, event.request.body) == (usage, RELAY)


@pytest.mark.parametrize(
    ("method", "content_type", "accept"),
    [
        ("INFO", "application/media_control+xml", "application/dtmf-relay, application/dtmf, text/plain"),
        ("INFO", "application/sdp", "application/dtmf-relay, application/dtmf, text/plain"),
        ("INFO", "", "application/dtmf-relay, application/dtmf, text/plain"),
        ("MESSAGE", "text/html", "text/plain"),
        ("MESSAGE", "application/dtmf-relay", "text/plain"),
    ],
)
def test_what_is_not_understood_gets_415_with_what_would_be(method: str, content_type: str, accept: str) -> None:
    net, peer, bob, _, tag = called()
    peer.request(method, bob, cseq=2, to_tag=tag, body=b"<x/>", content_type=content_type)
    net.advance(0.05)
    (response,) = peer.responses(method)
    assert (response.status, response.headers.get("Accept")) == (415, accept)
    assert bob.one(MessageRejected).evidence == f"Content-Type: {content_type}"
    assert bob.kinds == ["InviteReceived", "AckReceived", "MessageRejected"]


def test_an_empty_info_asks_whether_we_are_there() -> None:
    net, peer, bob, _, tag = called()
    peer.request("INFO", bob, cseq=2, to_tag=tag)
    net.advance(0.05)
    assert peer.statuses("INFO") == [200]
    assert bob.of(InfoReceived) == []


def test_an_info_of_a_package_gets_469() -> None:
    """RFC 6086 §4.2.2."""
    net, peer, bob, _, tag = called()
    peer.request("INFO", bob, cseq=2, to_tag=tag, headers=[("Info-Package", "dtmf")], body=RELAY)
    net.advance(0.05)
    (response,) = peer.responses("INFO")
    assert (response.status, response.headers.get("Recv-Info")) == (469, "")


def test_an_info_before_the_answer_is_told_too() -> None:
    net = Network()
    peer, bob = net.peer(), net.phone("bob")
    peer.request("INVITE", bob, body=OFFER)
    net.advance(0.05)
    bob.agent.ring(bob.one(InviteReceived).usage_id, net.now)
    net.advance(0.05)
    tag = peer.responses()[-1].to.tag
    peer.request("INFO", bob, cseq=2, to_tag=tag, body=RELAY, content_type="application/dtmf-relay")
    net.advance(0.05)
    assert peer.statuses("INFO") == [200]
    assert bob.one(InfoReceived).request.body == RELAY


def test_while_our_bye_is_under_way_nothing_is_said_any_more() -> None:
    net, peer, bob, usage, tag = called()
    bob.agent.bye(usage, net.now)
    net.advance(0.05)
    peer.request("MESSAGE", bob, cseq=2, to_tag=tag, body=b"wait", content_type="text/plain")
    net.advance(0.05)
    assert peer.statuses("MESSAGE") == [481]
    assert bob.of(MessageReceived) == []


@pytest.mark.parametrize("method", ["INFO", "MESSAGE", "NOTIFY"])
def test_outside_a_call_it_is_not_allowed_and_in_another_it_is_unknown(method: str) -> None:
    net, peer, bob, _, _ = called()
    peer.request(method, bob, call_id="alone", body=b"x", content_type="text/plain")
    peer.request(method, bob, call_id="alone", to_tag="x", cseq=2, body=b"x", content_type="text/plain")
    net.advance(0.05)
    assert peer.statuses(method) == [405, 481]
    assert peer.responses(method)[0].headers.get("Allow") == "INVITE, ACK, CANCEL, BYE, OPTIONS"
    assert bob.of(MessageRejected)[0].rule == "method outside a call"


def test_a_flood_is_refused_where_transactions_are_at_their_limit_and_the_call_can_end() -> None:
    net, peer, bob, _, tag = called(UserAgentLimits(transactions=50))
    for number in range(2, 500):
        peer.request("INFO", bob, cseq=number, to_tag=tag, body=RELAY, content_type="application/dtmf")
    net.advance(0.05)
    statuses = peer.statuses("INFO")
    assert (statuses[0], statuses[-1], len(statuses)) == (200, 503, 498)
    assert bob.agent.counts()["transactions"] <= 50
    assert len(bob.of(InfoReceived)) == statuses.count(200)
    peer.request("BYE", bob, cseq=500, to_tag=tag)
    net.advance(0.05)
    assert peer.statuses("BYE") == [200]
    net.advance(33)
    nothing_left(bob)


def test_what_nobody_takes_is_dropped_and_counted() -> None:
    net, peer, bob, _, tag = called(UserAgentLimits(events=5))
    agent = bob.agent
    bob.pump = lambda: None  # type: ignore[method-assign]  # nobody takes the events
    for number in range(2, 30):
        peer.request("MESSAGE", bob, cseq=number, to_tag=tag, body=b"hi", content_type="text/plain")
    net.advance(0.05)
    assert agent.events_dropped == 28 - 5


# ── out ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("by_caller", [True, False])
@pytest.mark.parametrize("method", ["INFO", "MESSAGE"])
def test_either_side_says_something(by_caller: bool, method: str) -> None:
    net = Network()
    alice, bob = net.phone("alice"), net.phone("bob")
    call = dial(alice, bob)
    one, other = (alice, bob) if by_caller else (bob, alice)
    usage, theirs = (call.caller, call.callee) if by_caller else (call.callee, call.caller)
    say = one.agent.info if method == "INFO" else one.agent.message
    token = say(usage, net.now, content_type="text/plain", body="grüß Gott".encode(), headers=[("X-Why", "so")])
    net.advance(0.05)
    heard = other.one(InfoReceived) if method == "INFO" else other.one(MessageReceived)
    assert (heard.usage_id, heard.request.body.decode()) == (theirs, "grüß Gott")
    assert (heard.request.headers.get("Content-Type"), heard.request.headers.get("X-Why")) == ("text/plain", "so")
    assert one.one(RequestAnswered) == RequestAnswered(
        usage_id=usage, token=token, method=method, status=200, reason="OK"
    )
    assert net.steps()[-2:] == [method, f"{method} 200"]


def test_each_answer_names_what_it_answers() -> None:
    net = Network()
    alice, bob = net.phone("alice"), net.phone("bob")
    call = dial(alice, bob)
    tokens = [
        alice.agent.info(call.caller, net.now, content_type="application/dtmf", body=b"5"),
        alice.agent.info(call.caller, net.now, content_type="application/x", body=b"5"),
        alice.agent.message(call.caller, net.now, body=b"hi"),
    ]
    net.advance(0.1)
    assert {event.token: event.status for event in alice.of(RequestAnswered)} == dict(
        zip(tokens, (200, 415, 200), strict=True)
    )


def test_without_answer_it_is_told_as_408_and_the_call_goes_on() -> None:
    net = Network()
    alice, bob = net.phone("alice"), net.phone("bob")
    call = dial(alice, bob)
    net.drop(lambda sent: sent.is_a("INFO"))
    alice.agent.info(call.caller, net.now, content_type="application/dtmf", body=b"5")
    net.advance(33)
    assert (alice.one(RequestAnswered).status, alice.agent.counts()["usages"]) == (408, 1)


def test_after_the_call_its_answer_is_not_told() -> None:
    net = Network()
    alice, bob = net.phone("alice"), net.phone("bob")
    call = dial(alice, bob)
    net.drop(lambda sent: sent.is_a("INFO"))
    alice.agent.info(call.caller, net.now, content_type="application/dtmf", body=b"5")
    alice.agent.bye(call.caller, net.now)
    net.advance(40)
    assert alice.kinds == ["AnswerReceived", "UsageEnded"]
    nothing_left(alice, bob)


@pytest.mark.parametrize("content_type", ["text/plain\r\nX: y", "text/plain\n"])
def test_a_content_type_cannot_break_the_message(content_type: str) -> None:
    net = Network()
    alice, bob = net.phone("alice"), net.phone("bob")
    call = dial(alice, bob)
    with pytest.raises(LocalProtocolError):
        alice.agent.message(call.caller, net.now, content_type=content_type, body=b"x")


def test_nothing_is_said_before_the_answer_or_after_the_end() -> None:
    net = Network()
    alice, bob = net.phone("alice"), net.phone("bob")
    usage = alice.invite(bob)
    net.advance(0.05)
    for phone, one in ((alice, usage), (bob, bob.one(InviteReceived).usage_id)):
        with pytest.raises(LocalProtocolError):
            phone.agent.message(one, net.now, body=b"x")


# ── what the peer allows ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("allow", "allowed"),
    [
        ([], {"INFO": None, "REFER": None}),
        ([("Allow", "INVITE, ACK, BYE, INFO")], {"INFO": True, "REFER": False}),
        ([("Allow", "INVITE, ACK"), ("Allow", "REFER")], {"INFO": False, "REFER": True}),
    ],
)
def test_what_the_peer_allows_is_what_its_latest_allow_says(
    allow: list[tuple[str, str]], allowed: dict[str, bool | None]
) -> None:
    net = Network()
    peer, bob = net.peer(), net.phone("bob")
    peer.request("INVITE", bob, headers=allow, body=OFFER)
    net.advance(0.05)
    usage = bob.one(InviteReceived).usage_id
    assert {method: bob.agent.peer_allows(usage, method) for method in allowed} == allowed

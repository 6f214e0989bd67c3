"""Answered usages saved at any moment go on in a fresh user agent."""

from __future__ import annotations

import base64
import json
import re
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sip.network import ANSWER, OFFER, Network, Phone, dial, nothing_left
from tests.sip.test_authentication import Trunk

from offhook.model.errors import LocalProtocolError
from offhook.sip.events import (
    AckReceived,
    AnswerReceived,
    ByeReceived,
    InviteReceived,
    ReinviteAnswered,
    ReinviteReceived,
    SipEvent,
    UsageEnded,
)


def answer_everything(phone: Phone) -> None:
    def react(event: SipEvent) -> None:
        if isinstance(event, InviteReceived | ReinviteReceived):
            phone.agent.answer(event.usage_id, phone.network.now, body=ANSWER)

    phone.react = react


def move(phone: Phone, usage_id: int, peer: Phone) -> int:
    """Save the usage, forget the user agent, restore into a fresh one; returns the new usage."""
    saved = msgspec.json.decode(msgspec.json.encode(phone.agent.snapshot(usage_id)))
    phone.agent = phone.new_agent()
    restored = phone.agent.restore(saved, phone.flow_to(peer), phone.network.now)
    phone.events.clear()
    return restored


@pytest.mark.parametrize("transport", ["UDP", "TCP"])
@pytest.mark.parametrize("caller_moves", [True, False])
def test_a_restored_call_is_changed_and_ended_and_the_peer_agrees(transport: str, caller_moves: bool) -> None:
    net = Network(transport="TCP" if transport == "TCP" else "UDP")
    alice, bob = net.phone("alice"), net.phone("bob")
    call = dial(alice, bob)
    one, other = (alice, bob) if caller_moves else (bob, alice)
    answer_everything(other)
    usage = move(one, call.caller if caller_moves else call.callee, other)
    one.agent.reinvite(usage, net.now, offer=OFFER)
    net.advance(0.1)
    assert one.one(ReinviteAnswered).usage_id == usage
    assert other.of(AckReceived)[-1].body == b""
    one.agent.bye(usage, net.now)
    net.advance(0.1)
    assert one.one(UsageEnded).cause == "bye_answered"
    assert len(other.of(ByeReceived)) == 1
    net.advance(40)
    nothing_left(alice, bob)


def test_the_peer_goes_on_with_a_restored_call_too() -> None:
    net = Network()
    alice, bob = net.phone("alice"), net.phone("bob")
    call = dial(alice, bob)
    usage = move(bob, call.callee, alice)
    answer_everything(bob)
    alice.agent.reinvite(call.caller, net.now, offer=OFFER)
    net.advance(0.1)
    assert len(alice.of(ReinviteAnswered)) == 1
    alice.agent.bye(call.caller, net.now)
    net.advance(0.1)
    assert bob.one(ByeReceived).usage_id == usage


@pytest.mark.parametrize("name", ["José".encode("latin-1"), "José".encode(), b"\xff\xc3\x28\x80", "Жо".encode()])
def test_a_restored_call_says_the_octets_that_a_peer_said(name: bytes) -> None:
    """RFC 3261 §12.2.1.1: the To of our BYE is the From of the INVITE, also where it is not UTF-8."""
    net = Network()
    alice, bob = net.phone("alice"), net.phone("bob")
    net.rewrite = lambda data: data.replace(b"From: <sip:alice", b'From: "%s" <sip:alice' % name)
    call = dial(alice, bob)
    usage = move(bob, call.callee, alice)
    bob.agent.bye(usage, net.now)
    net.advance(0.1)
    assert b'To: "%s" <sip:alice' % name in net.sent("BYE")[0].data
    assert bob.one(UsageEnded).cause == "bye_answered"


def test_our_cseq_leaves_a_gap_for_what_the_snapshot_does_not_know() -> None:
    net = Network()
    alice, bob = net.phone("alice"), net.phone("bob")
    answer_everything(bob)
    call = dial_answered(alice, bob)
    saved = alice.agent.snapshot(call)
    for _ in range(3):
        alice.agent.reinvite(call, net.now, offer=OFFER)
        net.advance(0.1)
    alice.agent = alice.new_agent()
    usage = alice.agent.restore(saved, alice.flow_to(bob), net.now)
    alice.agent.reinvite(usage, net.now, offer=OFFER)
    net.advance(0.1)
    assert len(alice.of(ReinviteAnswered)) == 4
    assert net.sent("INVITE")[-1].message.cseq.number == 102


def dial_answered(alice: Phone, bob: Phone) -> int:
    usage = alice.invite(bob)
    alice.network.advance(0.1)
    return usage


def test_a_2xx_that_waited_for_its_ack_is_repeated_by_the_restored_user_agent() -> None:
    net = Network()
    alice, bob = net.phone("alice"), net.phone("bob")
    answer_everything(bob)
    net.drop(lambda sent: sent.is_a(200))
    alice.invite(bob)
    net.advance(0.1)
    usage = move(bob, bob.one(InviteReceived).usage_id, alice)
    net.pass_all()
    net.advance(1)
    assert bob.one(AckReceived).usage_id == usage
    assert alice.one(AnswerReceived).response.contact is not None
    assert len(net.sent("ACK")) == 1


def test_a_2xx_whose_ack_was_lost_with_the_old_process_is_acknowledged_again() -> None:
    net = Network()
    alice, bob = net.phone("alice"), net.phone("bob")
    answer_everything(bob)
    net.drop(lambda sent: sent.is_a("ACK"), times=1)
    usage = dial_answered(alice, bob)
    move(alice, usage, bob)
    net.advance(1)
    assert len(bob.of(AckReceived)) == 1


def test_the_2xx_of_a_re_invite_the_old_process_sent_is_acknowledged() -> None:
    net = Network()
    alice, bob = net.phone("alice"), net.phone("bob")
    answer_everything(bob)
    usage = dial_answered(alice, bob)
    alice.agent.reinvite(usage, net.now, offer=OFFER)
    alice.pump()
    move(alice, usage, bob)
    net.advance(1)
    assert len(bob.of(AckReceived)) == 2


@pytest.mark.parametrize("waits", [True, False], ids=["waiting for the ACK", "acknowledged"])
def test_without_bodies_no_session_description_is_saved(waits: bool) -> None:
    net = Network()
    alice, bob = net.phone("alice"), net.phone("bob")
    answer_everything(bob)
    net.drop(lambda sent: waits and sent.is_a("ACK"))
    dial_answered(alice, bob)
    usage = bob.one(InviteReceived).usage_id
    saved = [decoded(bob.agent.snapshot(usage, bodies=bodies)) for bodies in (True, False)]
    assert [ANSWER.decode() in text for text in saved] == [True, False]
    assert [" 200 " in text and "Content-Length: 0" in text for text in saved] == [False, waits]


def test_no_answer_to_a_challenge_is_saved() -> None:
    trunk = Trunk()
    trunk.connect()
    ack = trunk.last("ACK")
    assert "Authorization" in ack.headers
    saved = decoded(trunk.phone.agent.snapshot(trunk.usage))
    assert f"ACK {ack.uri}" in saved
    assert "Authorization" not in saved


def decoded(snapshot: object) -> str:
    """All the texts of a snapshot, and the octets that are base64 in it."""
    texts = re.findall('"([^"]*)"', json.dumps(snapshot))
    octets = [base64.b64decode(text) for text in texts if len(text) % 4 == 0 and re.fullmatch("[A-Za-z0-9+/]+=*", text)]
    return "\n".join([*texts, *(data.decode("latin-1") for data in octets)])


def test_a_stray_2xx_to_an_invite_never_sent_is_not_acknowledged() -> None:
    net = Network()
    alice, peer = net.phone("alice"), net.peer()
    alice.invite(peer)
    net.advance(0.05)
    invite = peer.requests("INVITE")[0]
    peer.respond(invite, 200, alice, body=ANSWER)
    net.advance(0.05)
    for cseq, branch, tag in ((2, "z9hG4bKx", "remote"), (1, "z9hG4bKx", "other")):
        invite.headers.set("CSeq", f"{cseq} INVITE")
        invite.headers.set("Via", f"SIP/2.0/UDP 10.0.0.1:5060;branch={branch}")
        peer.respond(invite, 200, alice, tag=tag, body=ANSWER)
    net.advance(0.05)
    assert len(peer.requests("ACK")) == 1
    invite.headers.set("CSeq", "1 INVITE")
    peer.respond(invite, 200, alice, body=ANSWER)
    net.advance(0.05)
    assert len(peer.requests("ACK")) == 2


def test_only_an_answered_usage_can_be_saved() -> None:
    net = Network()
    alice, bob = net.phone("alice"), net.phone("bob")
    usage = alice.invite(bob)
    net.advance(0.05)
    for phone, saved in ((alice, usage), (bob, bob.one(InviteReceived).usage_id), (bob, 99)):
        with pytest.raises(LocalProtocolError):
            phone.agent.snapshot(saved)


@pytest.mark.parametrize("spoil", [{"version": 2}, {"state": "CALLING"}, {"dialog": None}, {"ack": 1}])
def test_what_is_no_snapshot_is_not_restored(spoil: dict[str, int | str | None]) -> None:
    net = Network()
    alice, bob = net.phone("alice"), net.phone("bob")
    call = dial(alice, bob)
    saved = {**alice.agent.snapshot(call.caller), **spoil}
    fresh = alice.new_agent()
    with pytest.raises(LocalProtocolError):
        fresh.restore(saved, alice.flow_to(bob), net.now)
    assert not any(fresh.counts().values())


def test_text_that_is_not_written_by_octets_is_not_restored() -> None:
    net = Network()
    alice, bob = net.phone("alice"), net.phone("bob")
    saved = alice.agent.snapshot(dial(alice, bob).caller)
    assert isinstance(saved["dialog"], dict)
    saved["dialog"]["remote"] = "<sip:Ж@example.com>"
    with pytest.raises(LocalProtocolError, match="not a snapshot"):
        alice.new_agent().restore(saved, alice.flow_to(bob), net.now)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), caller_moves=st.booleans())
def test_a_call_stopped_at_a_random_moment_goes_on(seed: int, caller_moves: bool) -> None:
    """At any moment after the answer one side moves to a fresh object, and from there changes and ends the call."""
    net, random = Network(seed=seed), Random(seed)
    net.loss = 0.1
    alice, bob = net.phone("alice"), net.phone("bob")
    answer_everything(alice)
    answer_everything(bob)
    usage = alice.invite(bob)
    while not alice.of(AnswerReceived):
        net.advance(0.2)
    called = bob.one(InviteReceived).usage_id
    for _ in range(random.randrange(4)):
        phone, its = (alice, usage) if random.random() < 0.5 else (bob, called)
        phone.attempt("reinvite", its, offer=OFFER)
        net.advance(random.random() * 2)
    one, other = (alice, bob) if caller_moves else (bob, alice)
    moved = move(one, usage if caller_moves else called, other)
    for _ in range(10):  # the other side's own re-INVITE, repeated, may be in the way for a while (491)
        one.attempt("reinvite", moved, offer=OFFER)
        net.advance(20)
        if one.of(ReinviteAnswered):
            break
    assert one.of(ReinviteAnswered)
    net.advance(40)
    assert one.attempt("bye", moved)
    net.advance(70)
    assert one.of(UsageEnded)
    assert other.of(ByeReceived)
    nothing_left(alice, bob)

"""How a usage ends, from either side."""

from __future__ import annotations

import pytest
from tests.sip.network import ANSWER, OFFER, Network, dial, nothing_left

from offhook.model.errors import LocalProtocolError
from offhook.sip.events import ByeReceived, InviteReceived, UsageEnded


@pytest.mark.parametrize("transport", ["UDP", "TCP"])
@pytest.mark.parametrize("by_caller", [True, False])
def test_either_side_hangs_up(transport: str, by_caller: bool) -> None:
    net = Network(transport="TCP" if transport == "TCP" else "UDP")
    alice, bob = net.phone("alice"), net.phone("bob")
    call = dial(alice, bob)
    one, other = (alice, bob) if by_caller else (bob, alice)
    ours, theirs = (call.caller, call.callee) if by_caller else (call.callee, call.caller)
    one.agent.bye(ours, net.now, headers=[("Reason", "Q.850;cause=16")])
    net.advance(0.05)
    assert net.steps()[-2:] == ["BYE", "BYE 200"]
    assert one.one(UsageEnded) == UsageEnded(usage_id=ours, cause="bye_answered")
    received = other.one(ByeReceived)
    assert received.usage_id == theirs
    assert received.request.headers.get("Reason") == "Q.850;cause=16"
    net.advance(33)
    nothing_left(alice, bob)


def test_a_repeated_bye_is_answered_again_by_the_transaction() -> None:
    net = Network()
    peer, bob = net.peer(), net.phone("bob")
    peer.request("INVITE", bob, body=OFFER)
    net.advance(0.05)
    bob.agent.answer(bob.one(InviteReceived).usage_id, net.now, body=ANSWER)
    net.advance(0.05)
    tag = peer.responses()[-1].to.tag
    peer.request("ACK", bob, to_tag=tag)
    bye = peer.request("BYE", bob, cseq=2, to_tag=tag)
    net.advance(0.05)
    peer.send(bye, bob)
    net.advance(10)
    peer.send(bye, bob)
    net.advance(0.05)
    assert peer.statuses("BYE") == [200, 200, 200]
    peer.request("BYE", bob, cseq=3, to_tag=tag)
    net.advance(0.05)
    assert peer.statuses("BYE")[-1] == 481
    assert len(bob.of(ByeReceived)) == 1


def test_our_bye_is_repeated_by_timer_e_and_given_up_by_timer_f() -> None:
    net = Network()
    alice, bob = net.phone("alice"), net.phone("bob")
    call = dial(alice, bob)
    net.drop(lambda sent: sent.destination == bob.address)
    start = net.now
    alice.agent.bye(call.caller, net.now)
    net.advance(33)
    moments = [round(sent.at - start, 3) for sent in net.sent("BYE")]
    assert moments == [0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert alice.one(UsageEnded).cause == "bye_timeout"
    nothing_left(alice)


@pytest.mark.parametrize("status", [401, 481, 500, 603])
def test_whatever_answers_our_bye_the_usage_is_over(status: int) -> None:
    net = Network()
    alice, peer = net.phone("alice"), net.peer()
    usage = alice.invite(peer)
    net.advance(0.05)
    peer.respond(peer.requests("INVITE")[0], 200, alice, body=ANSWER)
    net.advance(0.05)
    alice.agent.bye(usage, net.now)
    net.advance(0.05)
    peer.respond(peer.requests("BYE")[0], status, alice, tag=None)
    net.advance(0.05)
    assert alice.one(UsageEnded).cause == "bye_answered"
    assert alice.agent.counts()["usages"] == 0


def test_a_transport_failure_of_our_bye_ends_the_usage() -> None:
    net = Network()
    alice, bob = net.phone("alice"), net.phone("bob")
    call = dial(alice, bob)
    alice.agent.bye(call.caller, net.now)
    alice.pump()
    alice.agent.transport_failed(alice.outbound[-1].token, "unreachable", net.now)
    net.advance(0.0)
    assert alice.one(UsageEnded).cause == "transport"


def test_the_callee_does_not_send_bye_before_the_ack() -> None:
    net = Network()
    alice, bob = net.phone("alice"), net.phone("bob")
    alice.invite(bob)
    net.advance(0.05)
    usage = bob.one(InviteReceived).usage_id
    net.drop(lambda sent: sent.is_a("ACK"), times=2)
    bob.agent.answer(usage, net.now, body=ANSWER)
    bob.agent.bye(usage, net.now)
    net.advance(1)
    assert net.sent("BYE") == []
    net.advance(2)
    assert net.steps()[-4:] == ["INVITE 200", "ACK", "BYE", "BYE 200"]
    assert bob.kinds == ["InviteReceived", "UsageEnded"]
    with pytest.raises(LocalProtocolError):
        bob.agent.bye(usage, net.now)


def test_without_any_ack_the_wanted_bye_leaves_after_all() -> None:
    net = Network()
    alice, bob = net.phone("alice"), net.phone("bob")
    alice.invite(bob)
    net.advance(0.05)
    usage = bob.one(InviteReceived).usage_id
    net.drop(lambda sent: sent.is_a("ACK"))
    bob.agent.answer(usage, net.now, body=ANSWER)
    bob.agent.bye(usage, net.now)
    net.advance(33)
    assert len(net.sent("BYE")) == 1
    assert bob.one(UsageEnded).cause == "ack_missing"
    assert len(alice.of(ByeReceived)) == 1
    net.advance(40)
    nothing_left(alice, bob)


def test_a_bye_before_the_ack_ends_the_call() -> None:
    net = Network()
    peer, bob = net.peer(), net.phone("bob")
    peer.request("INVITE", bob, body=OFFER)
    net.advance(0.05)
    bob.agent.answer(bob.one(InviteReceived).usage_id, net.now, body=ANSWER)
    net.advance(0.05)
    tag = peer.responses()[-1].to.tag
    peer.request("BYE", bob, cseq=2, to_tag=tag)
    net.advance(0.05)
    assert peer.statuses("BYE") == [200]
    peer.request("ACK", bob, to_tag=tag)
    net.advance(40)
    assert peer.statuses() == [100, 200]
    assert bob.kinds == ["InviteReceived", "ByeReceived"]
    nothing_left(bob)


def test_a_caller_that_owes_the_ack_sends_it_before_bye() -> None:
    net = Network()
    alice, peer = net.phone("alice"), net.peer()
    usage = alice.invite(peer, offer=b"")
    net.advance(0.05)
    peer.respond(peer.requests("INVITE")[0], 200, alice, body=OFFER)
    net.advance(0.05)
    alice.agent.bye(usage, net.now)
    net.advance(0.05)
    assert [str(sent) for sent in net.wire if sent.source == alice.address] == ["INVITE", "ACK", "BYE"]
    assert [str(request.cseq) for request in (*peer.requests("ACK"), *peer.requests("BYE"))] == ["1 ACK", "2 BYE"]


def test_byes_that_cross_are_both_answered() -> None:
    net = Network()
    alice, bob = net.phone("alice"), net.phone("bob")
    call = dial(alice, bob)
    alice.agent.bye(call.caller, net.now)
    bob.agent.bye(call.callee, net.now)
    net.advance(0.1)
    assert len(net.sent("BYE")) == 2
    assert [sent.message.status for sent in net.wire if str(sent) == "BYE 200"] == [200, 200]  # type: ignore[union-attr]
    assert alice.one(UsageEnded).cause == "bye_answered"
    assert bob.one(UsageEnded).cause == "bye_answered"
    net.advance(40)
    nothing_left(alice, bob)


def test_a_bye_refuses_the_re_invite_that_waits() -> None:
    net = Network()
    alice, bob = net.phone("alice"), net.phone("bob")
    call = dial(alice, bob)
    alice.agent.reinvite(call.caller, net.now, offer=OFFER)
    net.advance(0.05)
    bob.agent.bye(call.callee, net.now)
    net.advance(0.1)
    assert str(net.sent(487)[0]) == "INVITE 487"
    assert "ReinviteFailed" not in alice.kinds
    net.advance(40)
    nothing_left(alice, bob)


def test_early_usages_take_no_bye() -> None:
    net = Network()
    alice, bob = net.phone("alice"), net.phone("bob")
    calling = alice.invite(bob)
    net.advance(0.05)
    with pytest.raises(LocalProtocolError):
        alice.agent.bye(calling, net.now)
    with pytest.raises(LocalProtocolError):
        bob.agent.bye(bob.one(InviteReceived).usage_id, net.now)


def test_a_re_invite_the_peer_never_answers_does_not_outlive_its_call() -> None:
    net = Network()
    alice, peer = net.phone("alice"), net.peer()
    usage = alice.invite(peer)
    net.advance(0.05)
    peer.respond(peer.requests("INVITE")[0], 200, alice, body=ANSWER)
    net.advance(0.05)
    alice.agent.reinvite(usage, net.now, offer=OFFER)
    net.advance(0.05)
    peer.respond(peer.requests("INVITE")[-1], 100, alice, tag=None)
    net.advance(0.05)
    alice.agent.bye(usage, net.now)
    net.advance(0.05)
    peer.respond(peer.requests("BYE")[-1], 200, alice, tag=None)
    net.advance(33)
    nothing_left(alice)


def test_a_re_invite_that_waits_to_be_sent_again_is_forgotten_with_the_bye() -> None:
    net = Network()
    alice, peer = net.phone("alice"), net.peer()
    usage = alice.invite(peer)
    net.advance(0.05)
    peer.respond(peer.requests("INVITE")[0], 200, alice, body=ANSWER)
    net.advance(0.05)
    alice.agent.reinvite(usage, net.now, offer=OFFER)
    net.advance(0.05)
    peer.respond(peer.requests("INVITE")[-1], 491, alice, tag=None)
    net.advance(0.05)
    alice.agent.bye(usage, net.now)
    net.advance(40)
    assert alice.kinds == ["AnswerReceived", "UsageEnded"]
    assert len(peer.requests("INVITE")) == 2

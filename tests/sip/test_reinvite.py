"""re-INVITE: both roles, both at once, and what it does to the dialog."""

from __future__ import annotations

import pytest
from tests.sip.network import ANSWER, OFFER, Network, Peer, Phone, dial, nothing_left

from offhook.model.errors import LocalProtocolError
from offhook.sip.events import (
    AckReceived,
    InviteReceived,
    ReinviteAnswered,
    ReinviteCancelled,
    ReinviteFailed,
    ReinviteReceived,
    SipEvent,
    UsageEnded,
)

NEW_OFFER, NEW_ANSWER = OFFER + b"a=sendonly\r\n", ANSWER + b"a=recvonly\r\n"


def answering(phone: Phone) -> None:
    """From now on the phone answers every re-INVITE at once."""

    def react(event: SipEvent) -> None:
        if isinstance(event, ReinviteReceived):
            phone.agent.answer(event.usage_id, phone.network.now, body=NEW_ANSWER)

    phone.react = react


def called() -> tuple[Network, Peer, Phone, str]:
    """A peer that has called a phone; and the phone's tag."""
    net = Network()
    peer, bob = net.peer(), net.phone("bob")
    peer.request("INVITE", bob, body=OFFER)
    net.advance(0.05)
    bob.agent.answer(bob.one(InviteReceived).usage_id, net.now, body=ANSWER)
    net.advance(0.05)
    tag = peer.responses()[-1].to.tag
    assert tag is not None
    peer.request("ACK", bob, to_tag=tag)
    net.advance(0.05)
    return net, peer, bob, tag


def calling() -> tuple[Network, Phone, Peer, int]:
    """A phone that has called a peer; and its usage."""
    net = Network()
    alice, peer = net.phone("alice"), net.peer()
    usage = alice.invite(peer)
    net.advance(0.05)
    peer.respond(peer.requests("INVITE")[0], 200, alice, body=ANSWER)
    net.advance(0.05)
    return net, alice, peer, usage


@pytest.mark.parametrize("by_caller", [True, False])
def test_either_side_changes_the_session(by_caller: bool) -> None:
    net = Network()
    alice, bob = net.phone("alice"), net.phone("bob")
    call = dial(alice, bob)
    one, other = (alice, bob) if by_caller else (bob, alice)
    usage = call.caller if by_caller else call.callee
    answering(other)
    before = len(net.wire)
    one.agent.reinvite(usage, net.now, offer=NEW_OFFER, headers=[("X-Hold", "1")])
    net.advance(0.1)
    assert net.steps()[before:] == ["INVITE", "INVITE 100", "INVITE 200", "ACK"]
    invite = net.wire[before].message
    assert invite.contact is not None
    assert invite.to.tag is not None
    assert "Allow" in invite.headers
    assert other.one(ReinviteReceived).request.body == NEW_OFFER
    assert one.one(ReinviteAnswered).response.body == NEW_ANSWER
    assert other.of(AckReceived)[-1].body == b""
    one.agent.reinvite(usage, net.now, offer=OFFER)
    net.advance(0.1)
    assert len(one.of(ReinviteAnswered)) == 2
    one.agent.bye(usage, net.now)
    net.advance(40)
    nothing_left(alice, bob)


def test_a_rejected_re_invite_leaves_the_call_as_it_was() -> None:
    net = Network()
    alice, bob = net.phone("alice"), net.phone("bob")
    call = dial(alice, bob)
    alice.agent.reinvite(call.caller, net.now, offer=NEW_OFFER)
    net.advance(0.05)
    bob.agent.reject(call.callee, net.now, status=488)
    net.advance(0.1)
    failed = alice.one(ReinviteFailed)
    assert (failed.status, failed.reason) == (488, "Not Acceptable Here")
    assert net.steps()[-2:] == ["INVITE 488", "ACK"]
    bob.agent.bye(call.callee, net.now)
    net.advance(0.1)
    assert bob.one(UsageEnded).cause == "bye_answered"


def test_a_re_invite_without_offer_gets_one_and_the_ack_brings_the_answer() -> None:
    net, peer, bob, tag = called()
    peer.request("INVITE", bob, cseq=2, to_tag=tag)
    net.advance(0.05)
    event = bob.one(ReinviteReceived)
    assert event.request.body == b""
    bob.agent.answer(event.usage_id, net.now, body=OFFER)
    net.advance(0.05)
    peer.request("ACK", bob, cseq=2, to_tag=tag, body=ANSWER)
    net.advance(0.05)
    assert [ack.body for ack in bob.of(AckReceived)] == [b"", ANSWER]


def test_a_repeated_re_invite_is_absorbed() -> None:
    net, peer, bob, tag = called()
    invite = peer.request("INVITE", bob, cseq=2, to_tag=tag, body=OFFER)
    net.advance(0.05)
    peer.send(invite, bob)
    net.advance(0.05)
    assert peer.statuses() == [100, 200, 100, 100]
    assert len(bob.of(ReinviteReceived)) == 1


def test_a_lower_cseq_gets_500() -> None:
    net, peer, bob, tag = called()
    answering(bob)
    peer.request("INVITE", bob, cseq=7, to_tag=tag, body=OFFER)
    net.advance(0.05)
    peer.request("ACK", bob, cseq=7, to_tag=tag)
    peer.request("INVITE", bob, cseq=6, to_tag=tag, body=OFFER)
    peer.request("BYE", bob, cseq=5, to_tag=tag)
    net.advance(0.05)
    assert peer.statuses()[-1] == 500
    assert peer.statuses("BYE") == [500]
    assert len(bob.of(ReinviteReceived)) == 1
    assert bob.agent.counts()["usages"] == 1


def test_an_invite_before_the_last_is_answered_gets_500_and_when_to_come_back() -> None:
    net, peer, bob, tag = called()
    peer.request("INVITE", bob, cseq=2, to_tag=tag, body=OFFER)
    peer.request("INVITE", bob, cseq=3, to_tag=tag, body=OFFER)
    net.advance(0.05)
    assert peer.statuses()[-1] == 500
    retry_after = peer.responses()[-1].headers.get("Retry-After")
    assert retry_after is not None
    assert 0 <= int(retry_after) <= 10


def test_in_a_dialog_that_is_not_there_an_invite_gets_481() -> None:
    net, peer, bob, tag = called()
    peer.request("INVITE", bob, cseq=2, to_tag="other", body=OFFER)
    peer.request("INVITE", bob, cseq=2, to_tag=tag, call_id="other", body=OFFER)
    peer.request("INVITE", bob, cseq=2, to_tag=tag, from_tag="other", body=OFFER)
    net.advance(0.05)
    assert peer.statuses()[2:] == [481, 481, 481]


def test_what_we_cannot_read_is_refused_in_a_dialog_too() -> None:
    net, peer, bob, tag = called()
    peer.request("INVITE", bob, cseq=2, to_tag=tag, headers=[("Require", "gruu")])
    net.advance(0.05)
    assert peer.statuses()[-1] == 420
    assert peer.responses()[-1].headers.get("Unsupported") == "gruu"
    assert bob.agent.counts()["usages"] == 1


def test_cancel_of_a_re_invite_leaves_the_call() -> None:
    net, peer, bob, tag = called()
    invite = peer.request("INVITE", bob, cseq=2, to_tag=tag, body=OFFER)
    net.advance(0.05)
    peer.request("CANCEL", bob, cseq=2, to_tag=tag, branch=invite.via_top.branch)
    net.advance(0.05)
    assert peer.statuses("CANCEL") == [200]
    assert peer.statuses()[-1] == 487
    usage = bob.one(ReinviteCancelled).usage_id
    with pytest.raises(LocalProtocolError):
        bob.agent.answer(usage, net.now, body=ANSWER)
    bob.agent.bye(usage, net.now)
    net.advance(0.05)
    assert len(peer.requests("BYE")) == 1


def test_a_re_invite_says_that_our_200_arrived_though_its_ack_was_lost() -> None:
    net = Network()
    peer, bob = net.peer(), net.phone("bob")
    peer.request("INVITE", bob, body=OFFER)
    net.advance(0.05)
    bob.agent.answer(bob.one(InviteReceived).usage_id, net.now, body=ANSWER)
    net.advance(0.05)
    tag = peer.responses()[-1].to.tag
    peer.request("INVITE", bob, cseq=2, to_tag=tag, body=OFFER)
    net.advance(10)
    assert bob.kinds == ["InviteReceived", "AckReceived", "ReinviteReceived"]
    assert peer.statuses() == [100, 200, 100]


def test_a_re_invite_before_the_answer_to_our_offer_gets_491() -> None:
    net = Network()
    peer, bob = net.peer(), net.phone("bob")
    peer.request("INVITE", bob)
    net.advance(0.05)
    bob.agent.answer(bob.one(InviteReceived).usage_id, net.now, body=OFFER)
    net.advance(0.05)
    peer.request("INVITE", bob, cseq=2, to_tag=peer.responses()[-1].to.tag, body=OFFER)
    net.advance(0.05)
    assert peer.statuses()[-1] == 491


def test_a_re_invite_moves_the_remote_target_once_it_is_answered() -> None:
    net, peer, bob, tag = called()
    moved = net.peer(host="10.9.9.9")
    moved.request("INVITE", bob, cseq=2, to_tag=tag, body=OFFER)
    net.advance(0.05)
    usage = bob.one(ReinviteReceived).usage_id
    bob.agent.reject(usage, net.now, status=488)
    net.advance(0.05)
    moved.request("INVITE", bob, cseq=3, to_tag=tag, body=OFFER)
    net.advance(0.05)
    bob.agent.answer(usage, net.now, body=ANSWER)
    net.advance(0.05)
    moved.request("ACK", bob, cseq=3, to_tag=tag)
    net.advance(0.05)
    bob.agent.bye(usage, net.now)
    net.advance(0.05)
    assert peer.requests("BYE") == []
    assert [bye.uri for bye in moved.requests("BYE")] == ["sip:peer@10.9.9.9:5060"]


def test_the_answer_to_our_re_invite_moves_the_remote_target_for_its_ack() -> None:
    net, alice, peer, usage = calling()
    moved = net.peer(host="10.9.9.9")
    alice.agent.reinvite(usage, net.now, offer=OFFER)
    net.advance(0.05)
    contact = [("Contact", "<sip:new@10.9.9.9>")]
    peer.respond(peer.requests("INVITE")[-1], 200, alice, tag=None, contact=False, headers=contact, body=ANSWER)
    net.advance(0.05)
    assert [ack.uri for ack in moved.requests("ACK")] == ["sip:new@10.9.9.9"]
    alice.agent.bye(usage, net.now)
    net.advance(0.05)
    assert [bye.uri for bye in moved.requests("BYE")] == ["sip:new@10.9.9.9"]


def test_the_2xx_of_our_re_invite_is_acknowledged_as_often_as_it_comes() -> None:
    net, alice, peer, usage = calling()
    alice.agent.reinvite(usage, net.now, offer=OFFER)
    net.advance(0.05)
    answer = peer.respond(peer.requests("INVITE")[-1], 200, alice, tag=None, body=ANSWER)
    net.advance(0.05)
    peer.send(answer, alice)
    net.advance(0.05)
    assert [str(ack.cseq) for ack in peer.requests("ACK")] == ["1 ACK", "2 ACK", "2 ACK"]
    assert len(alice.of(ReinviteAnswered)) == 1


# ── both at once ─────────────────────────────────────────────────────────────────────────────────────────


def test_two_re_invites_that_cross_both_get_491_and_each_is_sent_again() -> None:
    net = Network()
    alice, bob = net.phone("alice"), net.phone("bob")
    call = dial(alice, bob)
    answering(alice)
    answering(bob)
    start = net.now
    alice.agent.reinvite(call.caller, net.now, offer=NEW_OFFER)
    bob.agent.reinvite(call.callee, net.now, offer=NEW_OFFER)
    net.advance(5)
    assert len(net.sent(491)) == 2
    assert len(alice.of(ReinviteAnswered)) == 1
    assert len(bob.of(ReinviteAnswered)) == 1
    again = {sent.source: sent.at - start for sent in net.sent("INVITE")[3:]}
    assert 2.1 <= again[alice.address] <= 4.1
    assert 0.0 <= again[bob.address] <= 2.1
    assert "ReinviteFailed" not in alice.kinds + bob.kinds


def test_a_second_491_is_reported() -> None:
    net, alice, peer, usage = calling()
    alice.agent.reinvite(usage, net.now, offer=OFFER)
    for _ in range(2):
        net.advance(0.05)
        peer.respond(peer.requests("INVITE")[-1], 491, alice, tag=None)
        net.advance(4.1)
    assert {invite.cseq.number for invite in peer.requests("INVITE")} == {1, 2, 3}
    assert alice.one(ReinviteFailed).status == 491
    alice.agent.reinvite(usage, net.now, offer=OFFER)


def test_while_a_re_invite_waits_to_be_sent_again_there_is_no_other() -> None:
    net, alice, peer, usage = calling()
    alice.agent.reinvite(usage, net.now, offer=OFFER)
    with pytest.raises(LocalProtocolError):
        alice.agent.reinvite(usage, net.now, offer=OFFER)
    net.advance(0.05)
    peer.respond(peer.requests("INVITE")[-1], 491, alice, tag=None)
    net.advance(0.05)
    with pytest.raises(LocalProtocolError):
        alice.agent.reinvite(usage, net.now, offer=OFFER)
    alice.agent.bye(usage, net.now)
    net.advance(0.05)
    peer.respond(peer.requests("BYE")[-1], 200, alice, tag=None)
    net.advance(40)
    assert len(peer.requests("INVITE")) == 2
    nothing_left(alice)


# ── the dialog is gone ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", [408, 481])
def test_a_peer_that_knows_no_dialog_ends_it(status: int) -> None:
    net, alice, peer, usage = calling()
    alice.agent.reinvite(usage, net.now, offer=OFFER)
    net.advance(0.05)
    peer.respond(peer.requests("INVITE")[-1], status, alice, tag=None)
    net.advance(0.05)
    assert alice.one(ReinviteFailed).status == status
    peer.respond(peer.requests("BYE")[-1], 481, alice, tag=None)
    net.advance(0.05)
    assert alice.one(UsageEnded).cause == "bye_answered"


def test_a_re_invite_nobody_answers_ends_the_call() -> None:
    net, alice, peer, usage = calling()
    net.drop(lambda sent: sent.destination == peer.address)
    alice.agent.reinvite(usage, net.now, offer=OFFER)
    net.advance(70)
    assert alice.one(ReinviteFailed).status == 408
    assert alice.one(UsageEnded).cause == "bye_timeout"
    nothing_left(alice)


def test_a_re_invite_that_cannot_be_sent_leaves_the_call() -> None:
    net, alice, _, usage = calling()
    alice.agent.reinvite(usage, net.now, offer=OFFER)
    alice.pump()
    alice.agent.transport_failed(alice.outbound[-1].token, "unreachable", net.now)
    net.advance(0.05)
    assert alice.one(ReinviteFailed).status is None
    assert alice.agent.counts()["usages"] == 1


def test_our_2xx_to_a_re_invite_without_ack_ends_the_call() -> None:
    net, peer, bob, tag = called()
    answering(bob)
    peer.request("INVITE", bob, cseq=2, to_tag=tag, body=OFFER)
    net.advance(33)
    assert bob.one(UsageEnded).cause == "ack_missing"
    assert len(peer.requests("BYE")) > 0


def test_a_2xx_to_our_re_invite_after_our_bye_is_still_acknowledged() -> None:
    net, alice, peer, usage = calling()
    alice.agent.reinvite(usage, net.now, offer=OFFER)
    net.advance(0.05)
    alice.agent.bye(usage, net.now)
    peer.respond(peer.requests("INVITE")[-1], 200, alice, tag=None, body=ANSWER)
    net.advance(0.05)
    assert [str(ack.cseq) for ack in peer.requests("ACK")] == ["1 ACK", "2 ACK"]
    assert "ReinviteAnswered" not in alice.kinds

"""The 2xx and its ACK: ours repeated until it comes, theirs acknowledged as often as it comes."""

from __future__ import annotations

import pytest
from tests.sip.network import ANSWER, OFFER, Network, Peer, Phone, nothing_left

from offhook.model.errors import LocalProtocolError
from offhook.sip.events import AckReceived, AnswerReceived, InviteReceived, UsageEnded


def called(transport: str = "UDP") -> tuple[Network, Peer, Phone]:
    """A phone and the hand-driven peer that will call it."""
    net = Network(transport="TCP" if transport == "TCP" else "UDP")
    return net, net.peer(), net.phone("bob")


def calling() -> tuple[Network, Phone, Peer]:
    """A phone and the hand-driven peer it will call."""
    net = Network()
    return net, net.phone("alice"), net.peer()


# ── our 2xx ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("transport", ["UDP", "TCP"])
def test_a_200_is_repeated_until_its_ack_and_then_given_up_with_bye(transport: str) -> None:
    net, peer, bob = called(transport)
    peer.request("INVITE", bob, body=OFFER)
    net.advance(0.05)
    usage = bob.one(InviteReceived).usage_id
    start = net.now
    bob.agent.answer(usage, net.now, body=ANSWER)
    net.advance(31.9)
    moments = [round(sent.at - start, 3) for sent in net.sent(200)]
    assert moments == [0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert net.sent("BYE") == []
    net.advance(0.2)
    assert round(net.sent("BYE")[0].at - start, 3) == 32
    assert bob.one(UsageEnded).cause == "ack_missing"
    with pytest.raises(LocalProtocolError):
        bob.agent.bye(usage, net.now)
    peer.respond(peer.requests("BYE")[0], 200, bob, tag=None)
    net.advance(40)
    assert len(net.sent(200, by=bob)) == 11
    nothing_left(bob)


def test_the_ack_ends_the_repetition_and_its_copies_are_silent() -> None:
    net, peer, bob = called()
    peer.request("INVITE", bob, body=OFFER)
    net.advance(0.05)
    bob.agent.answer(bob.one(InviteReceived).usage_id, net.now, body=ANSWER)
    net.advance(0.05)
    tag = peer.responses()[-1].to.tag
    ack = peer.request("ACK", bob, to_tag=tag)
    net.advance(0.05)
    peer.send(ack, bob)
    net.advance(40)
    assert peer.statuses() == [100, 200]
    assert bob.one(AckReceived).body == b""
    assert bob.agent.counts()["transactions"] == 0
    assert bob.agent.counts()["usages"] == 1


def test_the_ack_of_another_invite_is_none_of_ours() -> None:
    net, peer, bob = called()
    peer.request("INVITE", bob, cseq=4, body=OFFER)
    net.advance(0.05)
    bob.agent.answer(bob.one(InviteReceived).usage_id, net.now, body=ANSWER)
    net.advance(0.05)
    peer.request("ACK", bob, cseq=3, to_tag=peer.responses()[-1].to.tag)
    net.advance(1)
    assert bob.of(AckReceived) == []
    assert peer.statuses() == [100, 200, 200]


def test_the_ack_of_a_peer_that_keeps_the_invites_branch_is_taken_too() -> None:
    net, peer, bob = called()
    peer.request("INVITE", bob, branch="z9hG4bKsame", body=OFFER)
    net.advance(0.05)
    bob.agent.answer(bob.one(InviteReceived).usage_id, net.now, body=ANSWER)
    net.advance(0.05)
    peer.request("ACK", bob, branch="z9hG4bKsame", to_tag=peer.responses()[-1].to.tag)
    net.advance(5)
    assert peer.statuses() == [100, 200]
    assert len(bob.of(AckReceived)) == 1


def test_without_an_offer_the_200_brings_it_and_the_ack_the_answer() -> None:
    net, peer, bob = called()
    peer.request("INVITE", bob)
    net.advance(0.05)
    event = bob.one(InviteReceived)
    assert event.request.body == b""
    bob.agent.answer(event.usage_id, net.now, body=OFFER)
    net.advance(0.05)
    assert peer.responses()[-1].body == OFFER
    peer.request("ACK", bob, to_tag=peer.responses()[-1].to.tag, body=ANSWER)
    net.advance(0.05)
    assert bob.one(AckReceived).body == ANSWER


# ── their 2xx ────────────────────────────────────────────────────────────────────────────────────────────


def test_the_ack_of_a_200_is_a_request_of_its_own_to_the_contact_by_the_route() -> None:
    net, alice, peer = calling()
    alice.invite(peer)
    net.advance(0.05)
    invite = peer.requests("INVITE")[0]
    host = peer.address.host
    routes = [("Record-Route", f"<sip:far.example.com;lr>, <sip:{host}:5060;lr>")]
    peer.respond(invite, 200, alice, headers=routes, body=ANSWER)
    net.advance(0.05)
    (ack,) = peer.requests("ACK")
    assert ack.uri == f"sip:peer@{host}:5060"
    assert ack.headers.values("Route") == [f"<sip:{host}:5060;lr>", "<sip:far.example.com;lr>"]
    assert ack.via_top.branch != invite.via_top.branch
    assert str(ack.cseq) == "1 ACK"
    assert ack.to.tag == "remote"
    assert alice.one(AnswerReceived).response.body == ANSWER


def test_a_retransmitted_200_is_acknowledged_again_with_the_same_ack() -> None:
    net, alice, peer = calling()
    alice.invite(peer)
    net.advance(0.05)
    answer = peer.respond(peer.requests("INVITE")[0], 200, alice, body=ANSWER)
    net.advance(0.05)
    peer.send(answer, alice)
    peer.send(answer, alice)
    net.advance(0.05)
    assert len(peer.requests("ACK")) == 3
    assert len({sent.data for sent in net.sent("ACK")}) == 1
    assert len(alice.of(AnswerReceived)) == 1


def test_a_200_still_gets_its_ack_after_the_call_has_ended() -> None:
    net, alice, peer = calling()
    usage = alice.invite(peer)
    net.advance(0.05)
    answer = peer.respond(peer.requests("INVITE")[0], 200, alice, body=ANSWER)
    net.advance(0.05)
    alice.agent.bye(usage, net.now)
    net.advance(0.05)
    peer.respond(peer.requests("BYE")[0], 200, alice, tag=None)
    net.advance(0.05)
    peer.send(answer, alice)
    net.advance(0.05)
    assert len(peer.requests("ACK")) == 2
    assert len(peer.requests("BYE")) == 1


def test_an_invite_without_offer_waits_for_our_answer_before_the_ack() -> None:
    net, alice, peer = calling()
    usage = alice.invite(peer, offer=b"")
    net.advance(0.05)
    invite = peer.requests("INVITE")[0]
    assert invite.body == b""
    assert "Content-Type" not in invite.headers
    answer = peer.respond(invite, 200, alice, body=OFFER)
    peer.send(answer, alice)
    net.advance(0.05)
    assert alice.one(AnswerReceived).response.body == OFFER
    assert peer.requests("ACK") == []
    alice.agent.ack(usage, net.now, body=ANSWER)
    net.advance(0.05)
    peer.send(answer, alice)
    net.advance(0.05)
    assert [ack.body for ack in peer.requests("ACK")] == [ANSWER, ANSWER]
    assert peer.requests("ACK")[0].headers.get("Content-Type") == "application/sdp"
    with pytest.raises(LocalProtocolError):
        alice.agent.ack(usage, net.now, body=ANSWER)

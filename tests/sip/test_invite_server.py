"""INVITE and CANCEL outside a dialog as server, against peers driven by hand."""

from __future__ import annotations

import pytest
from tests.sip.network import ANSWER, OFFER, Network, Peer, Phone, nothing_left

from offhook.model.errors import LocalProtocolError
from offhook.sip.events import (
    CancelReceived,
    InviteReceived,
    MessageRejected,
)
from offhook.sip.inspection import ALLOW
from offhook.sip.parts import UserAgentLimits

# ── the UAS ──────────────────────────────────────────────────────────────────────────────────────────────


def called(transport: str = "UDP") -> tuple[Network, Peer, Phone]:
    """A phone and the hand-driven peer that will call it."""
    net = Network(transport="TCP" if transport == "TCP" else "UDP")
    return net, net.peer(), net.phone("bob")


def test_an_invite_gets_100_at_once_and_becomes_an_event() -> None:
    net, peer, bob = called()
    invite = peer.request("INVITE", bob, body=OFFER)
    net.advance(0.05)
    assert peer.statuses() == [100]
    assert peer.responses()[0].to.tag is None
    event = bob.one(InviteReceived)
    assert event.request.body == OFFER
    assert event.flow.remote == peer.address
    assert event.request.sip_call_id == invite.sip_call_id


def test_a_retransmitted_invite_is_no_second_call_and_gets_the_latest_response_again() -> None:
    net, peer, bob = called()
    invite = peer.request("INVITE", bob, body=OFFER)
    net.advance(0.05)
    usage = bob.one(InviteReceived).usage_id
    bob.agent.ring(usage, net.now)
    net.advance(0.05)
    peer.send(invite, bob)
    net.advance(0.05)
    bob.agent.answer(usage, net.now, body=ANSWER)
    net.advance(0.05)
    peer.send(invite, bob)
    net.advance(0.05)
    assert peer.statuses() == [100, 180, 180, 200, 200]
    assert len(bob.of(InviteReceived)) == 1
    tags = {response.to.tag for response in peer.responses()[1:]}
    assert len(tags) == 1
    assert None not in tags
    assert peer.responses()[3].headers == peer.responses()[4].headers


def test_the_200_carries_what_makes_a_dialog() -> None:
    net, peer, bob = called()
    routes = [("Record-Route", "<sip:p2.example.com;lr>, <sip:p1.example.com;lr>"), ("Record-Route", "<sip:p0;lr>")]
    peer.request("INVITE", bob, body=OFFER, headers=routes)
    net.advance(0.05)
    usage = bob.one(InviteReceived).usage_id
    bob.agent.ring(usage, net.now)
    bob.agent.answer(usage, net.now, body=ANSWER)
    net.advance(0.05)
    _, ringing, answer = peer.responses()
    for response in (ringing, answer):
        assert response.headers.values("Record-Route") == [
            "<sip:p2.example.com;lr>",
            "<sip:p1.example.com;lr>",
            "<sip:p0;lr>",
        ]
        assert response.headers.get("Contact") == "<sip:demo@10.0.0.2:5060>"
        assert response.headers.get("Allow") == ALLOW[1]
        assert "Supported" in response.headers
        assert response.headers.get("Server") == "offhook-test"
    assert answer.headers.get("Content-Type") == "application/sdp"
    assert answer.body == ANSWER


def test_a_rejection_is_repeated_until_its_ack_which_goes_no_further() -> None:
    net, peer, bob = called()
    invite = peer.request("INVITE", bob, body=OFFER)
    net.advance(0.05)
    usage = bob.one(InviteReceived).usage_id
    start = net.now
    bob.agent.reject(usage, net.now, status=486, headers=[("X-Why", "lunch")])
    net.advance(8)
    assert [round(sent.at - start, 3) for sent in net.sent(486)] == [0, 0.5, 1.5, 3.5, 7.5]
    refusal = peer.responses()[-1]
    assert (refusal.reason, refusal.headers.get("X-Why")) == ("Busy Here", "lunch")
    assert refusal.to.tag
    peer.request("ACK", bob, branch=invite.via_top.branch, to_tag=refusal.to.tag)
    net.advance(40)
    assert len(net.sent(486)) == 5
    assert bob.kinds == ["InviteReceived"]
    nothing_left(bob)


def test_a_rejection_nobody_acknowledges_is_given_up_after_32_s() -> None:
    net, peer, bob = called()
    peer.request("INVITE", bob, body=OFFER)
    net.advance(0.05)
    bob.agent.reject(bob.one(InviteReceived).usage_id, net.now, status=600)
    net.advance(33)
    assert len(net.sent(600)) == 11
    nothing_left(bob)


def test_over_tcp_a_rejection_is_sent_once_and_ends_with_its_ack() -> None:
    net, peer, bob = called("TCP")
    invite = peer.request("INVITE", bob, body=OFFER)
    net.advance(0.05)
    bob.agent.reject(bob.one(InviteReceived).usage_id, net.now, status=486)
    net.advance(8)
    assert len(net.sent(486)) == 1
    peer.request("ACK", bob, branch=invite.via_top.branch, to_tag=peer.responses()[-1].to.tag)
    net.advance(0.05)
    nothing_left(bob)


def test_cancel_while_ringing_ends_the_call() -> None:
    net, peer, bob = called()
    invite = peer.request("INVITE", bob, body=OFFER)
    net.advance(0.05)
    usage = bob.one(InviteReceived).usage_id
    bob.agent.ring(usage, net.now)
    net.advance(0.05)
    cancel = peer.request("CANCEL", bob, branch=invite.via_top.branch)
    net.advance(0.05)
    peer.send(cancel, bob)
    net.advance(0.05)
    assert peer.statuses("CANCEL") == [200, 200]
    assert peer.statuses() == [100, 180, 487]
    tags = {response.to.tag for response in [*peer.responses("CANCEL"), *peer.responses()[1:]]}
    assert len(tags) == 1
    assert bob.one(CancelReceived).usage_id == usage
    with pytest.raises(LocalProtocolError):
        bob.agent.answer(usage, net.now, body=ANSWER)
    peer.request("ACK", bob, branch=invite.via_top.branch, to_tag=tags.pop())
    net.advance(40)
    nothing_left(bob)


def test_cancel_after_the_200_changes_nothing() -> None:
    net, peer, bob = called()
    invite = peer.request("INVITE", bob, body=OFFER)
    net.advance(0.05)
    bob.agent.answer(bob.one(InviteReceived).usage_id, net.now, body=ANSWER)
    net.advance(0.05)
    peer.request("CANCEL", bob, branch=invite.via_top.branch)
    net.advance(0.05)
    assert peer.statuses("CANCEL") == [200]
    assert 487 not in peer.statuses()
    assert bob.kinds == ["InviteReceived"]
    assert bob.agent.counts()["usages"] == 1


def test_cancel_of_nothing_gets_481() -> None:
    net, peer, bob = called()
    peer.request("CANCEL", bob)
    net.advance(0.05)
    assert peer.statuses("CANCEL") == [481]
    assert bob.kinds == ["MessageRejected"]
    nothing_left(bob)


def test_cancel_is_never_refused_for_what_it_requires() -> None:
    net, peer, bob = called()
    invite = peer.request("INVITE", bob, body=OFFER)
    net.advance(0.05)
    peer.request("CANCEL", bob, branch=invite.via_top.branch, headers=[("Require", "nothing")])
    net.advance(0.05)
    assert peer.statuses("CANCEL") == [200]
    assert peer.statuses() == [100, 487]


def test_a_bye_to_the_early_dialog_ends_it() -> None:
    net, peer, bob = called()
    peer.request("INVITE", bob, body=OFFER)
    net.advance(0.05)
    bob.agent.ring(bob.one(InviteReceived).usage_id, net.now)
    net.advance(0.05)
    peer.request("BYE", bob, cseq=2, to_tag=peer.responses()[-1].to.tag)
    net.advance(0.05)
    assert peer.statuses("BYE") == [200]
    assert peer.statuses() == [100, 180, 487]
    assert bob.kinds == ["InviteReceived", "ByeReceived"]


def test_the_same_invite_by_another_path_gets_482() -> None:
    net, peer, bob = called()
    peer.request("INVITE", bob, branch="z9hG4bKone", body=OFFER)
    peer.request("INVITE", bob, branch="z9hG4bKtwo", body=OFFER)
    net.advance(0.05)
    assert peer.statuses() == [100, 482]
    assert len(bob.of(InviteReceived)) == 1


def test_beyond_the_limit_an_invite_gets_503_and_leaves_no_trace() -> None:
    net = Network(limits=UserAgentLimits(usages=1, retry_after_s=7))
    peer, bob = net.peer(), net.phone("bob")
    peer.request("INVITE", bob, call_id="one", body=OFFER)
    net.advance(0.05)
    before = bob.agent.counts()
    invite = peer.request("INVITE", bob, call_id="two", body=OFFER)
    peer.send(invite, bob)
    net.advance(0.05)
    assert peer.statuses() == [100, 503, 503]
    first, second = peer.responses()[1:]
    assert first.headers.get("Retry-After") == "7"
    assert first.to.tag == second.to.tag
    assert bob.agent.counts() == before
    assert [event.status for event in bob.of(MessageRejected)] == [503, 503]


@pytest.mark.parametrize("status", [99, 100, 200, 300])
def test_ring_takes_only_what_rings(status: int) -> None:
    net, peer, bob = called()
    peer.request("INVITE", bob, body=OFFER)
    net.advance(0.05)
    with pytest.raises(LocalProtocolError):
        bob.agent.ring(bob.one(InviteReceived).usage_id, net.now, status=status)


@pytest.mark.parametrize("status", [180, 200])
def test_reject_takes_only_what_rejects_and_spoils_nothing(status: int) -> None:
    net, peer, bob = called()
    peer.request("INVITE", bob, body=OFFER)
    net.advance(0.05)
    usage = bob.one(InviteReceived).usage_id
    with pytest.raises(LocalProtocolError):
        bob.agent.reject(usage, net.now, status=status)
    bob.agent.answer(usage, net.now, body=ANSWER)
    net.advance(0.05)
    assert peer.statuses() == [100, 200]


def test_a_line_break_in_an_application_header_raises_and_spoils_nothing() -> None:
    net, peer, bob = called()
    peer.request("INVITE", bob, body=OFFER)
    net.advance(0.05)
    usage = bob.one(InviteReceived).usage_id
    with pytest.raises(LocalProtocolError):
        bob.agent.answer(usage, net.now, body=ANSWER, headers=[("X-Note", "a\r\nVia: b")])
    bob.agent.answer(usage, net.now, body=ANSWER)
    net.advance(0.05)
    assert peer.statuses() == [100, 200]


def test_a_call_that_rings_for_long_says_so_every_minute() -> None:
    net, peer, bob = called()
    peer.request("INVITE", bob, body=OFFER)
    net.advance(0.05)
    usage = bob.one(InviteReceived).usage_id
    bob.agent.ring(usage, net.now)
    net.advance(30)
    bob.agent.ring(usage, net.now, status=183)
    net.advance(125)
    assert peer.statuses() == [100, 180, 183, 183, 183]
    bob.agent.answer(usage, net.now, body=ANSWER)
    net.advance(0.05)
    peer.request("ACK", bob, to_tag=peer.responses()[-1].to.tag)
    net.advance(200)
    assert peer.statuses()[5:] == [200]
    assert bob.agent.counts()["timers"] == 0


def test_an_invitation_that_expires_is_withdrawn() -> None:
    net, peer, bob = called()
    invite = peer.request("INVITE", bob, headers=[("Expires", "20")], body=OFFER)
    net.advance(0.05)
    usage = bob.one(InviteReceived).usage_id
    bob.agent.ring(usage, net.now)
    net.advance(19.9)
    assert peer.statuses() == [100, 180]
    net.advance(0.2)
    assert peer.statuses() == [100, 180, 487]
    assert bob.one(CancelReceived).request.method == "INVITE"
    peer.request("ACK", bob, branch=invite.via_top.branch, to_tag=peer.responses()[-1].to.tag)
    net.advance(33)
    nothing_left(bob)


def test_an_answered_call_does_not_expire() -> None:
    net, peer, bob = called()
    peer.request("INVITE", bob, headers=[("Expires", "20")], body=OFFER)
    net.advance(0.05)
    bob.agent.answer(bob.one(InviteReceived).usage_id, net.now, body=ANSWER)
    net.advance(0.05)
    peer.request("ACK", bob, to_tag=peer.responses()[-1].to.tag)
    net.advance(60)
    assert peer.statuses() == [100, 200]
    assert bob.agent.counts()["usages"] == 1

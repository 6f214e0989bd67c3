"""One offer at a time: every request that carries one against every other that is open."""

from __future__ import annotations

import pytest
from tests.sip.network import ANSWER, OFFER, Network, Peer, Phone

from offhook.sip.events import InviteReceived

OURS = ("reinvite", "update")
THEIRS = ("INVITE", "UPDATE")


def called() -> tuple[Network, Peer, Phone, int, str]:
    net = Network()
    peer, bob = net.peer(), net.phone("bob")
    peer.request("INVITE", bob, body=OFFER, headers=[("Supported", "100rel"), ("Allow", "INVITE, UPDATE")])
    net.advance(0.05)
    usage = bob.one(InviteReceived).usage_id
    bob.agent.answer(usage, net.now, body=ANSWER)
    net.advance(0.05)
    tag = peer.responses()[-1].to.tag or ""
    peer.request("ACK", bob, to_tag=tag)
    net.advance(0.05)
    return net, peer, bob, usage, tag


@pytest.mark.parametrize("theirs", THEIRS)
@pytest.mark.parametrize("ours", OURS)
def test_an_offer_that_meets_ours_gets_491(ours: str, theirs: str) -> None:
    net, peer, bob, usage, tag = called()
    getattr(bob.agent, ours)(usage, net.now, offer=OFFER)
    net.advance(0.05)
    peer.request(theirs, bob, cseq=2, to_tag=tag, body=OFFER)
    net.advance(0.05)
    assert peer.statuses(theirs)[-1] == 491
    assert bob.kinds == ["InviteReceived", "AckReceived", "MessageRejected"]


@pytest.mark.parametrize(("first", "second"), [(one, other) for one in THEIRS for other in THEIRS])
def test_a_second_offer_before_the_first_is_answered_gets_500_and_when_to_come_back(first: str, second: str) -> None:
    net, peer, bob, _, tag = called()
    peer.request(first, bob, cseq=2, to_tag=tag, body=OFFER)
    net.advance(0.05)
    peer.request(second, bob, cseq=3, to_tag=tag, body=OFFER)
    net.advance(0.05)
    response = peer.responses(second)[-1]
    assert (response.status, response.cseq.number) == (500, 3)
    assert 0 <= int(response.headers.get("Retry-After") or "") <= 10


@pytest.mark.parametrize("theirs", THEIRS)
@pytest.mark.parametrize("ours", OURS)
def test_an_offer_of_ours_waits_for_the_answer_to_theirs(ours: str, theirs: str) -> None:
    net, peer, bob, usage, tag = called()
    peer.request(theirs, bob, cseq=2, to_tag=tag, body=OFFER)
    net.advance(0.05)
    assert not bob.attempt(ours, usage, offer=OFFER)
    command = {"INVITE": "answer", "UPDATE": "answer_update"}[theirs]
    assert bob.attempt(command, usage, body=ANSWER)
    if theirs == "INVITE":
        net.advance(0.05)
        peer.request("ACK", bob, cseq=2, to_tag=tag)
        net.advance(0.05)
    assert bob.attempt(ours, usage, offer=OFFER)


def test_an_update_that_offers_nothing_disturbs_nobody() -> None:
    net, peer, bob, usage, tag = called()
    bob.agent.reinvite(usage, net.now, offer=OFFER)
    net.advance(0.05)
    peer.request("UPDATE", bob, cseq=2, to_tag=tag)
    net.advance(0.05)
    assert peer.statuses("UPDATE") == [200]

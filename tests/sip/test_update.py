"""UPDATE (RFC 3311), both roles, before the answer and after it."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sip.network import ANSWER, OFFER, Call, Network, Peer, Phone, dial, nothing_left

from offhook.model.errors import LocalProtocolError
from offhook.sip.digest import Credentials, DigestClient
from offhook.sip.events import (
    AnswerReceived,
    DialogRefreshed,
    InviteReceived,
    ProvisionalReceived,
    SipEvent,
    UpdateAnswered,
    UpdateFailed,
    UpdateReceived,
    UsageEnded,
)

NEW_OFFER, NEW_ANSWER = OFFER + b"a=sendonly\r\n", ANSWER + b"a=recvonly\r\n"
SUPPORTED = ("Supported", "100rel, timer")
ALLOWS = ("Allow", "INVITE, ACK, CANCEL, BYE, UPDATE, PRACK")


def answering(phone: Phone) -> None:
    """From now on the phone answers every UPDATE at once."""

    def react(event: SipEvent) -> None:
        if isinstance(event, UpdateReceived):
            phone.agent.answer_update(event.usage_id, phone.network.now, body=NEW_ANSWER)

    phone.react = react


def two_phones() -> tuple[Network, Phone, Phone, Call]:
    net = Network()
    alice, bob = net.phone("alice"), net.phone("bob")
    return net, alice, bob, dial(alice, bob)


def ringing(*, reliably: bool = True, body: bytes = ANSWER) -> tuple[Network, Phone, Phone, Call]:
    """A call that rings, with media agreed on early."""
    net = Network()
    alice, bob = net.phone("alice"), net.phone("bob")
    caller = alice.invite(bob)
    net.advance(0.05)
    callee = bob.one(InviteReceived).usage_id
    bob.agent.ring(callee, net.now, status=183, body=body, reliable=reliably)
    net.advance(0.1)
    return net, alice, bob, Call(caller=caller, callee=callee)


def called() -> tuple[Network, Peer, Phone, str]:
    """A peer that has called a phone; and the phone's tag."""
    net = Network()
    peer, bob = net.peer(), net.phone("bob")
    peer.request("INVITE", bob, body=OFFER, headers=[ALLOWS])
    net.advance(0.05)
    bob.agent.answer(bob.one(InviteReceived).usage_id, net.now, body=ANSWER)
    net.advance(0.05)
    tag = peer.responses()[-1].to.tag or ""
    peer.request("ACK", bob, to_tag=tag)
    net.advance(0.05)
    return net, peer, bob, tag


# ── a call that is up ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("by_caller", [True, False])
def test_either_side_changes_the_session(by_caller: bool) -> None:
    net, alice, bob, call = two_phones()
    one, other = (alice, bob) if by_caller else (bob, alice)
    usage = call.caller if by_caller else call.callee
    answering(other)
    before = len(net.wire)
    one.agent.update(usage, net.now, offer=NEW_OFFER, headers=[("X-Hold", "1")])
    net.advance(0.1)
    assert net.steps()[before:] == ["UPDATE", "UPDATE 200"]
    asked, answered = (sent.message for sent in net.wire[before:])
    assert asked.contact is not None
    assert answered.contact is not None
    assert asked.headers.get("X-Hold") == "1"
    came = other.one(UpdateReceived)
    assert (came.request.body, came.remote_tag) == (NEW_OFFER, asked.from_.tag)
    assert one.one(UpdateAnswered).response.body == NEW_ANSWER
    one.agent.bye(usage, net.now)
    net.advance(40)
    nothing_left(alice, bob)


def test_an_update_without_offer_is_answered_by_the_core_and_moves_the_target() -> None:
    net, peer, bob, tag = called()
    moved = net.peer(port=5080)
    moved.request("UPDATE", bob, cseq=2, to_tag=tag)
    net.advance(0.05)
    assert moved.statuses("UPDATE") == [200]
    assert bob.of(UpdateReceived) == []
    usage = bob.one(InviteReceived).usage_id
    assert bob.one(DialogRefreshed).usage_id == usage
    bob.agent.bye(usage, net.now)
    net.advance(0.05)
    assert [len(one.requests("BYE")) for one in (peer, moved)] == [0, 1]


def test_a_rejected_update_leaves_the_call_as_it_was() -> None:
    net, alice, bob, call = two_phones()
    alice.agent.update(call.caller, net.now, offer=NEW_OFFER)
    net.advance(0.05)
    with pytest.raises(LocalProtocolError):
        bob.agent.reject_update(call.callee, net.now, status=302)
    bob.agent.reject_update(call.callee, net.now, headers=[("Warning", "1 x y")])
    net.advance(0.05)
    failed = alice.one(UpdateFailed)
    assert (failed.usage_id, failed.status, failed.reason) == (call.caller, 488, "Not Acceptable Here")
    with pytest.raises(LocalProtocolError, match="no UPDATE"):
        bob.agent.answer_update(call.callee, net.now, body=NEW_ANSWER)
    bob.agent.bye(call.callee, net.now)
    net.advance(0.1)
    assert bob.one(UsageEnded).cause == "bye_answered"


def test_one_update_at_a_time() -> None:
    net, alice, bob, call = two_phones()
    alice.agent.update(call.caller, net.now)
    with pytest.raises(LocalProtocolError, match="under way"):
        alice.agent.update(call.caller, net.now)
    net.advance(0.05)
    assert alice.one(UpdateAnswered).response.body == b""
    alice.agent.update(call.caller, net.now)
    net.advance(0.05)
    assert len(alice.of(UpdateAnswered)) == 2
    assert bob.of(UpdateReceived) == []


def test_a_second_update_before_the_first_is_answered_gets_500_though_it_offers_nothing() -> None:
    net, peer, bob, tag = called()
    peer.request("UPDATE", bob, cseq=2, to_tag=tag, body=OFFER)
    net.advance(0.05)
    peer.request("UPDATE", bob, cseq=3, to_tag=tag)
    net.advance(0.05)
    assert peer.statuses("UPDATE") == [500]
    assert 0 <= int(peer.responses("UPDATE")[0].headers.get("Retry-After") or "") <= 10


def test_updates_that_cross_are_tried_again_by_who_waits_less_and_both_get_through() -> None:
    net, alice, bob, call = two_phones()
    answering(alice)
    answering(bob)
    alice.agent.update(call.caller, net.now, offer=OFFER)
    bob.agent.update(call.callee, net.now, offer=NEW_OFFER)
    net.advance(0.1)
    assert [str(sent) for sent in net.wire[-2:]] == ["UPDATE 491", "UPDATE 491"]
    net.advance(5)
    for phone in (alice, bob):
        assert len(phone.of(UpdateAnswered)) == 1
        assert phone.of(UpdateFailed) == []
    starts = [sent.source for sent in net.sent("UPDATE")][2:]
    assert starts == [bob.address, alice.address], "who made the Call-ID waits longer"


def test_a_second_491_is_told() -> None:
    net, peer, bob, _ = called()
    usage = bob.one(InviteReceived).usage_id
    bob.agent.update(usage, net.now, offer=OFFER)
    for _ in range(2):
        net.advance(3)
        peer.respond(peer.requests("UPDATE")[-1], 491, bob, tag=None)
    net.advance(5)
    assert len({update.cseq.number for update in peer.requests("UPDATE")}) == 2
    assert bob.one(UpdateFailed).status == 491


def test_an_update_that_meets_an_offer_when_it_is_tried_again_is_told() -> None:
    net, peer, bob, tag = called()
    bob.agent.update(bob.one(InviteReceived).usage_id, net.now, offer=OFFER)
    net.advance(0.05)
    peer.respond(peer.requests("UPDATE")[0], 491, bob, tag=None)
    peer.request("UPDATE", bob, cseq=2, to_tag=tag, body=NEW_OFFER)
    net.advance(3)
    assert bob.one(UpdateReceived).request.body == NEW_OFFER
    assert bob.one(UpdateFailed).status == 491
    assert len(peer.requests("UPDATE")) == 1


@pytest.mark.parametrize("status", [408, 481, None])
def test_a_dialog_that_is_gone_there_ends_here(status: int | None) -> None:
    net, peer, bob, _ = called()
    bob.agent.update(bob.one(InviteReceived).usage_id, net.now)
    net.advance(0.05)
    if status is not None:
        peer.respond(peer.requests("UPDATE")[0], status, bob, tag=None)
    net.advance(33)
    assert bob.one(UpdateFailed).status == (status or 408)
    assert len({bye.cseq.number for bye in peer.requests("BYE")}) == 1


def test_an_update_whose_way_fails_is_told_and_the_call_goes_on() -> None:
    net, _, bob, _ = called()
    usage = bob.one(InviteReceived).usage_id
    bob.agent.update(usage, net.now)
    bob.pump()
    bob.agent.transport_failed(bob.outbound[-1].token, "no route", net.now)
    net.advance(0.05)
    failed = bob.one(UpdateFailed)
    assert (failed.status, failed.reason) == (None, "no route")
    assert bob.agent.counts()["usages"] == 1


@pytest.mark.parametrize("by_peer", [True, False])
def test_what_waits_when_the_call_ends_is_answered_and_forgotten(by_peer: bool) -> None:
    net, peer, bob, tag = called()
    peer.request("UPDATE", bob, cseq=2, to_tag=tag, body=OFFER)
    net.advance(0.05)
    if by_peer:
        peer.request("BYE", bob, cseq=3, to_tag=tag)
    else:
        bob.agent.bye(bob.one(InviteReceived).usage_id, net.now)
    net.advance(0.05)
    assert peer.statuses("UPDATE") == [487]
    peer.request("UPDATE", bob, cseq=4, to_tag=tag)
    net.advance(0.05)
    assert peer.statuses("UPDATE") == [487, 481]
    net.advance(64)
    nothing_left(bob)


def test_an_answer_that_comes_after_the_end_changes_nothing() -> None:
    net, peer, bob, _ = called()
    bob.agent.update(bob.one(InviteReceived).usage_id, net.now, offer=OFFER)
    net.advance(0.05)
    bob.agent.bye(bob.one(InviteReceived).usage_id, net.now)
    peer.respond(peer.requests("UPDATE")[0], 200, bob, tag=None, body=ANSWER)
    net.advance(64)
    assert bob.of(UpdateAnswered) == []
    nothing_left(bob)


def test_a_challenge_is_answered() -> None:
    net, peer, bob, _ = called()
    usage = bob.one(InviteReceived).usage_id
    bob.agent.authenticate(usage, DigestClient(Credentials(username="bob", password="secret")))
    bob.agent.update(usage, net.now, offer=NEW_OFFER)
    net.advance(0.05)
    challenge = ("WWW-Authenticate", 'Digest realm="r", nonce="n", algorithm=MD5, qop="auth"')
    peer.respond(peer.requests("UPDATE")[0], 401, bob, tag=None, headers=[challenge])
    net.advance(0.05)
    first, second = peer.requests("UPDATE")
    assert (second.cseq.number, second.body) == (first.cseq.number + 1, NEW_OFFER)
    peer.respond(second, 200, bob, tag=None, body=NEW_ANSWER)
    net.advance(0.05)
    assert bob.one(UpdateAnswered).response.body == NEW_ANSWER


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ([("Content-Encoding", "gzip")], OFFER, 415),
        ([("Require", "gruu")], b"", 420),
        ([("Session-Expires", "30"), ("Supported", "timer")], b"", 422),
    ],
)
def test_what_we_cannot_read_is_refused(headers: list[tuple[str, str]], body: bytes, status: int) -> None:
    net, peer, bob, tag = called()
    peer.request("UPDATE", bob, cseq=2, to_tag=tag, headers=headers, body=body)
    net.advance(0.05)
    assert peer.statuses("UPDATE") == [status]
    assert "UpdateReceived" not in bob.kinds


# ── a call that rings ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("by_caller", [True, False])
def test_what_was_agreed_on_early_may_be_changed_early(by_caller: bool) -> None:
    net, alice, bob, call = ringing()
    one, other = (alice, bob) if by_caller else (bob, alice)
    answering(other)
    one.agent.update(call.caller if by_caller else call.callee, net.now, offer=NEW_OFFER)
    net.advance(0.1)
    assert other.one(UpdateReceived).request.body == NEW_OFFER
    assert one.one(UpdateAnswered).response.body == NEW_ANSWER
    bob.agent.answer(call.callee, net.now, body=ANSWER)
    net.advance(0.1)
    answered = alice.one(AnswerReceived)
    assert answered.response.body == b""
    assert answered.session == (NEW_ANSWER if by_caller else NEW_OFFER), "what the callee said last"
    alice.agent.bye(call.caller, net.now)
    net.advance(40)
    nothing_left(alice, bob)


@pytest.mark.parametrize("body", [ANSWER, b""])
def test_nothing_may_be_offered_before_the_first_offer_is_answered_reliably(body: bytes) -> None:
    net, alice, bob, call = ringing(reliably=False, body=body)
    with pytest.raises(LocalProtocolError, match="offer is open"):
        alice.agent.update(call.caller, net.now, offer=NEW_OFFER)
    with pytest.raises(LocalProtocolError, match="offer is open"):
        bob.agent.update(call.callee, net.now, offer=NEW_OFFER)
    alice.agent.update(call.caller, net.now)
    net.advance(0.05)
    assert len(alice.of(UpdateAnswered)) == 1


def test_the_callee_offers_nothing_before_the_prack_of_its_answer() -> None:
    net = Network()
    peer, bob = net.peer(), net.phone("bob")
    peer.request("INVITE", bob, body=OFFER, headers=[SUPPORTED, ALLOWS])
    net.advance(0.05)
    usage = bob.one(InviteReceived).usage_id
    with pytest.raises(LocalProtocolError, match="ring first"):
        bob.agent.update(usage, net.now)
    bob.agent.ring(usage, net.now, status=183, body=ANSWER, reliable=True)
    net.advance(0.05)
    assert not bob.attempt("update", usage, offer=OFFER)
    rang = peer.responses()[-1]
    peer.request("UPDATE", bob, cseq=2, to_tag=rang.to.tag, body=NEW_OFFER)
    net.advance(0.05)
    assert bob.one(UpdateReceived).request.body == NEW_OFFER, "the caller shows that it knows the answer"


def forked() -> tuple[Network, Phone, Peer, int]:
    """A phone whose INVITE rings, answered reliably, at two places."""
    net = Network()
    alice, peer = net.phone("alice"), net.peer()
    usage = alice.invite(peer)
    net.advance(0.05)
    for tag in ("one", "two"):
        headers = [("Require", "100rel"), ("RSeq", "1"), ALLOWS]
        peer.respond(peer.requests("INVITE")[0], 183, alice, tag=tag, headers=headers, body=ANSWER)
    net.advance(0.05)
    return net, alice, peer, usage


def test_each_fork_may_update_and_be_updated() -> None:
    net, alice, peer, usage = forked()
    answering(alice)
    with pytest.raises(LocalProtocolError, match="2 early dialogs"):
        alice.agent.update(usage, net.now, offer=NEW_OFFER)
    alice.agent.update(usage, net.now, offer=NEW_OFFER, remote_tag="two")
    net.advance(0.05)
    (update,) = peer.requests("UPDATE")
    assert (update.to.tag, update.cseq.number) == ("two", 3)
    invite = peer.requests("INVITE")[0]
    peer.request(
        "UPDATE",
        alice,
        call_id=invite.sip_call_id,
        from_tag="one",
        to_tag=invite.from_.tag,
        uri="sip:alice@10.0.0.1",
        body=OFFER,
    )
    net.advance(0.05)
    assert peer.statuses("UPDATE") == [491], "one at a time in a usage, whatever the branch"
    peer.respond(update, 200, alice, tag=None, body=NEW_ANSWER)
    net.advance(0.05)
    assert alice.one(UpdateAnswered).response.body == NEW_ANSWER
    peer.respond(invite, 200, alice, tag="two")
    net.advance(0.05)
    assert alice.one(AnswerReceived).session == NEW_ANSWER
    assert len(alice.of(ProvisionalReceived)) == 2


def test_an_update_of_the_fork_that_lost_is_forgotten() -> None:
    net, alice, peer, usage = forked()
    alice.agent.update(usage, net.now, offer=NEW_OFFER, remote_tag="two")
    net.advance(0.05)
    (update,) = peer.requests("UPDATE")
    peer.respond(peer.requests("INVITE")[0], 200, alice, tag="one")
    net.advance(0.05)
    peer.respond(update, 200, alice, tag=None, body=NEW_ANSWER)
    net.advance(0.05)
    assert alice.of(UpdateAnswered) == []
    assert alice.one(AnswerReceived).session == ANSWER
    alice.agent.reinvite(usage, net.now, offer=OFFER)


def test_an_offer_of_the_fork_that_lost_waits_for_nobody() -> None:
    net, alice, peer, usage = forked()
    invite = peer.requests("INVITE")[0]
    peer.request(
        "UPDATE",
        alice,
        call_id=invite.sip_call_id,
        from_tag="two",
        to_tag=invite.from_.tag,
        uri="sip:alice@10.0.0.1",
        body=OFFER,
    )
    net.advance(0.05)
    assert alice.one(UpdateReceived).remote_tag == "two"
    peer.respond(invite, 200, alice, tag="one")
    net.advance(0.05)
    assert peer.statuses("UPDATE") == [487]
    assert not alice.attempt("answer_update", usage, body=ANSWER)
    alice.agent.reinvite(usage, net.now, offer=OFFER)


# ── a bad network ────────────────────────────────────────────────────────────────────────────────────────


def changing(phone: Phone, random: Random) -> Callable[[int], None]:
    """The phone answers what comes; and what is returned changes the session of a usage in one way or another."""
    answering(phone)

    def change(usage_id: int) -> None:
        phone.attempt(random.choice(("update", "reinvite")), usage_id, offer=NEW_OFFER)

    return change


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_however_changes_cross_and_get_lost_no_call_is_stuck(seed: int) -> None:
    net, random = Network(seed=seed), Random(seed)
    alice, bob = net.phone("alice"), net.phone("bob")
    calls = [dial(alice, bob) for _ in range(10)]
    net.loss, net.jitter_s, net.duplication = 0.1, 0.08, 0.05
    changes = (changing(alice, random), changing(bob, random))
    for _ in range(4):
        for call in calls:
            changes[0](call.caller)
            changes[1](call.callee)
            net.advance(random.random())
    net.loss = 0.0
    net.advance(70)
    for call in calls:
        if call.caller not in {event.usage_id for event in alice.of(UsageEnded)}:
            alice.attempt("bye", call.caller)
    net.advance(70)
    for phone in (alice, bob):
        nothing_left(phone)

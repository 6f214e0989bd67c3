"""Reliable provisional responses and their PRACK (RFC 3262), both roles."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sip.network import ANSWER, OFFER, Network, nothing_left

from offhook.model.errors import LocalProtocolError
from offhook.model.trunks import ReliableProvisional
from offhook.sip.digest import Credentials, DigestClient
from offhook.sip.events import (
    AckReceived,
    AnswerReceived,
    CancelReceived,
    InviteFailed,
    InviteReceived,
    PrackReceived,
    ProvisionalReceived,
    SipEvent,
    UsageEnded,
)
from offhook.sip.message import Request, Response
from offhook.sip.parts import UserAgentLimits
from offhook.sip.prack import PRACKS_MAX, WAITING_RINGS_MAX

SUPPORTED = ("Supported", "100rel, timer")
REQUIRED = ("Require", "100rel")
NEW_OFFER, NEW_ANSWER = OFFER + b"a=sendonly\r\n", ANSWER + b"a=recvonly\r\n"

# ── the UAS ──────────────────────────────────────────────────────────────────────────────────────────────


class Called:
    """A phone that is called by a peer driven by hand."""

    def __init__(self, *headers: tuple[str, str], body: bytes = OFFER) -> None:
        self.net = Network()
        self.peer, self.bob = self.net.peer(), self.net.phone("bob")
        self.invite = self.peer.request("INVITE", self.bob, headers=headers or (SUPPORTED,), body=body)
        self.net.advance(0.05)
        self.usage = self.bob.one(InviteReceived).usage_id

    def ring(self, *, status: int = 180, body: bytes = b"", reliable: bool = True) -> None:
        self.bob.agent.ring(self.usage, self.net.now, status=status, body=body, reliable=reliable)
        self.net.advance(0.05)

    def answer(self) -> None:
        self.bob.agent.answer(self.usage, self.net.now, body=ANSWER)
        self.net.advance(0.05)

    @property
    def rang(self) -> list[Response]:
        """The provisional responses that came, without the 100 and without copies."""
        seen: dict[str | None, Response] = {}
        for response in self.peer.responses():
            if 100 < response.status < 200:
                seen.setdefault(response.headers.get("RSeq"), response)
        return list(seen.values())

    def prack(self, *, cseq: int = 2, rack: str | None = None, body: bytes = b"", method: str = "PRACK") -> int | None:
        """Acknowledge the latest reliable response; the status that comes back."""
        rseq = self.rang[-1].headers.get("RSeq")
        headers = [("RAck", rack or f"{rseq} 1 INVITE")]
        tag = self.rang[-1].to.tag
        before = len(self.peer.responses(method))
        self.peer.request(method, self.bob, cseq=cseq, to_tag=tag, headers=headers, body=body)
        self.net.advance(0.05)
        came = self.peer.statuses(method)[before:]
        return came[0] if came else None


def test_a_reliable_ring_is_repeated_until_its_prack_comes() -> None:
    call = Called()
    start = call.net.now
    call.ring()
    (rang,) = call.rang
    assert rang.headers.values("Require") == ["100rel"]
    assert 1 <= int(rang.headers.get("RSeq") or "") < 2**31
    assert rang.contact is not None
    call.net.advance(3.9)
    assert [round(sent.at - start, 1) for sent in call.net.sent(180)] == [0, 0.5, 1.5, 3.5]
    assert call.prack() == 200
    call.net.advance(30)
    assert len(call.net.sent(180)) == 4
    assert call.bob.kinds == ["InviteReceived"]
    call.answer()
    assert call.peer.responses()[-1].body == ANSWER, "nothing was agreed on before"


def test_without_prack_the_invite_is_refused_and_nothing_is_left() -> None:
    call = Called()
    call.ring()
    call.net.advance(31.5)
    assert call.peer.statuses()[-1] == 180
    call.net.advance(0.6)
    assert call.peer.statuses()[-1] == 504
    ended = call.bob.one(UsageEnded)
    assert (ended.usage_id, ended.cause) == (call.usage, "prack_missing")
    call.peer.request("ACK", call.bob, branch=call.invite.via_top.branch, to_tag=call.rang[-1].to.tag)
    call.net.advance(40)
    nothing_left(call.bob)


def test_the_200_waits_for_the_prack_of_an_answer_and_says_it_no_more() -> None:
    call = Called()
    call.ring(status=183, body=ANSWER)
    call.answer()
    assert 200 not in call.peer.statuses()
    with pytest.raises(LocalProtocolError):
        call.bob.agent.answer(call.usage, call.net.now, body=ANSWER)
    assert call.prack() == 200
    answered = call.peer.responses()[-1]
    assert (answered.status, answered.body, answered.cseq.method) == (200, b"", "INVITE")
    call.peer.request("ACK", call.bob, to_tag=answered.to.tag)
    call.net.advance(0.05)
    assert call.bob.kinds == ["InviteReceived", "AckReceived"]
    call.bob.agent.bye(call.usage, call.net.now)
    call.net.advance(0.05)
    assert len(call.peer.requests("BYE")) == 1


def test_the_200_does_not_wait_where_the_ring_said_nothing_of_media_and_the_late_prack_is_taken() -> None:
    call = Called()
    call.ring()
    call.answer()
    assert call.peer.responses()[-1].body == ANSWER
    call.net.advance(2)
    assert len(call.net.sent(180)) == 1, "a final response ends the repetition"
    assert call.prack() == 200
    assert call.prack(cseq=3) == 481


def test_one_ring_waits_for_the_prack_of_the_other_and_counts_on() -> None:
    call = Called()
    call.ring(status=183, body=ANSWER)
    call.ring(status=180)
    call.ring(status=182, body=ANSWER)
    assert [response.status for response in call.rang] == [183]
    assert call.prack(cseq=2) == 200
    assert [response.status for response in call.rang] == [183, 180]
    assert call.prack(cseq=3) == 200
    assert [response.status for response in call.rang] == [183, 180, 182]
    first, second, third = (int(response.headers.get("RSeq") or "") for response in call.rang)
    assert (second, third) == (first + 1, first + 2)
    assert call.rang[2].body == b"", "the answer is given once"
    call.answer()
    assert call.peer.statuses()[-1] == 200, "the ring that is not acknowledged carried no session description"


def test_what_waits_is_bounded() -> None:
    call = Called()
    for _ in range(WAITING_RINGS_MAX + 1):
        call.ring()
    with pytest.raises(LocalProtocolError, match="wait for a PRACK"):
        call.ring()


@pytest.mark.parametrize(
    "rack",
    [
        "",
        "1",
        "1 1 INVITE",
        "{rseq}",
        "{rseq} 1",
        "{rseq} 2 INVITE",
        "{rseq} 1 BYE",
        "{next} 1 INVITE",
        "-{rseq} 1 INVITE",
        "{rseq} 1 INVITE x",
        "99999999999999999999 1 INVITE",
        "{rseq}, 1 INVITE",
        "{rseq}\t1\tinvite",
        "é 1 INVITE",
    ],
)
def test_a_prack_of_nothing_gets_481_and_the_ring_goes_on(rack: str) -> None:
    call = Called()
    call.ring()
    rseq = int(call.rang[0].headers.get("RSeq") or "")
    assert call.prack(rack=rack.format(rseq=rseq, next=rseq + 1) or " ") == 481
    call.net.advance(0.5)
    assert len(call.net.sent(180)) >= 2
    assert call.prack(cseq=3) == 200


def test_a_prack_without_rack_and_one_without_ring_get_481() -> None:
    call = Called()
    call.ring(reliable=False)
    tag = call.rang[-1].to.tag
    call.peer.request("PRACK", call.bob, cseq=2, to_tag=tag)
    call.peer.request("PRACK", call.bob, cseq=3, to_tag=tag, headers=[("RAck", "1 1 INVITE")])
    call.net.advance(0.05)
    assert call.peer.statuses("PRACK") == [481, 481]


def test_a_copy_of_a_prack_gets_a_copy_of_its_answer() -> None:
    call = Called()
    call.ring()
    tag, rseq = call.rang[0].to.tag, call.rang[0].headers.get("RSeq")
    prack = call.peer.request("PRACK", call.bob, cseq=2, to_tag=tag, headers=[("RAck", f"{rseq} 1 INVITE")])
    call.peer.send(prack, call.bob)
    call.net.advance(0.05)
    assert call.peer.statuses("PRACK") == [200, 200]


def test_a_peer_that_does_not_know_of_this_cannot_be_rung_so() -> None:
    call = Called(("Supported", "timer"))
    assert not call.bob.agent.peer_supports(call.usage, "100rel")
    with pytest.raises(LocalProtocolError, match="100rel"):
        call.ring()
    call.ring(reliable=False)
    assert "RSeq" not in call.rang[0].headers


def test_an_invite_that_requires_it_makes_every_ring_reliable() -> None:
    call = Called(REQUIRED)
    assert call.bob.agent.peer_supports(call.usage, "100REL")
    call.ring(reliable=False)
    assert "RSeq" in call.rang[0].headers


@pytest.mark.parametrize(
    ("headers", "status"), [([], 421), ([("Supported", "timer")], 421), ([SUPPORTED], 100), ([REQUIRED], 100)]
)
def test_a_trunk_may_want_nothing_else(headers: list[tuple[str, str]], status: int) -> None:
    net = Network()
    peer, bob = net.peer(), net.phone("bob")
    bob.agent.require_reliable([""])
    peer.request("INVITE", bob, headers=headers, body=OFFER)
    net.advance(0.05)
    (response,) = peer.responses()
    assert response.status == status
    assert response.headers.values("Require") == (["100rel"] if status == 421 else [])
    assert len(bob.of(InviteReceived)) == (0 if status == 421 else 1)


def test_a_ring_goes_on_each_minute_with_a_number_of_its_own() -> None:
    call = Called()
    call.ring()
    assert call.prack(cseq=2) == 200
    call.net.advance(60)
    assert len(call.rang) == 2
    assert call.prack(cseq=3) == 200


def test_it_goes_on_though_a_later_request_says_less_of_what_the_caller_knows() -> None:
    call = Called()
    call.ring()
    assert call.prack(cseq=2) == 200
    call.peer.request("UPDATE", call.bob, cseq=3, to_tag=call.rang[0].to.tag, headers=[("Supported", "timer")])
    call.net.advance(61)
    assert len(call.rang) == 2


def test_an_invite_without_offer_gets_one_reliably_and_the_prack_answers_it() -> None:
    call = Called(body=b"")
    with pytest.raises(LocalProtocolError, match="must make one"):
        call.ring()
    call.ring(status=183, body=OFFER)
    call.ring(status=180)
    call.answer()
    assert 200 not in call.peer.statuses()
    assert call.prack(body=ANSWER) == 200
    came = call.bob.one(PrackReceived)
    assert (came.usage_id, came.request.body, came.is_offer) == (call.usage, ANSWER, False)
    answered = call.peer.responses()[-1]
    assert (answered.status, answered.body) == (200, b"")
    call.peer.request("ACK", call.bob, to_tag=answered.to.tag)
    call.peer.request("INVITE", call.bob, cseq=4, to_tag=answered.to.tag, body=OFFER)
    call.net.advance(0.05)
    assert call.bob.one(AckReceived).body == b""
    assert call.peer.statuses()[-1] == 100, "no offer is open"


def test_a_prack_may_bring_a_second_offer_and_the_200_waits_for_its_answer() -> None:
    call = Called()
    call.ring(status=183, body=ANSWER)
    call.answer()
    assert call.prack(body=NEW_OFFER) is None
    came = call.bob.one(PrackReceived)
    assert (came.request.body, came.is_offer) == (NEW_OFFER, True)
    call.bob.agent.answer_prack(call.usage, call.net.now, body=NEW_ANSWER)
    call.net.advance(0.05)
    assert call.peer.responses("PRACK")[0].body == NEW_ANSWER
    assert call.peer.responses("PRACK")[0].headers.get("Content-Type") == "application/sdp"
    assert [response.status for response in call.peer.responses()] == [100, 183, 200]
    with pytest.raises(LocalProtocolError, match="no PRACK"):
        call.bob.agent.answer_prack(call.usage, call.net.now, body=NEW_ANSWER)


def test_the_200_waits_where_the_prack_and_its_offer_were_there_before_it() -> None:
    call = Called()
    call.ring(status=183, body=ANSWER)
    call.prack(body=NEW_OFFER)
    call.answer()
    assert 200 not in call.peer.statuses()
    call.bob.agent.answer_prack(call.usage, call.net.now, body=NEW_ANSWER)
    call.net.advance(0.05)
    assert call.peer.statuses()[-1] == 200


def test_a_refused_offer_of_a_prack_leaves_the_ring_acknowledged() -> None:
    call = Called()
    call.ring(status=183, body=ANSWER)
    call.prack(body=NEW_OFFER)
    with pytest.raises(LocalProtocolError):
        call.bob.agent.reject_prack(call.usage, call.net.now, status=302)
    call.bob.agent.reject_prack(call.usage, call.net.now, status=488)
    call.net.advance(1)
    assert call.peer.statuses("PRACK") == [488]
    assert len(call.net.sent(183)) == 1
    call.answer()
    assert call.peer.statuses()[-1] == 200


@pytest.mark.parametrize("answered", [False, True])
def test_a_caller_that_gives_up_is_let_go_with_everything_that_waits(answered: bool) -> None:
    call = Called()
    call.ring(status=183, body=ANSWER)
    call.ring()
    if answered:
        call.answer()
    call.prack(body=NEW_OFFER)
    call.peer.request("CANCEL", call.bob, branch=call.invite.via_top.branch)
    call.net.advance(0.05)
    assert call.bob.one(CancelReceived).usage_id == call.usage
    assert call.peer.statuses("PRACK") == [487]
    assert call.peer.statuses()[-1] == 487
    call.net.advance(64)
    nothing_left(call.bob)


@pytest.mark.parametrize("command", ["reject", "bye"])
def test_we_may_hang_up_while_the_200_waits(command: str) -> None:
    call = Called()
    call.ring(status=183, body=ANSWER)
    call.answer()
    extra = {"status": 486} if command == "reject" else {}
    assert call.bob.attempt(command, call.usage, **extra)
    call.net.advance(0.05)
    assert call.peer.statuses()[-1] == (486 if command == "reject" else 480)
    assert [event.cause for event in call.bob.of(UsageEnded)] == (["unanswered"] if command == "bye" else [])
    call.net.advance(64)
    nothing_left(call.bob)


# ── the UAC ──────────────────────────────────────────────────────────────────────────────────────────────


class Calling:
    """A phone that calls a peer driven by hand."""

    def __init__(self, *, offer: bytes = OFFER, limits: UserAgentLimits | None = None) -> None:
        self.net = Network(limits=limits)
        self.alice, self.peer = self.net.phone("alice"), self.net.peer()
        self.usage = self.alice.invite(self.peer, offer=offer)
        self.net.advance(0.05)

    @property
    def invite(self) -> Request:
        return self.peer.requests("INVITE")[0]

    def ring(
        self, rseq: int | str, *, status: int = 183, tag: str = "one", body: bytes = b"", require: str = "100rel"
    ) -> Response:
        headers = [("Require", require), ("RSeq", str(rseq))]
        response = self.peer.respond(self.invite, status, self.alice, tag=tag, headers=headers, body=body)
        self.net.advance(0.05)
        return response

    def racks(self, tag: str = "one") -> list[str | None]:
        return [prack.headers.get("RAck") for prack in self.peer.requests("PRACK") if prack.to.tag == tag]


def test_our_invite_says_that_we_know_of_this() -> None:
    assert "100rel" in Calling().invite.headers.values("Supported")


@pytest.mark.parametrize(
    ("wanted", "supported", "required"), [("off", False, False), ("supported", True, False), ("required", True, True)]
)
def test_our_invite_says_what_is_wanted(wanted: ReliableProvisional, supported: bool, required: bool) -> None:
    net = Network()
    alice, peer = net.phone("alice"), net.peer()
    alice.invite(peer, reliable=wanted)
    net.advance(0.05)
    (invite,) = peer.requests("INVITE")
    assert ("100rel" in invite.headers.values("Supported")) == supported
    assert ("100rel" in invite.headers.values("Require")) == required
    assert "timer" in invite.headers.values("Supported")


def test_each_reliable_response_is_acknowledged_once_and_in_order() -> None:
    call = Calling()
    first = call.ring(7, body=ANSWER)
    call.peer.send(first, call.alice)
    call.ring(9, status=180)
    call.ring(8, status=182)
    call.ring(9, status=180)
    call.ring(7)
    assert call.racks() == ["7 1 INVITE", "8 1 INVITE", "9 1 INVITE"]
    assert [str(prack.cseq) for prack in call.peer.requests("PRACK")] == ["2 PRACK", "3 PRACK", "4 PRACK"]
    told = [(event.status, event.reliable, event.response.body) for event in call.alice.of(ProvisionalReceived)]
    assert told == [(183, True, ANSWER), (182, True, b""), (180, True, b"")]
    (prack, *_) = call.peer.requests("PRACK")
    assert prack.uri == f"sip:peer@{call.peer.address.host}:{call.peer.address.port}"
    assert prack.from_.tag == call.invite.from_.tag
    assert prack.body == b""


def test_an_unacknowledged_prack_is_repeated_like_any_request() -> None:
    call = Calling()
    call.ring(7)
    call.net.advance(2)
    assert call.racks() == ["7 1 INVITE"] * 3
    assert len({prack.via_top.branch for prack in call.peer.requests("PRACK")}) == 1


def test_every_fork_counts_for_itself() -> None:
    call = Calling()
    for tag, rseq in (("one", 5), ("two", 5), ("three", 90), ("two", 6), ("one", 6)):
        call.ring(rseq, tag=tag, body=ANSWER)
    assert call.racks("one") == ["5 1 INVITE", "6 1 INVITE"]
    assert call.racks("two") == ["5 1 INVITE", "6 1 INVITE"]
    assert call.racks("three") == ["90 1 INVITE"]
    by_tag = {(prack.to.tag, prack.cseq.number) for prack in call.peer.requests("PRACK")}
    assert by_tag == {("one", 2), ("one", 3), ("two", 2), ("two", 3), ("three", 2)}


def test_forks_beyond_the_limit_are_not_acknowledged() -> None:
    call = Calling(limits=UserAgentLimits(forks=2))
    for number in range(5):
        call.ring(1, tag=f"t{number}")
    assert len(call.peer.requests("PRACK")) == 2


def test_what_answers_a_flood_of_rings_is_bounded_and_goes_on_once_it_is_answered() -> None:
    call = Calling()
    for rseq in range(1, 50):
        call.ring(rseq)
    assert len({prack.cseq.number for prack in call.peer.requests("PRACK")}) == PRACKS_MAX
    for prack in call.peer.requests("PRACK")[:PRACKS_MAX]:
        call.peer.respond(prack, 200, call.alice)
    call.net.advance(0.05)
    call.ring(PRACKS_MAX + 1)
    assert call.racks()[-1] == f"{PRACKS_MAX + 1} 1 INVITE"


def test_the_answer_may_have_come_before_the_200() -> None:
    call = Calling()
    call.ring(1, body=ANSWER)
    call.peer.respond(call.invite, 200, call.alice, tag="one", body=b"")
    call.net.advance(0.05)
    answered = call.alice.one(AnswerReceived)
    assert (answered.session, answered.response.body) == (ANSWER, b"")
    (ack,) = call.peer.requests("ACK")
    assert ack.cseq.number == 1
    call.alice.agent.bye(call.usage, call.net.now)
    call.net.advance(0.05)
    (bye,) = call.peer.requests("BYE")
    assert bye.cseq.number == 3, "the PRACK had 2"


def test_a_session_description_after_the_reliable_one_is_none() -> None:
    call = Calling()
    call.ring(1, body=ANSWER)
    call.ring(2, body=NEW_ANSWER)
    call.peer.respond(call.invite, 200, call.alice, tag="one", body=NEW_ANSWER)
    call.net.advance(0.05)
    assert call.alice.one(AnswerReceived).session == ANSWER


def test_another_forks_early_answer_means_nothing_for_the_one_that_answers() -> None:
    call = Calling()
    call.ring(1, tag="one", body=ANSWER)
    call.ring(1, tag="two")
    call.peer.respond(call.invite, 200, call.alice, tag="two", body=NEW_ANSWER)
    call.net.advance(0.05)
    answered = call.alice.one(AnswerReceived)
    assert (answered.remote_tag, answered.session) == ("two", NEW_ANSWER)


def test_a_fork_that_lost_is_ended_with_a_cseq_above_its_prack() -> None:
    call = Calling()
    for tag in ("one", "two"):
        call.ring(1, tag=tag)
    for tag in ("one", "two"):
        call.peer.respond(call.invite, 200, call.alice, tag=tag, body=ANSWER)
    call.net.advance(0.05)
    (bye,) = call.peer.requests("BYE")
    assert (bye.to.tag, bye.cseq.number) == ("two", 3)


def test_an_offer_that_a_ring_brings_is_answered_by_prack_and_the_200_is_acknowledged_without() -> None:
    call = Calling(offer=b"")
    call.ring(1, body=OFFER)
    assert call.peer.requests("PRACK") == []
    assert call.alice.one(ProvisionalReceived).response.body == OFFER
    with pytest.raises(LocalProtocolError):
        call.alice.agent.prack(call.usage, call.net.now, remote_tag="other", body=ANSWER)
    call.alice.agent.prack(call.usage, call.net.now, remote_tag="one", body=ANSWER)
    call.net.advance(0.05)
    (prack,) = call.peer.requests("PRACK")
    assert (prack.body, prack.headers.get("Content-Type")) == (ANSWER, "application/sdp")
    with pytest.raises(LocalProtocolError):
        call.alice.agent.prack(call.usage, call.net.now, remote_tag="one", body=ANSWER)
    call.peer.respond(prack, 200, call.alice)
    call.peer.respond(call.invite, 200, call.alice, tag="one")
    call.net.advance(0.05)
    assert call.alice.one(AnswerReceived).session == OFFER
    (ack,) = call.peer.requests("ACK")
    assert (ack.cseq.number, ack.body) == (1, b"")


def test_an_offer_of_a_ring_that_was_never_answered_is_answered_by_the_ack() -> None:
    call = Calling(offer=b"")
    call.ring(1, body=OFFER)
    call.peer.respond(call.invite, 200, call.alice, tag="one")
    call.net.advance(0.05)
    assert call.alice.one(AnswerReceived).session == OFFER
    call.alice.agent.ack(call.usage, call.net.now, body=ANSWER)
    call.net.advance(0.05)
    (ack,) = call.peer.requests("ACK")
    assert (ack.cseq.number, ack.body) == (1, ANSWER)


def test_a_call_that_is_being_given_up_acknowledges_still() -> None:
    call = Calling()
    call.alice.agent.cancel(call.usage, call.net.now)
    call.ring(1)
    assert [len(call.peer.requests(method)) for method in ("CANCEL", "PRACK")] == [1, 1]
    call.peer.respond(call.peer.requests("CANCEL")[0], 200, call.alice)
    call.peer.respond(call.peer.requests("PRACK")[0], 200, call.alice)
    call.peer.respond(call.invite, 487, call.alice, tag="one")
    call.net.advance(40)
    assert call.alice.one(InviteFailed).cause == "cancelled"
    nothing_left(call.alice)


@pytest.mark.parametrize("rseq", ["", " ", "0", "-1", "1.5", "x", "4294967296", "9" * 400, "1 2", "é", "1;x=2"])
def test_a_number_that_is_none_makes_a_response_unreliable_and_no_more(rseq: str) -> None:
    call = Calling()
    call.ring(rseq, body=ANSWER)
    assert call.peer.requests("PRACK") == []
    event = call.alice.one(ProvisionalReceived)
    assert (event.reliable, event.response.body) == (False, ANSWER)
    call.ring(4294967295)
    assert call.racks() == ["4294967295 1 INVITE"]
    assert call.alice.agent.counts()["usages"] == 1


def test_a_ring_without_require_is_not_reliable() -> None:
    call = Calling()
    call.ring(1, require="precondition")
    assert call.peer.requests("PRACK") == []


def test_a_challenge_to_a_prack_is_answered() -> None:
    net = Network()
    alice, peer = net.phone("alice"), net.peer()
    credentials = DigestClient(Credentials(username="alice", password="secret"))
    alice.invite(peer, credentials=credentials)
    net.advance(0.05)
    headers = [("Require", "100rel"), ("RSeq", "1")]
    peer.respond(peer.requests("INVITE")[0], 180, alice, headers=headers)
    net.advance(0.05)
    challenge = ("Proxy-Authenticate", 'Digest realm="r", nonce="n", algorithm=MD5, qop="auth"')
    peer.respond(peer.requests("PRACK")[0], 407, alice, headers=[challenge])
    net.advance(0.05)
    first, second = peer.requests("PRACK")
    assert (first.cseq.number, second.cseq.number) == (2, 3)
    assert second.headers.get("RAck") == "1 1 INVITE"
    assert 'username="alice"' in (second.headers.get("Proxy-Authorization") or "")


# ── both ─────────────────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32), early=st.booleans())
def test_with_a_fifth_of_all_messages_lost_calls_ring_reliably_and_are_answered(seed: int, early: bool) -> None:
    """Nobody may be refused, and what is agreed on early is what both sides know."""
    net = Network(seed=seed)
    net.jitter_s, net.duplication = 0.08, 0.05
    alice, bob = net.phone("alice"), net.phone("bob")

    def react(event: SipEvent) -> None:
        if isinstance(event, InviteReceived):
            bob.agent.ring(event.usage_id, net.now, status=183, body=ANSWER if early else b"", reliable=True)
            bob.agent.ring(event.usage_id, net.now, reliable=True)
            bob.agent.answer(event.usage_id, net.now, body=ANSWER)

    bob.react = react
    callers = [alice.invite(bob) for _ in range(20)]
    net.loss = 0.2
    net.advance(15)
    net.loss = 0.0
    net.advance(20)
    assert {event.usage_id: event.session for event in alice.of(AnswerReceived)} == dict.fromkeys(callers, ANSWER)
    assert len(bob.of(AckReceived)) == len(callers)
    for usage in callers:
        alice.agent.bye(usage, net.now)
    net.advance(64)
    nothing_left(alice, bob)

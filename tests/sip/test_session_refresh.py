"""Sessions kept alive (RFC 4028 §10): who refreshes, by what, and what comes of a refresh that fails."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sip.network import ANSWER, OFFER, Call, Network, Peer, Phone, dial, nothing_left
from tests.sip.test_session_timer import answered

from offhook.sip.events import (
    DialogRefreshed,
    InviteReceived,
    ReinviteAnswered,
    ReinviteFailed,
    ReinviteReceived,
    SipEvent,
    UpdateAnswered,
    UpdateFailed,
    UpdateReceived,
    UsageEnded,
)
from offhook.sip.session_interval import SessionTimerRules

TEN_MINUTES = SessionTimerRules(session_expires_s=600)
A_LONG_CALL_S = 32 * 60.0
Side = Literal["caller", "callee"]
Method = Literal["UPDATE", "INVITE"]
NEW_OFFER = OFFER + b"a=sendonly\r\n"
OURS, THEIRS = ("Session-Expires", "600;refresher=uac"), ("Session-Expires", "600;refresher=uas")
ALLOWS = ("Allow", "INVITE, ACK, BYE, UPDATE")


@dataclass
class Line:
    """Two phones and a box between them, which makes of them who refreshes and by what."""

    net: Network
    alice: Phone
    bob: Phone

    @classmethod
    def of(cls, asks: Side, refreshes: Side, method: Method, *, seed: int = 0) -> Line:
        net = Network(seed=seed)

        def rewrite(data: bytes) -> bytes:
            if method == "INVITE":
                data = data.replace(b", UPDATE", b"")
            if refreshes == "caller" and data.startswith(b"INVITE"):
                data = data.replace(b"\r\nSession-Expires: 600\r\n", b"\r\nSession-Expires: 600;refresher=uac\r\n")
            if refreshes == "caller" and data.startswith(b"INVITE") and b"Session-Expires" not in data:
                data = data.replace(b"\r\nUser-Agent", b"\r\nSession-Expires: 600;refresher=uac\r\nUser-Agent")
            return data

        net.rewrite = rewrite
        alice, bob = net.phone("alice"), net.phone("bob")
        if asks == "callee":
            bob.agent.use_session_timers({"": TEN_MINUTES})
        for phone in (alice, bob):
            answering(phone)
        return cls(net=net, alice=alice, bob=bob)

    def dial(self, asks: Side) -> Call:
        caller = self.alice.invite(self.bob, session_timer=TEN_MINUTES if asks == "caller" else SessionTimerRules())
        self.net.advance(0.1)
        return Call(caller=caller, callee=self.bob.of(InviteReceived)[-1].usage_id)

    def refreshes(self, method: Method, by: Side) -> int:
        """How many refreshes one side sent, without copies and without what sets a call up."""
        phone = self.alice if by == "caller" else self.bob
        asked = {
            (sent.message.sip_call_id, sent.message.cseq.number)
            for sent in self.net.sent(method, by=phone)
            if sent.message.to.tag is not None
        }
        return len(asked)

    def ended(self) -> list[UsageEnded]:
        return [*self.alice.of(UsageEnded), *self.bob.of(UsageEnded)]


def answering(phone: Phone) -> None:
    def react(event: SipEvent) -> None:
        if isinstance(event, InviteReceived | ReinviteReceived):
            phone.agent.answer(event.usage_id, phone.network.now, body=ANSWER)
        elif isinstance(event, UpdateReceived):
            phone.agent.answer_update(event.usage_id, phone.network.now, body=ANSWER)

    phone.react = react


# ── long calls ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("method", ["UPDATE", "INVITE"])
@pytest.mark.parametrize("refreshes", ["caller", "callee"])
@pytest.mark.parametrize("asks", ["caller", "callee"])
def test_a_call_of_32_minutes_is_refreshed_by_one_side_and_goes_on(asks: Side, refreshes: Side, method: Method) -> None:
    line = Line.of(asks, refreshes, method)
    call = line.dial(asks)
    line.net.advance(A_LONG_CALL_S)
    counts = {(one, by): line.refreshes(one, by) for one in ("UPDATE", "INVITE") for by in ("caller", "callee")}
    assert counts.pop((method, refreshes)) == 6, "each 300 s"
    assert set(counts.values()) == {0}
    assert line.ended() == []
    refresher = line.alice if refreshes == "caller" else line.bob
    assert refresher.of(UpdateAnswered) == []
    told = [len(phone.of(DialogRefreshed)) for phone in (line.alice, line.bob)]
    assert told == ([6, 6] if method == "UPDATE" else [0, 0]), "both sides' dialogs have moved on"
    assert [event.is_refresh for event in refresher.of(ReinviteAnswered)] == [True] * (6 if method == "INVITE" else 0)
    assert {sent.message.body for sent in line.net.sent("UPDATE")} <= {b""}
    if method == "INVITE":
        ours = OFFER if refreshes == "caller" else ANSWER
        assert {sent.message.body for sent in line.net.sent("INVITE", by=refresher)} == {ours}
    line.alice.agent.bye(call.caller, line.net.now)
    line.net.advance(64)
    assert len(line.ended()) == 1
    nothing_left(line.alice, line.bob)


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    asks=st.sampled_from(("caller", "callee")),
    refreshes=st.sampled_from(("caller", "callee")),
    method=st.sampled_from(("UPDATE", "INVITE")),
)
def test_with_a_fifth_of_all_messages_lost_it_goes_on_as_well(
    seed: int, asks: Side, refreshes: Side, method: Method
) -> None:
    line = Line.of(asks, refreshes, method, seed=seed)
    calls = [line.dial(asks) for _ in range(3)]
    line.net.loss, line.net.jitter_s, line.net.duplication = 0.2, 0.08, 0.05
    line.net.advance(A_LONG_CALL_S)
    assert line.ended() == []
    line.net.loss = 0.0
    assert line.refreshes(method, refreshes) >= 6 * len(calls)
    for call in calls:
        line.bob.agent.bye(call.callee, line.net.now)
    line.net.advance(64)
    nothing_left(line.alice, line.bob)


@pytest.mark.parametrize("method", ["UPDATE", "INVITE"])
@pytest.mark.parametrize("refreshes", ["caller", "callee"])
def test_when_the_refresher_is_gone_the_other_side_hangs_up(refreshes: Side, method: Method) -> None:
    line = Line.of("caller", refreshes, method)
    line.dial("caller")
    gone, left = (line.alice, line.bob) if refreshes == "caller" else (line.bob, line.alice)
    line.net.advance(310)
    line.net.drop(lambda sent: gone.address in (sent.source, sent.destination))
    line.net.advance(300 + 568 - 310 - 1)
    assert left.of(UsageEnded) == []
    line.net.advance(2 + 33)
    assert left.one(UsageEnded).cause == "session_expired"
    assert gone.one(UsageEnded).cause == "session_expired", "its refresh was not answered"
    line.net.advance(64)
    nothing_left(line.alice, line.bob)


@pytest.mark.parametrize("command", ["update", "reinvite"])
@pytest.mark.parametrize("refreshes", ["caller", "callee"])
def test_what_the_application_changes_is_a_refresh_as_well(refreshes: Side, command: str) -> None:
    line = Line.of("caller", refreshes, "UPDATE")
    call = line.dial("caller")
    for _ in range(10):
        line.net.advance(290)
        assert line.bob.attempt(command, call.callee, offer=NEW_OFFER)
    line.net.advance(1)
    method: Method = "UPDATE" if command == "update" else "INVITE"
    assert line.refreshes(method, "callee") == 10
    assert sum(line.refreshes(one, by) for one in ("UPDATE", "INVITE") for by in ("caller", "callee")) == 10
    roles = {sent.message.headers.get("Session-Expires") for sent in line.net.sent(method, by=line.bob)}
    assert roles == {"600;refresher=uac" if refreshes == "callee" else "600;refresher=uas"}


def test_who_wants_a_timer_and_meets_a_peer_that_knows_none_refreshes_alone() -> None:
    net = Network()
    alice, bob = net.phone("alice"), net.phone("bob")
    # A box that knows nothing of timers nor UPDATE takes what it does not know out, and a phone asks for none.
    net.rewrite = lambda data: _without(data, b"Session-Expires").replace(b", UPDATE", b"").replace(b", timer", b"")
    answering(bob)
    dial_answered(alice, bob)
    net.advance(A_LONG_CALL_S)
    reinvites = [sent for sent in net.sent("INVITE") if sent.message.to.tag is not None]
    assert {sent.source for sent in reinvites} == {alice.address}
    assert len(reinvites) == 6
    net.drop(lambda sent: sent.source == bob.address)
    net.advance(300 + 32 + 32)
    assert alice.one(UsageEnded).cause == "session_expired"


def _without(data: bytes, name: bytes) -> bytes:
    return b"\r\n".join(line for line in data.split(b"\r\n") if not line.startswith(name))


def dial_answered(alice: Phone, bob: Phone) -> None:
    alice.invite(bob, session_timer=TEN_MINUTES)
    alice.network.advance(0.1)


# ── refreshes that fail ──────────────────────────────────────────────────────────────────────────────────


def refreshing(method: Method) -> tuple[Network, Phone, Peer, int]:
    """A phone that refreshes by that method, at the moment its first refresh arrived."""
    net, alice, peer, usage = answered(OURS, *([ALLOWS] if method == "UPDATE" else []))
    net.advance(300)
    assert len(peer.requests(method)) == (1 if method == "UPDATE" else 2)
    return net, alice, peer, usage


@pytest.mark.parametrize("method", ["UPDATE", "INVITE"])
def test_a_refresh_says_for_how_long_and_that_we_refresh(method: Method) -> None:
    net, alice, peer, _ = refreshing(method)
    asked = peer.requests(method)[-1]
    assert asked.headers.get("Session-Expires") == "600;refresher=uac"
    assert "timer" in asked.headers.values("Supported")
    assert asked.contact is not None
    assert asked.body == (b"" if method == "UPDATE" else OFFER)
    peer.respond(asked, 200, alice, tag=None, headers=[OURS], body=b"" if method == "UPDATE" else ANSWER)
    net.advance(299)
    assert peer.requests(method)[-1] is asked
    net.advance(2)
    assert peer.requests(method)[-1] is not asked


@pytest.mark.parametrize("status", [408, 481, None])
@pytest.mark.parametrize("method", ["UPDATE", "INVITE"])
def test_a_refresh_that_finds_nobody_ends_the_call(method: Method, status: int | None) -> None:
    net, alice, peer, usage = refreshing(method)
    if status is not None:
        peer.respond(peer.requests(method)[-1], status, alice, tag=None)
    net.advance(33)
    (bye,) = peer.distinct("BYE")
    assert "session expired" in (bye.headers.get("Reason") or "")
    peer.respond(bye, 200, alice, tag=None)
    net.advance(0.05)
    ended = alice.one(UsageEnded)
    assert (ended.usage_id, ended.cause) == (usage, "session_expired")
    assert alice.of(UpdateFailed) == []
    assert alice.of(ReinviteFailed) == []


@pytest.mark.parametrize("status", [403, 488, 500, 603])
@pytest.mark.parametrize("method", ["UPDATE", "INVITE"])
def test_a_refresh_that_is_refused_is_tried_once_more_before_the_end(method: Method, status: int) -> None:
    net, alice, peer, _ = refreshing(method)
    peer.respond(peer.requests(method)[-1], status, alice, tag=None)
    net.advance(0.05)
    first = peer.requests(method)[-1].cseq.number
    net.advance(133)
    assert peer.requests(method)[-1].cseq.number == first
    net.advance(2)
    again = peer.requests(method)[-1]
    assert again.cseq.number == first + 1, "midway to the end at 568 s"
    peer.respond(again, status, alice, tag=None)
    net.advance(130)
    assert peer.requests("BYE") == []
    net.advance(5)
    assert len(peer.distinct("BYE")) == 1
    assert {update.cseq.number for update in peer.requests(method)} <= {1, first, first + 1}


def test_the_second_try_may_succeed_and_then_all_is_well() -> None:
    net, alice, peer, _ = refreshing("UPDATE")
    for status in (500, 200) * 4:
        peer.respond(peer.requests("UPDATE")[-1], status, alice, tag=None, headers=[OURS])
        net.advance(135 if status == 500 else 300.1)
    assert peer.requests("BYE") == []
    assert alice.of(UsageEnded) == []


@pytest.mark.parametrize("status", [405, 501])
def test_a_peer_that_takes_no_update_after_all_is_re_invited(status: int) -> None:
    net, alice, peer, _ = refreshing("UPDATE")
    peer.respond(peer.requests("UPDATE")[-1], status, alice, tag=None)
    net.advance(0.05)
    again = peer.requests("INVITE")[-1]
    assert (again.cseq.number, again.body) == (3, OFFER)
    peer.respond(again, 200, alice, tag=None, headers=[OURS], body=ANSWER)
    net.advance(301)
    assert peer.requests("INVITE")[-1].cseq.number == 4
    assert len(peer.requests("UPDATE")) == 1


@pytest.mark.parametrize("method", ["UPDATE", "INVITE"])
def test_a_refresh_that_asks_for_too_little_asks_for_more(method: Method) -> None:
    net, alice, peer, _ = refreshing(method)
    peer.respond(peer.requests(method)[-1], 422, alice, tag=None, headers=[("Min-SE", "900")])
    net.advance(0.05)
    assert peer.requests(method)[-1].headers.get("Session-Expires") == "900;refresher=uac"
    peer.respond(peer.requests(method)[-1], 200, alice, tag=None, headers=[("Session-Expires", "900;refresher=uac")])
    net.advance(449)
    assert peer.requests("BYE") == []


def test_a_refusal_by_a_peer_that_never_agreed_shows_that_it_is_there() -> None:
    net, alice, peer, _ = answered()
    for number in range(1, 5):
        net.advance(300.1)
        assert len(peer.requests("INVITE")) == number + 1
        peer.respond(peer.requests("INVITE")[-1], 488, alice, tag=None)
    net.advance(1)
    assert peer.requests("BYE") == []
    assert alice.of(ReinviteFailed) == []


def test_an_answer_100_and_no_more_does_not_keep_a_session() -> None:
    net, alice, peer, _ = refreshing("INVITE")
    peer.respond(peer.requests("INVITE")[-1], 100, alice, tag=None)
    net.advance(267)
    assert peer.requests("BYE") == []
    net.advance(2)
    assert len(peer.distinct("BYE")) == 1
    net.advance(64)
    nothing_left(alice)


# ── refreshes among other things ─────────────────────────────────────────────────────────────────────────


def test_a_refresh_waits_for_what_is_under_way_and_is_not_sent_where_that_succeeds() -> None:
    net, alice, peer, usage = answered(OURS)
    net.advance(299)
    alice.agent.reinvite(usage, net.now, offer=NEW_OFFER)
    net.advance(8)
    peer.respond(peer.requests("INVITE")[-1], 200, alice, tag=None, headers=[OURS], body=ANSWER)
    net.advance(290)
    bodies = [invite.body for invite in peer.requests("INVITE") if invite.to.tag is not None]
    assert set(bodies) == {NEW_OFFER}
    net.advance(12)
    assert peer.requests("INVITE")[-1].body == NEW_OFFER, "our session as it stands now"
    assert [event.is_refresh for event in alice.of(ReinviteAnswered)] == [False]


def test_what_the_application_wants_during_a_refresh_follows_it() -> None:
    net, alice, peer, usage = refreshing("INVITE")
    alice.agent.reinvite(usage, net.now, offer=NEW_OFFER)
    assert not alice.attempt("reinvite", usage, offer=OFFER), "one"
    net.advance(0.05)
    refresh = peer.requests("INVITE")[-1]
    assert refresh.body == OFFER
    peer.respond(refresh, 200, alice, tag=None, headers=[OURS], body=ANSWER)
    net.advance(0.05)
    change = peer.requests("INVITE")[-1]
    assert (change.body, change.cseq.number) == (NEW_OFFER, 3)
    peer.respond(change, 200, alice, tag=None, headers=[OURS], body=ANSWER)
    net.advance(0.05)
    assert [event.is_refresh for event in alice.of(ReinviteAnswered)] == [True, False]


def test_refreshes_that_cross_a_change_are_tried_again() -> None:
    line = Line.of("caller", "caller", "INVITE")
    call = line.dial("caller")
    line.net.advance(299.9)
    line.net.delay_s = 0.3
    assert line.bob.attempt("reinvite", call.callee, offer=NEW_OFFER)
    line.net.advance(0.2)
    line.net.advance(20)
    assert line.net.sent(491, by=line.alice), "they crossed"
    assert [event.is_refresh for event in line.bob.of(ReinviteAnswered)] == [False]
    line.net.delay_s = 0.01
    line.net.advance(A_LONG_CALL_S)
    assert line.ended() == []


@pytest.mark.parametrize("side", ["caller", "callee"])
@pytest.mark.parametrize("method", ["UPDATE", "INVITE"])
def test_a_restored_call_goes_on_being_refreshed(method: Method, side: Side) -> None:
    """Whoever is moved to another process: the one that refreshes, or the one that waits for it."""
    line = Line.of("caller", "caller", method)
    call = line.dial("caller")
    line.net.advance(200)
    phone, other, usage = (
        (line.alice, line.bob, call.caller) if side == "caller" else (line.bob, line.alice, call.callee)
    )
    saved = json.loads(json.dumps(phone.agent.snapshot(usage)))
    phone.agent = phone.new_agent()
    phone.agent.restore(saved, phone.flow_to(other), line.net.now)
    line.net.advance(A_LONG_CALL_S)
    assert line.refreshes(method, "caller") >= 6
    assert line.ended() == []
    line.net.drop(lambda sent: sent.source == line.alice.address)
    line.net.advance(700)
    assert {event.cause for event in line.ended()} == {"session_expired"}


def test_a_snapshot_from_before_session_timers_is_restored() -> None:
    net = Network()
    alice, bob = net.phone("alice"), net.phone("bob")
    call = dial(alice, bob)
    saved = alice.agent.snapshot(call.caller)
    del saved["session"]
    alice.agent = alice.new_agent()
    usage = alice.agent.restore(saved, alice.flow_to(bob), net.now)
    alice.agent.bye(usage, net.now)
    net.advance(1)
    assert alice.one(UsageEnded).cause == "bye_answered"

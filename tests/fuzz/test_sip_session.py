"""One invariant: whatever a peer sends in a call that rings or is up, and whatever the application does meanwhile:
nothing raises but a command that comes too late, little is held, and once the call is over nothing is left."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sip.network import ANSWER, OFFER, Network, nothing_left

from offhook.sip.events import (
    AnswerReceived,
    ByeReceived,
    CancelReceived,
    InviteFailed,
    InviteReceived,
    UsageEnded,
)
from offhook.sip.message import Request
from offhook.sip.session_interval import SessionTimerRules

ROUNDS = 400
HELD_AT_MOST = 60
"""Transactions and timers of one call that a few dozen messages made."""
THE_END_S = 4000.0
"""Longer than any timer here runs."""

INTERVALS = ("", "90", "90;refresher=uac", "90;refresher=uas", "1", "0", "x", "9" * 30, "600;refresher=me")
RACKS = ("{rseq} 1 INVITE", "{rseq} 1 INVITE", "{rseq} 2 INVITE", "1 1 INVITE", "", "x", "9" * 30)
BODIES = (b"", b"", OFFER, ANSWER, b"\xff" * 20)
STATUSES = (100, 180, 183, 200, 200, 202, 302, 401, 408, 422, 481, 486, 488, 491, 500, 603)
WAITS = (0.0, 0.05, 0.6, 5.0, 29.0, 61.0)
COMMANDS: tuple[tuple[str, dict[str, object]], ...] = (
    ("ring", {"reliable": True}),
    ("ring", {"reliable": True, "status": 183, "body": ANSWER}),
    ("ring", {}),
    ("answer", {"body": ANSWER}),
    ("reject", {"status": 488}),
    ("ack", {"body": ANSWER}),
    ("prack", {"remote_tag": "one", "body": ANSWER}),
    ("answer_prack", {"body": ANSWER}),
    ("reject_prack", {}),
    ("update", {}),
    ("update", {"offer": OFFER, "remote_tag": "one"}),
    ("answer_update", {"body": ANSWER}),
    ("reject_update", {}),
    ("reinvite", {"offer": OFFER}),
    ("snapshot", {}),
)

asked = st.tuples(
    st.sampled_from(("INVITE", "UPDATE", "UPDATE", "PRACK", "PRACK", "ACK", "ACK", "OPTIONS")),
    st.sampled_from(INTERVALS),
    st.sampled_from(RACKS),
    st.sampled_from(BODIES),
    st.integers(-1, 2),
)
told = st.tuples(
    st.sampled_from(STATUSES),
    st.sampled_from(INTERVALS),
    st.integers(0, 4),
    st.sampled_from(BODIES),
    st.sampled_from(("one", "two")),
)
Step = tuple[str, object]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("asks"), asked),
        st.tuples(st.just("tells"), told),
        st.tuples(st.just("does"), st.sampled_from(COMMANDS)),
        st.tuples(st.just("waits"), st.sampled_from(WAITS)),
    ),
    max_size=30,
)


class Line:
    """A call between a phone and a peer that means no good."""

    def __init__(self, *, inbound: bool) -> None:
        self.net = Network()
        self.phone, self.peer = self.net.phone("alice"), self.net.peer()
        self.phone.agent.use_session_timers({"": SessionTimerRules(session_expires_s=120)})
        self.cseq = 1
        if inbound:
            headers = [("Supported", "100rel, timer"), ("Allow", "UPDATE")]
            self.peer.request("INVITE", self.phone, body=OFFER, headers=headers)
            self.net.advance(0.05)
            self.usage = self.phone.one(InviteReceived).usage_id
            self.call_id, self.tag, self.own_tag = "peercall", "", "peertag"
        else:
            self.usage = self.phone.invite(self.peer, session_timer=SessionTimerRules(session_expires_s=120))
            self.net.advance(0.05)
            invite = self.peer.requests("INVITE")[0]
            self.call_id, self.tag, self.own_tag = invite.sip_call_id, invite.from_.tag or "", "one"

    def do(self, steps: list[Step]) -> None:
        acts: dict[str, Callable[..., None]] = {
            "asks": self._ask,
            "tells": self._tell,
            "does": self._command,
            "waits": self.net.advance,
        }
        for what, how in steps:
            acts[what](*(how if isinstance(how, tuple) else (how,)))
            self.net.advance(0.02)
            counts = self.phone.agent.counts()
            assert max(counts.values()) < HELD_AT_MOST, counts

    def _ask(self, method: str, interval: str, rack: str, body: bytes, step: int) -> None:
        tags = [message.to.tag for message in self.peer.responses() if message.to.tag]
        if not self.tag and not tags:
            return  # it would be another call
        rseqs = [message.headers.get("RSeq") for message in self.peer.responses() if "RSeq" in message.headers]
        self.cseq = max(1, self.cseq + step)
        headers = [
            ("Session-Expires", interval),
            ("Min-SE", interval),
            ("RAck", rack.format(rseq=rseqs[-1] if rseqs else 1)),
            ("Supported", "timer"),
        ]
        self.peer.request(
            method,
            self.phone,
            cseq=self.cseq,
            call_id=self.call_id,
            from_tag=self.own_tag,
            to_tag=self.tag or tags[-1],
            headers=headers,
            body=body if method in ("INVITE", "UPDATE", "PRACK", "ACK") else b"",
        )

    def _tell(self, status: int, interval: str, rseq: int, body: bytes, tag: str) -> None:
        waiting = [
            message for message in self.peer.received if isinstance(message, Request) and message.method != "ACK"
        ]
        if not waiting:
            return
        headers = [("Require", "100rel"), ("RSeq", str(rseq)), ("Session-Expires", interval), ("Min-SE", "300")]
        headers.append(("Allow", "UPDATE" if rseq % 2 else "INVITE"))
        self.peer.respond(waiting[-1 - rseq % len(waiting)], status, self.phone, tag=tag, headers=headers, body=body)

    def _command(self, name: str, arguments: dict[str, object]) -> None:
        self.phone.attempt(name, self.usage, **arguments)

    def end(self) -> None:
        """The application hangs up in whatever way it may; the peer says nothing more."""
        for name, arguments in (("reject", {"status": 480}), ("cancel", {}), ("bye", {})):
            self.phone.attempt(name, self.usage, **arguments)
        self.net.advance(THE_END_S)


@pytest.mark.parametrize("inbound", [True, False])
@settings(max_examples=ROUNDS, deadline=None)
@given(steps=STEPS)
def test_nothing_raises_and_nothing_is_left(inbound: bool, steps: list[Step]) -> None:
    line = Line(inbound=inbound)
    line.do(steps)
    line.end()
    nothing_left(line.phone)
    assert line.phone.of(InviteReceived) or not inbound
    ends = [
        event
        for event in line.phone.events
        if isinstance(event, ByeReceived | CancelReceived | InviteFailed | UsageEnded)
    ]
    assert len(ends) <= 1, "a usage ends once"
    assert len(line.phone.of(AnswerReceived)) <= 1

"""Our requests in a dialog: each is told of once, whatever becomes of it."""

from __future__ import annotations

import pytest
from tests.sip.network import ANSWER, Network, Peer, Phone

from offhook.sip.authentication import Proof
from offhook.sip.digest import Credentials, DigestClient
from offhook.sip.in_dialog import Asked, Outcome, ask

CHALLENGE = [("WWW-Authenticate", 'Digest realm="pbx", nonce="n", algorithm=MD5, qop="auth"')]


class Question:
    """A request in a call to a peer, and what was told of it."""

    def __init__(self, *, password: str | None = None) -> None:
        self.net = Network()
        self.phone: Phone = self.net.phone("alice")
        self.peer: Peer = self.net.peer()
        usage_id = self.phone.invite(self.peer)
        self.net.advance(0.05)
        self.peer.respond(self.peer.requests("INVITE")[0], 200, self.phone, body=ANSWER)
        self.net.advance(0.05)
        self.told: list[Outcome] = []
        parts = self.phone.agent._parts
        dialog = parts.usages[usage_id].settled
        client = None if password is None else DigestClient(Credentials(username="alice", password=password))
        self.asked: Asked = ask(
            parts,
            dialog,
            dialog.request("INFO"),
            proof=Proof.of(client),
            tell=lambda outcome, _: self.told.append(outcome),
            now=self.net.now,
        )
        self.net.advance(0.05)

    def respond(self, status: int, *headers: tuple[str, str]) -> None:
        self.peer.respond(self.peer.requests("INFO")[-1], status, self.phone, tag=None, headers=headers)
        self.net.advance(0.05)


@pytest.mark.parametrize(("status", "success"), [(200, True), (202, True), (300, False), (481, False), (603, False)])
def test_the_final_response_is_told(status: int, success: bool) -> None:
    one = Question()
    one.respond(100)
    assert one.told == []
    one.respond(status)
    one.respond(200)
    (outcome,) = one.told
    assert (outcome.status, outcome.success, outcome.cause) == (status, success, None)
    assert outcome.response is not None


def test_no_answer_is_told_as_408() -> None:
    one = Question()
    one.net.advance(33)
    assert one.told == [Outcome(status=408, reason="Request Timeout", cause="timeout")]
    assert not one.told[0].success


def test_a_way_that_fails_is_told_with_the_reason() -> None:
    one = Question()
    one.phone.agent.transport_failed(one.phone.outbound[-1].token, "no route to host", one.net.now)
    assert one.told == [Outcome(status=None, reason="no route to host", cause="transport")]


def test_a_challenge_is_answered_with_the_next_number() -> None:
    one = Question(password="secret")
    assert one.asked.number == 2
    one.respond(401, *CHALLENGE)
    assert (one.asked.number, one.told) == (3, [])
    first, second = one.peer.requests("INFO")
    assert "Authorization" not in first.headers
    assert (second.headers.get("Authorization") or "").startswith("Digest ")
    one.respond(401, *CHALLENGE)
    assert [outcome.status for outcome in one.told] == [401]


def test_without_credentials_a_challenge_is_the_answer() -> None:
    one = Question()
    one.respond(401, *CHALLENGE)
    assert [outcome.status for outcome in one.told] == [401]
    assert len(one.peer.requests("INFO")) == 1

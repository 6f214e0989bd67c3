"""What our messages say of session timers (RFC 4028), and how a session ends that nobody refreshes."""

from __future__ import annotations

import pytest
from tests.sip.network import ANSWER, OFFER, Network, Peer, Phone, dial, nothing_left

from offhook.model.errors import LocalProtocolError
from offhook.sip.digest import Credentials, DigestClient
from offhook.sip.events import (
    AnswerReceived,
    InviteFailed,
    InviteReceived,
    ReinviteAnswered,
    ReinviteReceived,
    SipEvent,
    UpdateAnswered,
    UsageEnded,
)
from offhook.sip.message import Request, Response
from offhook.sip.session_interval import SessionTimerRules
from offhook.sip.session_timer import RAISES_MAX

KNOWS = ("Supported", "timer")
TEN_MINUTES = SessionTimerRules(session_expires_s=600)


def expires(message: Request | Response) -> str | None:
    return message.headers.get("Session-Expires")


def calling(rules: SessionTimerRules = TEN_MINUTES) -> tuple[Network, Phone, Peer, int]:
    net = Network()
    alice, peer = net.phone("alice"), net.peer()
    usage = alice.invite(peer, session_timer=rules)
    net.advance(0.05)
    return net, alice, peer, usage


def answered(*headers: tuple[str, str], rules: SessionTimerRules = TEN_MINUTES) -> tuple[Network, Phone, Peer, int]:
    """A phone that has called a peer, whose 200 had those headers."""
    net, alice, peer, usage = calling(rules)
    peer.respond(peer.requests("INVITE")[0], 200, alice, body=ANSWER, headers=headers)
    net.advance(0.05)
    assert len(alice.of(AnswerReceived)) == 1
    return net, alice, peer, usage


def called(
    *headers: tuple[str, str], rules: SessionTimerRules | None = None, answer: bool = True
) -> tuple[Network, Peer, Phone, str]:
    """A peer that has called a phone, whose trunk has those rules; and the phone's tag."""
    net = Network()
    peer, bob = net.peer(), net.phone("bob")
    if rules is not None:
        bob.agent.use_session_timers({"": rules})
    peer.request("INVITE", bob, body=OFFER, headers=headers)
    net.advance(0.05)
    if answer:
        bob.agent.answer(bob.one(InviteReceived).usage_id, net.now, body=ANSWER)
        net.advance(0.05)
        peer.request("ACK", bob, to_tag=peer.responses()[-1].to.tag)
        net.advance(0.05)
    return net, peer, bob, peer.responses()[-1].to.tag or ""


# ── asked by us ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("rules", "asked", "least"),
    [
        (SessionTimerRules(), None, None),
        (TEN_MINUTES, "600", None),
        (SessionTimerRules(session_expires_s=600, min_se_s=300), "600", "300"),
    ],
)
def test_our_invite_asks_for_what_the_rules_say(rules: SessionTimerRules, asked: str | None, least: str | None) -> None:
    _, _, peer, _ = calling(rules)
    (invite,) = peer.requests("INVITE")
    assert (expires(invite), invite.headers.get("Min-SE")) == (asked, least)
    assert "timer" in invite.headers.values("Supported")


def test_an_invite_that_asks_for_too_little_goes_out_again_with_what_is_enough() -> None:
    net, alice, peer, usage = calling()
    first = peer.requests("INVITE")[0]
    peer.respond(first, 422, alice, tag="proxy", headers=[("Min-SE", "1200")], contact=False)
    net.advance(0.05)
    second = peer.requests("INVITE")[1]
    assert (expires(second), second.headers.get("Min-SE")) == ("1200", "1200")
    assert (second.sip_call_id, second.from_.tag, second.to.tag) == (first.sip_call_id, first.from_.tag, None)
    assert (second.cseq.number, second.body) == (2, OFFER)
    assert second.via_top.branch != first.via_top.branch
    assert len(second.headers.get_all("Session-Expires")) == 1
    peer.respond(second, 200, alice, body=ANSWER, headers=[("Session-Expires", "1200;refresher=uas")])
    net.advance(0.05)
    assert alice.one(AnswerReceived).usage_id == usage
    assert peer.requests("ACK")[-1].cseq.number == 2
    alice.agent.reinvite(usage, net.now, offer=OFFER)
    net.advance(0.05)
    third = peer.requests("INVITE")[2]
    assert (expires(third), third.headers.get("Min-SE")) == ("1200;refresher=uas", "1200")


def test_credentials_and_a_longer_session_may_both_be_asked_for() -> None:
    net = Network()
    alice, peer = net.phone("alice"), net.peer()
    alice.invite(peer, session_timer=TEN_MINUTES, credentials=DigestClient(Credentials(username="a", password="b")))
    net.advance(0.05)
    challenge = ("WWW-Authenticate", 'Digest realm="r", nonce="n", algorithm=MD5, qop="auth"')
    peer.respond(peer.requests("INVITE")[0], 401, alice, headers=[challenge])
    net.advance(0.05)
    peer.respond(peer.requests("INVITE")[1], 422, alice, headers=[("Min-SE", "1200")])
    net.advance(0.05)
    third = peer.requests("INVITE")[2]
    assert expires(third) == "1200"
    assert "nc=00000002" in (third.headers.get("Authorization") or "")


@pytest.mark.parametrize("least", [None, "", "90", "nonsense", "-5"])
def test_a_422_that_asks_for_nothing_more_is_a_refusal(least: str | None) -> None:
    net, alice, peer, _ = calling()
    headers = [] if least is None else [("Min-SE", least)]
    peer.respond(peer.requests("INVITE")[0], 422, alice, headers=headers)
    net.advance(0.05)
    assert alice.one(InviteFailed).status == 422
    assert len(peer.requests("INVITE")) == 1
    net.advance(40)
    nothing_left(alice)


def test_a_peer_that_asks_for_ever_more_is_given_up() -> None:
    net, alice, peer, _ = calling()
    for attempt in range(RAISES_MAX + 5):
        peer.respond(peer.requests("INVITE")[-1], 422, alice, headers=[("Min-SE", str(1000 + attempt))])
        net.advance(0.05)
    assert len(peer.requests("INVITE")) == RAISES_MAX + 1
    assert alice.one(InviteFailed).status == 422


def test_a_call_that_is_being_given_up_is_not_asked_for_again() -> None:
    net, alice, peer, usage = calling()
    alice.agent.cancel(usage, net.now)
    peer.respond(peer.requests("INVITE")[0], 422, alice, headers=[("Min-SE", "1200")])
    net.advance(0.05)
    assert len(peer.requests("INVITE")) == 1
    assert alice.one(InviteFailed).cause == "cancelled"


@pytest.mark.parametrize("command", ["reinvite", "update"])
def test_a_change_that_asks_for_too_little_goes_out_again_too(command: str) -> None:
    net, alice, peer, usage = answered(("Session-Expires", "600;refresher=uas"))
    method = {"reinvite": "INVITE", "update": "UPDATE"}[command]
    getattr(alice.agent, command)(usage, net.now, offer=OFFER, headers=[("X-Why", "hold")])
    net.advance(0.05)
    peer.respond(peer.requests(method)[-1], 422, alice, tag=None, headers=[("Min-SE", "1200")])
    net.advance(0.05)
    again = peer.requests(method)[-1]
    assert (expires(again), again.headers.get("Min-SE")) == ("1200;refresher=uas", "1200")
    assert (again.body, again.headers.get("X-Why")) == (OFFER, "hold")
    peer.respond(again, 200, alice, tag=None, body=ANSWER, headers=[("Session-Expires", "1200;refresher=uas")])
    net.advance(0.05)
    assert len(alice.of(ReinviteAnswered)) + len(alice.of(UpdateAnswered)) == 1
    net.advance(1200 - 33)
    assert alice.of(UsageEnded) == []
    net.advance(2)
    assert len(peer.distinct("BYE")) == 1


# ── asked by the peer ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("headers", "rules", "told", "requires"),
    [
        ([], None, None, []),
        ([KNOWS], None, None, []),
        ([KNOWS], TEN_MINUTES, "600;refresher=uas", ["timer"]),
        ([], TEN_MINUTES, "600;refresher=uas", []),
        ([KNOWS, ("Session-Expires", "1800;refresher=uac")], TEN_MINUTES, "600;refresher=uac", ["timer"]),
        ([KNOWS, ("x", "1800")], None, "1800;refresher=uas", ["timer"]),
        ([("Require", "timer"), ("x", "1800")], None, "1800;refresher=uas", ["timer"]),
    ],
)
def test_our_200_says_how_long_and_who(
    headers: list[tuple[str, str]], rules: SessionTimerRules | None, told: str | None, requires: list[str]
) -> None:
    _, peer, _, _ = called(*headers, rules=rules)
    response = peer.responses()[-1]
    assert (expires(response), response.headers.values("Require")) == (told, requires)


def test_the_application_may_want_something_else_for_one_call() -> None:
    net, peer, bob, _ = called(KNOWS, rules=TEN_MINUTES, answer=False)
    rules = SessionTimerRules(session_expires_s=90)
    bob.agent.answer(bob.one(InviteReceived).usage_id, net.now, body=ANSWER, session_timer=rules)
    net.advance(0.05)
    assert expires(peer.responses()[-1]) == "90;refresher=uas"


def test_a_call_with_too_short_a_session_is_refused_before_anybody_hears_of_it() -> None:
    rules = SessionTimerRules(session_expires_s=600, min_se_s=300)
    net, peer, bob, _ = called(KNOWS, ("Session-Expires", "200"), rules=rules, answer=False)
    refused = peer.responses()[-1]
    assert (refused.status, refused.headers.get("Min-SE")) == (422, "300")
    assert bob.kinds == ["MessageRejected"]
    peer.request("INVITE", bob, cseq=2, body=OFFER, headers=[KNOWS, ("Session-Expires", "300"), ("Min-SE", "300")])
    net.advance(0.05)
    assert bob.kinds == ["MessageRejected", "InviteReceived"]


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_a_change_with_too_short_a_session_is_refused_and_the_call_goes_on(method: str) -> None:
    net, peer, bob, tag = called(KNOWS, ("Session-Expires", "600;refresher=uac"))
    peer.request(method, bob, cseq=2, to_tag=tag, headers=[KNOWS, ("Session-Expires", "30")])
    net.advance(0.05)
    assert peer.statuses(method)[-1] == 422
    assert peer.responses(method)[-1].headers.get("Min-SE") == "90"
    assert bob.agent.counts()["usages"] == 1


@pytest.mark.parametrize("text", ["", "x", "-90", "90;refresher=me", "1e3", "9" * 3000, "90" + ";a" * 500, "\xe9"])
def test_whatever_the_peer_writes_the_call_is_answered_and_nothing_grows(text: str) -> None:
    headers = [KNOWS, ("Session-Expires", text), ("Min-SE", text)]
    net, peer, bob, tag = called(*headers)
    for number in range(2, 30):
        peer.request("UPDATE", bob, cseq=number, to_tag=tag, headers=headers)
        net.advance(0.05)
    assert set(peer.statuses("UPDATE")) == {200}
    net.advance(33)
    assert bob.agent.counts()["timers"] <= 2
    bob.agent.bye(bob.one(InviteReceived).usage_id, net.now)
    net.advance(64)
    nothing_left(bob)


def test_a_session_that_the_peer_times_no_more_is_not_timed() -> None:
    net, peer, bob, tag = called(KNOWS, ("Session-Expires", "90;refresher=uac"))
    peer.request("UPDATE", bob, cseq=2, to_tag=tag, headers=[KNOWS])
    net.advance(0.05)
    assert expires(peer.responses("UPDATE")[-1]) is None
    net.advance(600)
    assert bob.of(UsageEnded) == []
    assert bob.agent.counts()["timers"] == 0


# ── the end ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("interval_s", "ends_s"), [(90, 60), (600, 568), (1800, 1768)])
@pytest.mark.parametrize("we_called", [True, False])
def test_a_session_that_the_peer_does_not_refresh_ends_a_little_before_its_time(
    we_called: bool, interval_s: int, ends_s: int
) -> None:
    if we_called:
        net, phone, peer, usage = answered(("Session-Expires", f"{interval_s};refresher=uas"))
    else:
        net, peer, phone, _ = called(KNOWS, ("Session-Expires", f"{interval_s};refresher=uac"))
        usage = phone.one(InviteReceived).usage_id
    net.advance(ends_s - 0.2)
    assert peer.requests("BYE") == []
    net.advance(0.3)
    (bye,) = peer.distinct("BYE")
    assert bye.headers.get("Reason") == 'SIP ;cause=408 ;text="session expired"'
    peer.respond(bye, 200, phone, tag=None)
    net.advance(0.05)
    ended = phone.one(UsageEnded)
    assert (ended.usage_id, ended.cause) == (usage, "session_expired")
    net.advance(64)
    nothing_left(phone)


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_each_request_of_the_peer_that_succeeds_begins_the_session_anew(method: str) -> None:
    net, peer, bob, tag = called(KNOWS, ("Session-Expires", "90;refresher=uac"))

    def react(event: SipEvent) -> None:
        if isinstance(event, ReinviteReceived):
            bob.agent.answer(event.usage_id, net.now, body=ANSWER)

    bob.react = react
    for number in range(2, 12):
        net.advance(45)
        body = OFFER if method == "INVITE" else b""
        headers = [KNOWS, ("Session-Expires", "90;refresher=uac")]
        peer.request(method, bob, cseq=number, to_tag=tag, headers=headers, body=body)
        net.advance(0.05)
        if method == "INVITE":
            peer.request("ACK", bob, cseq=number, to_tag=tag)
        assert expires(peer.responses(method)[-1]) == "90;refresher=uac"
    net.advance(59)
    assert bob.of(UsageEnded) == []
    net.advance(2)
    assert len(peer.distinct("BYE")) == 1


def test_a_refused_change_does_not_begin_it_anew() -> None:
    net, peer, bob, tag = called(KNOWS, ("Session-Expires", "90;refresher=uac"))
    net.advance(40)
    peer.request("INVITE", bob, cseq=2, to_tag=tag, body=OFFER, headers=[KNOWS])
    net.advance(0.05)
    bob.agent.reject(bob.one(InviteReceived).usage_id, net.now, status=488)
    net.advance(20)
    assert len(peer.distinct("BYE")) == 1


def test_without_a_timer_nobody_ends_a_call() -> None:
    net = Network()
    alice, bob = net.phone("alice"), net.phone("bob")
    dial(alice, bob)
    net.advance(7200)
    assert [phone.of(UsageEnded) for phone in (alice, bob)] == [[], []]


def test_a_call_that_is_over_is_not_ended_once_more() -> None:
    net, peer, bob, _ = called(KNOWS, ("Session-Expires", "90;refresher=uac"))
    usage = bob.one(InviteReceived).usage_id
    net.advance(59.8)
    bob.agent.bye(usage, net.now)
    net.advance(0.4)
    assert len(peer.distinct("BYE")) == 1
    assert "Reason" not in peer.requests("BYE")[0].headers
    peer.respond(peer.requests("BYE")[0], 200, bob, tag=None)
    net.advance(64)
    assert bob.one(UsageEnded).cause == "bye_answered"
    with pytest.raises(LocalProtocolError):
        bob.agent.bye(usage, net.now)

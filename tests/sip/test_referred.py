"""REFER by the peer: what the application is asked, and what its answer tells the peer."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from tests.sip.network import ANSWER, OFFER, Network, Peer, Phone, nothing_left

from offhook.model.errors import LocalProtocolError
from offhook.sip.digest import Credentials, DigestClient
from offhook.sip.events import ByeReceived, InviteReceived, MessageRejected, ReferReceived, ReferTold, SipEvent
from offhook.sip.message import Request
from offhook.sip.parts import UserAgentLimits
from offhook.sip.refer_usage import REFERS_A_CALL
from offhook.sip.referred import ANSWER_WITHIN_S, EXPIRES_S
from offhook.sip.replaces_value import Replaces

OPERATOR = ("Refer-To", "<sip:operator@pbx.example>")


@dataclass
class Talk:
    """A call from a peer, driven by hand, to a phone."""

    net: Network
    pbx: Peer
    phone: Phone
    usage: int
    tag: str
    number: int = 1

    def send(self, method: str, *headers: tuple[str, str]) -> None:
        self.number += 1
        self.pbx.request(method, self.phone, cseq=self.number, to_tag=self.tag, headers=headers)
        self.net.advance(0.05)

    def refer(self, *headers: tuple[str, str]) -> ReferReceived:
        """Send a REFER that the application is asked about."""
        before = len(self.phone.of(ReferReceived))
        self.send("REFER", *(headers or (OPERATOR,)))
        assert len(self.phone.of(ReferReceived)) == before + 1
        return self.phone.of(ReferReceived)[-1]

    def accept(self, event: ReferReceived) -> None:
        self.phone.agent.accept_refer(self.usage, event.refer_id, self.net.now)
        self.net.advance(0.05)

    def tell(self, event: ReferReceived, status: int, reason: str = "") -> None:
        self.phone.agent.notify_refer(self.usage, event.refer_id, self.net.now, status=status, reason=reason)
        self.net.advance(0.05)

    def answer(self, status: int = 200, *headers: tuple[str, str]) -> None:
        """Answer the latest NOTIFY."""
        self.pbx.respond(self.pbx.requests("NOTIFY")[-1], status, self.phone, tag=None, headers=headers)
        self.net.advance(0.05)

    @property
    def told(self) -> list[tuple[bytes, str | None]]:
        """(fragment, Subscription-State) of each NOTIFY so far; each once, however often it was repeated."""
        notifys: dict[int, Request] = {request.cseq.number: request for request in self.pbx.requests("NOTIFY")}
        return [(one.body, one.headers.get("Subscription-State")) for one in notifys.values()]

    @property
    def refusal(self) -> MessageRejected:
        return self.phone.of(MessageRejected)[-1]


def talk(limits: UserAgentLimits | None = None) -> Talk:
    net = Network(limits=limits)
    pbx, phone = net.peer(), net.phone("bob")
    pbx.request("INVITE", phone, body=OFFER)
    net.advance(0.05)
    usage = phone.one(InviteReceived).usage_id
    phone.agent.answer(usage, net.now, body=ANSWER)
    net.advance(0.05)
    tag = pbx.responses()[-1].to.tag
    assert tag is not None
    pbx.request("ACK", phone, to_tag=tag)
    net.advance(0.05)
    return Talk(net, pbx, phone, usage, tag)


# ── what is asked ────────────────────────────────────────────────────────────────────────────────────────


def test_the_application_is_asked_with_all_that_the_peer_said() -> None:
    one = talk()
    event = one.refer(
        ("Refer-To", "<sip:op@h;user=phone?Replaces=c%40d%3Bto-tag%3D1%3Bfrom-tag%3D2%3Bearly-only>"),
        ("Referred-By", '"Boss" <sip:boss@h>;cid=x'),
        ("X-Why", "sales"),
    )
    assert (event.usage_id, event.refer_to, event.referred_by) == (one.usage, "sip:op@h;user=phone", "sip:boss@h")
    assert event.replaces == Replaces(sip_call_id="c@d", to_tag="1", from_tag="2", early_only=True)
    assert event.request.headers.get("X-Why") == "sales"
    assert one.pbx.statuses("REFER") == []


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([], 400),
        ([OPERATOR, OPERATOR], 400),
        ([("Refer-To", "<sip:a@b>, <sip:c@d>")], 400),
        ([("Refer-To", "nobody")], 400),
        ([("Refer-To", "<sip:a@b?Replaces=x>")], 400),
        ([("Refer-To", "<http://example.com>")], 416),
        ([("Refer-To", "<sip:a@b;method=BYE>")], 603),
        ([OPERATOR, ("Require", "moon")], 420),
        ([OPERATOR, ("Replaces", "a;to-tag=1;from-tag=2")], 400),
    ],
)
def test_what_asks_nothing_we_can_do_is_refused_with_evidence(headers: list[tuple[str, str]], status: int) -> None:
    one = talk()
    one.send("REFER", *headers)
    assert one.pbx.statuses("REFER") == [status]
    assert one.phone.of(ReferReceived) == []
    assert (one.refusal.status, bool(one.refusal.evidence), bool(one.refusal.fix)) == (status, True, True)
    assert one.phone.agent.counts()["refers"] == 0


def test_a_referred_by_that_cannot_be_read_decides_nothing() -> None:
    one = talk()
    assert one.refer(OPERATOR, ("Referred-By", "<<>>")).referred_by == ""


def test_a_repeated_refer_is_one_refer() -> None:
    one = talk()
    request = one.pbx.request("REFER", one.phone, cseq=2, to_tag=one.tag, headers=[OPERATOR])
    one.pbx.send(request, one.phone)
    one.net.advance(0.05)
    one.accept(one.phone.one(ReferReceived))
    one.pbx.send(request, one.phone)
    one.net.advance(0.05)
    assert one.pbx.statuses("REFER") == [202, 202]
    assert len(one.phone.of(ReferReceived)) == 1


def test_a_second_refer_while_one_waits_is_refused() -> None:
    one = talk()
    first = one.refer()
    one.send("REFER", OPERATOR)
    (response,) = one.pbx.responses("REFER")
    assert (response.status, response.headers.get("Retry-After")) == (500, "20")
    assert one.refusal.rule == "REFER while one waits"
    one.accept(first)
    assert one.refer().refer_id != first.refer_id


def test_a_refer_before_the_answer_has_no_call_to_transfer() -> None:
    net = Network()
    pbx, phone = net.peer(), net.phone("bob")
    pbx.request("INVITE", phone, body=OFFER)
    net.advance(0.05)
    phone.agent.ring(phone.one(InviteReceived).usage_id, net.now)
    net.advance(0.05)
    pbx.request("REFER", phone, cseq=2, to_tag=pbx.responses()[-1].to.tag, headers=[OPERATOR])
    net.advance(0.05)
    assert pbx.statuses("REFER") == [481]


def test_a_refer_outside_a_call_is_not_allowed() -> None:
    net = Network()
    pbx, phone = net.peer(), net.phone("bob")
    pbx.request("REFER", phone, headers=[OPERATOR])
    net.advance(0.05)
    (response,) = pbx.responses("REFER")
    assert (response.status, response.headers.get("Allow")) == (405, "INVITE, ACK, CANCEL, BYE, OPTIONS")
    assert phone.one(MessageRejected).rule == "method outside a call"
    nothing_left(phone)


# ── what is answered ─────────────────────────────────────────────────────────────────────────────────────


def test_accepted_the_peer_is_told_at_once_and_up_to_the_end() -> None:
    one = talk()
    event = one.refer()
    one.accept(event)
    (response,) = one.pbx.responses("REFER")
    assert (response.status, response.headers.get("Contact")) == (202, "<sip:demo@10.0.0.2:5060>")
    assert one.told == [(b"SIP/2.0 100 Trying\r\n", f"active;expires={EXPIRES_S}")]
    notify = one.pbx.requests("NOTIFY")[0]
    given = {name: notify.headers.get(name) for name in ("Event", "Content-Type", "Contact")}
    assert given == {
        "Event": "refer;id=2",
        "Content-Type": "message/sipfrag;version=2.0",
        "Contact": "<sip:demo@10.0.0.2:5060>",
    }
    one.answer()
    one.tell(event, 180)
    one.answer()
    one.tell(event, 486, "Besetzt")
    one.answer()
    assert one.told[1:] == [
        (b"SIP/2.0 180 Ringing\r\n", "active;expires=300"),
        (b"SIP/2.0 486 Besetzt\r\n", "terminated;reason=noresource"),
    ]
    assert one.phone.agent.counts()["refers"] == 0
    one.tell(event, 200)
    assert len(one.told) == 3, "nothing after the end"
    one.send("BYE")
    one.net.advance(40)
    nothing_left(one.phone)


def test_notifys_go_one_by_one_and_the_newest_waits() -> None:
    one = talk()
    event = one.refer()
    one.accept(event)
    for status in (180, 181, 183):
        one.tell(event, status)
    assert len(one.told) == 1
    one.answer()
    assert [body for body, _ in one.told[1:]] == [b"SIP/2.0 183 Session Progress\r\n"]
    one.tell(event, 200)
    one.tell(event, 180)
    one.answer()
    assert one.phone.of(ReferTold) == []
    one.answer()
    assert one.told[2:] == [(b"SIP/2.0 200 OK\r\n", "terminated;reason=noresource")]
    assert one.phone.one(ReferTold).refer_id == event.refer_id
    assert one.phone.agent.counts()["refers"] == 0


@pytest.mark.parametrize("status", [302, 403, 603])
def test_rejected_the_call_goes_on(status: int) -> None:
    one = talk()
    event = one.refer()
    one.phone.agent.reject_refer(one.usage, event.refer_id, one.net.now, status=status, headers=[("X-Why", "policy")])
    one.net.advance(0.05)
    (response,) = one.pbx.responses("REFER")
    assert (response.status, response.headers.get("X-Why")) == (status, "policy")
    assert one.told == []
    assert one.phone.agent.counts()["usages"] == 1
    assert one.phone.agent.counts()["refers"] == 0


def test_declined_is_how_it_is_rejected_without_more_words() -> None:
    one = talk()
    one.phone.agent.reject_refer(one.usage, one.refer().refer_id, one.net.now)
    one.net.advance(0.05)
    assert one.pbx.statuses("REFER") == [603]


def test_what_nobody_answers_is_declined_before_the_peer_gives_up() -> None:
    one = talk()
    event = one.refer()
    one.net.advance(ANSWER_WITHIN_S - 1)
    assert one.pbx.statuses("REFER") == []
    one.net.advance(1)
    assert one.pbx.statuses("REFER") == [603]
    assert one.refusal.rule == "REFER that nobody answered"
    with pytest.raises(LocalProtocolError):
        one.accept(event)


def test_a_peer_that_wants_no_notifys_gets_none() -> None:
    """RFC 4488 §4."""
    one = talk()
    event = one.refer(OPERATOR, ("Refer-Sub", "false"), ("Require", "norefersub"))
    one.accept(event)
    (response,) = one.pbx.responses("REFER")
    assert (response.status, response.headers.get("Refer-Sub")) == (202, "false")
    assert one.phone.one(ReferTold).refer_id == event.refer_id
    one.tell(event, 200)
    assert one.told == []
    assert one.phone.agent.counts()["refers"] == 0


@pytest.mark.parametrize("status", [404, 481, 500])
def test_a_peer_that_refuses_a_notify_gets_no_more(status: int) -> None:
    """RFC 6665 §4.2.2."""
    one = talk()
    event = one.refer()
    one.accept(event)
    one.tell(event, 180)
    one.answer(status)
    assert one.phone.one(ReferTold).refer_id == event.refer_id
    one.tell(event, 200)
    assert len(one.told) == 1
    assert one.phone.agent.counts()["refers"] == 0


def test_a_peer_that_answers_no_notify_gets_no_more() -> None:
    one = talk()
    event = one.refer()
    one.accept(event)
    one.net.advance(33)
    one.tell(event, 200)
    assert len(one.told) == 1
    assert one.phone.agent.counts()["refers"] == 0


def test_a_challenged_notify_goes_out_again() -> None:
    one = talk()
    one.phone.agent.authenticate(one.usage, DigestClient(Credentials(username="bob", password="secret")))
    one.accept(one.refer())
    one.answer(407, ("Proxy-Authenticate", 'Digest realm="pbx", nonce="n", algorithm=MD5, qop="auth"'))
    notify = one.pbx.requests("NOTIFY")[-1]
    assert (notify.headers.get("Proxy-Authorization") or "").startswith("Digest ")
    assert notify.body == b"SIP/2.0 100 Trying\r\n"
    one.answer()
    assert one.phone.agent.counts()["refers"] == 1


@pytest.mark.parametrize("arguments", [{"status": 99}, {"status": 700}, {"status": 200, "reason": "a\r\nb"}])
def test_what_is_no_status_is_not_told(arguments: dict[str, object]) -> None:
    one = talk()
    event = one.refer()
    one.accept(event)
    with pytest.raises(LocalProtocolError):
        one.phone.agent.notify_refer(one.usage, event.refer_id, one.net.now, **arguments)  # type: ignore[arg-type]


def test_commands_come_in_their_order_and_name_their_refer() -> None:
    one = talk()
    event = one.refer()
    agent, now = one.phone.agent, one.net.now
    with pytest.raises(LocalProtocolError, match="not accepted yet"):
        agent.notify_refer(one.usage, event.refer_id, now, status=180)
    with pytest.raises(LocalProtocolError, match="waits"):
        agent.accept_refer(one.usage, event.refer_id + 1, now)
    with pytest.raises(LocalProtocolError, match="waits"):
        agent.accept_refer(one.usage + 1, event.refer_id, now)
    with pytest.raises(LocalProtocolError, match="refuses nothing"):
        agent.reject_refer(one.usage, event.refer_id, now, status=200)
    one.accept(event)
    for command in (agent.accept_refer, agent.reject_refer):
        with pytest.raises(LocalProtocolError, match="waits"):
            command(one.usage, event.refer_id, now)


# ── the end of the call ──────────────────────────────────────────────────────────────────────────────────


def test_the_peer_is_told_the_end_after_it_has_hung_up() -> None:
    one = talk()
    event = one.refer()
    one.accept(event)
    one.answer()
    one.send("BYE")
    assert one.phone.one(ByeReceived).usage_id == one.usage
    one.net.advance(60)
    one.tell(event, 200)
    one.answer()
    assert one.told[-1] == (b"SIP/2.0 200 OK\r\n", "terminated;reason=noresource")
    assert one.phone.of(ReferTold) == []
    one.net.advance(40)
    nothing_left(one.phone)


def test_a_refer_that_waits_is_answered_when_the_call_ends() -> None:
    one = talk()
    event = one.refer()
    one.send("BYE")
    assert one.pbx.statuses("REFER") == [487]
    with pytest.raises(LocalProtocolError):
        one.accept(event)
    one.net.advance(40)
    nothing_left(one.phone)


def test_the_subscription_ends_by_itself_with_what_was_known_last() -> None:
    one = talk()
    event = one.refer()
    one.accept(event)
    one.answer()
    one.tell(event, 180)
    one.answer()
    one.net.advance(EXPIRES_S)
    assert one.told[-1] == (b"SIP/2.0 180 Ringing\r\n", "terminated;reason=timeout")
    one.answer()
    one.tell(event, 200)
    assert len(one.told) == 3
    one.send("BYE")
    one.net.advance(40)
    nothing_left(one.phone)


def test_a_thousand_refers_of_a_peer_are_bounded() -> None:
    """All are accepted, and no NOTIFY is ever answered: each lives until 64*T1 have told that nobody listens."""
    one = talk()

    def accept(event: SipEvent) -> None:
        if isinstance(event, ReferReceived):
            one.phone.agent.accept_refer(event.usage_id, event.refer_id, one.net.now)

    one.phone.react = accept
    for _ in range(1000):
        one.send("REFER", OPERATOR)
        assert one.phone.agent.counts()["refers"] <= REFERS_A_CALL
    assert set(one.pbx.statuses("REFER")) == {202, 503}
    one.send("BYE")
    one.net.advance(350)
    nothing_left(one.phone)

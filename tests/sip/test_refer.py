"""REFER by us: how it is answered, what its NOTIFYs tell, and how long they are waited for."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import pytest
from tests.sip.network import ANSWER, OFFER, Network, Peer, Phone, dial, nothing_left

from offhook.model.errors import LocalProtocolError, ResourceExhaustedError
from offhook.sip.digest import Credentials, DigestClient
from offhook.sip.events import (
    ByeReceived,
    Hop,
    MessageRejected,
    ReferAnswered,
    ReferProgress,
    ReferReceived,
    SipEvent,
    UsageEnded,
)
from offhook.sip.parts import UserAgentLimits
from offhook.sip.refer import AFTERLIFE_S, FIRST_NOTIFY_S, LEAST_S, MOST_S
from offhook.sip.refer_usage import REFERS_A_CALL
from offhook.sip.uri import SipUri

OPERATOR = "sip:operator@pbx.example"
TRYING, RINGING, OK, BUSY = (
    b"SIP/2.0 100 Trying\r\n",
    b"SIP/2.0 180 Ringing\r\n",
    b"SIP/2.0 200 OK\r\n",
    b"SIP/2.0 486 Busy Here\r\n",
)
ENDED = "terminated;reason=noresource"


@dataclass
class Talk:
    """A call from a phone to a peer that is driven by hand, as a PBX would be."""

    net: Network
    phone: Phone
    pbx: Peer
    usage: int
    number: int = 100

    def refer(self, to: str = OPERATOR) -> int:
        refer_id = self.phone.agent.refer(self.usage, self.net.now, refer_to=to)
        self.net.advance(0.05)
        return refer_id

    def referred(self, to: str = OPERATOR) -> int:
        """One that is accepted."""
        refer_id = self.refer(to)
        self.respond(202)
        return refer_id

    def respond(self, status: int, *, headers: tuple[tuple[str, str], ...] = ()) -> None:
        """Answer the latest REFER."""
        self.pbx.respond(self.pbx.requests("REFER")[-1], status, self.phone, tag=None, headers=headers)
        self.net.advance(0.05)

    def send(
        self, method: str, headers: tuple[tuple[str, str], ...] = (), body: bytes = b"", content_type: str = "x/y"
    ) -> int | None:
        """Send a request in the dialog; the status of its answer, None where none came."""
        invite = self.pbx.requests("INVITE")[0]
        self.number += 1
        request = self.pbx.build(
            method,
            self.phone,
            cseq=self.number,
            from_tag="remote",
            to_tag=invite.from_.tag,
            call_id=invite.sip_call_id,
            headers=headers,
            body=body,
            content_type=content_type,
        )
        before = len(self.pbx.statuses(method))
        self.pbx.send(request, self.phone)
        self.net.advance(0.05)
        statuses = self.pbx.statuses(method)[before:]
        return statuses[0] if statuses else None

    def notify(
        self,
        body: bytes,
        state: str | None = "active;expires=60",
        *,
        event: str | None = "refer",
        content_type: str = "message/sipfrag;version=2.0",
    ) -> int | None:
        headers = {"Event": event, "Subscription-State": state}
        given = tuple((name, value) for name, value in headers.items() if value is not None)
        return self.send("NOTIFY", given, body, content_type)

    def bye(self) -> None:
        assert self.send("BYE") == 200

    @property
    def told(self) -> list[tuple[int | None, bool]]:
        """(status, whether it was the last) of each progress so far."""
        return [(event.status, event.terminated) for event in self.phone.of(ReferProgress)]

    @property
    def refusal(self) -> MessageRejected:
        return self.phone.of(MessageRejected)[-1]


def talk(credentials: DigestClient | None = None, limits: UserAgentLimits | None = None) -> Talk:
    net = Network(limits=limits)
    phone, pbx = net.phone("alice"), net.peer()
    usage = phone.invite(pbx) if credentials is None else invite_with(phone, pbx, credentials)
    net.advance(0.05)
    pbx.respond(pbx.requests("INVITE")[0], 200, phone, body=ANSWER)
    net.advance(0.05)
    return Talk(net, phone, pbx, usage)


def invite_with(phone: Phone, pbx: Peer, credentials: DigestClient) -> int:
    usage = phone.agent.invite(
        target=SipUri(user="demo", host=pbx.address.host),
        from_=phone.identity,
        flow=phone.flow_to(pbx),
        next_hop=Hop(transport="UDP", host=pbx.address.host, port=5060),
        offer=OFFER,
        credentials=credentials,
        now=phone.network.now,
    )
    phone.pump()
    return usage


# ── the request and its answer ───────────────────────────────────────────────────────────────────────────


def test_a_refer_says_whom_to_call_and_who_asks() -> None:
    one = talk()
    refer_id = one.phone.agent.refer(
        one.usage, one.net.now, refer_to="tel:+4930123", referred_by='"Agent" <sip:a@b>', headers=[("X-Why", "sales")]
    )
    one.net.advance(0.05)
    (request,) = one.pbx.requests("REFER")
    given = {name: request.headers.get_all(name) for name in ("Refer-To", "Referred-By", "X-Why", "Contact", "To")}
    assert given == {
        "Refer-To": ["<tel:+4930123>"],
        "Referred-By": ['"Agent" <sip:a@b>'],
        "X-Why": ["sales"],
        "Contact": ["<sip:alice@10.0.0.1:5060>"],
        "To": ["<sip:demo@10.0.0.2>;tag=remote"],
    }
    assert (request.uri, request.cseq.number) == ("sip:peer@10.0.0.2:5060", 2)
    assert one.phone.kinds == ["AnswerReceived"]
    one.respond(202)
    assert one.phone.one(ReferAnswered) == ReferAnswered(
        usage_id=one.usage, refer_id=refer_id, status=202, reason="Accepted", subscribed=True
    )


@pytest.mark.parametrize("status", [200, 202])
@pytest.mark.parametrize("final", [OK, BUSY])
def test_the_notifys_tell_how_it_goes_up_to_the_end(status: int, final: bytes) -> None:
    one = talk()
    refer_id = one.refer()
    one.respond(status)
    assert [one.notify(TRYING), one.notify(RINGING), one.notify(final, ENDED)] == [200, 200, 200]
    end = int(final[8:11])
    assert one.told == [(100, False), (180, False), (end, True)]
    assert {(event.usage_id, event.refer_id) for event in one.phone.of(ReferProgress)} == {(one.usage, refer_id)}
    assert one.phone.of(ReferProgress)[-1].reason == final[12:].strip().decode()
    assert one.notify(final, ENDED) == 481
    one.bye()
    one.net.advance(40)
    nothing_left(one.phone)


@pytest.mark.parametrize("status", [302, 405, 481, 488, 500, 603])
def test_a_refused_refer_changes_nothing_else(status: int) -> None:
    one = talk()
    refer_id = one.refer()
    one.respond(status)
    answered = one.phone.one(ReferAnswered)
    assert (answered.refer_id, answered.status, answered.subscribed) == (refer_id, status, False)
    assert one.notify(TRYING) == 481
    assert one.told == []
    one.bye()
    one.net.advance(40)
    nothing_left(one.phone)


def test_a_refer_that_nobody_answers_fails_after_64_t1() -> None:
    one = talk()
    one.refer()
    one.net.advance(33)
    answered = one.phone.one(ReferAnswered)
    assert (answered.status, answered.reason, answered.subscribed) == (408, "Request Timeout", False)
    assert one.phone.agent.counts()["refers"] == 0
    assert one.phone.agent.counts()["usages"] == 1


def test_a_refer_that_cannot_be_sent_fails_with_the_reason() -> None:
    one = talk()
    one.phone.agent.refer(one.usage, one.net.now, refer_to=OPERATOR)
    one.phone.pump()
    one.phone.agent.transport_failed(one.phone.outbound[-1].token, "no route to host", one.net.now)
    one.net.advance(0)
    answered = one.phone.one(ReferAnswered)
    assert (answered.status, answered.reason, answered.subscribed) == (None, "no route to host", False)


def test_a_challenged_refer_goes_out_again_and_its_id_is_the_new_number() -> None:
    one = talk(DigestClient(Credentials(username="alice", password="secret")))
    one.refer()
    one.respond(401, headers=(("WWW-Authenticate", 'Digest realm="pbx", nonce="n", algorithm=MD5, qop="auth"'),))
    first, second = one.pbx.requests("REFER")
    assert (first.cseq.number, second.cseq.number) == (2, 3)
    assert (second.headers.get("Authorization") or "").startswith("Digest ")
    assert second.headers.get("Refer-To") == f"<{OPERATOR}>"
    one.respond(202)
    assert [event.status for event in one.phone.of(ReferAnswered)] == [202]
    assert one.notify(TRYING, event="refer;id=2") == 481
    assert one.notify(TRYING, event="refer;id=3") == 200
    assert one.told == [(100, False)]


def test_a_peer_that_tells_nothing_says_so() -> None:
    """RFC 4488 §4.2."""
    one = talk()
    one.refer()
    one.respond(200, headers=(("Refer-Sub", "false"),))
    assert one.phone.one(ReferAnswered).subscribed is False
    assert one.phone.agent.counts()["refers"] == 0
    assert one.notify(TRYING) == 481


@pytest.mark.parametrize(
    "refer_to", ["", "operator", "<sip:a@b", "sip:a b", "sip:", "sip:a@b>\r\nX: y", "sip:a@b:99999"]
)
def test_what_is_no_uri_is_not_sent(refer_to: str) -> None:
    one = talk()
    before = one.phone.agent.counts()
    with pytest.raises(LocalProtocolError):
        one.phone.agent.refer(one.usage, one.net.now, refer_to=refer_to)
    with pytest.raises(LocalProtocolError):
        one.phone.agent.refer(one.usage, one.net.now, refer_to=OPERATOR, referred_by=refer_to or "me")
    assert one.phone.agent.counts() == before


def test_only_a_call_that_is_up_can_be_referred() -> None:
    net = Network()
    alice, pbx = net.phone("alice"), net.peer()
    usage = alice.invite(pbx)
    with pytest.raises(LocalProtocolError, match="CALLING"):
        alice.agent.refer(usage, net.now, refer_to=OPERATOR)
    net.advance(0.05)
    pbx.respond(pbx.requests("INVITE")[0], 200, alice, body=ANSWER)
    net.advance(0.05)
    alice.agent.bye(usage, net.now)
    with pytest.raises(LocalProtocolError, match="ENDING"):
        alice.agent.refer(usage, net.now, refer_to=OPERATOR)


# ── NOTIFY ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_notify_may_come_before_the_answer() -> None:
    """RFC 6665 §4.1.2.4."""
    one = talk()
    one.refer()
    assert one.notify(RINGING) == 200
    one.respond(202)
    assert one.phone.kinds[-2:] == ["ReferProgress", "ReferAnswered"]
    assert one.notify(OK, ENDED) == 200
    assert one.told == [(180, False), (200, True)]


def test_even_the_last_notify_may_come_before_the_answer() -> None:
    one = talk()
    one.refer()
    assert one.notify(OK, ENDED) == 200
    assert one.notify(OK, ENDED) == 200
    one.respond(202)
    assert one.told == [(200, True)]
    assert one.phone.one(ReferAnswered).subscribed
    one.bye()
    one.net.advance(40)
    nothing_left(one.phone)


def test_several_refers_are_told_apart_by_their_ids() -> None:
    one = talk()
    first, second = one.referred("sip:one@h"), one.referred("sip:two@h")
    assert one.notify(RINGING, event="refer;id=3") == 200
    assert one.notify(TRYING, event="refer;id=02") == 200
    assert one.notify(BUSY, ENDED, event="refer") == 200, "without an id it is the first that is under way"
    assert one.notify(OK, ENDED) == 200
    assert [(event.refer_id, event.status) for event in one.phone.of(ReferProgress)] == [
        (second, 180),
        (first, 100),
        (first, 486),
        (second, 200),
    ]


@pytest.mark.parametrize("event", ["refer;id=7", "refer;id=x", "refer;id=", "refer;id"])
def test_a_notify_of_another_id_gets_481(event: str) -> None:
    one = talk()
    one.referred()
    assert one.notify(OK, ENDED, event=event) in (481, 489)
    assert one.told == []
    assert one.refusal.evidence.startswith("Event: ")
    assert one.refusal.fix


@pytest.mark.parametrize("event", [None, "message-summary", "refer.winfo", "", "re fer", ";id=2"])
def test_a_notify_of_another_package_gets_489(event: str | None) -> None:
    one = talk()
    one.referred()
    assert one.notify(OK, ENDED, event=event) == 489
    assert one.pbx.responses("NOTIFY")[-1].headers.get("Allow-Events") == "refer"
    assert one.told == []
    assert one.refusal.rule == "Event"


@pytest.mark.parametrize(
    ("body", "state", "content_type", "status"),
    [
        (b"200 OK", "active", "message/sipfrag", 400),
        (b"\x00\xff", "active;expires=1", "message/sipfrag", 400),
        (OK, "act ive", "message/sipfrag", 400),
        (OK, "active;expires=soon", "message/sipfrag", 400),
        (OK, ";", "message/sipfrag", 400),
        (OK, "active", "text/plain", 415),
        (OK, "active", "", 415),
    ],
)
def test_a_malformed_notify_is_refused_with_evidence(body: bytes, state: str, content_type: str, status: int) -> None:
    one = talk()
    one.referred()
    assert one.notify(body, state, content_type=content_type) == status
    assert one.told == []
    assert one.refusal.status == status
    assert one.refusal.evidence
    assert one.pbx.responses("NOTIFY")[-1].headers.get("Accept") == "message/sipfrag"
    assert one.notify(OK, ENDED) == 200, "and the next one counts"
    assert one.told == [(200, True)]


@pytest.mark.parametrize(
    ("body", "content_type"), [(b"", ""), (b"?", "message/sipfrag"), (OK, "text/plain"), (b"\xff" * 300, "x")]
)
def test_a_last_notify_is_the_last_whatever_it_brings(body: bytes, content_type: str) -> None:
    one = talk()
    refer_id = one.referred()
    assert one.notify(body, "terminated;reason=giveup", content_type=content_type) == 200
    assert one.phone.of(ReferProgress) == [
        ReferProgress(usage_id=one.usage, refer_id=refer_id, status=None, reason="giveup", terminated=True)
    ]


def test_a_notify_without_body_is_no_news() -> None:
    one = talk()
    one.referred()
    assert one.notify(b"", "pending") == 200
    assert one.told == []
    assert one.notify(OK, ENDED) == 200
    assert one.told == [(200, True)]


@pytest.mark.parametrize("state", ["active;expires=60", "pending", None, "resting"])
def test_a_final_status_is_the_end_though_the_peer_does_not_say_so(state: str | None) -> None:
    one = talk()
    one.referred()
    assert one.notify(BUSY, state) == 200
    assert one.told == [(486, True)]
    assert [one.notify(BUSY, state), one.notify(TRYING), one.notify(OK, ENDED)] == [200, 200, 200]
    assert one.told == [(486, True)], "told once"
    assert one.notify(OK, ENDED) == 481
    one.referred()
    assert one.notify(OK) == 200
    one.bye()
    one.net.advance(40)
    assert one.told == [(486, True), (200, True)]
    nothing_left(one.phone)


def test_a_last_notify_that_still_rings_is_an_end_that_nobody_knows() -> None:
    one = talk()
    one.referred()
    assert one.notify(TRYING, "terminated;reason=timeout") == 200
    assert one.told == [(100, True)]


def test_a_notify_of_nothing_gets_481() -> None:
    one = talk()
    assert one.notify(TRYING) == 481
    assert one.refusal.rule == "NOTIFY of no subscription"


# ── how long ─────────────────────────────────────────────────────────────────────────────────────────────


def test_notifys_are_taken_after_the_peer_has_hung_up() -> None:
    """RFC 5057 §3.1; many a PBX says BYE once it has accepted."""
    one = talk()
    refer_id = one.referred()
    assert one.notify(TRYING) == 200
    one.bye()
    assert one.phone.agent.counts()["usages"] == 0
    one.net.advance(60)
    assert one.notify(RINGING) == 200
    one.net.advance(100)
    assert one.notify(OK, ENDED, event="refer;id=2") == 200
    assert one.told == [(100, False), (180, False), (200, True)]
    assert {(event.usage_id, event.refer_id) for event in one.phone.of(ReferProgress)} == {(one.usage, refer_id)}
    assert one.notify(OK, ENDED) == 481
    one.net.advance(40)
    nothing_left(one.phone)


def test_a_notify_that_a_bye_overtook_is_taken() -> None:
    """Its first copy was lost; the BYE is of another usage of the dialog, and outdates nothing of this one."""
    one = talk()
    one.referred()
    assert one.notify(TRYING) == 200
    one.number += 1
    one.bye()
    one.number -= 2
    assert one.notify(OK, ENDED) == 200
    assert one.told == [(100, False), (200, True)]


@pytest.mark.parametrize("first", [True, False])
def test_the_answer_to_a_refer_may_come_after_either_side_has_hung_up(first: bool) -> None:
    one = talk()
    one.refer()
    if first:
        one.bye()
    else:
        one.phone.agent.bye(one.usage, one.net.now)
        one.net.advance(0.05)
        one.pbx.respond(one.pbx.requests("BYE")[0], 200, one.phone, tag=None)
        one.net.advance(0.05)
        assert one.phone.one(UsageEnded).cause == "bye_answered"
    one.respond(202)
    assert one.phone.one(ReferAnswered).status == 202
    assert one.notify(OK, ENDED) == 200
    assert one.told == [(200, True)]
    one.net.advance(40)
    nothing_left(one.phone)


def test_without_any_notify_the_end_is_told_after_64_t1() -> None:
    one = talk()
    refer_id = one.referred()
    one.net.advance(FIRST_NOTIFY_S - 1)
    assert one.told == []
    one.net.advance(1)
    assert one.phone.of(ReferProgress) == [
        ReferProgress(
            usage_id=one.usage, refer_id=refer_id, status=None, reason="the peer told no end", terminated=True
        )
    ]
    assert one.notify(OK, ENDED) == 481


@pytest.mark.parametrize(
    ("expires", "lasts_s"), [("5", LEAST_S), ("300", 300), ("99999999", MOST_S), (None, LEAST_S), ("0", LEAST_S)]
)
def test_each_notify_says_how_long_to_wait_for_the_next(expires: str | None, lasts_s: float) -> None:
    one = talk()
    one.referred()
    one.net.advance(20)
    assert one.notify(RINGING, "active" if expires is None else f"active;expires={expires}") == 200
    one.net.advance(lasts_s - 0.1)
    assert one.told == [(180, False)]
    one.net.advance(0.2)
    assert one.told == [(180, False), (None, True)]


def test_after_the_call_nobody_waits_longer_than_a_phone_rings() -> None:
    one = talk()
    one.referred()
    assert one.notify(RINGING, "active;expires=3600") == 200
    one.bye()
    one.net.advance(AFTERLIFE_S - 1)
    assert one.told == [(180, False)]
    one.net.advance(2)
    assert one.told == [(180, False), (None, True)]
    nothing_left(one.phone)


def test_a_stranger_s_notify_does_not_reach_a_refer() -> None:
    one = talk()
    one.referred()
    one.bye()
    invite = one.pbx.requests("INVITE")[0]
    for from_tag, to_tag, call_id in (("x", invite.from_.tag, invite.sip_call_id), ("remote", "x", invite.sip_call_id)):
        one.pbx.request(
            "NOTIFY",
            one.phone,
            cseq=900,
            from_tag=from_tag,
            to_tag=to_tag,
            call_id=call_id,
            headers=[("Event", "refer")],
        )
    one.net.advance(0.05)
    assert one.pbx.statuses("NOTIFY")[-2:] == [481, 481]
    assert one.told == []


def test_a_late_notify_must_be_in_order_and_of_known_extensions() -> None:
    one = talk()
    one.referred()
    assert one.notify(TRYING) == 200
    one.bye()
    one.number = 50
    assert one.notify(OK, ENDED) == 500
    one.number = 200
    assert one.send("NOTIFY", (("Event", "refer"), ("Require", "moon"))) == 420
    assert one.notify(OK, ENDED) == 200


# ── floods ───────────────────────────────────────────────────────────────────────────────────────────────


def test_refers_of_one_call_and_of_all_are_bounded() -> None:
    one = talk()
    for _ in range(REFERS_A_CALL):
        one.refer()
    with pytest.raises(ResourceExhaustedError):
        one.refer()
    assert len(one.pbx.requests("REFER")) == REFERS_A_CALL
    other = talk(limits=UserAgentLimits(refers=2))
    other.referred()
    other.referred()
    with pytest.raises(ResourceExhaustedError):
        other.refer()
    assert other.notify(OK, ENDED) == 200
    other.refer()


def test_a_thousand_refers_one_after_the_other_leave_nothing() -> None:
    one = talk()
    for turn in range(1000):
        one.referred()
        assert one.notify(OK, ENDED) == 200
        assert one.phone.agent.counts()["refers"] == 0, turn
        one.phone.events.clear()
        one.pbx.received[1:] = []
        one.net.wire.clear()
    one.bye()
    one.net.advance(40)
    nothing_left(one.phone)


def test_a_flood_of_notifys_is_bounded() -> None:
    one = talk(limits=UserAgentLimits(transactions=100, events=50))
    one.referred()
    one.phone.pump = lambda: None  # type: ignore[method-assign]  # nobody takes what the agent has to say
    for number in range(200, 700):
        invite = one.pbx.requests("INVITE")[0]
        one.pbx.request(
            "NOTIFY",
            one.phone,
            cseq=number,
            from_tag="remote",
            to_tag=invite.from_.tag,
            call_id=invite.sip_call_id,
            headers=[("Event", "refer"), ("Subscription-State", "active")],
        )
    one.net.advance(0.05)
    counts = one.phone.agent.counts()
    assert counts["transactions"] <= 100
    assert counts["refers"] == 1


# ── two of ours ──────────────────────────────────────────────────────────────────────────────────────────


def going_along(phone: Phone, random: Random) -> None:
    """From now on the phone does what REFER asks: it tells 180 and, sooner or later, an end; sometimes it hangs up."""

    def react(event: SipEvent) -> None:
        now = phone.network.now
        if not isinstance(event, ReferReceived):
            return
        if random.random() < 0.2:
            phone.agent.reject_refer(event.usage_id, event.refer_id, now)
            return
        phone.agent.accept_refer(event.usage_id, event.refer_id, now)
        phone.agent.notify_refer(event.usage_id, event.refer_id, now, status=180)
        if random.random() < 0.5:
            phone.agent.bye(event.usage_id, now)
        phone.agent.notify_refer(event.usage_id, event.refer_id, now, status=random.choice((200, 486, 603)))

    phone.react = react


@pytest.mark.parametrize("seed", range(5))
def test_with_a_fifth_of_all_messages_lost_every_refer_ends_once(seed: int) -> None:
    net, random = Network(seed=seed), Random(seed)
    alice, bob = net.phone("alice"), net.phone("bob")
    going_along(bob, random)
    calls = [dial(alice, bob) for _ in range(40)]
    net.loss, net.jitter_s, net.duplication = 0.2, 0.08, 0.05
    refers = {alice.agent.refer(call.caller, net.now, refer_to=OPERATOR): call for call in calls}
    net.advance(250)
    answered = {event.refer_id: event for event in alice.of(ReferAnswered)}
    assert set(answered) == set(refers)
    ends = [event.refer_id for event in alice.of(ReferProgress) if event.terminated]
    assert len(ends) == len(set(ends))
    assert set(ends) >= {refer_id for refer_id, event in answered.items() if event.subscribed}
    assert {event.status for event in alice.of(ReferProgress) if event.terminated} == {200, 486, 603}, "as it was told"
    net.loss = 0.0
    gone = {event.usage_id for event in alice.events if isinstance(event, ByeReceived | UsageEnded)}
    for call in calls:
        if call.caller not in gone:
            alice.agent.bye(call.caller, net.now)
    net.advance(350)
    nothing_left(alice, bob)

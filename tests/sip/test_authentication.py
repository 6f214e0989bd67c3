"""401 and 407 to requests of ours: the request once more with credentials, and when that is not done."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from tests.sip.network import ANSWER, OFFER, Network, nothing_left

from offhook.sip.authentication import CHALLENGES_A_REQUEST
from offhook.sip.digest import Credentials, DigestClient, digest_response, parse_digest
from offhook.sip.events import (
    Address,
    AnswerReceived,
    ByeReceived,
    Flow,
    Hop,
    Inbound,
    InviteFailed,
    InviteReceived,
    OptionsAnswered,
    ProvisionalReceived,
    ReinviteAnswered,
    ReinviteFailed,
    Transport,
    UsageEnded,
)
from offhook.sip.message import Request, Response, response_to, serialize
from offhook.sip.uri import SipUri

Lines = Iterable[tuple[str, str]]

ALICE = Credentials(username="alice", password="secret")


def asks(
    realm: str = "pbx",
    nonce: str = "n1",
    *,
    proxy: bool = False,
    algorithm: str = "MD5",
    stale: bool = False,
) -> tuple[str, str]:
    """A challenge, as a header."""
    name = "Proxy-Authenticate" if proxy else "WWW-Authenticate"
    ending = ", stale=true" if stale else ""
    return name, f'Digest realm="{realm}", nonce="{nonce}", algorithm={algorithm}, qop="auth"{ending}'


class Trunk:
    """A phone with credentials (alice, secret), and a peer that is asked for calls and challenges them."""

    def __init__(self, *, credentials: Credentials | None = ALICE, transport: Transport = "UDP") -> None:
        self.net = Network(transport=transport)
        self.phone = self.net.phone("offhook")
        self.peer = self.net.peer()
        self.client = None if credentials is None else DigestClient(credentials)
        self.usage = 0

    def run(self) -> None:
        self.phone.pump()
        self.net.advance(0.05)

    @property
    def hop(self) -> Hop:
        return Hop(transport=self.net.transport, host=self.peer.address.host, port=self.peer.address.port)

    # ── what we ask ──────────────────────────────────────────────────────────────────────────────────────

    def invite(self, *, offer: bytes = OFFER, headers: Lines = ()) -> Request:
        self.usage = self.phone.agent.invite(
            target=SipUri(user="demo", host=self.peer.address.host),
            from_=self.phone.identity,
            flow=self.phone.flow_to(self.peer),
            next_hop=self.hop,
            offer=offer,
            headers=headers,
            credentials=self.client,
            now=self.net.now,
        )
        self.run()
        return self.last("INVITE")

    def connect(self, *, contact: str | None = None) -> Request:
        """A call that is up, its INVITE challenged once; returns the INVITE that was accepted."""
        self.invite()
        self.challenge("INVITE", 401, asks())
        self.accept(contact=contact)
        return self.last("INVITE")

    # ── what the peer says ───────────────────────────────────────────────────────────────────────────────

    def challenge(self, method: str, status: int, *headers: tuple[str, str], tag: str = "challenger") -> None:
        """Refuse the latest request of a method so."""
        self.respond(method, status, *headers, tag=tag)

    def respond(
        self, method: str, status: int, *headers: tuple[str, str], tag: str = "remote", body: bytes = b""
    ) -> None:
        self.peer.respond(self.last(method), status, self.phone, tag=tag, headers=headers, body=body)
        self.run()

    def accept(self, *, tag: str = "remote", contact: str | None = None, body: bytes = ANSWER) -> None:
        own = contact or f"<sip:peer@{self.peer.address.host}>"
        response = response_to(
            self.last("INVITE"),
            200,
            to_tag=tag,
            headers=[("Contact", own)],
            body=body,
            content_type="application/sdp",
        )
        self.peer.send(response, self.phone)
        self.run()

    # ── what was seen ────────────────────────────────────────────────────────────────────────────────────

    def last(self, method: str) -> Request:
        return self.peer.requests(method)[-1]

    def count(self, method: str) -> int:
        return len(self.peer.requests(method))


def proofs(request: Request, name: str = "Authorization") -> list[dict[str, str]]:
    """The parameters of the credentials in a request."""
    found = [parse_digest(value) for value in request.headers.get_all(name)]
    assert None not in found
    return [one for one in found if one is not None]


def proof(request: Request, name: str = "Authorization") -> dict[str, str]:
    (one,) = proofs(request, name)
    return one


def holds(request: Request, name: str = "Authorization", *, password: str = "secret") -> bool:
    """Whether the credentials are right for this very request."""
    one = proof(request, name)
    return one["uri"] == request.uri and one["response"] == digest_response(
        algorithm=one["algorithm"],
        username=one["username"],
        realm=one["realm"],
        password=password,
        method=request.method,
        uri=request.uri,
        nonce=one["nonce"],
        count=one["nc"],
        cnonce=one["cnonce"],
    )


# ── INVITE ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("status", "proxy", "name"), [(401, False, "Authorization"), (407, True, "Proxy-Authorization")]
)
def test_a_challenged_invite_goes_out_again_with_credentials(status: int, proxy: bool, name: str) -> None:
    trunk = Trunk()
    first = trunk.invite(headers=[("X-Own", "kept")])
    trunk.challenge("INVITE", status, asks(proxy=proxy))
    second = trunk.last("INVITE")
    assert trunk.net.steps() == ["INVITE", f"INVITE {status}", "ACK", "INVITE"]
    assert (first.cseq.number, second.cseq.number) == (1, 2)
    assert first.via_top.branch != second.via_top.branch
    assert (first.sip_call_id, first.from_.tag) == (second.sip_call_id, second.from_.tag)
    assert (first.uri, first.body, first.headers.get("Contact")) == (
        second.uri,
        second.body,
        second.headers.get("Contact"),
    )
    assert second.to.tag is None
    assert second.headers.get_all("X-Own") == ["kept"]
    assert len(second.headers.get_all("Via")) == len(second.headers.get_all("CSeq")) == 1
    assert name not in first.headers
    assert holds(second, name)
    assert trunk.phone.events == []


def test_over_tcp_the_answer_stays_on_the_connection_of_its_challenge() -> None:
    trunk = Trunk(transport="TCP")
    trunk.invite()
    trunk.challenge("INVITE", 401, asks())
    first, ack, second = trunk.phone.outbound
    assert (first.flow.connection, first.next_hop) == (0, trunk.hop)
    assert (ack.flow.connection, ack.next_hop) == (second.flow.connection, second.next_hop) == (1, None)
    trunk.accept()
    trunk.phone.agent.bye(trunk.usage, trunk.net.now)
    trunk.run()
    trunk.challenge("BYE", 401, asks())
    assert holds(trunk.last("BYE"))


def test_the_acknowledgement_of_the_refusal_belongs_to_it() -> None:
    trunk = Trunk()
    first = trunk.invite()
    trunk.challenge("INVITE", 401, asks(), tag="challenger")
    (ack,) = trunk.peer.requests("ACK")
    assert ack.via_top.branch == first.via_top.branch
    assert (ack.cseq.number, ack.to.tag) == (1, "challenger")


def test_the_call_goes_on_with_the_numbers_of_the_invite_that_was_accepted() -> None:
    trunk = Trunk()
    accepted = trunk.connect()
    assert trunk.phone.one(AnswerReceived).remote_tag == "remote"
    assert (accepted.cseq.number, trunk.last("ACK").cseq.number) == (2, 2)
    trunk.phone.agent.reinvite(trunk.usage, trunk.net.now, offer=OFFER)
    trunk.run()
    trunk.accept()
    assert (trunk.last("INVITE").cseq.number, trunk.last("ACK").cseq.number) == (3, 3)
    trunk.phone.agent.bye(trunk.usage, trunk.net.now)
    trunk.run()
    bye = trunk.last("BYE")
    assert (bye.cseq.number, bye.to.tag, bye.from_.tag) == (4, "remote", accepted.from_.tag)
    trunk.respond("BYE", 200)
    assert trunk.phone.one(UsageEnded).cause == "bye_answered"
    trunk.net.advance(40)
    nothing_left(trunk.phone)


def test_the_ack_of_the_2xx_has_the_credentials_of_its_invite() -> None:
    trunk = Trunk()
    accepted = trunk.connect()
    # RFC 3261 §13.2.2.4: "The ACK MUST contain the same credentials as the INVITE."
    assert trunk.last("ACK").headers.get_all("Authorization") == accepted.headers.get_all("Authorization")
    assert len(accepted.headers.get_all("Authorization")) == 1
    again = serialize(trunk.last("ACK"))
    trunk.accept()
    assert serialize(trunk.last("ACK")) == again


def test_the_ack_of_a_later_invite_that_nobody_challenged_has_none() -> None:
    trunk = Trunk()
    trunk.connect()
    trunk.phone.agent.reinvite(trunk.usage, trunk.net.now, offer=OFFER)
    trunk.run()
    trunk.accept()
    assert trunk.last("ACK").cseq.number == 3
    assert "Authorization" not in trunk.last("ACK").headers


def test_an_invite_without_offer_is_challenged_and_acknowledged_with_the_answer() -> None:
    trunk = Trunk()
    trunk.invite(offer=b"")
    trunk.challenge("INVITE", 401, asks())
    trunk.accept(body=OFFER)
    trunk.phone.agent.ack(trunk.usage, trunk.net.now, body=ANSWER)
    trunk.run()
    ack = trunk.last("ACK")
    assert (ack.cseq.number, ack.body) == (2, ANSWER)
    assert len(ack.headers.get_all("Authorization")) == 1


def test_proxy_and_server_each_get_their_own() -> None:
    trunk = Trunk()
    trunk.invite()
    trunk.challenge("INVITE", 407, asks("proxy", "p1", proxy=True))
    trunk.challenge("INVITE", 401, asks("server", "s1", algorithm="SHA-256"))
    third = trunk.last("INVITE")
    assert third.cseq.number == 3
    proxy, server = proof(third, "Proxy-Authorization"), proof(third)
    assert (proxy["realm"], proxy["nonce"], proxy["nc"]) == ("proxy", "p1", "00000002")
    assert (server["realm"], server["nonce"], server["nc"]) == ("server", "s1", "00000001")
    assert holds(third, "Proxy-Authorization")
    assert holds(third)
    trunk.accept()
    ack = trunk.last("ACK")
    assert ack.cseq.number == 3
    assert {"Authorization", "Proxy-Authorization"} <= {name for name, _ in ack.headers.items()}


def test_two_proxies_in_a_row_are_told_by_their_realms() -> None:
    trunk = Trunk()
    trunk.invite()
    trunk.challenge("INVITE", 407, asks("near", "n1", proxy=True))
    trunk.challenge("INVITE", 407, asks("far", "f1", proxy=True))
    assert [one["realm"] for one in proofs(trunk.last("INVITE"), "Proxy-Authorization")] == ["near", "far"]


def test_the_challenges_of_a_proxy_that_forked_are_answered_together() -> None:
    trunk = Trunk()
    trunk.invite()
    trunk.challenge("INVITE", 401, asks("a", "a1"), asks("a", "a2", algorithm="SHA-256"), asks("b", "b1"))
    answers = proofs(trunk.last("INVITE"))
    assert [(one["realm"], one["algorithm"]) for one in answers] == [("a", "SHA-256"), ("b", "MD5")]


def test_a_stale_nonce_is_replaced_by_the_new_one() -> None:
    trunk = Trunk()
    trunk.invite()
    trunk.challenge("INVITE", 401, asks(nonce="old"))
    trunk.challenge("INVITE", 401, asks(nonce="new", stale=True))
    again = proof(trunk.last("INVITE"))
    assert (again["nonce"], again["nc"]) == ("new", "00000001")
    trunk.challenge("INVITE", 401, asks(nonce="newer", stale=True))
    trunk.accept()
    assert trunk.last("ACK").cseq.number == 4
    assert len(trunk.phone.of(AnswerReceived)) == 1


def test_a_wrong_password_ends_the_call_with_401() -> None:
    trunk = Trunk(credentials=Credentials(username="alice", password="wrong"))
    trunk.invite()
    trunk.challenge("INVITE", 401, asks(nonce="n1"))
    assert not holds(trunk.last("INVITE"))
    trunk.challenge("INVITE", 401, asks(nonce="n2"))
    failed = trunk.phone.one(InviteFailed)
    assert (failed.status, failed.cause) == (401, "refused")
    assert trunk.count("INVITE") == trunk.count("ACK") == 2
    trunk.net.advance(40)
    nothing_left(trunk.phone)


@pytest.mark.parametrize(
    ("credentials", "challenge"),
    [
        (None, asks()),
        (Credentials(username="alice", password="secret", realm="elsewhere"), asks("pbx")),
        (ALICE, asks(algorithm="SHA-512-256")),
        (ALICE, asks(algorithm="AKAv1-MD5")),
        (ALICE, ("WWW-Authenticate", 'Basic realm="pbx"')),
        (ALICE, asks(proxy=True)),
        (ALICE, ("X-None", "at all")),
    ],
)
def test_what_cannot_be_answered_stands(credentials: Credentials | None, challenge: tuple[str, str]) -> None:
    trunk = Trunk(credentials=credentials)
    trunk.invite()
    trunk.challenge("INVITE", 401, challenge)
    failed = trunk.phone.one(InviteFailed)
    assert (failed.status, failed.cause) == (401, "refused")
    assert failed.response is not None
    assert failed.response.headers.get(challenge[0]) == challenge[1]
    assert trunk.count("INVITE") == trunk.count("ACK") == 1


@pytest.mark.parametrize("stale", [True, False])
def test_a_peer_that_asks_for_ever_is_given_up(stale: bool) -> None:
    trunk = Trunk()
    trunk.invite()
    for number in range(CHALLENGES_A_REQUEST + 5):
        if not trunk.phone.of(InviteFailed):
            realm = "pbx" if stale else f"realm {number}"
            trunk.challenge("INVITE", 401, asks(realm, f"n{number}", stale=stale))
    assert trunk.phone.one(InviteFailed).status == 401
    assert trunk.count("INVITE") == CHALLENGES_A_REQUEST + 1
    trunk.net.advance(40)
    nothing_left(trunk.phone)


def test_more_realms_at_once_than_we_answer_leave_the_refusal() -> None:
    trunk = Trunk()
    trunk.invite()
    trunk.challenge("INVITE", 401, *(asks(f"realm {number}") for number in range(CHALLENGES_A_REQUEST + 1)))
    assert trunk.phone.one(InviteFailed).status == 401
    assert trunk.count("INVITE") == 1


def test_copies_of_a_challenge_are_acknowledged_and_answered_once() -> None:
    trunk = Trunk()
    first = trunk.invite()
    for _ in range(3):
        trunk.peer.respond(first, 401, trunk.phone, tag="challenger", headers=[asks()])
    trunk.run()
    assert (trunk.count("INVITE"), trunk.count("ACK")) == (2, 3)


def test_a_challenged_invite_that_nobody_answers_times_out() -> None:
    trunk = Trunk()
    trunk.invite()
    trunk.challenge("INVITE", 401, asks())
    trunk.net.advance(40)
    failed = trunk.phone.one(InviteFailed)
    assert (failed.status, failed.cause) == (408, "timeout")
    nothing_left(trunk.phone)


# ── CANCEL and the challenge ─────────────────────────────────────────────────────────────────────────────


def test_a_challenge_that_meets_our_cancel_is_not_answered() -> None:
    trunk = Trunk()
    trunk.invite()
    trunk.respond("INVITE", 180)
    trunk.phone.agent.cancel(trunk.usage, trunk.net.now)
    trunk.run()
    trunk.challenge("INVITE", 401, asks())
    assert trunk.phone.one(InviteFailed).cause == "cancelled"
    assert trunk.count("INVITE") == 1


def test_a_challenge_that_comes_before_cancel_could_be_sent_is_not_answered() -> None:
    trunk = Trunk()
    trunk.invite()
    trunk.phone.agent.cancel(trunk.usage, trunk.net.now)
    trunk.run()
    trunk.challenge("INVITE", 401, asks())
    assert trunk.phone.one(InviteFailed).cause == "cancelled"
    assert (trunk.count("INVITE"), trunk.count("CANCEL")) == (1, 0)


def test_cancel_waits_for_a_provisional_response_to_the_invite_it_is_for() -> None:
    trunk = Trunk()
    trunk.invite()
    trunk.respond("INVITE", 100, tag="")
    trunk.challenge("INVITE", 401, asks())
    trunk.phone.agent.cancel(trunk.usage, trunk.net.now)
    trunk.run()
    # RFC 3261 §9.1: no CANCEL before a provisional response; the 100 was the first INVITE's.
    assert trunk.count("CANCEL") == 0
    trunk.respond("INVITE", 180)
    cancel = trunk.last("CANCEL")
    assert (cancel.via_top.branch, cancel.cseq.number) == (trunk.last("INVITE").via_top.branch, 2)
    trunk.respond("CANCEL", 200)
    trunk.respond("INVITE", 487)
    assert trunk.phone.one(InviteFailed).cause == "cancelled"


def test_an_early_dialog_ends_with_the_challenge() -> None:
    trunk = Trunk()
    trunk.invite()
    trunk.respond("INVITE", 183, tag="early")
    trunk.challenge("INVITE", 401, asks(), tag="early")
    ours = trunk.last("INVITE")
    trunk.peer.request("BYE", trunk.phone, to_tag=ours.from_.tag, from_tag="early", call_id=ours.sip_call_id, cseq=7)
    trunk.run()
    assert trunk.peer.statuses("BYE") == [481]
    assert trunk.phone.of(ByeReceived) == []
    trunk.respond("INVITE", 180, tag="late")
    assert [one.remote_tag for one in trunk.phone.of(ProvisionalReceived)] == ["early", "late"]


def test_the_bye_to_a_2xx_that_crossed_our_cancel_is_authenticated_too() -> None:
    trunk = Trunk()
    trunk.invite()
    trunk.respond("INVITE", 180)
    trunk.phone.agent.cancel(trunk.usage, trunk.net.now)
    trunk.run()
    trunk.accept()
    assert trunk.phone.one(InviteFailed).cause == "cancelled"
    trunk.challenge("BYE", 407, asks(proxy=True))
    assert trunk.count("BYE") == 2
    assert holds(trunk.last("BYE"), "Proxy-Authorization")
    trunk.respond("BYE", 200)
    trunk.net.advance(40)
    nothing_left(trunk.phone)


# ── in the dialog ────────────────────────────────────────────────────────────────────────────────────────


def test_a_challenged_bye_goes_out_again_and_then_the_usage_ends() -> None:
    trunk = Trunk()
    trunk.connect()
    trunk.phone.agent.bye(trunk.usage, trunk.net.now, headers=[("Reason", "Q.850;cause=16")])
    trunk.run()
    trunk.challenge("BYE", 401, asks(nonce="b1"))
    assert trunk.phone.of(UsageEnded) == []
    first, second = trunk.peer.requests("BYE")
    assert (first.cseq.number, second.cseq.number) == (3, 4)
    assert (second.to.tag, second.headers.get("Reason")) == ("remote", "Q.850;cause=16")
    assert holds(second)
    trunk.respond("BYE", 200)
    assert trunk.phone.one(UsageEnded).cause == "bye_answered"
    trunk.net.advance(40)
    nothing_left(trunk.phone)


def test_a_bye_with_the_wrong_password_ends_the_usage_all_the_same() -> None:
    trunk = Trunk()
    trunk.connect()
    trunk.phone.agent.bye(trunk.usage, trunk.net.now)
    trunk.run()
    trunk.challenge("BYE", 401, asks())
    trunk.challenge("BYE", 401, asks())
    assert trunk.phone.one(UsageEnded).cause == "bye_answered"
    assert trunk.count("BYE") == 2


def test_a_challenged_reinvite_goes_out_again() -> None:
    trunk = Trunk()
    trunk.connect()
    trunk.phone.agent.reinvite(trunk.usage, trunk.net.now, offer=OFFER, headers=[("X-Own", "kept")])
    trunk.run()
    trunk.challenge("INVITE", 407, asks("proxy", proxy=True))
    again = trunk.last("INVITE")
    assert (again.cseq.number, again.to.tag, again.body) == (4, "remote", OFFER)
    assert again.headers.get_all("X-Own") == ["kept"]
    assert holds(again, "Proxy-Authorization")
    trunk.accept()
    assert len(trunk.phone.of(ReinviteAnswered)) == 1
    assert trunk.last("ACK").cseq.number == 4
    assert trunk.last("ACK").headers.get_all("Proxy-Authorization") == again.headers.get_all("Proxy-Authorization")
    trunk.phone.agent.bye(trunk.usage, trunk.net.now)
    trunk.run()
    assert trunk.last("BYE").cseq.number == 5


def test_a_reinvite_that_cannot_be_proven_leaves_the_call_as_it_was() -> None:
    trunk = Trunk()
    trunk.connect()
    trunk.phone.agent.reinvite(trunk.usage, trunk.net.now, offer=OFFER)
    trunk.run()
    trunk.challenge("INVITE", 401, asks(algorithm="SHA-512-256"))
    assert trunk.phone.one(ReinviteFailed).status == 401
    trunk.phone.agent.reinvite(trunk.usage, trunk.net.now, offer=OFFER)
    trunk.run()
    trunk.accept()
    assert len(trunk.phone.of(ReinviteAnswered)) == 1


def test_a_reinvite_that_is_challenged_after_we_hung_up_is_let_be() -> None:
    trunk = Trunk()
    trunk.connect()
    trunk.phone.agent.reinvite(trunk.usage, trunk.net.now, offer=OFFER)
    trunk.run()
    trunk.phone.agent.bye(trunk.usage, trunk.net.now)
    trunk.run()
    asked = trunk.count("INVITE")
    trunk.challenge("INVITE", 401, asks())
    assert trunk.count("INVITE") == asked


def test_glare_after_a_challenge_is_tried_again_and_proven_again() -> None:
    trunk = Trunk()
    trunk.connect()
    trunk.phone.agent.reinvite(trunk.usage, trunk.net.now, offer=OFFER)
    trunk.run()
    trunk.challenge("INVITE", 401, asks())
    trunk.respond("INVITE", 491)
    trunk.net.advance(4.1)
    assert trunk.last("INVITE").cseq.number == 5
    trunk.challenge("INVITE", 401, asks(nonce="g"))
    assert (trunk.last("INVITE").cseq.number, trunk.last("INVITE").body) == (6, OFFER)
    assert holds(trunk.last("INVITE"))


def test_a_peer_that_called_us_is_answered_once_the_application_says_who_it_is() -> None:
    trunk = Trunk()
    trunk.peer.request("INVITE", trunk.phone, body=OFFER)
    trunk.run()
    usage = trunk.phone.one(InviteReceived).usage_id
    trunk.phone.agent.answer(usage, trunk.net.now, body=ANSWER)
    trunk.run()
    tag = trunk.peer.responses()[-1].to.tag
    trunk.peer.request("ACK", trunk.phone, to_tag=tag)
    trunk.run()
    assert trunk.client is not None
    trunk.phone.agent.reinvite(usage, trunk.net.now, offer=OFFER)
    trunk.run()
    trunk.challenge("INVITE", 401, asks())
    assert trunk.phone.one(ReinviteFailed).status == 401
    trunk.phone.agent.authenticate(usage, trunk.client)
    trunk.phone.agent.bye(usage, trunk.net.now)
    trunk.run()
    trunk.challenge("BYE", 401, asks())
    assert holds(trunk.last("BYE"))


# ── who sees our digest ──────────────────────────────────────────────────────────────────────────────────


def test_a_callee_whose_contact_leads_to_itself_gets_no_digest() -> None:
    trunk = Trunk()
    thief = trunk.net.peer(host="198.51.100.66")
    trunk.connect(contact="<sip:me@198.51.100.66:5060>")
    (ack,) = thief.requests("ACK")
    assert "Authorization" not in ack.headers
    trunk.phone.agent.bye(trunk.usage, trunk.net.now)
    trunk.run()
    (bye,) = thief.requests("BYE")
    thief.respond(bye, 407, trunk.phone, headers=[asks(proxy=True)])
    trunk.run()
    assert len(thief.requests("BYE")) == 1
    assert trunk.phone.one(UsageEnded).cause == "bye_answered"


def test_a_challenge_in_the_trunk_s_name_is_answered_to_the_trunk() -> None:
    trunk = Trunk()
    thief = trunk.net.peer(host="198.51.100.66")
    trunk.connect(contact="<sip:me@198.51.100.66:5060>")
    trunk.phone.agent.bye(trunk.usage, trunk.net.now)
    trunk.run()
    forged = response_to(thief.requests("BYE")[0], 407, to_tag="remote", headers=[asks(proxy=True)])
    flow = Flow(transport="UDP", local=trunk.phone.address, remote=trunk.peer.address)
    trunk.phone.agent.receive(Inbound(data=serialize(forged), flow=flow), trunk.net.now)
    trunk.run()
    assert len(thief.requests("BYE")) == 1
    assert holds(trunk.last("BYE"), "Proxy-Authorization")


def test_a_reinvite_to_a_target_that_moved_away_is_not_proven() -> None:
    trunk = Trunk()
    thief = trunk.net.peer(host="198.51.100.66")
    trunk.connect(contact="<sip:me@198.51.100.66:5060>")
    trunk.phone.agent.reinvite(trunk.usage, trunk.net.now, offer=OFFER)
    trunk.run()
    thief.respond(thief.requests("INVITE")[0], 401, trunk.phone, headers=[asks()])
    trunk.run()
    assert trunk.phone.one(ReinviteFailed).status == 401
    assert len(thief.requests("INVITE")) == 1


def test_the_address_that_answered_for_a_name_is_known_from_then_on() -> None:
    trunk = Trunk()
    usage = trunk.phone.agent.invite(
        target=SipUri(user="demo", host="pbx.example"),
        from_=trunk.phone.identity,
        flow=trunk.phone.flow_to(trunk.peer),
        next_hop=replace(trunk.hop, host="pbx.example"),
        credentials=trunk.client,
        offer=OFFER,
        now=trunk.net.now,
    )
    trunk.phone.pump()
    asked = trunk.net.sent("INVITE")[-1].message
    assert isinstance(asked, Request)
    trunk.peer.respond(asked, 200, trunk.phone, body=ANSWER)
    trunk.run()
    trunk.phone.agent.bye(usage, trunk.net.now)
    trunk.run()
    trunk.challenge("BYE", 401, asks())
    assert trunk.count("BYE") == 2
    assert holds(trunk.last("BYE"))


def test_a_restored_call_is_proven_to_the_host_it_was_restored_with() -> None:
    trunk = Trunk()
    trunk.connect()
    assert trunk.client is not None
    saved = trunk.phone.agent.snapshot(trunk.usage)
    trunk.phone.agent = trunk.phone.new_agent()
    usage = trunk.phone.agent.restore(saved, trunk.phone.flow_to(trunk.peer), trunk.net.now)
    trunk.phone.agent.authenticate(usage, trunk.client)
    trunk.phone.agent.bye(usage, trunk.net.now)
    trunk.run()
    trunk.challenge("BYE", 401, asks())
    assert trunk.count("BYE") == 2
    assert holds(trunk.last("BYE"))


def test_a_trunk_known_by_name_may_challenge_from_any_of_its_addresses() -> None:
    trunk = Trunk()
    usage = trunk.phone.agent.invite(
        target=SipUri(user="demo", host="pbx.example"),
        from_=trunk.phone.identity,
        flow=trunk.phone.flow_to(trunk.peer),
        next_hop=replace(trunk.hop, server_name="pbx.example"),
        credentials=trunk.client,
        offer=OFFER,
        now=trunk.net.now,
    )
    trunk.run()
    trunk.accept(contact="<sip:demo@pbx.example>")
    trunk.phone.agent.bye(usage, trunk.net.now)
    trunk.run()
    asked = trunk.net.sent("BYE")[-1]
    assert asked.destination.host == "pbx.example"
    assert isinstance(asked.message, Request)
    refused = response_to(asked.message, 401, to_tag="remote", headers=[asks()])
    another = Flow(transport="UDP", local=trunk.phone.address, remote=Address("10.0.0.77", 5060))
    trunk.phone.agent.receive(Inbound(data=serialize(refused), flow=another), trunk.net.now)
    trunk.run()
    again = trunk.net.sent("BYE")[-1]
    assert again.destination.host == "pbx.example"
    assert isinstance(again.message, Request)
    assert again.message.cseq.number == 3
    assert holds(again.message)


# ── OPTIONS ──────────────────────────────────────────────────────────────────────────────────────────────


def options(trunk: Trunk) -> int:
    token = trunk.phone.agent.options(
        target=SipUri(host=trunk.peer.address.host),
        from_=trunk.phone.identity,
        flow=trunk.phone.flow_to(trunk.peer),
        next_hop=trunk.hop,
        credentials=trunk.client,
        now=trunk.net.now,
    )
    trunk.run()
    return token


def test_challenged_options_go_out_again() -> None:
    trunk = Trunk()
    token = options(trunk)
    trunk.challenge("OPTIONS", 401, asks())
    first, second = trunk.peer.requests("OPTIONS")
    assert (first.cseq.number, second.cseq.number) == (1, 2)
    assert holds(second)
    assert trunk.phone.events == []
    trunk.respond("OPTIONS", 200)
    answered = trunk.phone.one(OptionsAnswered)
    assert answered.token == token
    assert answered.response is not None
    assert answered.response.status == 200


@pytest.mark.parametrize("credentials", [None, Credentials(username="alice", password="wrong")])
def test_options_that_cannot_be_proven_are_answered_as_they_were(credentials: Credentials | None) -> None:
    trunk = Trunk(credentials=credentials)
    options(trunk)
    trunk.challenge("OPTIONS", 401, asks(nonce="n1"))
    if credentials is not None:
        trunk.challenge("OPTIONS", 401, asks(nonce="n2"))
    answered = trunk.phone.one(OptionsAnswered).response
    assert isinstance(answered, Response)
    assert answered.status == 401
    assert trunk.count("OPTIONS") == (1 if credentials is None else 2)

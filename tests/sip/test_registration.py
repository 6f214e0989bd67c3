"""REGISTER as a client: bound, refreshed, refused, tried again, corrected behind NAT, taken back."""

from __future__ import annotations

import pytest
from tests.sip.network import Network, Peer, Phone

from offhook.model.errors import LocalProtocolError
from offhook.sip.digest import Credentials, DigestClient
from offhook.sip.events import Address, Flow, Hop, RegistrationChanged, RegistrationDue, SipEvent
from offhook.sip.headers import Headers, NameAddr, Via
from offhook.sip.message import Request, Response, response_to
from offhook.sip.registration import ATTEMPT_S, LONGEST_RETRY_S, Account, seen_as
from offhook.sip.routing import note_source
from offhook.sip.uri import SipUri

CHALLENGE = ("WWW-Authenticate", 'Digest realm="pbx", nonce="n1", algorithm=MD5, qop="auth"')


class Registered:
    """A phone that registers at ``servers``; its shell answers ``RegistrationDue`` at once."""

    def __init__(self, *servers: str, expires_s: int = 100, password: str = "secret", names: bool = True) -> None:
        self.net = Network()
        self.phone: Phone = self.net.phone("alice")
        self.servers: list[Peer] = [self.net.peer(host=host) for host in servers or ("10.0.0.9",)]
        self.names = names
        self.phone.react = self._react
        account = Account(
            registrar=SipUri(host="pbx.example"),
            aor=NameAddr(uri="sip:200@pbx.example"),
            contact_user="200",
            credentials=DigestClient(Credentials(username="auth200", password=password)),
            expires_s=expires_s,
        )
        self.id = self.phone.agent.register(account)
        self.run()

    def _react(self, event: SipEvent) -> None:
        if not isinstance(event, RegistrationDue):
            return
        if not self.names:
            self.phone.agent.no_way_to_register(self.id, "pbx.example: NXDOMAIN", self.net.now)
            return
        ways = [
            (self.phone.flow_to(one), Hop(transport="UDP", host=one.address.host, port=one.address.port))
            for one in self.servers
        ]
        self.phone.agent.register_by(self.id, ways, self.net.now)

    def run(self, seconds: float = 0.05) -> None:
        self.phone.pump()
        self.net.advance(seconds)

    @property
    def asked(self) -> Request:
        """The latest REGISTER at the first server."""
        return self.asked_at(0)

    def asked_at(self, server: int) -> Request:
        request = self.servers[server].received[-1]
        assert isinstance(request, Request)
        assert request.method == "REGISTER"
        return request

    def answer(self, status: int, *headers: tuple[str, str], server: int = 0, seen: Address | None = None) -> None:
        peer, request = self.servers[server], self.asked_at(server)
        seen_by = Flow(transport="UDP", local=peer.address, remote=seen or self.phone.address)
        note_source(request, seen_by)
        peer.send(response_to(request, status, to_tag="pbx", headers=headers), self.phone)
        self.run()

    def accept(self, *, server: int = 0, seen: Address | None = None) -> None:
        contact = self.asked_at(server).headers.values("Contact")[0]
        self.answer(200, ("Contact", contact), server=server, seen=seen)

    @property
    def last(self) -> RegistrationChanged:
        return self.phone.of(RegistrationChanged)[-1]

    @property
    def phases(self) -> list[str]:
        return [event.phase for event in self.phone.of(RegistrationChanged)]


def test_register_says_who_where_and_for_how_long() -> None:
    call = Registered(expires_s=300)
    request = call.asked
    assert request.uri == "sip:pbx.example"
    assert (request.from_.uri, request.to.uri) == ("sip:200@pbx.example", "sip:200@pbx.example")
    assert request.to.tag is None
    assert request.headers.get_all("Contact") == ["<sip:200@10.0.0.1:5060>;expires=300"]
    assert request.headers.get("Expires") == "300"


def test_accepted_is_online() -> None:
    call = Registered()
    call.accept()
    assert call.phases == ["registering", "online"]
    assert (call.last.expires_s, call.last.status) == (100, 200)
    assert call.last.next_hop == Hop(transport="UDP", host="10.0.0.9", port=5060)


def test_what_the_registrar_grants_counts() -> None:
    call = Registered(expires_s=3600)
    call.answer(200, ("Contact", "<sip:200@10.0.0.1:5060>;expires=60, <sip:200@10.9.9.9>;expires=1000"))
    assert call.last.expires_s == 60
    call.net.advance(41)
    assert len(call.servers[0].received) == 1
    call.net.advance(8)
    assert len(call.servers[0].received) > 1


def test_expires_header_counts_where_no_contact_is_ours() -> None:
    call = Registered(expires_s=3600)
    call.answer(200, ("Contact", "<sip:200@10.9.9.9>;expires=1000"), ("Expires", "120"))
    assert call.last.expires_s == 120


def test_refresh_comes_before_the_end_on_the_same_call_id_with_the_next_cseq() -> None:
    call = Registered(expires_s=100)
    first = call.asked
    call.accept()
    call.net.advance(81)
    second = call.asked
    assert second.sip_call_id == first.sip_call_id
    assert second.cseq.number == first.cseq.number + 1
    assert second.from_.tag == first.from_.tag
    assert second.via_top.branch != first.via_top.branch
    call.accept()
    assert call.phases == ["registering", "online", "online"]


def test_challenge_is_answered_with_the_auth_id() -> None:
    call = Registered()
    call.answer(401, CHALLENGE)
    authorization = call.asked.headers.get("Authorization") or ""
    assert 'username="auth200"' in authorization
    assert 'uri="sip:pbx.example"' in authorization
    call.accept()
    assert call.phases == ["registering", "online"]


def test_wrong_password_fails_with_the_status_and_is_tried_again_later() -> None:
    call = Registered()
    call.answer(401, CHALLENGE)
    call.answer(401, CHALLENGE)
    assert (call.last.phase, call.last.status, call.last.reason) == ("failed", 401, "Unauthorized")
    assert call.last.retry_s is not None
    assert 5 <= call.last.retry_s <= 10
    asked = len(call.servers[0].received)
    call.net.advance(10)
    assert len(call.servers[0].received) > asked


def test_back_off_doubles_up_to_its_bound() -> None:
    call = Registered()
    waits = []
    for _ in range(12):
        call.answer(403)
        assert call.last.retry_s is not None
        waits.append(call.last.retry_s)
        call.net.advance(call.last.retry_s + 0.1)
    assert 5 <= waits[0] <= 10
    assert 10 <= waits[1] <= 20
    assert all(LONGEST_RETRY_S / 2 <= wait <= LONGEST_RETRY_S for wait in waits[6:])


def test_a_success_forgets_the_failures() -> None:
    call = Registered()
    for _ in range(3):
        call.answer(403)
        call.net.advance((call.last.retry_s or 0) + 0.1)
    call.accept()
    call.net.advance(81)
    call.answer(403)
    assert call.last.retry_s is not None
    assert call.last.retry_s <= 10


def test_423_is_asked_again_with_what_the_registrar_wants() -> None:
    call = Registered(expires_s=60)
    call.answer(423, ("Min-Expires", "600"))
    assert call.asked.headers.get_all("Contact") == ["<sip:200@10.0.0.1:5060>;expires=600"]
    call.accept()
    assert (call.last.phase, call.last.expires_s) == ("online", 600)


@pytest.mark.parametrize("wanted", ["", "junk", "60", "99999999"])
def test_423_without_a_usable_minimum_fails(wanted: str) -> None:
    call = Registered(expires_s=60)
    call.answer(423, ("Min-Expires", wanted))
    assert (call.last.phase, call.last.status) == ("failed", 423)


@pytest.mark.parametrize("status", [408, 500, 503])
def test_a_server_at_fault_hands_over_to_the_next(status: int) -> None:
    call = Registered("10.0.0.8", "10.0.0.9")
    call.answer(status)
    call.accept(server=1)
    assert call.phases == ["registering", "registering", "online"]
    assert call.last.next_hop is not None
    assert call.last.next_hop.host == "10.0.0.9"


def test_a_silent_server_hands_over_to_the_next() -> None:
    call = Registered("10.0.0.8", "10.0.0.9")
    call.net.advance(ATTEMPT_S)
    call.accept(server=1)
    assert call.last.phase == "online"


def test_a_refusal_is_not_taken_to_the_next_server() -> None:
    call = Registered("10.0.0.8", "10.0.0.9")
    call.answer(403)
    assert call.last.phase == "failed"
    assert call.servers[1].received == []


def test_the_server_that_worked_comes_first_at_the_refresh() -> None:
    call = Registered("10.0.0.8", "10.0.0.9")
    call.answer(503)
    call.accept(server=1)
    asked = len(call.servers[0].received)
    call.net.advance(81)
    assert len(call.servers[0].received) == asked
    assert len(call.servers[1].received) > 1


def test_silence_everywhere_fails_and_says_so() -> None:
    call = Registered()
    call.net.advance(ATTEMPT_S)
    assert (call.last.phase, call.last.status, call.last.reason) == ("failed", None, "no answer in 10 s")


def test_no_such_name_fails_and_is_looked_up_again() -> None:
    call = Registered()
    call.accept()
    call.names = False
    call.net.advance(81)
    assert (call.last.phase, call.last.reason) == ("failed", "pbx.example: NXDOMAIN")
    call.names = True
    asked = len(call.servers[0].received)
    while len(call.servers[0].received) == asked:
        call.net.advance(1)
    call.accept()
    assert call.last.phase == "online"


def test_retry_after_is_obeyed_up_to_a_bound() -> None:
    call = Registered()
    call.answer(503, ("Retry-After", "120 (restarting);duration=5"))
    assert call.last.retry_s == 120
    call.net.advance(121)
    call.answer(503, ("Retry-After", "99999999"))
    assert call.last.retry_s == LONGEST_RETRY_S


def test_contact_is_corrected_behind_nat_once() -> None:
    call = Registered()
    seen = Address("203.0.113.7", 31000)
    call.accept(seen=seen)
    assert call.asked.headers.get_all("Contact") == [
        "<sip:200@203.0.113.7:31000>;expires=100",
        "<sip:200@10.0.0.1:5060>;expires=0",
    ]
    assert call.phases == ["registering"]
    call.accept(seen=seen)
    assert (call.last.phase, call.last.seen_as) == ("online", seen)
    call.net.advance(81)
    assert call.asked.headers.get_all("Contact") == ["<sip:200@203.0.113.7:31000>;expires=100"]


def test_a_translator_that_changes_its_mind_is_followed_but_not_in_circles() -> None:
    call = Registered()
    for port in range(31000, 31002):
        call.accept(seen=Address("203.0.113.7", port))
    assert call.last.phase == "online"
    assert len(call.servers[0].received) == 2


def test_leaving_takes_the_binding_back() -> None:
    call = Registered()
    call.accept()
    call.phone.agent.unregister(call.id, call.net.now)
    call.run()
    assert call.asked.headers.get_all("Contact") == ["<sip:200@10.0.0.1:5060>;expires=0"]
    call.answer(200)
    assert call.last.phase == "stopped"
    with pytest.raises(LocalProtocolError):
        call.phone.agent.unregister(call.id, call.net.now)
    call.net.advance(40)
    assert call.phone.agent.counts()["timers"] == 0


def test_leaving_is_authenticated_too() -> None:
    call = Registered()
    call.accept()
    call.phone.agent.unregister(call.id, call.net.now)
    call.run()
    call.answer(401, CHALLENGE)
    assert "Authorization" in call.asked.headers
    call.answer(200)
    assert call.last.phase == "stopped"


def test_leaving_without_an_answer_ends_too() -> None:
    call = Registered()
    call.accept()
    call.phone.agent.unregister(call.id, call.net.now)
    call.phone.pump()
    call.phone.agent.unregister(call.id, call.net.now)
    call.net.advance(ATTEMPT_S)
    assert call.last.phase == "stopped"


@pytest.mark.parametrize("online", [False, True])
def test_leaving_at_any_moment_stops(online: bool) -> None:
    call = Registered()
    if online:
        call.answer(403)
    call.phone.agent.unregister(call.id, call.net.now)
    call.run()
    assert call.last.phase == "stopped"
    call.net.advance(60)
    assert call.phone.agent.counts()["timers"] == 0


def test_a_lost_connection_is_evidence_at_once() -> None:
    call = Registered()
    request = call.asked
    flow = Flow(transport="TCP", local=call.phone.address, remote=call.servers[0].address, connection=7)
    response = response_to(request, 200, to_tag="pbx", headers=[("Contact", "<sip:200@10.0.0.1:5060>")])
    call.phone.agent.receive_message(response, flow, call.net.now)
    call.run()
    assert call.last.phase == "online"
    asked = len(call.servers[0].received)
    call.phone.agent.connection_lost(7, call.net.now)
    call.run()
    assert len(call.servers[0].received) == asked + 1


def test_refresh_now_is_for_those_who_wait() -> None:
    call = Registered()
    call.phone.agent.refresh_registration(call.id, call.net.now)
    call.run()
    assert len(call.servers[0].received) == 1
    call.accept()
    call.phone.agent.refresh_registration(call.id, call.net.now)
    call.run()
    assert len(call.servers[0].received) == 2


def test_headers_that_make_no_sense_do_no_harm() -> None:
    call = Registered()
    call.answer(200, ("Contact", "<tel:1>;expires=x"), ("Expires", "-5"))
    assert (call.last.phase, call.last.expires_s) == ("online", 100)


def test_via_without_received_is_no_translator() -> None:
    call = Registered()
    request = call.asked
    plain = Response(status=200, reason="OK", headers=request.headers.copy())
    plain.headers.set("Via", str(Via.parse(request.headers.values("Via")[0])))
    call.servers[0].send(plain, call.phone)
    call.run()
    assert (call.last.phase, call.last.seen_as) == ("online", None)


PUBLIC, BEHIND = "203.0.113.7", "10.0.0.1"


@pytest.mark.parametrize(
    ("known_as", "outside_host", "seen"),
    [
        (Address(BEHIND, 5060), "", Address(PUBLIC, 40_001)),  # the first REGISTER
        (Address(PUBLIC, 40_000), "", Address(PUBLIC, 40_001)),  # another connection: the old port leads nowhere
        (Address(PUBLIC, 40_001), "", None),  # as before
        (Address(PUBLIC, 5060), PUBLIC, None),  # our port is forwarded to us, whatever that of the connection is
    ],
)
def test_a_connection_is_known_by_the_port_the_registrar_sees(
    known_as: Address, outside_host: str, seen: Address | None
) -> None:
    flow = Flow(transport="TCP", local=known_as, remote=Address("10.0.0.9", 5060), interface=BEHIND)
    via = f"SIP/2.0/TCP {known_as.host}:{known_as.port};rport=40001;received={PUBLIC};branch=z9hG4bK1"
    response = Response(status=200, reason="OK", headers=Headers([("Via", via)]))
    assert seen_as(response, flow, outside_host) == seen


def test_without_a_translator_a_connection_s_port_is_nobody_s_concern() -> None:
    flow = Flow(transport="TLS", local=Address(BEHIND, 5061), remote=Address("10.0.0.9", 5061))
    via = f"SIP/2.0/TLS {BEHIND}:5061;rport=40001;received={BEHIND};branch=z9hG4bK1"
    assert seen_as(Response(status=200, reason="OK", headers=Headers([("Via", via)])), flow) is None

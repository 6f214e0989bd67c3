"""The door: trunks by address, strangers by rate, everybody else by silence; and what the user agent does with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from tests.sip.network import OFFER, Network, Peer, Phone, dial

from offhook.model.trunks import CallRules, GatewayTrunk, OpenTrunk, RegisterTrunk, Trunk
from offhook.sip.admission import BUCKETS, FORMER_TRUNKS, Admission, Admitted, Ignored
from offhook.sip.challenges import Authenticator, NonceMint
from offhook.sip.digest import Credentials, DigestClient, parse_challenges
from offhook.sip.events import Flow, Inbound, InviteReceived, MessageRejected
from offhook.sip.inspection import Refusal
from offhook.sip.message import Request, serialize

CARRIER = GatewayTrunk(trunk_id="carrier", peers=("10.1.0.0/16", "2001:db8::/32"), targets=("sip:a",))
PBX = RegisterTrunk(trunk_id="pbx", server="pbx.example", username="200")
OPEN = OpenTrunk(trunk_id="anyone", calls_per_s=2)
LOCKED = GatewayTrunk(
    trunk_id="locked", peers=("10.2.0.1",), username="carrier", password="s3cret", require_digest=True
)


class Door:
    """A phone with trunks, and peers before it."""

    def __init__(self, *trunks: Trunk, numbers: Sequence[str] = ("demo",)) -> None:
        self.net = Network()
        self.phone: Phone = self.net.phone("offhook", host="10.0.0.1")
        self.phone.agent.admission = Admission(
            trunks,
            authenticator=Authenticator(NonceMint(b"k", "node-1"), "offhook"),
            serves=lambda uri, trunk_id: any(f"sip:{number}@" in uri for number in numbers),
        )

    def peer(self, host: str) -> Peer:
        return self.net.peer(host=host)

    def send(self, peer: Peer, method: str = "INVITE", **given: object) -> Request:
        body = OFFER if method == "INVITE" else b""
        request = peer.request(method, self.phone, body=body, **given)  # type: ignore[arg-type]  # the language's own
        self.net.advance(0.05)
        return request

    @property
    def rejected(self) -> list[MessageRejected]:
        return self.phone.of(MessageRejected)


NEAR = ["127.0.0.1", "192.168.7.9", "169.254.3.4", "::1", "fd00::7", "fe80::1%eth0", "::ffff:10.1.2.3"]
FAR = ["8.8.8.8", "100.64.1.1", "2a00:1450::1", "::ffff:8.8.8.8"]


@pytest.mark.parametrize("host", NEAR)
def test_without_trunks_whoever_is_near_is_let_in(host: str) -> None:
    assert Admission().judge_source(host) == Admitted(trunk_id="")


@pytest.mark.parametrize("host", FAR)
def test_without_trunks_the_internet_is_not(host: str) -> None:
    verdict = Admission().judge_source(host)
    assert isinstance(verdict, Ignored)
    assert '"kind": "open"' in verdict.fix


def test_without_trunks_a_scanner_hears_nothing() -> None:
    door = Door()
    peer = door.peer("8.8.8.8")
    door.send(peer)
    assert peer.received == []
    (rejected,) = door.rejected
    assert (rejected.status, rejected.evidence) == (None, "from 8.8.8.8")


@pytest.mark.parametrize("method", ["INVITE", "OPTIONS", "REGISTER", "BYE", "CANCEL", "INFO"])
def test_a_stranger_hears_nothing_and_costs_nothing(method: str) -> None:
    door = Door(CARRIER)
    peer = door.peer("198.51.100.1")
    door.send(peer, method, to_tag="x" if method == "BYE" else None)
    assert peer.received == []
    assert door.phone.agent.counts()["transactions"] == door.phone.agent.counts()["usages"] == 0
    (rejected,) = door.rejected
    assert (rejected.status, rejected.rule, rejected.evidence) == (None, "source that no trunk knows", "198.51.100.1")
    assert '"198.51.100.1"' in rejected.fix


@pytest.mark.parametrize(("host", "statuses"), [("198.51.100.1", []), ("10.1.2.3", [400])])
def test_a_malformed_request_is_answered_to_peers_only(host: str, statuses: list[int]) -> None:
    door = Door(CARRIER)
    peer = door.peer(host)
    good = serialize(peer.build("OPTIONS", door.phone))
    flow = Flow(transport="UDP", local=door.phone.address, remote=peer.address)
    door.phone.agent.receive(Inbound(data=good.replace(b"CSeq: 1 OPTIONS", b"CSeq: 1 INFO"), flow=flow), door.net.now)
    door.phone.pump()
    door.net.advance(0.05)
    assert peer.statuses("INFO") == statuses
    assert len(door.rejected) == 1


def test_a_peer_of_a_gateway_trunk_is_let_in_by_it() -> None:
    door = Door(CARRIER)
    peer = door.peer("10.1.2.3")
    door.send(peer)
    assert door.phone.one(InviteReceived).trunk_id == "carrier"
    assert peer.statuses() == [100]


def test_a_registrar_is_known_once_dns_has_named_it() -> None:
    door = Door(PBX)
    peer = door.peer("10.9.9.9")
    door.send(peer)
    assert peer.received == []
    door.phone.agent.admission.trust("pbx", ["10.9.9.9"])
    door.send(peer, call_id="again")
    assert door.phone.one(InviteReceived).trunk_id == "pbx"
    door.phone.agent.admission.trust("pbx", ["10.9.9.8"])
    assert door.phone.agent.admission.trunk_of("10.9.9.9") is None


@pytest.mark.parametrize(
    ("host", "trunk_id"),
    [("10.1.255.1", "carrier"), ("10.1.5.5", "own"), ("2001:db8::7", "carrier"), ("10.2.0.1", None), ("junk", None)],
)
def test_the_longest_prefix_wins(host: str, trunk_id: str | None) -> None:
    own = GatewayTrunk(trunk_id="own", peers=("10.1.5.5",))
    assert Admission([CARRIER, own]).trunk_of(host) == trunk_id


def test_open_takes_the_numbers_served_and_refuses_others_without_a_trace() -> None:
    door = Door(OPEN)
    peer = door.peer("198.51.100.1")
    door.send(peer)
    assert door.phone.one(InviteReceived).trunk_id == "anyone"
    door.send(peer, uri="sip:00882@10.0.0.1", call_id="fraud")
    assert peer.statuses()[-1] == 404
    assert len(door.phone.of(InviteReceived)) == 1
    assert door.phone.agent.counts()["usages"] == 1
    assert "numbers" in door.rejected[-1].fix


def test_open_answers_too_many_with_503_and_a_flood_with_nothing() -> None:
    door = Door(OPEN)
    peer = door.peer("198.51.100.1")
    for number in range(100):
        peer.request("INVITE", door.phone, call_id=f"c{number}", body=OFFER)
    door.net.advance(0.05)
    taken = len(door.phone.of(InviteReceived))
    refused = [response for response in peer.responses() if response.status == 503]
    assert taken == 10
    assert 5 <= len(refused) <= 15
    assert refused[0].headers.get("Retry-After") == "5"
    assert len([one for one in door.rejected if one.status is None]) == 100 - taken - len(refused)
    door.net.advance(60)
    door.send(peer, call_id="later")
    assert len(door.phone.of(InviteReceived)) == taken + 1


def test_one_source_s_flood_leaves_others_alone_until_its_network_joins_in() -> None:
    admission = Admission([OPEN])
    door = Door(OPEN)
    request = door.peer("198.51.100.1").build("OPTIONS", door.phone)
    for _ in range(100):
        admission.judge(request, "198.51.100.1", 0.0, "s")
    assert isinstance(admission.judge(request, "203.0.113.5", 0.0, "s"), Admitted)
    verdicts = [admission.judge(request, f"192.0.2.{host}", 0.0, "s") for host in range(100)]
    assert sum(isinstance(one, Admitted) for one in verdicts) == 40


def test_the_memory_of_sources_is_bounded() -> None:
    admission = Admission([OPEN])
    door = Door(OPEN)
    request = door.peer("198.51.100.1").build("OPTIONS", door.phone)
    for number in range(BUCKETS // 2 + 1000):
        admission.judge(request, f"{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}.1", 0.0, "s")
    assert len(admission._allowance._used) <= BUCKETS
    assert len(admission._found) <= 4096


def test_a_trunk_that_requires_digest_challenges_and_lets_the_right_answer_in() -> None:
    door = Door(LOCKED)
    peer = door.peer("10.2.0.1")
    first = door.send(peer)
    (refused,) = peer.responses()
    assert refused.status == 401
    assert door.phone.agent.counts()["transactions"] == 0
    challenge = parse_challenges(refused.headers.get_all("WWW-Authenticate"))[0]
    client = DigestClient(Credentials(username="carrier", password="s3cret"))
    value = client.authorization(challenge, method="INVITE", uri=first.uri, cnonce="c")
    door.send(peer, cseq=2, headers=[("Authorization", value)])
    assert door.phone.one(InviteReceived).trunk_id == "locked"
    door.send(peer, cseq=3, call_id="replay", headers=[("Authorization", value)])
    assert peer.statuses()[-1] == 401
    assert "stale=true" in (peer.responses()[-1].headers.get("WWW-Authenticate") or "")
    assert len(door.phone.of(InviteReceived)) == 1


def test_a_wrong_password_is_challenged_again_and_said_in_the_log() -> None:
    door = Door(LOCKED)
    peer = door.peer("10.2.0.1")
    first = door.send(peer)
    challenge = parse_challenges(peer.responses()[0].headers.get_all("WWW-Authenticate"))[0]
    client = DigestClient(Credentials(username="carrier", password="wrong"))
    value = client.authorization(challenge, method="INVITE", uri=first.uri, cnonce="c")
    door.send(peer, cseq=2, headers=[("Authorization", value)])
    assert peer.statuses() == [401, 401]
    assert door.rejected[-1].evidence == "Authorization: user name or password is wrong"


def test_digest_without_peers_is_for_anyone_with_the_password() -> None:
    door = Door(GatewayTrunk(trunk_id="roaming", username="u", password="p", require_digest=True))
    peer = door.peer("198.51.100.1")
    door.send(peer)
    assert peer.statuses() == [401]


def test_in_a_dialog_the_proof_is_wanted_from_another_host_only() -> None:
    admission = Admission([LOCKED], authenticator=Authenticator(NonceMint(b"k", "n"), "offhook"))
    door = Door(LOCKED)
    bye = door.peer("10.2.0.1").build("BYE", door.phone, to_tag="x")
    assert isinstance(admission.judge_in_dialog(bye, "10.3.3.3", "locked", 0.0, "s"), Refusal)
    assert isinstance(admission.judge_in_dialog(bye, "10.3.3.3", "carrier", 0.0, "s"), Admitted)


def test_our_own_call_that_comes_back_through_another_is_a_loop() -> None:
    net = Network()
    phone, proxy = net.phone("offhook"), net.peer()
    phone.invite(proxy)
    net.advance(0.05)
    (ours,) = proxy.requests("INVITE")
    back = ours.headers.copy()
    back.prepend("Via", f"SIP/2.0/UDP {proxy.address.host}:5060;branch=z9hG4bKproxy")
    proxy.send(Request(method="INVITE", uri=ours.uri, headers=back, body=ours.body), phone)
    net.advance(0.05)
    assert proxy.statuses() == [482]
    assert phone.one(MessageRejected).rule == "loop"


def test_silence_is_a_verdict_with_a_fix() -> None:
    verdict = Admission([CARRIER]).judge_source("198.51.100.9")
    assert isinstance(verdict, Ignored)
    assert "gateway trunk" in verdict.fix


# ── trunks that change ───────────────────────────────────────────────────────────────────────────────────


def test_trunks_that_change_change_the_door_at_once() -> None:
    door = Door(CARRIER)
    carrier, other = door.peer("10.1.2.3"), door.peer("10.7.7.7")
    door.send(carrier)
    door.phone.agent.admission.use([GatewayTrunk(trunk_id="other", peers=("10.7.7.7",))])
    door.send(carrier, call_id="again")
    door.send(other, call_id="new")
    assert [one.trunk_id for one in door.phone.of(InviteReceived)] == ["carrier", "other"]
    assert carrier.statuses() == [100]
    assert door.rejected[-1].rule == "source that no trunk knows"


def test_a_call_of_a_removed_trunk_goes_on_and_ends() -> None:
    net = Network()
    alice, bob = net.phone("alice", host="10.1.2.3"), net.phone("bob")
    bob.agent.admission = Admission([CARRIER])
    call = dial(alice, bob)
    bob.agent.admission.use([PBX])
    alice.agent.reinvite(call.caller, net.now, offer=OFFER)
    net.advance(0.05)
    assert bob.kinds[-1] == "ReinviteReceived"
    bob.agent.answer(call.callee, net.now, body=OFFER)
    net.advance(0.05)
    alice.agent.bye(call.caller, net.now)
    net.advance(0.05)
    assert bob.kinds[-1] == "ByeReceived"


def test_whom_a_removed_trunk_asked_for_a_proof_needs_it_from_elsewhere_still() -> None:
    admission = Admission([LOCKED], authenticator=Authenticator(NonceMint(b"k", "n"), "offhook"))
    bye = Door(LOCKED).peer("10.2.0.1").build("BYE", Door(LOCKED).phone, to_tag="x")

    def wants_proof() -> bool:
        return isinstance(admission.judge_in_dialog(bye, "10.3.3.3", "locked", 0.0, "s"), Refusal)

    admission.use([CARRIER])
    assert wants_proof()
    admission.use([RegisterTrunk(trunk_id="locked", server="pbx.example", username="200")])
    assert wants_proof()
    admission.use([GatewayTrunk(trunk_id="locked", peers=("10.2.0.1",))])
    assert not wants_proof()


def test_the_memory_of_removed_trunks_is_bounded() -> None:
    admission = Admission()
    for number in range(FORMER_TRUNKS + 10):
        admission.use([replace(LOCKED, trunk_id=f"t{number}")])
    assert len(admission._former) == FORMER_TRUNKS


@pytest.mark.parametrize(
    ("change", "known"),
    [({"password": "new"}, True), ({"rules": CallRules()}, True), ({"server": "else.example"}, False), (None, False)],
)
def test_the_addresses_of_a_registrar_stay_known_unless_it_moves(change: dict[str, Any] | None, known: bool) -> None:
    admission = Admission([PBX])
    admission.trust("pbx", ["10.9.9.9"])
    admission.use([] if change is None else [replace(PBX, **change)])
    assert (admission.trunk_of("10.9.9.9") == "pbx") is known


def test_what_dns_says_of_a_trunk_that_is_gone_lets_nobody_in() -> None:
    admission = Admission([PBX])
    admission.use([CARRIER])
    admission.trust("pbx", ["10.9.9.9"])
    assert isinstance(admission.judge_source("10.9.9.9"), Ignored)


def test_a_change_of_others_gives_no_source_its_allowance_back() -> None:
    admission = Admission([OPEN])
    request = Door(OPEN).peer("198.51.100.1").build("OPTIONS", Door(OPEN).phone)
    for _ in range(100):
        admission.judge(request, "198.51.100.1", 0.0, "s")
    admission.use([OPEN, CARRIER])
    assert not isinstance(admission.judge(request, "198.51.100.1", 0.0, "s"), Admitted)
    admission.use([replace(OPEN, calls_per_s=200.0)])
    assert isinstance(admission.judge(request, "198.51.100.1", 0.0, "s"), Admitted)

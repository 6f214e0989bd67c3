"""SRTP of a whole leg: what two of us agree on, and two hundred attempts to get media in clear out of ``required``."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from itertools import product

import pytest
from tests.call.phones import SILENT, Ear, RawPeer, TestPhone, phone, scripted, sdp
from tests.media.wire import PCMU_SILENCE, Desk, RemoteParty, until

from offhook.call.dialling import PlaceCall
from offhook.call.leg import srtp_terms
from offhook.call.negotiation import Negotiation, Unacceptable
from offhook.call.session import CallSession
from offhook.model.audio import Encoding
from offhook.model.call_events import CallAnswered, CallEnded, CallRefused, TurnSpoken
from offhook.model.errors import LocalProtocolError
from offhook.model.srtp import CryptoSuite
from offhook.model.trunks import CallRules, GatewayTrunk, OpenTrunk, SrtpPolicy
from offhook.sdp.crypto import SrtpTerms, read_lines
from offhook.sdp.description import SessionDescription, parse
from offhook.sdp.offer_answer import Agreement, Capabilities
from offhook.sip.events import Address, Flow, Transport
from offhook.sip.uri import SipUri

PEER = "192.0.2.9"
SECRET = bytes(range(44))


def ours(policy: SrtpPolicy, *, exposed: bool = False) -> Negotiation:
    terms = SrtpTerms(policy=policy, seed=bytes(range(32)), exposed=exposed)
    codecs = (Encoding.PCMU, Encoding.PCMA)
    return Negotiation(
        Capabilities(address="192.0.2.1", port=40002, session_id=7, version=1, codecs=codecs, srtp=terms)
    )


def body(protocol: str, *lines: str, direction: str = "sendrecv", address: str = PEER, port: int = 5000) -> bytes:
    crypto = "".join(f"a=crypto:{line}\r\n" for line in lines)
    return (
        f"v=0\r\no=- 1 1 IN IP4 {PEER}\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\n"
        f"m=audio {port} {protocol} 0 8\r\n{crypto}a={direction}\r\n"
    ).encode()


def line(tag: int, suite: CryptoSuite, rest: str = "", secret: bytes = SECRET) -> str:
    return f"{tag} {suite.value} inline:{base64.b64encode(secret[: suite.master_bytes]).decode()}{rest}"


CM_80, GCM_256 = CryptoSuite.AES_CM_128_HMAC_SHA1_80, CryptoSuite.AEAD_AES_256_GCM
GOOD = line(3, CM_80)
"""As the third line of our own offers, so that it is good in an answer as well."""


# ── what is agreed ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("caller", ["optional", "required"])
@pytest.mark.parametrize("callee", ["optional", "required"])
def test_two_of_us_agree(caller: SrtpPolicy, callee: SrtpPolicy) -> None:
    calling, called = ours(caller), ours(callee)
    answer = called.answer(calling.offer())
    if (caller, callee) == ("optional", "required"):
        assert isinstance(answer, Unacceptable)  # an offer in RTP/AVP could be answered in clear
        return
    assert isinstance(answer, bytes)
    agreement = calling.accept(answer)
    assert isinstance(agreement, Agreement)
    assert agreement.crypto is not None
    assert called.agreement is not None
    assert called.agreement.crypto is not None
    assert agreement.crypto.suite is GCM_256
    assert (agreement.crypto.send, agreement.crypto.receive) == (
        called.agreement.crypto.receive,
        called.agreement.crypto.send,
    )


@pytest.mark.parametrize(("caller", "callee"), [("optional", "off"), ("off", "optional"), ("off", "off")])
def test_two_of_us_talk_in_clear_where_one_has_no_srtp(caller: SrtpPolicy, callee: SrtpPolicy) -> None:
    calling, called = ours(caller), ours(callee)
    answer = called.answer(calling.offer())
    assert isinstance(answer, bytes)
    agreement = calling.accept(answer)
    assert isinstance(agreement, Agreement)
    assert (agreement.crypto, called.agreement and called.agreement.crypto) == (None, None)


def test_our_key_stays_over_re_offers_of_both_sides_and_changes_with_the_peers() -> None:
    leg = ours("required")
    first = leg.answer(body("RTP/SAVP", GOOD))
    again = leg.answer(body("RTP/SAVP", GOOD, direction="sendonly"))
    offered = leg.offer()
    leg.accept(body("RTP/SAVP", line(1, CM_80)))
    assert keys(first) == keys(again) == keys(offered)
    changed = leg.answer(body("RTP/SAVP", line(1, CM_80, secret=bytes(44))))
    assert keys(changed) != keys(first)


def keys(description: bytes | Unacceptable) -> list[tuple[CryptoSuite, bytes]]:
    assert isinstance(description, bytes)
    return [(one.suite, one.key.secret) for one in read_lines(parse(description).media[0]).usable]


def test_a_refusal_says_what_is_taken_and_what_to_do() -> None:
    refused = ours("required").answer(body("RTP/AVP", GOOD))
    assert isinstance(refused, Unacceptable)
    assert (refused.status, refused.warning) == (488, 302)
    assert refused.why == "audio over RTP/AVP is not encrypted for certain; we take RTP/SAVP with a=crypto"
    assert refused.fix == "let the other side offer or answer with PCMU, PCMA over RTP/SAVP with a=crypto"


def test_where_keys_could_be_read_there_is_no_call_and_a_fix() -> None:
    leg = ours("required", exposed=True)
    hindrance, refused = leg.hindrance, leg.answer(body("RTP/SAVP", GOOD))
    assert hindrance is not None
    assert isinstance(refused, Unacceptable)
    assert hindrance.why == refused.why
    assert "the signalling is not TLS" in refused.why
    assert "srtp_without_tls" in refused.fix
    with pytest.raises(LocalProtocolError):
        leg.offer()


@pytest.mark.parametrize(
    ("transport", "allowed", "exposed"),
    [("UDP", False, True), ("TCP", False, True), ("TLS", False, False), ("UDP", True, False)],
)
def test_keys_travel_by_tls_unless_the_trunk_says_otherwise(transport: Transport, allowed: bool, exposed: bool) -> None:
    flow = Flow(transport=transport, local=Address("192.0.2.1", 5060), remote=Address(PEER, 5060))
    terms = srtp_terms(flow, CallRules(srtp="required", srtp_without_tls=allowed))
    assert (terms.exposed, terms.policy) == (exposed, "required")
    assert terms.seed != srtp_terms(flow, CallRules(srtp="required")).seed


# ── downgrades ───────────────────────────────────────────────────────────────────────────────────────────

PROTOCOLS = ("RTP/AVP", "RTP/AVPF", "RTP/SAVP", "RTP/SAVPF", "rtp/avp", "UDP/TLS/RTP/SAVP", "RTP/SAVPX")
KEYS = (
    (),
    (GOOD,),
    (GOOD, line(1, GCM_256)),
    (line(1, CM_80),),
    (line(3, GCM_256),),
    (line(99, CM_80),),
    ("3 NULL inline:AAAA",),
    ("3 AES_CM_128_NULL_AUTH inline:" + base64.b64encode(SECRET[:30]).decode(),),
    ("3 AES_CM_128_HMAC_SHA1_80 inline:",),
    ("3 AES_CM_128_HMAC_SHA1_80 inline:AAAA",),
    (line(3, CM_80, " UNENCRYPTED_SRTP"),),
    (line(3, CM_80, " UNENCRYPTED_SRTCP"),),
    (line(3, CM_80, " UNAUTHENTICATED_SRTP"),),
    (line(3, CM_80, " KDR=1 UNENCRYPTED_SRTP"),),
    (line(3, CM_80, "|2^20|1:4"),),
)
HOLDS = (("sendrecv", PEER), ("inactive", "0.0.0.0"))

BODIES = [
    *(
        body(protocol, *lines, direction=direction, address=address)
        for protocol, lines, (direction, address) in product(PROTOCOLS, KEYS, HOLDS)
    ),
    body("RTP/SAVP", GOOD, port=0),
    # two streams, of which one is in clear; keys of the session, which RFC 4568 §5 does not know
    body("RTP/SAVP", GOOD, port=0) + b"m=audio 5002 RTP/AVP 0\r\n",
    body("RTP/AVP") + b"m=audio 5002 RTP/SAVP 0\r\n",
    body("RTP/SAVP").replace(b"t=0 0\r\n", f"t=0 0\r\na=crypto:{GOOD}\r\n".encode()),
    body("RTP/SAVP").replace(b"t=0 0\r\n", b"t=0 0\r\nk=clear:secret\r\n"),
    body("RTP/SAVP", GOOD).replace(b"a=crypto:", b"a=Crypto:"),
    b"",
    b"v=0\r\n",
]

Attempt = Callable[[Negotiation, bytes], object]


def first_offer(leg: Negotiation, hostile: bytes) -> object:
    return leg.answer(hostile)


def answer_to_our_offer(leg: Negotiation, hostile: bytes) -> object:
    leg.offer()
    return leg.accept(hostile)


def early_answer(leg: Negotiation, hostile: bytes) -> object:
    leg.offer()
    early = leg.preview(hostile)
    return None if early is None else leg.adopt(early)


def re_offer(leg: Negotiation, hostile: bytes) -> object:
    """By re-INVITE or UPDATE, in the middle of a call that is encrypted."""
    assert isinstance(leg.answer(body("RTP/SAVP", GOOD)), bytes)
    return leg.answer(hostile)


def answer_to_our_re_offer(leg: Negotiation, hostile: bytes) -> object:
    assert isinstance(leg.answer(body("RTP/SAVP", GOOD)), bytes)
    leg.offer()
    return leg.accept(hostile)


def re_offer_after_our_offer(leg: Negotiation, hostile: bytes) -> object:
    leg.offer()
    assert isinstance(leg.accept(body("RTP/SAVP", GOOD)), Agreement)
    return leg.answer(hostile)


ATTEMPTS: tuple[Attempt, ...] = (
    *(first_offer, answer_to_our_offer, early_answer, re_offer, answer_to_our_re_offer),
    re_offer_after_our_offer,
)


def attempts() -> Iterator[tuple[Negotiation, object]]:
    """Every attempt on a fresh leg that requires SRTP: the leg afterwards, and what came of it."""
    for attempt, hostile in product(ATTEMPTS, BODIES):
        leg = ours("required")
        yield leg, attempt(leg, hostile)


def is_encrypted(description: SessionDescription) -> bool:
    live = [media for media in description.media if media.port]
    return all(media.protocol.upper() in ("RTP/SAVP", "RTP/SAVPF") and media.attribute("crypto") for media in live)


def test_none_of_more_than_two_hundred_attempts_agrees_on_media_in_clear() -> None:
    tried = agreed = 0
    for leg, result in attempts():
        tried += 1
        assert leg.agreement is None or leg.agreement.crypto is not None
        if isinstance(result, Agreement):
            assert result.crypto is not None
        if isinstance(result, bytes):
            agreed += 1
            assert is_encrypted(parse(result))
            assert keys(result)
        assert is_encrypted(parse(leg.offer()))  # and what we say next is no weaker
    assert tried > 1000
    assert agreed > 20  # among them are honest ones: the table does not just refuse everything


async def test_no_attempt_gets_media_in_clear_on_the_wire() -> None:
    """All that could be agreed on, one after the other on one running session: every packet is encrypted."""
    desk, remote = Desk(), RemoteParty()
    crypto = [
        leg.agreement.crypto for leg, _ in attempts() if leg.agreement is not None and leg.agreement.crypto is not None
    ]
    assert len(crypto) > 100
    desk.session.start(remote.agreement(crypto=crypto[0]))
    for each in crypto:
        desk.session.update(remote.agreement(crypto=each))
    seen = len(remote.packets)
    await until(lambda: len(remote.packets) >= seen + 5)
    desk.session.close()
    await until(lambda: remote.control)
    for _, packet in remote.packets:
        assert len(packet.payload) > len(PCMU_SILENCE)
        assert packet.payload[: len(PCMU_SILENCE)] != PCMU_SILENCE
    assert b"\x81\xca\x00" not in remote.control[-1]  # the source description of our report (RFC 3550 §6.5)
    remote.close()


# ── whole phones ─────────────────────────────────────────────────────────────────────────────────────────

GREETER = scripted("greeter", greeting_tone_hz=1000, greeting_ms=1000, greeting_text="hello there")


def takes(policy: SrtpPolicy) -> OpenTrunk:
    return OpenTrunk(trunk_id="in", rules=CallRules(srtp=policy, srtp_without_tls=True))


def place(caller: TestPhone, callee: TestPhone, rules: CallRules) -> CallSession:
    address = callee.address
    trunk = GatewayTrunk(trunk_id="out", targets=(f"sip:{address.host}:{address.port}",), rules=rules)
    target = SipUri.parse(f"sip:demo@{address.host}:{address.port}")
    return caller.phone.manager.place(PlaceCall(target=target, agent=SILENT, trunk=trunk))


def is_secure(call: CallSession) -> bool:
    agreement = None if call.leg is None else call.leg.negotiation.agreement
    assert agreement is not None
    return agreement.crypto is not None


@pytest.mark.parametrize(
    ("calling", "called", "secure"),
    [
        ("required", "required", True),
        ("optional", "optional", True),
        ("required", "optional", True),
        ("optional", "off", False),
        ("off", "optional", False),
    ],
)
async def test_phones_hear_each_other_as_agreed(calling: SrtpPolicy, called: SrtpPolicy, secure: bool) -> None:
    async with phone(GREETER, trunks=(takes(called),)) as callee, phone() as caller:
        call = place(caller, callee, CallRules(srtp=calling, srtp_without_tls=True))
        await caller.facts.until(CallAnswered)
        ear = Ear()
        assert call.leg is not None
        call.leg.media.connect(ear)
        heard = await ear.frames(50)
        assert any(octet not in b"\xff\x7f" for octet in heard)
        assert (is_secure(call), is_secure(callee.only_call)) == (secure, secure)


async def test_a_clear_call_to_who_requires_srtp_is_refused_and_explained() -> None:
    async with phone(GREETER, trunks=(takes("required"),)) as callee:
        peer = RawPeer()
        peer.send(callee.address, peer.invite(callee.address, sdp=sdp()))
        answer = await peer.final_response()
        peer.close()
        assert answer.startswith("SIP/2.0 488")
        assert 'is not encrypted for certain; we take RTP/SAVP with a=crypto"' in answer
        refused = await callee.facts.until(CallRefused)
        assert "RTP/SAVP" in refused.fix


async def test_a_late_answer_in_clear_ends_the_call_before_any_media() -> None:
    async with phone(GREETER, trunks=(takes("required"),)) as callee:
        peer = RawPeer()
        peer.send(callee.address, peer.invite(callee.address))
        answer = await peer.final_response()
        assert "RTP/SAVP" in answer
        # RTP would come to the very socket that its SIP messages come to
        peer.send(callee.address, peer.ack(answer, callee.address, sdp=sdp(port=peer.address.port)))
        assert (await peer.receive()).startswith("BYE ")
        refused = await callee.facts.until(CallRefused)
        assert refused.evidence == "the answer is in clear: RTP/AVP without a=crypto"
        peer.close()


async def test_no_call_is_placed_where_its_keys_could_be_read() -> None:
    async with phone(GREETER) as callee, phone() as caller:
        place(caller, callee, CallRules(srtp="required"))
        ended = await caller.facts.until(CallEnded)
        assert (ended.by, ended.cause, ended.sip_code) == ("system", "refused", 488)
        refused = await caller.facts.until(CallRefused)
        assert "the signalling is not TLS" in refused.evidence
        assert "srtp_without_tls" in refused.fix
        assert callee.facts.events == []


@pytest.mark.parametrize("known", [True, False], ids=["trunk known", "trunk unknown"])
async def test_an_encrypted_call_is_taken_over_encrypted_or_ended(known: bool) -> None:
    trunk = takes("optional")
    async with (
        phone(GREETER) as caller,
        phone(GREETER, trunks=(trunk,) if known else ()) as survivor,
        phone(GREETER, trunks=(trunk,)) as dying,
    ):
        call = place(caller, dying, CallRules(srtp="required", srtp_without_tls=True))
        await dying.facts.until(TurnSpoken)
        snapshot = dying.phone.manager.snapshot(dying.only_call.call_id)
        assert snapshot is not None
        assert snapshot.leg.secure
        assert not any(word in repr(snapshot).lower() for word in ("inline", "secret", "crypto"))
        await dying.drop_dead()
        restored = survivor.phone.manager.restore(snapshot)
        if known:
            await survivor.facts.until(TurnSpoken)
            assert (is_secure(restored), is_secure(call)) == (True, True)
        else:
            ended = await survivor.facts.until(CallEnded)
            assert (ended.cause, ended.sip_code) == ("refused", 488)

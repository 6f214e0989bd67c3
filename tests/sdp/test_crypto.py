"""RFC 4568 as tables: which lines are understood, and what an offer and an answer come to."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.model.errors import LocalProtocolError
from offhook.model.srtp import Crypto, CryptoSuite, MasterKey
from offhook.model.trunks import SrtpPolicy
from offhook.sdp.crypto import (
    MAX_LINES,
    CryptoLine,
    Insecure,
    Secured,
    SrtpTerms,
    judge_answer,
    judge_offer,
    offer_security,
    read_lines,
)
from offhook.sdp.description import Attribute, MediaDescription

CM_80, CM_32 = CryptoSuite.AES_CM_128_HMAC_SHA1_80, CryptoSuite.AES_CM_128_HMAC_SHA1_32
GCM_128, GCM_256 = CryptoSuite.AEAD_AES_128_GCM, CryptoSuite.AEAD_AES_256_GCM

SECRET = bytes(range(30))
KEY = base64.b64encode(SECRET).decode()
OTHER_KEY = base64.b64encode(bytes(30)).decode()
SEED = bytes(range(32))


def terms(policy: SrtpPolicy, *, exposed: bool = False) -> SrtpTerms:
    return SrtpTerms(policy=policy, seed=SEED, exposed=exposed)


def audio(*lines: str, protocol: str = "RTP/SAVP") -> MediaDescription:
    crypto = tuple(Attribute("crypto", line) for line in lines)
    return MediaDescription(kind="audio", port=4000, protocol=protocol, formats=("0",), attributes=crypto)


def line(tag: int = 1, suite: CryptoSuite = CM_80, key: str = "") -> str:
    return f"{tag} {suite.value} inline:{key or encoded(suite)}"


def encoded(suite: CryptoSuite) -> str:
    return base64.b64encode(bytes(range(suite.master_bytes))).decode()


def judged(
    media: MediaDescription, policy: SrtpPolicy, *, standing: Crypto | None = None, version: int = 1
) -> Secured | Insecure | None:
    return judge_offer(media, terms(policy), version=version, standing=standing)


def secured(
    media: MediaDescription, policy: SrtpPolicy = "required", *, standing: Crypto | None = None, version: int = 1
) -> Secured:
    result = judged(media, policy, standing=standing, version=version)
    assert isinstance(result, Secured), result
    return result


# ── lines ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("suite", CryptoSuite)
def test_a_line_is_read_as_it_was_written(suite: CryptoSuite) -> None:
    written = CryptoLine(7, suite, MasterKey(secret=bytes(range(suite.master_bytes))))
    assert str(written.attribute()) == f"crypto:7 {suite.value} inline:{encoded(suite)}"
    assert read_lines(audio(str(written.attribute()).removeprefix("crypto:"))).usable == (written,)


@pytest.mark.parametrize(
    ("text", "mki"),
    [
        (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}", b""),
        (f"1 aes_cm_128_hmac_sha1_80 INLINE:{KEY}", b""),  # RFC 4568 §9.2 is ABNF: quoted strings have no case
        (f" 1  AES_CM_128_HMAC_SHA1_80  inline:{KEY} ", b""),
        (f"999999999 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^20", b""),
        (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|1048576", b""),
        (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^48|1:4", b"\0\0\0\1"),
        (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|258:2", b"\1\2"),
        (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|1:128", bytes(127) + b"\1"),
        (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} WSH=128", b""),
        (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} KDR=0 -NEW=1", b""),
    ],
)
def test_what_is_understood_of_a_line(text: str, mki: bytes) -> None:
    lines = read_lines(audio(text))
    assert lines.problems == ()
    assert [(one.suite, one.key.secret, one.key.mki) for one in lines.usable] == [(CM_80, SECRET, mki)]


def test_a_key_may_come_without_its_padding() -> None:
    assert encoded(GCM_128).endswith("==")
    (read,) = read_lines(audio(line(suite=GCM_128, key=encoded(GCM_128).rstrip("=")))).usable
    assert read.key.secret == bytes(range(28))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "a line of fewer than three fields"),
        ("1 AES_CM_128_HMAC_SHA1_80", "a line of fewer than three fields"),
        (f"x AES_CM_128_HMAC_SHA1_80 inline:{KEY}", "a tag that is no number"),
        (f"1234567890 AES_CM_128_HMAC_SHA1_80 inline:{KEY}", "a tag that is no number"),
        (f"٣ AES_CM_128_HMAC_SHA1_80 inline:{KEY}", "a tag that is no number"),
        (f"1 F8_128_HMAC_SHA1_80 inline:{KEY}", "suite F8_128_HMAC_SHA1_80"),
        (f"1 inline:{KEY} AES_CM_128_HMAC_SHA1_80", "suite of no known name"),
        (f"1 {KEY} AES_CM_128_HMAC_SHA1_80", "suite of no known name"),
        (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} {KEY}", "session parameter of no known name"),
        (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} FEC_KEY=inline:{KEY}", "session parameter FEC_KEY"),
        (f"1 AES_CM_128_HMAC_SHA1_80 uri:{KEY}", "a key that is not inline"),
        (f"1 AES_CM_128_HMAC_SHA1_80 {KEY}", "a key that is not inline"),
        ("1 AES_CM_128_HMAC_SHA1_80 inline:", "a key that is not 30 bytes in base64"),
        (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}AAAA", "a key that is not 30 bytes in base64"),
        (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY[:-4]}", "a key that is not 30 bytes in base64"),
        (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY[:-1]}!", "a key that is not 30 bytes in base64"),
        (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY[:-1]}\udcff", "a key that is not 30 bytes in base64"),
        (f"1 AEAD_AES_256_GCM inline:{KEY}", "a key that is not 44 bytes in base64"),
        (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|1:4;inline:{OTHER_KEY}|2:4", "several keys in one line"),
        (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^49", "a lifetime or MKI that is none"),
        (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|", "a lifetime or MKI that is none"),
        (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|1:0", "a lifetime or MKI that is none"),
        (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|1:129", "a lifetime or MKI that is none"),
        (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|256:1", "a lifetime or MKI that is none"),
        (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^20|1:4|x", "a lifetime or MKI that is none"),
        (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} KDR=1", "session parameter KDR"),
        (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} UNENCRYPTED_SRTP", "session parameter UNENCRYPTED_SRTP"),
        (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} UNENCRYPTED_SRTCP", "session parameter UNENCRYPTED_SRTCP"),
        (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} UNAUTHENTICATED_SRTP", "session parameter UNAUTHENTICATED_SRTP"),
        (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} FEC_ORDER=FEC_SRTP", "session parameter FEC_ORDER"),
        (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} WSH=64 NEW=1", "session parameter of no known name"),
        (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} ü", "session parameter of no known name"),
    ],
)
def test_a_line_that_is_not_taken_says_why_and_never_its_key(text: str, problem: str) -> None:
    lines = read_lines(audio(text))
    assert lines.usable == ()
    assert lines.problems == (problem,)


def test_more_lines_than_there_are_suites_are_not_looked_at() -> None:
    lines = read_lines(audio(*(line(tag) for tag in range(1, 200))))
    assert [one.tag for one in lines.usable] == list(range(1, MAX_LINES + 1))


@given(text=st.text(max_size=120) | st.from_regex(r"\d{0,3} A(ES|EAD)_[A-Z0-9_]* inline:[A-Za-z0-9+/=|:^;]{0,80}"))
def test_whatever_a_line_says_it_is_read_or_passed_over(text: str) -> None:
    lines = read_lines(audio(text))
    assert len(lines.usable) + len(lines.problems) == 1


def test_no_key_is_shown() -> None:
    made = secured(audio(line()))
    shown = repr((made, terms("required"), read_lines(audio(line()))))
    for secret in (SEED, SECRET, made.crypto.send.secret):
        assert repr(secret) not in shown
        assert base64.b64encode(secret).decode() not in shown


# ── offers of the peer ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("policy", "protocol", "lines", "fate"),
    [
        ("off", "RTP/AVP", (), "clear"),
        ("off", "RTP/AVP", (line(),), "clear"),
        ("off", "RTP/SAVP", (line(),), "we take RTP/AVP"),
        ("optional", "RTP/AVP", (), "clear"),
        ("optional", "RTP/AVPF", ("1 F8 inline:x",), "clear"),
        ("optional", "RTP/AVP", (line(),), "secure"),
        ("optional", "RTP/SAVP", (line(),), "secure"),
        ("optional", "rtp/savpf", (line(),), "secure"),
        ("optional", "RTP/SAVP", (), "RTP/SAVP without a key we can use: no a=crypto line; we take AEAD_AES_256_GCM"),
        ("required", "RTP/SAVP", (line(),), "secure"),
        ("required", "RTP/SAVPF", ("1 F8 inline:x", line(2)), "secure"),
        ("required", "RTP/SAVP", ("1 F8 inline:x",), "RTP/SAVP without a key we can use: suite F8; we take"),
        ("required", "RTP/AVP", (), "audio over RTP/AVP is not encrypted for certain; we take RTP/SAVP with a=crypto"),
        (
            "required",
            "RTP/AVP",
            (line(),),
            "audio over RTP/AVP is not encrypted for certain; we take RTP/SAVP with a=crypto",
        ),
    ],
)
def test_what_an_offer_comes_to(policy: SrtpPolicy, protocol: str, lines: tuple[str, ...], fate: str) -> None:
    result = judged(audio(*lines, protocol=protocol), policy)
    if isinstance(result, Insecure):
        assert fate in result.why
        assert KEY not in result.why
    else:
        assert fate == ("clear" if result is None else "secure")


@pytest.mark.parametrize(
    ("policy", "protocol", "fate"),
    [
        ("optional", "RTP/AVP", "clear"),
        ("optional", "RTP/SAVP", "the signalling is not TLS; we take RTP/AVP"),
        ("required", "RTP/AVP", "SRTP is required, and its keys would be readable on the way here"),
        ("required", "RTP/SAVP", "SRTP is required, and its keys would be readable on the way here"),
    ],
)
def test_no_key_is_taken_that_others_can_read(policy: SrtpPolicy, protocol: str, fate: str) -> None:
    ours = terms(policy, exposed=True)
    result = judge_offer(audio(line(), protocol=protocol), ours, version=1, standing=None)
    if result is None:
        assert fate == "clear"
    else:
        assert isinstance(result, Insecure)
        assert fate in result.why


def test_the_offers_order_decides() -> None:
    assert secured(audio("3 NEW inline:x", line(5, CM_32), line(6, GCM_256))).crypto.suite is CM_32
    assert secured(audio("3 NEW inline:x", line(5, CM_32), line(6, GCM_256))).tag == 5


@pytest.mark.parametrize("suite", CryptoSuite)
def test_our_key_has_the_length_of_its_suite_and_is_not_theirs(suite: CryptoSuite) -> None:
    crypto = secured(audio(line(suite=suite))).crypto
    assert crypto.receive.secret == bytes(range(suite.master_bytes))
    assert len(crypto.send.secret) == suite.master_bytes
    assert crypto.send.secret != crypto.receive.secret


def test_our_key_stays_while_theirs_does_and_changes_with_it() -> None:
    first = secured(audio(line()))
    again = secured(audio(line(4)), standing=first.crypto, version=2)
    assert again == Secured(4, first.crypto)
    changed = secured(audio(line(key=OTHER_KEY)), standing=first.crypto, version=2)
    back = secured(audio(line()), standing=changed.crypto, version=3)
    used = {made.crypto.send.secret for made in (first, changed, back)}
    assert len(used) == 3  # no key is ever taken up again: its packets would be numbered anew (RFC 3711 §9.1)


def test_another_seed_makes_another_key() -> None:
    other = judge_offer(audio(line()), SrtpTerms(policy="required", seed=bytes(32)), version=1, standing=None)
    assert isinstance(other, Secured)
    assert other.crypto.send != secured(audio(line())).crypto.send


@pytest.mark.parametrize("policy", ["optional", "required"])
def test_there_are_no_keys_without_a_seed(policy: SrtpPolicy) -> None:
    with pytest.raises(ValueError, match="32 random bytes"):
        SrtpTerms(policy=policy, seed=bytes(31))


# ── offers of ours ───────────────────────────────────────────────────────────────────────────────────────


def offered(policy: SrtpPolicy, *, version: int = 1) -> MediaDescription:
    protocol, attributes = offer_security(terms(policy), version=version, standing=None, previous=None)
    return replace(audio(protocol=protocol), attributes=attributes)


@pytest.mark.parametrize(("policy", "protocol"), [("optional", "RTP/AVP"), ("required", "RTP/SAVP")])
def test_we_offer_every_suite_with_a_key_of_its_own(policy: SrtpPolicy, protocol: str) -> None:
    ours = offered(policy)
    lines = read_lines(ours).usable
    assert ours.protocol == protocol
    assert [(one.tag, one.suite) for one in lines] == [(1, GCM_256), (2, GCM_128), (3, CM_80), (4, CM_32)]
    assert len({one.key.secret for one in lines}) == 4


def test_we_offer_nothing_where_it_is_off() -> None:
    assert offered("off") == audio(protocol="RTP/AVP")


def test_no_key_is_offered_that_others_can_read() -> None:
    exposed = terms("optional", exposed=True)
    assert offer_security(exposed, version=1, standing=None, previous=None) == ("RTP/AVP", ())
    assert exposed.hindrance == ""
    exposed = terms("required", exposed=True)
    assert "the signalling is not TLS" in exposed.hindrance
    with pytest.raises(LocalProtocolError, match="not TLS"):
        offer_security(exposed, version=1, standing=None, previous=None)


@pytest.mark.parametrize("protocol", ["RTP/AVP", "RTP/SAVPF"])
def test_a_later_offer_keeps_protocol_suite_and_key(protocol: str) -> None:
    standing = secured(audio(line(suite=CM_32)), "optional").crypto
    again = offer_security(terms("optional"), version=5, standing=standing, previous=audio(protocol=protocol))
    assert again.protocol == protocol
    ((tag, suite, key),) = read_lines(replace(audio(), attributes=again.attributes)).usable
    assert (tag, suite, key) == (1, CM_32, standing.send)


# ── answers of the peer ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("policy", "protocol", "lines", "fate"),
    [
        ("off", "RTP/AVP", (), "clear"),
        ("off", "RTP/AVP", (line(1, GCM_256),), "clear"),
        ("off", "RTP/SAVP", (line(1, GCM_256),), "the answer is over RTP/SAVP, and we offered RTP/AVP"),
        ("optional", "RTP/AVP", (), "clear"),
        ("optional", "RTP/AVP", (line(3, CM_80),), "secure"),
        ("optional", "RTP/SAVP", (line(2, GCM_128),), "secure"),
        ("optional", "RTP/SAVP", (), "no a=crypto line"),
        ("optional", "RTP/AVP", (line(1, CM_80),), "it is not the one line that was offered"),
        ("optional", "RTP/AVP", ("3 F8 inline:x",), "suite F8"),
        ("required", "RTP/SAVP", (line(3, CM_80),), "secure"),
        ("required", "rtp/SAVPF", (line(4, CM_32),), "secure"),
        ("required", "RTP/SAVP", (), "no a=crypto line"),
        ("required", "RTP/SAVP", (line(4, CM_80),), "it is not the one line that was offered"),
        ("required", "RTP/SAVP", (line(9, CM_80),), "it is not the one line that was offered"),
        ("required", "RTP/SAVP", (line(3, CM_80), line(4, CM_32)), "several a=crypto lines"),
        ("required", "RTP/SAVP", (line(3, CM_80), "4 F8 inline:x"), "suite F8"),
        ("required", "RTP/SAVP", (f"{line(3, CM_80)} UNENCRYPTED_SRTP",), "session parameter UNENCRYPTED_SRTP"),
        ("required", "RTP/AVP", (), "the answer is in clear: RTP/AVP without a=crypto"),
        ("required", "RTP/AVP", (line(3, CM_80),), "the answer over RTP/AVP does not take our a=crypto"),
    ],
)
def test_what_an_answer_comes_to(policy: SrtpPolicy, protocol: str, lines: tuple[str, ...], fate: str) -> None:
    ours = offered(policy)
    result = judge_answer(ours, audio(*lines, protocol=protocol))
    if isinstance(result, Insecure):
        assert fate in result.why
    elif result is None:
        assert fate == "clear"
    else:
        assert fate == "secure"
        sent = {one.tag: one for one in read_lines(ours).usable}[result.tag]
        assert (result.crypto.suite, result.crypto.send) == (sent.suite, sent.key)
        assert result.crypto.receive.secret == bytes(range(sent.suite.master_bytes))

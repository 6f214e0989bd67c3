"""The vectors of RFC 3711, libsrtp and RFC 7714; then loss, reordering, replay, roll-over, forgery and new keys."""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.rtp.srtp_reference import (
    SessionKeys,
    derived,
    key_stream,
    protect_cm,
    protect_control_cm,
    protect_control_gcm,
    protect_gcm,
    session_keys,
)
from tests.vectors.location import vectors

from offhook.model.srtp import Crypto, CryptoSuite, MasterKey
from offhook.rtp.packet import RtpPacket
from offhook.rtp.rtcp import ControlReport, build_report, parse_report
from offhook.rtp.srtp import MAX_SOURCES, OLD_KEY_S, REPLAY_WINDOW, SrtpReceiver, SrtpSender

CM_80, CM_32 = CryptoSuite.AES_CM_128_HMAC_SHA1_80, CryptoSuite.AES_CM_128_HMAC_SHA1_32
GCM_128, GCM_256 = CryptoSuite.AEAD_AES_128_GCM, CryptoSuite.AEAD_AES_256_GCM
SECRET = bytes(range(44))
OTHER_SECRET = bytes(44)
TAG_BYTES = {CM_80: 10, CM_32: 4, GCM_128: 16, GCM_256: 16}


def keyed(suite: CryptoSuite, secret: bytes = SECRET, mki: bytes = b"") -> Crypto:
    key = MasterKey(secret=secret[: suite.master_bytes], mki=mki)
    return Crypto(suite=suite, send=key, receive=key)


def pair(suite: CryptoSuite = CM_80) -> tuple[SrtpSender, SrtpReceiver]:
    return SrtpSender(keyed(suite)), SrtpReceiver(keyed(suite))


def packet(number: int, *, ssrc: int = 0xCAFE, payload: bytes = b"p" * 160) -> bytes:
    return bytes(
        RtpPacket(
            payload_type=0, sequence=number & 0xFFFF, timestamp=number * 160 & 0xFFFFFFFF, ssrc=ssrc, payload=payload
        )
    )


def protected(sender: SrtpSender, number: int, *, ssrc: int = 0xCAFE) -> bytes:
    made = sender.protect(packet(number, ssrc=ssrc))
    assert made is not None
    return made


def report(sender: SrtpSender, ssrc: int = 0xCAFE) -> bytes:
    made = sender.protect_control(build_report(ControlReport(ssrc=ssrc, cname="c")))
    assert made is not None
    return made


# ── vectors ──────────────────────────────────────────────────────────────────────────────────────────────


def test_libsrtp_s_reference_packets() -> None:
    known = json.loads(vectors("srtp", "rfc3711_libsrtp.json").read_text())["libsrtp_reference"]
    value = {name: bytes.fromhex(text) for name, text in known.items() if name not in ("policy", "ssrc")}
    assert known["policy"] == CM_80.value
    crypto = keyed(CM_80, value["master_key_salt"])
    sender, receiver = SrtpSender(crypto), SrtpReceiver(crypto)
    assert sender.protect(value["rtp_plain"]) == value["srtp"]
    assert sender.protect_control(value["rtcp_plain"]) == value["srtcp"]
    assert receiver.unprotect(value["srtp"], 0.0) == value["rtp_plain"]
    assert receiver.unprotect_control(value["srtcp"]) == value["rtcp_plain"]


def test_the_reference_gives_the_key_streams_and_the_keys_of_rfc_3711() -> None:
    known = json.loads(vectors("srtp", "rfc3711_libsrtp.json").read_text())
    blocks = {name: bytes.fromhex(text) for name, text in known["rfc3711_B2"].items() if isinstance(text, str)}
    for number, block in known["rfc3711_B2"]["keystream_blocks"].items():
        made = key_stream(blocks["session_key"], blocks["session_salt"], shift_in=int(number), length=16)
        assert made.hex() == block
    b3 = {name: bytes.fromhex(text) for name, text in known["rfc3711_B3"].items()}
    expected = {0: b3["cipher_key"], 1: b3["auth_key_94"], 2: b3["cipher_salt"]}
    for label, value in expected.items():
        assert derived(b3["master_key"], b3["master_salt"], label=label, length=len(value)) == value


@dataclass(frozen=True)
class Example:
    """One of RFC 7714's: what its section calls encryption or decryption."""

    keys: SessionKeys
    plain: bytes
    protected: bytes

    @classmethod
    def of(cls, file: str, section: str, plain: str, protected: str) -> Example:
        text = vectors("srtp", "rfc7714", file).read_text()
        start = text.index(f"\n{section} ")
        end = re.search(r"\n1\d\.\d", text[start + 1 :])
        part = text[start : start + 1 + end.start()] if end else text[start:]
        keys = SessionKeys(cipher=_octets(part, "   Key:(?= )"), salt=_octets(part, " salt:"))
        return cls(keys, _octets(part, f"{plain} packet:"), _octets(part, f"{protected} packet:"))


def _octets(text: str, label: str) -> bytes:
    """The hexadecimal digits that follow a label, over as many lines as there are."""
    found = re.search(label + r"((?:\s+[0-9a-f]{2,8})+)\s", text)
    assert found, label
    return bytes.fromhex(found[1])


def test_the_reference_gives_the_packets_of_rfc_7714() -> None:
    encrypted = [("16.1.1.", 16), ("16.2.1.", 32)]
    for section, key_bytes in encrypted:
        example = Example.of("rtp-vectors.txt", section, "Encrypting the following", "Encrypted and tagged")
        assert (len(example.keys.cipher), len(example.keys.salt)) == (key_bytes, 12)
        assert protect_gcm(example.plain, example.keys, roll_over=0) == example.protected
    reports = [
        Example.of("rtcp-vectors.txt", "17.1.", "Encrypting the following", "Encrypted and tagged"),
        Example.of("rtcp-vectors.txt", "17.2.", "Verified and decrypted", "Decrypting the following"),
    ]
    assert [len(example.keys.cipher) for example in reports] == [16, 32]
    for example in reports:
        assert protect_control_gcm(example.plain, example.keys, index=0x5D4) == example.protected


def expected(suite: CryptoSuite, secret: bytes, plain: bytes, roll_over: int) -> bytes:
    key_bytes = 32 if suite is GCM_256 else 16
    keys = session_keys(secret[:key_bytes], secret[key_bytes : suite.master_bytes], control=False)
    if suite in (GCM_128, GCM_256):
        return protect_gcm(plain, keys, roll_over=roll_over)
    return protect_cm(plain, keys, roll_over=roll_over, tag_bytes=TAG_BYTES[suite])


def expected_report(suite: CryptoSuite, secret: bytes, plain: bytes, index: int) -> bytes:
    key_bytes = 32 if suite is GCM_256 else 16
    keys = session_keys(secret[:key_bytes], secret[key_bytes : suite.master_bytes], control=True)
    protect = protect_control_gcm if suite in (GCM_128, GCM_256) else protect_control_cm
    return protect(plain, keys, index=index)


@pytest.mark.parametrize("suite", CryptoSuite)
@given(secret=st.binary(min_size=44, max_size=44), payload=st.binary(max_size=200), ssrc=st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_what_leaves_is_what_the_reference_makes(suite: CryptoSuite, secret: bytes, payload: bytes, ssrc: int) -> None:
    crypto = keyed(suite, secret)
    sender, receiver = SrtpSender(crypto), SrtpReceiver(crypto)
    for number in (65_535, 65_536, 65_537):  # over a wrap of the sequence
        plain = packet(number, ssrc=ssrc, payload=payload)
        made = sender.protect(plain)
        assert made == expected(suite, secret, plain, number >> 16)
        assert receiver.unprotect(made, 0.0) == plain
    plain = build_report(ControlReport(ssrc=ssrc, cname="c"))
    for index in (1, 2):
        made = sender.protect_control(plain)
        assert made == expected_report(suite, secret, plain, index)
        assert receiver.unprotect_control(made) == plain


# ── the network ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("suite", CryptoSuite)
def test_loss_and_reordering_over_several_wraps_lose_nothing_more(suite: CryptoSuite) -> None:
    sender, receiver = pair(suite)
    chance = random.Random(3711)
    waiting: list[tuple[int, bytes]] = []
    for number in range(60_000, 60_000 + 3 * 65_536, 7):  # six of seven are lost on the way
        for lost in range(7):
            made = protected(sender, number + lost)
        waiting.append((number + 6, made))
        if len(waiting) == 8:
            chance.shuffle(waiting)
            for sent, datagram in waiting:
                assert receiver.unprotect(datagram, 0.0) == packet(sent)
            waiting.clear()
    assert (receiver.unauthentic, receiver.replayed) == (0, 0)


def test_a_whole_second_of_silence_at_the_wrap_is_survived() -> None:
    sender, receiver = pair()
    for number in range(65_500, 65_600):
        made = protected(sender, number)
        if not 65_510 < number < 65_560:
            assert receiver.unprotect(made, 0.0) == packet(number)


@pytest.mark.parametrize("suite", CryptoSuite)
def test_what_comes_twice_is_dropped_and_counted(suite: CryptoSuite) -> None:
    sender, receiver = pair(suite)
    sent = [protected(sender, number) for number in range(500)]
    assert [receiver.unprotect(datagram, 0.0) is not None for datagram in sent] == [True] * 500
    assert [receiver.unprotect(datagram, 0.0) for datagram in sent] == [None] * 500
    assert (receiver.unauthentic, receiver.replayed) == (0, 500)
    heard = report(sender)
    assert receiver.unprotect_control(heard) is not None
    assert receiver.unprotect_control(heard) is None
    assert receiver.replayed == 501


def test_the_replay_window_is_as_long_as_it_says() -> None:
    sender, receiver = pair()
    sent = [protected(sender, number) for number in range(REPLAY_WINDOW + 1)]
    assert receiver.unprotect(sent[-1], 0.0)
    assert receiver.unprotect(sent[1], 0.0)
    assert receiver.unprotect(sent[0], 0.0) is None
    assert receiver.replayed == 1


@pytest.mark.parametrize("suite", CryptoSuite)
def test_every_changed_bit_is_found_and_does_no_harm(suite: CryptoSuite) -> None:
    sender, receiver = pair(suite)
    good = protected(sender, 0)
    heard = report(sender)
    for position in range(len(good)):
        forged = bytearray(good)
        forged[position] ^= 1 << position % 8
        assert receiver.unprotect(bytes(forged), 0.0) is None
    for position in range(len(heard)):
        forged = bytearray(heard)
        forged[position] ^= 1 << position % 8
        assert receiver.unprotect_control(bytes(forged)) is None
    assert receiver.unauthentic == len(good) + len(heard)
    assert receiver.unprotect(good, 0.0) == packet(0)
    assert parse_report(receiver.unprotect_control(heard) or b"") is not None


@pytest.mark.parametrize("suite", CryptoSuite)
def test_clear_packets_are_no_packets(suite: CryptoSuite) -> None:
    _, receiver = pair(suite)
    assert [receiver.unprotect(packet(number), 0.0) for number in range(100)] == [None] * 100
    assert receiver.unprotect_control(build_report(ControlReport(ssrc=1, cname="c"))) is None
    assert receiver.unauthentic == 101


@given(datagram=st.binary(max_size=300) | st.binary(max_size=4).map(lambda start: start + bytes(2040)))
@settings(max_examples=300, deadline=None)
def test_whatever_comes_is_counted_and_never_raised(datagram: bytes) -> None:
    for suite in CryptoSuite:
        for mki in (b"", b"\0\0\0\1"):
            receiver = SrtpReceiver(keyed(suite, mki=mki))
            assert receiver.unprotect(datagram, 0.0) is None
            assert receiver.unprotect_control(datagram) is None
            assert receiver.unauthentic + receiver.replayed == 2


def test_what_is_too_long_or_was_sent_is_not_sent_in_clear_either() -> None:
    sender, _ = pair(GCM_128)
    assert sender.protect(bytes(2000)) is None
    assert sender.protect_control(bytes(2000)) is None
    assert protected(sender, 7)
    assert sender.protect(packet(7, payload=b"another")) is None


def test_sources_are_many_but_not_endless() -> None:
    sender, receiver = pair()
    for ssrc in range(MAX_SOURCES):
        assert receiver.unprotect(protected(sender, 1, ssrc=ssrc), 0.0)
    assert receiver.unprotect(protected(sender, 1, ssrc=MAX_SOURCES), 0.0) is None
    assert receiver.unprotect(protected(sender, 2, ssrc=0), 0.0)
    assert receiver.unauthentic == 1


def test_forged_sources_take_no_place() -> None:
    sender, receiver = pair()
    for ssrc in range(3 * MAX_SOURCES):
        forged = bytearray(protected(sender, 1, ssrc=ssrc))
        forged[-1] ^= 1
        assert receiver.unprotect(bytes(forged), 0.0) is None
    assert receiver.unprotect(protected(sender, 2, ssrc=5 * MAX_SOURCES), 0.0)


# ── keys ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_packets_under_the_old_key_are_heard_for_a_while() -> None:
    old, receiver = pair()
    first = protected(old, 1)
    assert receiver.unprotect(first, 0.0)
    receiver.rekey(keyed(GCM_256, OTHER_SECRET), 10.0)
    new = SrtpSender(keyed(GCM_256, OTHER_SECRET))
    assert receiver.unprotect(protected(old, 2), 10.1)
    assert receiver.unprotect(protected(new, 3), 10.2)
    assert receiver.unprotect(first, 10.3) is None
    assert receiver.unprotect(protected(old, 4), 10.0 + OLD_KEY_S) is None
    assert receiver.unprotect(protected(old, 5), 10.1) is None
    assert receiver.unauthentic == 3


@pytest.mark.parametrize("suite", CryptoSuite)
@pytest.mark.parametrize("mki", [b"\1", b"\0\0\0\1", bytes(range(128))])
def test_a_peer_may_name_its_key_in_each_packet(suite: CryptoSuite, mki: bytes) -> None:
    sender, _ = pair(suite)
    receiver = SrtpReceiver(keyed(suite, mki=mki))
    behind = {CM_80: 10, CM_32: 4}.get(suite, 0)
    behind_report = {CM_80: 10, CM_32: 10}.get(suite, 0)
    for number in range(10):
        assert receiver.unprotect(_with_mki(protected(sender, number), mki, behind), 0.0) == packet(number)
    assert receiver.unprotect_control(_with_mki(report(sender), mki, behind_report))
    other = bytes([mki[0] ^ 1]) + mki[1:]
    assert receiver.unprotect(_with_mki(protected(sender, 11), other, behind), 0.0) is None
    assert receiver.unprotect(protected(sender, 12), 0.0) is None
    assert receiver.unauthentic == 2


def _with_mki(datagram: bytes, mki: bytes, behind: int) -> bytes:
    end = len(datagram) - behind
    return datagram[:end] + mki + datagram[end:]

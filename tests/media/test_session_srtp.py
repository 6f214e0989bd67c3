"""A session under SRTP, with real sockets: two sessions with each suite, changed keys, forgeries, nothing clear."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from tests.media.wire import PCMU_SILENCE, Desk, RemoteParty, until

from offhook.media.events import DtmfReceived, PathChanged
from offhook.model.audio import Encoding
from offhook.model.srtp import Crypto, CryptoSuite, MasterKey
from offhook.rtp.packet import HEADER_BYTES, RtpPacket, parse_packet
from offhook.rtp.rtcp import ControlReport, build_report
from offhook.rtp.srtp import SrtpReceiver, SrtpSender
from offhook.sdp.offer_answer import Agreement

LOUD = bytes([0x10, 0x90]) * 80
"""A frame of a strong 4 kHz tone."""

CM_80 = CryptoSuite.AES_CM_128_HMAC_SHA1_80


def keyed(suite: CryptoSuite = CM_80, *, ours: int = 1, theirs: int = 2) -> Crypto:
    return Crypto(
        suite=suite,
        send=MasterKey(secret=bytes([ours]) * suite.master_bytes),
        receive=MasterKey(secret=bytes([theirs]) * suite.master_bytes),
    )


def agreement(to: Desk, crypto: Crypto | None) -> Agreement:
    return Agreement(
        encoding=Encoding.PCMU,
        payload_type=0,
        receive_payload_type=0,
        ptime_ms=20,
        dtmf_payload_type=101,
        dtmf_receive_payload_type=101,
        remote=to.address,
        remote_rtcp=to.control_address,
        direction="sendrecv",
        crypto=crypto,
    )


@asynccontextmanager
async def two_desks() -> AsyncIterator[tuple[Desk, Desk]]:
    one, other = Desk(low=20_000, high=20_999), Desk(low=21_000, high=21_999)
    try:
        yield one, other
    finally:
        one.session.close()
        other.session.close()


@asynccontextmanager
async def desk_and_remote() -> AsyncIterator[tuple[Desk, RemoteParty]]:
    desk, remote = Desk(), RemoteParty()
    try:
        yield desk, remote
    finally:
        desk.session.close()
        remote.close()


def ear(desk: Desk) -> list[bytes]:
    heard: list[bytes] = []
    desk.session.connect(heard.append)
    return heard


@pytest.mark.parametrize("suite", CryptoSuite)
async def test_two_sessions_hear_each_other_with_each_suite(suite: CryptoSuite) -> None:
    async with two_desks() as (one, other):
        heard, overheard = ear(other), ear(one)
        one.session.start(agreement(other, keyed(suite)))
        other.session.start(agreement(one, keyed(suite, ours=2, theirs=1)))
        one.session.play("a", LOUD * 10)
        other.session.play("b", LOUD * 10)
        one.session.send_dtmf("5")
        await until(lambda: heard.count(LOUD) >= 10 and overheard.count(LOUD) >= 10 and other.told(DtmfReceived))
        assert [told.digit for told in other.told(DtmfReceived)] == ["5"]
        for desk in (one, other):
            stats = desk.session.stats()
            assert stats is not None
            assert (stats.packets_unauthentic, stats.packets_replayed, stats.packets_malformed) == (0, 0, 0)


async def test_reports_go_encrypted_and_are_understood() -> None:
    async with desk_and_remote() as (desk, remote):
        desk.session.start(remote.agreement(crypto=keyed()))
        theirs = SrtpSender(keyed(ours=2, theirs=1))
        await until(lambda: remote.packets)
        report = theirs.protect_control(build_report(ControlReport(ssrc=remote.ssrc, cname="them")))
        assert report is not None
        remote.send_control(report, desk.control_address)
        remote.send_control(build_report(ControlReport(ssrc=remote.ssrc, cname="them")), desk.control_address)
        await until(lambda: (stats := desk.session.stats()) is not None and stats.packets_unauthentic == 1)
        desk.session.close()
        await until(lambda: remote.control)
        opened = SrtpReceiver(keyed(ours=2, theirs=1)).unprotect_control(remote.control[-1])
        assert opened is not None
        assert opened[:2] != remote.control[-1][8:10]


async def test_nothing_leaves_in_clear() -> None:
    async with desk_and_remote() as (desk, remote):
        desk.session.start(remote.agreement(crypto=keyed()))
        desk.session.play("a", LOUD * 20)
        await until(lambda: len(remote.packets) >= 40)
        receiver = SrtpReceiver(keyed(ours=2, theirs=1))
        payloads = [packet.payload for _, packet in remote.packets]
        assert {len(payload) for payload in payloads} == {160 + 10}
        assert not {payload[:160] for payload in payloads} & {PCMU_SILENCE, LOUD}
        opened = [receiver.unprotect(bytes(packet), 0.0) for _, packet in remote.packets]
        assert [packet[HEADER_BYTES:] for packet in opened if packet].count(LOUD) == 20


async def test_forged_and_clear_packets_are_neither_heard_nor_latched_on() -> None:
    """Latching rule 6: the tag is verified before anything is learned."""
    async with desk_and_remote() as (desk, remote):
        heard = ear(desk)
        # It is said to be at another port: its own has to be learned.
        desk.session.start(remote.agreement(crypto=keyed(), remote=("127.0.0.1", 9)))
        for number in range(20):
            remote.send(LOUD, desk.address)
            remote.send_raw(forged(number), desk.address)
        await until(lambda: len(heard) >= 20)
        stats = desk.session.stats()
        assert stats is not None
        assert stats.packets_unauthentic == 40
        assert stats.packets_received == 0
        assert (desk.session.remote, desk.told(PathChanged)) == (("127.0.0.1", 9), [])
        assert set(heard) == {PCMU_SILENCE}
        theirs = SrtpSender(keyed(ours=2, theirs=1))
        for number in range(10):
            remote.send_raw(theirs.protect(packet(number)) or b"", desk.address)
        await until(lambda: LOUD in heard)
        assert [told.remote for told in desk.told(PathChanged)] == [remote.address]


def packet(number: int) -> bytes:
    return bytes(RtpPacket(payload_type=0, sequence=number, timestamp=number * 160, ssrc=7, payload=LOUD))


def forged(number: int) -> bytes:
    sealed = SrtpSender(keyed(ours=2, theirs=1)).protect(packet(number))
    assert sealed is not None
    assert parse_packet(sealed) is not None
    return sealed[:-1] + bytes([sealed[-1] ^ 1])


async def test_keys_change_in_the_middle_and_nothing_is_lost() -> None:
    async with two_desks() as (one, other):
        heard = ear(other)
        one.session.start(agreement(other, keyed()))
        other.session.start(agreement(one, keyed(ours=2, theirs=1)))
        one.session.play("a", LOUD * 60)
        await until(lambda: heard.count(LOUD) >= 20)
        new = CryptoSuite.AEAD_AES_256_GCM
        other.session.update(agreement(one, keyed(new, ours=4, theirs=3)))
        one.session.update(agreement(other, keyed(new, ours=3, theirs=4)))
        await until(lambda: heard.count(LOUD) >= 60)
        stats = other.session.stats()
        assert stats is not None
        assert (stats.packets_lost, stats.packets_unauthentic, stats.concealed_frames) == (0, 0, 0)


async def test_a_call_may_become_encrypted_and_clear_again() -> None:
    async with two_desks() as (one, other):
        heard = ear(other)
        one.session.start(agreement(other, None))
        other.session.start(agreement(one, None))
        for crypto in (keyed(), None):
            mirrored = None if crypto is None else replace(crypto, send=crypto.receive, receive=crypto.send)
            await until(lambda: len(heard) >= 10)
            other.session.update(agreement(one, mirrored))
            one.session.update(agreement(other, crypto))
            heard.clear()
            one.session.play("a", LOUD * 60)  # what is on its way while the keys change is lost
            await until(lambda: heard.count(LOUD) >= 20)

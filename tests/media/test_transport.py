from __future__ import annotations

import asyncio
import socket
import time

import pytest
from tests.media.wire import HOST, until

from offhook.media.ports import PortPair, PortPool
from offhook.media.transport import Transport, UdpTransport, transport_for
from offhook.model.srtp import Crypto, CryptoSuite, MasterKey
from offhook.rtp.packet import MAX_PACKET_BYTES, RtpPacket
from offhook.rtp.rtcp import ControlReport, build_report
from offhook.rtp.srtp import SrtpReceiver, SrtpSender

Heard = list[tuple[bytes, tuple[str, int]]]


class Line:
    """A transport and what it heard."""

    def __init__(self, host: str = HOST) -> None:
        self.pool = PortPool(10_000, 15_999)
        self.pair: PortPair = self.pool.open(host)
        self.rtp: Heard = []
        self.arrivals: list[float] = []
        self.rtcp: Heard = []
        self.transport: Transport = UdpTransport(asyncio.get_running_loop(), self.pair)
        self.transport.on_rtp = self._hear
        self.transport.on_rtcp = lambda datagram, source: self.rtcp.append((datagram, source))

    def _hear(self, datagram: bytes, source: tuple[str, int], arrival_s: float) -> None:
        self.rtp.append((datagram, source))
        self.arrivals.append(arrival_s)

    def read(self, *, set_forward_s: float = 0.0) -> bool:
        """As the clock reads; ``set_forward_s``: the system's clock was set since the datagram came."""
        now = time.monotonic()
        return self.transport.read(now, time.time() + set_forward_s - now)

    def close(self) -> None:
        self.transport.close()
        self.pool.release(self.pair)


@pytest.mark.parametrize("host", [HOST, "::1"])
async def test_datagrams_come_with_host_and_port(host: str) -> None:
    line = Line(host)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as remote:
        remote.bind((host, 0))
        remote.sendto(b"rtp", (host, line.pair.port))
        remote.sendto(b"rtcp", (host, line.pair.port + 1))
        await until(lambda: line.rtcp and line.read())
        source = remote.getsockname()[:2]
    assert line.rtp == [(b"rtp", source)]
    assert line.rtcp == [(b"rtcp", source)]
    line.close()


async def test_it_sends_from_its_own_port() -> None:
    line = Line()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as remote:
        remote.bind((HOST, 0))
        assert line.transport.send(b"audio", remote.getsockname())
        assert remote.recvfrom(100) == (b"audio", (HOST, line.pair.port))
    line.close()


@pytest.mark.parametrize("destination", [("255.255.255.255", 9), ("::1", 9), (HOST, 0)])
async def test_a_send_the_system_refuses_is_counted_and_never_raised(destination: tuple[str, int]) -> None:
    line = Line()
    assert not line.transport.send(b"audio", destination)
    line.transport.send_control(b"report", destination)
    assert line.transport.send_failures == 2
    line.close()


async def test_a_datagram_too_long_is_cut_and_harms_nothing() -> None:
    line = Line()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as remote:
        remote.sendto(bytes(9000), (HOST, line.pair.port))
        remote.sendto(b"next", (HOST, line.pair.port))
    assert line.read()
    assert line.read()
    assert len(line.rtp[0][0]) == MAX_PACKET_BYTES
    assert line.rtp[1][0] == b"next"
    line.close()


async def test_a_datagram_arrived_when_the_kernel_had_it_and_not_when_it_was_read() -> None:
    line = Line()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as remote:
        before = time.monotonic()
        remote.sendto(b"audio", (HOST, line.pair.port))
        after = time.monotonic()
    await asyncio.sleep(0.1)
    assert line.read()
    assert before - 0.002 < line.arrivals[0] < after + 0.002
    assert not line.read()
    line.close()


@pytest.mark.parametrize("set_forward_s", [-3600.0, -0.5, 3600.0])
async def test_a_clock_that_was_set_makes_no_arrival_in_the_future_or_long_ago(set_forward_s: float) -> None:
    line = Line()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as remote:
        remote.sendto(b"audio", (HOST, line.pair.port))
    assert line.read(set_forward_s=set_forward_s)
    assert line.arrivals[0] == pytest.approx(time.monotonic(), abs=0.05)
    line.close()


async def test_what_came_before_anybody_listened_can_be_thrown_away() -> None:
    line = Line()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as remote:
        for index in range(10):
            remote.sendto(bytes([index]), (HOST, line.pair.port))
        line.transport.discard()
        remote.sendto(b"now", (HOST, line.pair.port))
    assert line.read()
    assert not line.read()
    assert [datagram for datagram, _ in line.rtp] == [b"now"]
    line.close()


async def test_no_report_is_heard_after_close() -> None:
    line = Line()
    line.transport.close()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as remote:
        remote.sendto(b"late", (HOST, line.pair.port + 1))
        await asyncio.sleep(0.05)
    assert line.rtcp == []
    line.pool.release(line.pair)


# ── SRTP ─────────────────────────────────────────────────────────────────────────────────────────────────

PACKET = bytes(RtpPacket(payload_type=0, sequence=1, timestamp=0, ssrc=7, payload=b"a" * 160))
REPORT = build_report(ControlReport(ssrc=7, cname="c"))


def keyed(suite: CryptoSuite, *, ours: int = 1, theirs: int = 2) -> Crypto:
    """Keys made of one octet each."""
    return Crypto(
        suite=suite,
        send=MasterKey(secret=bytes([ours]) * suite.master_bytes),
        receive=MasterKey(secret=bytes([theirs]) * suite.master_bytes),
    )


class SecureLine(Line):
    """A line under SRTP, and a remote party that has its keys."""

    def __init__(self, suite: CryptoSuite = CryptoSuite.AEAD_AES_128_GCM) -> None:
        super().__init__()
        self.clear = self.transport
        self.follow(keyed(suite))
        self.remote = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.remote.bind((HOST, 0))
        self.sender = SrtpSender(keyed(suite, ours=2, theirs=1))
        self.receiver = SrtpReceiver(keyed(suite, ours=2, theirs=1))

    def follow(self, crypto: Crypto | None) -> None:
        self.transport = transport_for(crypto, self.transport, time.monotonic())
        self.transport.on_rtp = self._hear
        self.transport.on_rtcp = lambda datagram, source: self.rtcp.append((datagram, source))

    async def comes(self, datagram: bytes | None) -> None:
        """A datagram from the remote party, read."""
        assert datagram is not None
        self.remote.sendto(datagram, (HOST, self.pair.port))
        await until(self.read)

    async def report_comes(self, datagram: bytes | None) -> None:
        assert datagram is not None
        counted = len(self.rtcp) + self.transport.packets_unauthentic
        self.remote.sendto(datagram, (HOST, self.pair.port + 1))
        await until(lambda: len(self.rtcp) + self.transport.packets_unauthentic > counted)

    def close(self) -> None:
        super().close()
        self.remote.close()


@pytest.mark.parametrize("suite", CryptoSuite)
async def test_under_srtp_packets_are_encrypted_on_the_wire_and_clear_inside(suite: CryptoSuite) -> None:
    line = SecureLine(suite)
    source = line.remote.getsockname()
    await line.comes(line.sender.protect(PACKET))
    await line.report_comes(line.sender.protect_control(REPORT))
    assert line.rtp == [(PACKET, source)]
    assert line.rtcp == [(REPORT, source)]
    assert line.transport.send(bytearray(PACKET), source)
    line.transport.send_control(REPORT, source)
    sent, report = line.remote.recv(2048), line.remote.recv(2048)
    assert b"aaa" not in sent
    assert line.receiver.unprotect(sent, 0.0) == PACKET
    assert line.receiver.unprotect_control(report) == REPORT
    line.close()


async def test_what_is_not_authentic_is_counted_and_not_handed_on() -> None:
    line = SecureLine()
    good = line.sender.protect(PACKET)
    assert good is not None
    await line.comes(PACKET)
    await line.comes(good[:-1] + bytes([good[-1] ^ 1]))
    await line.comes(b"")
    await line.report_comes(REPORT)
    assert (line.rtp, line.rtcp) == ([], [])
    assert (line.transport.packets_unauthentic, line.transport.packets_replayed) == (4, 0)
    await line.comes(good)
    await line.comes(good)
    assert (len(line.rtp), line.transport.packets_replayed) == (1, 1)
    line.close()


async def test_what_cannot_be_encrypted_is_not_sent_at_all() -> None:
    line = SecureLine()
    line.remote.setblocking(False)
    assert not line.transport.send(bytes(1400), line.remote.getsockname())
    line.transport.send_control(bytes(1400), line.remote.getsockname())
    assert line.transport.send_failures == 2
    await asyncio.sleep(0.02)
    with pytest.raises(BlockingIOError):
        line.remote.recv(2048)
    line.close()


async def test_the_numbering_goes_on_with_the_keys_and_begins_anew_with_others() -> None:
    line = SecureLine()
    suite = CryptoSuite.AEAD_AES_128_GCM
    first = line.sender.protect(PACKET)
    await line.comes(first)
    line.follow(keyed(suite))  # a re-INVITE that changed nothing
    await line.comes(first)
    assert (len(line.rtp), line.transport.packets_replayed) == (1, 1)
    line.follow(keyed(suite, theirs=3))
    await line.comes(SrtpSender(keyed(suite, ours=3)).protect(PACKET))
    assert len(line.rtp) == 2
    source = line.remote.getsockname()
    assert line.transport.send(PACKET, source)
    assert not line.transport.send(PACKET, source)  # our own key stayed, and that number is used
    line.follow(keyed(suite, ours=9, theirs=3))
    assert line.transport.send(PACKET, source)
    line.close()


async def test_clear_and_encrypted_follow_each_other_as_agreed() -> None:
    line = SecureLine()
    secure = line.transport
    line.follow(None)
    assert line.transport is line.clear
    await line.comes(PACKET)
    assert len(line.rtp) == 1
    line.follow(keyed(CryptoSuite.AEAD_AES_128_GCM))
    assert line.transport is not secure
    await line.comes(PACKET)
    assert (len(line.rtp), line.transport.packets_unauthentic) == (1, 1)
    line.close()

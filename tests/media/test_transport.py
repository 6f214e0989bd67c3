from __future__ import annotations

import asyncio
import socket
import time

import pytest
from tests.media.wire import HOST, until

from offhook.media.ports import PortPair, PortPool
from offhook.media.transport import UdpTransport
from offhook.rtp.packet import MAX_PACKET_BYTES

Heard = list[tuple[bytes, tuple[str, int]]]


class Line:
    """A transport and what it heard."""

    def __init__(self, host: str = HOST) -> None:
        self.pool = PortPool(10_000, 15_999)
        self.pair: PortPair = self.pool.open(host)
        self.rtp: Heard = []
        self.arrivals: list[float] = []
        self.rtcp: Heard = []
        self.transport = UdpTransport(asyncio.get_running_loop(), self.pair)
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

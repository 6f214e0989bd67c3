from __future__ import annotations

import asyncio
import socket

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
        self.rtcp: Heard = []
        self.transport = UdpTransport(asyncio.get_running_loop(), self.pair)
        self.transport.on_rtp = lambda length, source: self.rtp.append((bytes(self.transport.buffer[:length]), source))
        self.transport.on_rtcp = lambda datagram, source: self.rtcp.append((datagram, source))

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
        await until(lambda: line.rtp and line.rtcp)
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


async def test_a_datagram_longer_than_the_buffer_is_cut_and_harms_nothing() -> None:
    line = Line()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as remote:
        remote.sendto(bytes(9000), (HOST, line.pair.port))
        remote.sendto(b"next", (HOST, line.pair.port))
    await until(lambda: len(line.rtp) == 2)
    assert len(line.rtp[0][0]) == MAX_PACKET_BYTES
    assert line.rtp[1][0] == b"next"
    line.close()


async def test_what_queued_up_can_be_read_at_once() -> None:
    line = Line()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as remote:
        for index in range(10):
            remote.sendto(bytes([index]), (HOST, line.pair.port))
    line.transport.drain()
    assert [datagram for datagram, _ in line.rtp] == [bytes([index]) for index in range(10)]
    line.transport.drain()
    assert len(line.rtp) == 10
    line.close()


async def test_nothing_is_heard_after_close() -> None:
    line = Line()
    line.transport.close()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as remote:
        remote.sendto(b"late", (HOST, line.pair.port))
        await asyncio.sleep(0.05)
    assert line.rtp == []
    line.pool.release(line.pair)

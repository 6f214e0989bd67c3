"""Whatever datagram arrives, the session keeps its cadence and raises nothing."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.media.test_inbound import REMOTE, Ear
from tests.media.test_reports import CONTROL, Exchange
from tests.media.wire import Desk, RemoteParty, until

from offhook.rtp.packet import RtpPacket, timestamp_distance
from offhook.rtp.rtcp import ControlReport, ReportBlock, SenderFigures, build_report

FRAME = 160

PACKETS = st.builds(
    RtpPacket,
    payload_type=st.sampled_from([0, 8, 13, 96, 101, 72, 127]),
    sequence=st.one_of(st.integers(0, 40), st.integers(0, 0xFFFF)),
    timestamp=st.one_of(st.integers(0, 8000), st.integers(0, 0xFFFFFFFF)),
    ssrc=st.integers(1, 2),
    payload=st.one_of(st.binary(max_size=20), st.integers(0, 2100).map(bytes)),
    marker=st.booleans(),
)
SOURCES = st.sampled_from([REMOTE, (REMOTE[0], 9), ("198.51.100.1", 4000)])


def mutated(packet: RtpPacket, seed: int) -> bytes:
    """A packet with a few bytes turned over, cut off or appended."""
    rng = random.Random(seed)
    datagram = bytearray(bytes(packet))
    for _ in range(rng.randrange(4)):
        datagram[rng.randrange(len(datagram))] = rng.randrange(256)
    cut = rng.randrange(len(datagram) + 1) if rng.random() < 0.3 else len(datagram)
    return bytes(datagram[:cut] + rng.randbytes(rng.randrange(3)))[:2048]


DATAGRAMS = st.one_of(
    st.binary(max_size=64),
    PACKETS.map(lambda packet: bytes(packet)[:2048]),
    st.builds(mutated, PACKETS, st.integers(0)),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(DATAGRAMS, SOURCES, st.floats(0, 0.1)), max_size=60))
def test_every_tick_gives_one_frame_and_nothing_is_raised(arrivals: list[tuple[bytes, tuple[str, int], float]]) -> None:
    ear = Ear()
    due = ear.now
    for datagram, source, wait in arrivals:
        ear.now += wait
        ear.receive(datagram, source)
        while due <= ear.now:
            assert len(ear.stream.next_frame(due)) == FRAME
            ear.stream.expire(due)
            due += 0.02
    assert ear.stream.jitter_buffer.held_pieces < 300


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=80), st.integers(0).map(lambda seed: next(reports(seed)))), max_size=20))
def test_whatever_report_arrives_ours_goes_on(datagrams: list[bytes]) -> None:
    exchange = Exchange()
    exchange.mouth.tick(3)
    for datagram in datagrams:
        exchange.reports.receive(datagram, CONTROL)
    exchange.wait(6)
    assert len(exchange.sent) == 1


def reports(seed: int) -> Iterator[bytes]:
    """Reports about us, with random figures and a few bytes turned over."""
    rng = random.Random(seed)
    block = ReportBlock(
        ssrc=0xAFFE,
        fraction_lost=rng.randrange(256),
        cumulative_lost=rng.randrange(-0x800000, 0x800000),
        highest_sequence=rng.getrandbits(32),
        jitter=rng.getrandbits(32),
        last_sender_report=rng.getrandbits(32),
        delay_since_last=rng.getrandbits(32),
    )
    sender = SenderFigures(
        ntp=rng.getrandbits(64), rtp_timestamp=rng.getrandbits(32), packets=rng.getrandbits(32), octets=0
    )
    while True:
        datagram = bytearray(build_report(ControlReport(ssrc=rng.getrandbits(32), sender=sender, blocks=(block,))))
        for _ in range(rng.randrange(3)):
            datagram[rng.randrange(len(datagram))] = rng.randrange(256)
        yield bytes(datagram)


@pytest.mark.parametrize("seed", range(2))
async def test_a_session_under_fire_keeps_its_cadence(seed: int) -> None:
    """Real sockets: garbage on both ports, from the remote party and from strangers, for half a second."""
    rng = random.Random(seed)
    remote, stranger = RemoteParty(), RemoteParty()
    desk = Desk()
    heard: list[bytes] = []
    desk.session.connect(heard.append)
    desk.session.start(remote.agreement(), signalling_host="127.0.0.1")
    bullets = reports(seed)
    for volley in range(25):
        for _ in range(40):
            packet = RtpPacket(
                payload_type=rng.choice([0, 8, 13, 101, 77]),
                sequence=rng.getrandbits(16),
                timestamp=rng.getrandbits(32),
                ssrc=rng.randrange(3),
                payload=rng.randbytes(rng.randrange(400)),
            )
            rng.choice([remote, stranger]).send_raw(mutated(packet, rng.getrandbits(32)), desk.address)
            rng.choice([remote, stranger]).send_control(next(bullets), desk.control_address)
        await until(lambda volley=volley: len(remote.packets) > volley)  # type: ignore[misc]
    await until(lambda: len(remote.packets) >= 30)
    assert desk.clock.faults == 0
    assert {len(frame) for frame in heard} == {FRAME}
    steps = [
        timestamp_distance(later.timestamp, earlier.timestamp) for (_, earlier), (_, later) in pairwise(remote.packets)
    ]
    assert all(step % FRAME == 0 and step > 0 for step in steps)
    assert sum(step == FRAME for step in steps) >= len(steps) - 3  # a busy machine may make us skip
    assert stranger.packets == []
    desk.session.close()
    remote.close()
    stranger.close()

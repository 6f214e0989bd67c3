"""A session and a remote party on loopback: real sockets, the real clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import psutil
import pytest
from tests.media.wire import EVENT_TYPE, HOST, PCMU_SILENCE, Desk, RemoteParty, direction, until

from offhook.audio.dtmf import ToneSender, key_tone
from offhook.media.clock import MOST_DUE, MediaClock
from offhook.media.events import Drained, DtmfReceived, MediaEvent, MediaTimedOut, PathChanged, Played, SpeechSent
from offhook.media.inbound import ECHO_S
from offhook.media.ports import PortPool
from offhook.media.session import MediaSession
from offhook.model.audio import PCMU_8K, Encoding
from offhook.model.errors import LocalProtocolError
from offhook.rtp.packet import sequence_distance, timestamp_distance
from offhook.rtp.rtcp import parse_report

LOUD = bytes([0x10, 0x90]) * 80
"""A frame of a strong 4 kHz tone: far above speech level."""


@asynccontextmanager
async def call(**options: Any) -> AsyncIterator[tuple[Desk, RemoteParty]]:
    remote = RemoteParty()
    desk = Desk(**options)
    try:
        yield desk, remote
    finally:
        desk.session.close()
        remote.close()


async def speak(remote: RemoteParty, to: tuple[str, int], frames: int, payload: bytes = LOUD) -> None:
    """The remote party talks in real time."""
    due = time.monotonic()
    for _ in range(frames):
        remote.send(payload, to)
        due += 0.02
        await asyncio.sleep(max(0.0, due - time.monotonic()))


async def test_rtp_flows_from_start_in_a_steady_cadence_with_nothing_to_say() -> None:
    async with call() as (desk, remote):
        desk.session.start(remote.agreement())
        await until(lambda: len(remote.packets) >= 30)
        packets = [packet for _, packet in remote.packets]
        assert {packet.payload for packet in packets} == {PCMU_SILENCE}
        assert [packet.marker for packet in packets[:3]] == [True, False, False]
        assert {packet.ssrc for packet in packets} == {0xAFFE}
        pairs = list(pairwise(packets))
        assert all(sequence_distance(later.sequence, earlier.sequence) == 1 for earlier, later in pairs)
        assert all(timestamp_distance(later.timestamp, earlier.timestamp) == 160 for earlier, later in pairs)
        span = remote.packets[29][0] - remote.packets[0][0]
        assert span == pytest.approx(0.58, abs=0.05)


async def test_the_greeting_is_sent_from_its_first_frame_to_the_declared_address() -> None:
    async with call() as (desk, remote):
        greeting = bytes(index % 100 for index in range(160 * 10))
        desk.session.play("greeting", greeting)
        desk.session.finish("greeting")
        assert desk.session.playing == "greeting"
        desk.session.start(remote.agreement())
        await until(lambda: desk.told(Drained))
        await until(lambda: len(remote.packets) >= 10)
        assert remote.audio[: len(greeting)] == greeting
        assert desk.told(Drained) == [Drained(item="greeting", played_ms=200)]
        assert desk.session.playing is None


async def test_speech_sent_is_told_at_the_first_frame_that_is_not_silence() -> None:
    async with call() as (desk, remote):
        desk.session.start(remote.agreement())
        desk.session.play("a", PCMU_SILENCE * 3 + LOUD * 2)
        desk.session.finish("a")
        await until(lambda: desk.told(Drained))
        await until(lambda: any(packet.payload == LOUD for _, packet in remote.packets))
        (sent,) = desk.told(SpeechSent)
        arrived = next(at for at, packet in remote.packets if packet.payload == LOUD)
        assert sent.item == "a"
        assert sent.at == pytest.approx(arrived, abs=0.01)
        assert sent.caller_speech_at == 0.0


async def test_flush_says_how_much_really_left() -> None:
    async with call() as (desk, remote):
        desk.session.start(remote.agreement())
        desk.session.play("first", LOUD * 100)
        desk.session.play("second", LOUD * 100)
        await until(lambda: sum(packet.payload == LOUD for _, packet in remote.packets) >= 5)
        played = desk.session.flush()
        await asyncio.sleep(0.06)
        heard = sum(packet.payload == LOUD for _, packet in remote.packets)
        assert played == [Played(item="first", played_ms=heard * 20), Played(item="second", played_ms=0)]
        assert desk.session.playing is None
        assert desk.told(Drained) == []


async def test_pause_sends_silence_and_keeps_what_waits() -> None:
    async with call() as (desk, remote):
        desk.session.start(remote.agreement())
        desk.session.play("a", LOUD * 20)
        await until(lambda: sum(packet.payload == LOUD for _, packet in remote.packets) >= 5)
        desk.session.pause()
        waiting = desk.session.queued_ms
        seen = len(remote.packets)
        await until(lambda: len(remote.packets) >= seen + 5)
        assert desk.session.queued_ms == waiting
        assert remote.packets[-1][1].payload == PCMU_SILENCE
        desk.session.resume()
        desk.session.finish("a")
        await until(lambda: desk.told(Drained))
        assert desk.told(Drained) == [Drained(item="a", played_ms=400)]


async def test_the_remote_party_is_heard_frame_by_frame() -> None:
    async with call() as (desk, remote):
        heard: list[bytes] = []
        tapped: list[tuple[bytes, bytes]] = []
        desk.session.connect(heard.append)
        desk.session.tap(lambda frame_in, frame_out: tapped.append((frame_in, frame_out)))
        desk.session.start(remote.agreement())
        await speak(remote, desk.address, 15)
        await until(lambda: heard.count(LOUD) >= 15)
        assert heard.count(LOUD) == 15
        first = heard.index(LOUD)
        assert heard[first : first + 15] == [LOUD] * 15
        assert [frame_in for frame_in, _ in tapped] == heard
        assert desk.session.last_speech_at > 0


async def test_a_sink_that_is_gone_hears_nothing() -> None:
    async with call() as (desk, remote):
        heard: list[bytes] = []
        desk.session.connect(heard.append)
        desk.session.start(remote.agreement())
        await until(lambda: heard)
        desk.session.disconnect(heard.append)
        count = len(heard)
        await until(lambda: len(remote.packets) > count + 5)
        assert len(heard) == count


async def test_a_leg_can_be_relayed_into_another() -> None:
    async with call() as (desk, remote):
        desk.session.start(remote.agreement())
        for _ in range(3):
            desk.session.relay(LOUD)
        await until(lambda: sum(packet.payload == LOUD for _, packet in remote.packets) == 3)


async def test_digits_are_received_once_each() -> None:
    async with call() as (desk, remote):
        desk.session.start(remote.agreement())
        for event in (5, 11):
            for duration, flags in ((160, 0), (320, 0), (480, 0x80), (480, 0x80), (480, 0x80)):
                payload = bytes([event, flags | 10]) + duration.to_bytes(2, "big")
                remote.send(payload, desk.address, payload_type=EVENT_TYPE, advance=0)
            remote.timestamp += 1600
        await until(lambda: len(desk.told(DtmfReceived)) == 2)
        assert desk.told(DtmfReceived) == [
            DtmfReceived(digit="5", duration_ms=60),
            DtmfReceived(digit="#", duration_ms=60),
        ]


async def test_digits_are_sent_in_the_cadence_of_the_audio() -> None:
    async with call() as (desk, remote):
        desk.session.start(remote.agreement())
        desk.session.send_dtmf("7", duration_ms=100)
        await until(lambda: sum(packet.payload_type == EVENT_TYPE for _, packet in remote.packets) == 7)
        await until(lambda: remote.packets[-1][1].payload_type == 0)
        events = [packet for _, packet in remote.packets if packet.payload_type == EVENT_TYPE]
        assert [packet.marker for packet in events] == [True] + [False] * 6
        assert len({packet.timestamp for packet in events}) == 1
        assert [int.from_bytes(packet.payload[2:], "big") for packet in events] == [160, 320, 480, 640, 800, 800, 800]
        assert [packet.payload[1] >= 0x80 for packet in events] == [False] * 4 + [True] * 3
        sequences = [packet.sequence for _, packet in remote.packets]
        assert [sequence_distance(b, a) for a, b in pairwise(sequences)] == [1] * (len(sequences) - 1)


async def test_digits_go_and_come_as_tones_where_no_events_were_agreed() -> None:
    async with call() as (desk, remote):
        desk.session.start(remote.agreement(dtmf_payload_type=None))
        assert not desk.session.send_dtmf("7")
        assert desk.session.send_dtmf("7", duration_ms=100, way="inband")
        await until(lambda: key_tone("7", 100, PCMU_8K) in remote.audio)
        sender = ToneSender(PCMU_8K)
        sender.queue("1")
        await asyncio.sleep(ECHO_S)  # what comes earlier might be the echo of ours
        while (frame := sender.next_frame()) is not None:
            await speak(remote, desk.address, 1, frame)
        await until(lambda: desk.told(DtmfReceived))
        ((digit, source),) = [(told.digit, told.source) for told in desk.told(DtmfReceived)]
        assert (digit, source) == ("1", "inband")


async def test_silence_of_the_remote_party_times_out_once() -> None:
    async with call(media_timeout_s=0.3) as (desk, remote):
        desk.session.start(remote.agreement())
        await until(lambda: desk.told(MediaTimedOut))
        await asyncio.sleep(0.3)
        assert desk.told(MediaTimedOut) == [MediaTimedOut(after_s=0.3)]


async def test_a_leg_on_hold_neither_sends_nor_times_out() -> None:
    async with call(media_timeout_s=0.2) as (desk, remote):
        desk.session.start(remote.agreement(**direction("inactive")))
        desk.session.play("a", LOUD * 5)
        await asyncio.sleep(0.4)
        assert remote.packets == []
        assert desk.told(MediaTimedOut) == []
        desk.session.update(remote.agreement())
        await until(lambda: sum(packet.payload == LOUD for _, packet in remote.packets) == 5)
        assert remote.packets[0][1].marker


async def test_a_source_behind_nat_is_learned_and_then_sent_to() -> None:
    async with call() as (desk, remote):
        elsewhere = RemoteParty()
        desk.session.start(remote.agreement(remote=elsewhere.address), signalling_host=HOST)
        await until(lambda: elsewhere.packets)
        await speak(remote, desk.address, 6)
        await until(lambda: remote.packets)
        assert desk.told(PathChanged) == [PathChanged(remote=remote.address)]
        assert desk.session.remote == remote.address
        elsewhere.close()


async def test_strangers_are_dropped_and_counted_once_locked() -> None:
    async with call() as (desk, remote):
        stranger = RemoteParty()
        heard: list[bytes] = []
        desk.session.connect(heard.append)
        desk.session.start(remote.agreement(), signalling_host=HOST)
        await speak(remote, desk.address, 5)
        for _ in range(8):
            stranger.send(bytes(160), desk.address)
        await speak(remote, desk.address, 5)

        def counted() -> tuple[int, int]:
            stats = desk.session.stats()
            return (0, 0) if stats is None else (stats.packets_received, stats.packets_from_strangers)

        await until(lambda: counted() == (10, 8))
        await until(lambda: heard.count(LOUD) > 5)  # what came after them; on a busy machine some of it too late
        assert bytes(160) not in heard
        assert stranger.packets == []
        stranger.close()


async def test_a_flood_from_strangers_is_counted_and_changes_no_cadence() -> None:
    async with call() as (desk, remote):
        stranger = RemoteParty()
        desk.session.start(remote.agreement(), signalling_host=HOST)
        await speak(remote, desk.address, 5)
        steady_from = len(remote.packets)
        for _ in range(10):
            for _ in range(200):
                stranger.send_raw(bytes(12), desk.address)
            await speak(remote, desk.address, 1)
        await until(lambda: len(remote.packets) >= steady_from + 12)
        stats = desk.session.stats()
        assert stats is not None
        assert stats.packets_from_strangers + stats.packets_malformed >= 100
        assert desk.clock.faults == 0
        packets = [packet for _, packet in remote.packets]
        assert all(
            timestamp_distance(later.timestamp, earlier.timestamp) == 160 for earlier, later in pairwise(packets)
        )
        stranger.close()


async def test_what_came_before_the_start_is_not_heard_later() -> None:
    async with call() as (desk, remote):
        heard: list[bytes] = []
        desk.session.connect(heard.append)
        await speak(remote, desk.address, 10)
        desk.session.start(remote.agreement())
        await until(lambda: len(heard) >= 20)
        assert set(heard) == {PCMU_SILENCE}


async def test_a_packet_is_timed_by_its_arrival_although_it_waits_for_the_tick() -> None:
    async with call() as (desk, remote):
        desk.session.start(remote.agreement())
        errors_s = []
        for _ in range(9):
            remote.send(LOUD, desk.address)
            sent_at = time.monotonic()
            await asyncio.sleep(0.047)  # each time at another phase of the tick
            errors_s.append(abs(desk.session.last_speech_at - sent_at))
        assert sorted(errors_s)[4] < 0.001


async def test_goodbye_is_said_by_rtcp_with_the_figures() -> None:
    async with call() as (desk, remote):
        desk.session.start(remote.agreement())
        await speak(remote, desk.address, 5)
        desk.session.close()
        await until(lambda: remote.control)
        report = parse_report(remote.control[-1])
        assert report is not None
        assert report.goodbye is not None
        assert report.sender is not None
        assert report.sender.octets == 160 * report.sender.packets
        assert [block.ssrc for block in report.blocks] == [remote.ssrc]


async def test_a_new_codec_takes_over_what_waits() -> None:
    async with call() as (desk, remote):
        desk.session.start(remote.agreement(**direction("inactive")))
        desk.session.play("a", b"\x80" * 160)  # the loudest positive PCMU value
        desk.session.update(remote.agreement(encoding=Encoding.PCMA, payload_type=8, receive_payload_type=8))
        await until(lambda: len(remote.packets) >= 2)
        assert remote.packets[0][1].payload_type == 8
        assert remote.packets[0][1].payload == b"\xaa" * 160
        assert remote.packets[1][1].payload == b"\xd5" * 160


async def test_nothing_raises_when_nobody_listens() -> None:
    async with call() as (desk, remote):
        desk.session.start(remote.agreement(remote=(HOST, 9), remote_rtcp=(HOST, 9)))
        await asyncio.sleep(0.2)
        stats = desk.session.stats()
        assert stats is not None
        assert stats.packets_sent >= 8
        assert desk.clock.faults == 0


@pytest.mark.parametrize("address", [("0.0.0.0", 4000), ("media.example.com", 4000), (HOST, 0)])
async def test_an_address_that_names_no_host_is_not_sent_to(address: tuple[str, int]) -> None:
    async with call() as (desk, remote):
        desk.session.start(remote.agreement(remote=address))
        await asyncio.sleep(0.1)
        stats = desk.session.stats()
        assert stats is not None
        assert (stats.packets_sent, stats.send_failures) == (0, 0)


async def test_ipv6_works_alike() -> None:
    remote = RemoteParty("::1")
    desk = Desk(host="::1")
    heard: list[bytes] = []
    desk.session.connect(heard.append)
    desk.session.start(remote.agreement(), signalling_host="::1")
    await speak(remote, ("::1", desk.session.local_port), 6)
    await until(lambda: LOUD in heard and remote.packets)
    desk.session.close()
    remote.close()


async def test_commands_out_of_order_are_our_own_fault() -> None:
    async with call() as (desk, remote):
        broken: list[Callable[[], object]] = [
            lambda: desk.session.update(remote.agreement()),
            lambda: desk.session.send_dtmf("1"),
        ]
        for command in broken:
            with pytest.raises(LocalProtocolError):
                command()
        desk.session.start(remote.agreement())
        with pytest.raises(LocalProtocolError):
            desk.session.start(remote.agreement())


TALKS_TO_JUDGE = 8


async def test_a_stall_of_the_loop_leaves_a_hole_in_what_is_sent_and_none_in_what_is_heard() -> None:
    """What is heard is judged by the first talk in which no other program makes it late; the rest holds in each."""
    heard_of_50 = list[int]()
    while max(heard_of_50, default=0) < 48:
        assert len(heard_of_50) < TALKS_TO_JUDGE, heard_of_50
        heard_of_50.append(await _stalled_talk())
        assert heard_of_50[-1] <= 50


async def _stalled_talk() -> int:
    """50 frames, 10 of them while the loop stalls; how many were heard."""
    async with call(most_due=MOST_DUE) as (desk, remote):
        heard: list[bytes] = []
        tapped: list[bytes] = []
        desk.session.connect(heard.append)
        desk.session.tap(lambda frame_in, frame_out: tapped.append(frame_in))
        desk.session.start(remote.agreement())
        await speak(remote, desk.address, 20)
        for _ in range(10):
            remote.send(LOUD, desk.address)
            time.sleep(0.02)  # noqa: ASYNC251 - the loop is to stall
        await speak(remote, desk.address, 20)
        await until(lambda: LOUD in heard and LOUD not in heard[-20:])
        assert heard == tapped
        assert desk.clock.skipped_ticks >= 5
        stats = desk.session.stats()
        assert stats is not None
        assert stats.skipped_ticks == desk.clock.skipped_ticks
        first, last = remote.packets[0][1], remote.packets[-1][1]
        ticks = timestamp_distance(last.timestamp, first.timestamp) // 160
        assert ticks == len(remote.packets) - 1 + stats.skipped_ticks
        assert sequence_distance(last.sequence, first.sequence) == len(remote.packets) - 1
        return heard.count(LOUD)


async def test_a_remote_party_without_events_is_said_so() -> None:
    async with call() as (desk, remote):
        desk.session.start(remote.agreement(dtmf_payload_type=None))
        assert desk.session.send_dtmf("1") is False


async def test_closing_from_within_an_event_is_the_last_event() -> None:
    remote, told = RemoteParty(), list[MediaEvent]()
    pool, clock = PortPool(10_000, 15_999), MediaClock()

    def hang_up(event: MediaEvent) -> None:
        told.append(event)
        session.close()

    session = MediaSession(clock=clock, pool=pool, local_host=HOST, ssrc=1, listener=hang_up)
    for item in "abc":
        session.finish(item)
    session.start(remote.agreement())
    await until(lambda: told)
    assert told == [Drained(item="a", played_ms=0)]
    assert (clock.faults, len(clock), pool.in_use) == (0, 0, 0)
    remote.close()


async def test_nothing_is_left_behind_after_close() -> None:
    process = psutil.Process()
    remote = RemoteParty()
    before = process.num_fds()
    for _ in range(20):
        desk = Desk()
        desk.session.start(remote.agreement())
        desk.session.play("a", LOUD * 100)
        await asyncio.sleep(0.01)
        desk.session.close()
        desk.session.close()
        assert len(desk.clock) == 0
        assert desk.pool.in_use == 0
    told = len(desk.events)
    await asyncio.sleep(0.05)
    assert len(desk.events) == told
    assert process.num_fds() == before
    remote.close()


async def test_the_playout_delay_is_told_as_of_the_last_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    async with call() as (desk, remote):
        desk.session.start(remote.agreement())
        await speak(remote, desk.address, 10)
        now = time.monotonic()
        told = desk.session.stats()
        with monkeypatch.context() as later:
            later.setattr(time, "monotonic", lambda: now + 1)
            assert desk.session.stats() == told
        assert told is not None
        assert told.playout_delay_ms > 0

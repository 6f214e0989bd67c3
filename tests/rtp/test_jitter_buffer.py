from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.rtp.captures import udp_payloads
from tests.rtp.network import FRAME, QUIET, Sent, audio, deliver, impair, listener, play, position, stream
from tests.vectors.location import vectors

from offhook.rtp.jitter_buffer import LEAST_DELAY_MS, MAX_PIECES, MOST_DELAY_MS, RUNNING_MS, Gap, JitterBuffer
from offhook.rtp.packet import parse_packet
from offhook.rtp.reception import Reception

QUIET_FRAME = bytes([QUIET]) * FRAME


def delays_between(heard_delays: list[float], first: float, last: float) -> list[float]:
    """Delays of the ticks from ``first`` to ``last`` seconds after the start."""
    return heard_delays[round(first * 50) : round(last * 50)]


@pytest.mark.parametrize("phase", [0.0, 0.003, 0.01, 0.0199])
def test_a_clean_stream_comes_out_as_it_was_sent(phase: float) -> None:
    buffer = listener()
    heard = play(stream(200), buffer=buffer, phase=phase)
    assert heard.running() == [audio(index * FRAME, FRAME) for index in range(200)]
    assert (buffer.late, buffer.left_out, buffer.inserted, buffer.overflows) == (0, 0, 0, 0)


@pytest.mark.parametrize("phase", [0.0, 0.003, 0.01, 0.0199])
def test_it_starts_with_the_least_delay(phase: float) -> None:
    heard = play(stream(100), phase=phase)
    playing = delays_between(heard.delays_ms, 0.2, 1.8)
    assert all(LEAST_DELAY_MS - 11 <= delay <= LEAST_DELAY_MS + 11 for delay in playing)


@pytest.mark.parametrize("ptime_ms", [10, 20, 30, 40, 60])
def test_any_packet_time_is_played_in_frames(ptime_ms: int) -> None:
    seconds = 6
    heard = play(stream(seconds * 1000 // ptime_ms, ptime_ms=ptime_ms))
    assert heard.count(Gap.LOST) == 0
    assert heard.audio == [audio(index * FRAME, FRAME) for index in range(seconds * 50)]


def test_packets_that_overtook_one_another_are_put_in_order() -> None:
    packets = stream(100)
    swapped = [packet for first, second in zip(packets[::2], packets[1::2], strict=True) for packet in (second, first)]
    mixed = [replace(packet, at=100 + index * 0.02) for index, packet in enumerate(swapped)]
    assert play(mixed).audio == [audio(index * FRAME, FRAME) for index in range(100)]


def test_doubled_packets_are_heard_once() -> None:
    heard = play(impair(stream(300), dup=30, delay=40, jitter=10))
    assert heard.audio == [audio(index * FRAME, FRAME) for index in range(300)]


@pytest.mark.parametrize("seed", range(8))
def test_three_percent_loss_and_jitter_cost_little_more_than_what_was_lost(seed: int) -> None:
    packets = stream(1500)
    arrived = impair(packets, loss=3, delay=40, jitter=30, seed=seed)
    buffer = listener()
    heard = play(arrived, buffer=buffer)
    missing = len(packets) - len(arrived)
    assert len(heard.audio) >= len(packets) - missing - 6
    # The length of what is heard is the length of what was sent, ± 40 ms.
    assert abs(len(heard.running()) - len(packets)) <= 2
    assert Gap.SILENT not in heard.running()


@pytest.mark.parametrize("seed", range(8))
def test_positions_never_run_backwards(seed: int) -> None:
    heard = play(impair(stream(1000), loss=5, delay=60, jitter=50, dup=5, burst=3, seed=seed))
    assert all(earlier < later for earlier, later in pairwise(heard.positions))


def test_the_delay_grows_at_once_and_shrinks_within_five_seconds_after_the_jitter_ends() -> None:
    packets = stream(1250)
    rough = impair(packets[:500], delay=60, jitter=55)
    calm = [replace(packet, at=packet.at + 0.06) for packet in packets[500:]]
    heard = play(sorted([*rough, *calm], key=lambda packet: packet.at))
    # Once the jitter was seen for a second, hardly anything comes too late.
    rough_frames = [frame for _, frame in heard.frames[75:500]]
    assert sum(not isinstance(frame, bytes) for frame in rough_frames) <= 6
    assert max(delays_between(heard.delays_ms, 5, 9)) >= 80
    assert max(delays_between(heard.delays_ms, 15, 24)) < 80
    assert max(delays_between(heard.delays_ms, 17, 24)) <= LEAST_DELAY_MS + 21


def test_a_pause_in_the_jitter_is_used_to_catch_up_at_once() -> None:
    quiet = stream(1250, payload=lambda index: QUIET_FRAME)
    rough = impair(quiet[:500], delay=100, jitter=95)
    calm = [replace(packet, at=packet.at + 0.1) for packet in quiet[500:]]
    heard = play(sorted([*rough, *calm], key=lambda packet: packet.at))
    assert max(delays_between(heard.delays_ms, 5, 9)) >= 150
    assert max(delays_between(heard.delays_ms, 14.2, 24)) <= LEAST_DELAY_MS + 21


@pytest.mark.parametrize("ppm", [200.0, -200.0])
def test_a_drifting_clock_is_followed(ppm: float) -> None:
    buffer = listener()
    heard = play(stream(50 * 400, ppm=ppm), buffer=buffer)
    changes = buffer.left_out if ppm > 0 else buffer.inserted
    assert 3 <= changes <= 5  # 80 ms in 400 s are four frames
    assert len(heard.audio) == 50 * 400 - buffer.left_out
    assert all(LEAST_DELAY_MS - 22 <= delay <= LEAST_DELAY_MS + 22 for delay in delays_between(heard.delays_ms, 1, 399))


def test_a_stall_of_the_network_delays_and_loses_hardly_anything() -> None:
    packets = stream(600)
    stalled = [replace(packet, at=max(packet.at, 103.0)) if packet.at > 102.7 else packet for packet in packets]
    heard = play(stalled)
    assert len(set(range(0, 200 * FRAME, FRAME)) - set(heard.positions)) <= 1
    assert max(delays_between(heard.delays_ms, 0, 11.5)) <= 400
    assert max(delays_between(heard.delays_ms, 9, 11)) < 80


def test_packets_that_waited_for_an_address_do_not_delay_the_call() -> None:
    """The kernel holds the first packets of a call back until ARP is answered; then they come all at once."""
    packets = stream(150, payload=lambda index: QUIET_FRAME)
    held = [replace(packet, at=max(packet.at, 100.13)) for packet in packets]
    heard = play(held)
    assert max(delays_between(heard.delays_ms, 0, 0.3)) > 100
    assert max(delays_between(heard.delays_ms, 0.6, 2.9)) <= LEAST_DELAY_MS + 21


def test_lost_packets_keep_their_place_in_time() -> None:
    packets = stream(100)
    heard = play([packet for index, packet in enumerate(packets) if index not in (40, 60, 61)])
    frames = heard.running()
    assert len(frames) == 100
    assert [index for index, frame in enumerate(frames) if frame is Gap.LOST] == [40, 60, 61]


def test_half_a_frame_that_came_is_played() -> None:
    packets = stream(100, ptime_ms=10)
    frames = play([packet for index, packet in enumerate(packets) if index != 41]).running()
    assert frames[20] == audio(20 * FRAME, FRAME // 2)
    assert frames[21] == audio(21 * FRAME, FRAME)


def test_a_sender_that_pauses_is_silence_and_not_loss() -> None:
    before = stream(50)
    after = stream(50, start=103.0, sequence=65_550 - 65_536 + 0, timestamp=0xFFFF_F000 + 150 * FRAME - (1 << 32))
    frames = play([*before, *after]).running()
    pause = frames[50:150]
    assert len(frames) == pytest.approx(200, abs=2)
    assert sum(frame is Gap.STALLED for frame in pause) == RUNNING_MS // 20
    assert Gap.LOST not in pause
    assert [frame for frame in frames if isinstance(frame, bytes)] == [
        audio(index * FRAME, FRAME) for index in range(50)
    ] * 2


def test_comfort_noise_and_events_are_a_pause_and_not_loss() -> None:
    packets = stream(150)
    packets[30:100] = [replace(packet, payload=None) for packet in packets[30:100]]
    frames = play(packets).running()
    assert Gap.LOST not in frames
    assert frames[30:100] == [Gap.STALLED] * (RUNNING_MS // 20) + [Gap.SILENT] * (70 - RUNNING_MS // 20)
    assert frames[100] == audio(100 * FRAME, FRAME)


def test_a_sender_that_left_out_a_moment_is_faded_over_it() -> None:
    packets = stream(100)
    after = stream(50, start=102.14, sequence=64, timestamp=0xFFFF_F000 + 107 * FRAME - (1 << 32))
    frames = play([*packets, *after]).running()
    assert frames[100:107] == [Gap.STALLED] * 7
    assert len(frames) == 157


def test_a_new_source_is_taken_up_at_once() -> None:
    other = stream(50, start=101.0, ssrc=2, sequence=9, timestamp=5)
    heard = play([*stream(50), *other])
    assert len(heard.audio) >= 95
    assert heard.audio[-1] == audio(49 * FRAME, FRAME)


def test_a_jump_of_the_timestamp_begins_a_new_timeline() -> None:
    buffer = listener()
    after = stream(50, start=101.0, sequence=14, timestamp=1_000_000_000)
    heard = play([*stream(50), *after], buffer=buffer)
    assert buffer.breaks == 1
    assert len(heard.audio) >= 95
    assert heard.audio[-1] == audio(49 * FRAME, FRAME)


def test_one_packet_with_a_wrong_timestamp_is_passed_over() -> None:
    packets = stream(100)
    packets[50] = replace(packets[50], timestamp=12345)
    buffer = listener()
    heard = play(packets, buffer=buffer)
    assert buffer.breaks == 0
    assert len(heard.audio) == 99


def test_skipped_ticks_move_the_timeline_on() -> None:
    buffer, reception = listener(), Reception()
    packets = stream(100)
    for packet in packets[:20]:
        deliver(buffer, reception, packet)
        buffer.pull(packet.at + 0.001)
    last = buffer.pull(packets[20].at)
    assert isinstance(last, bytes)
    for packet in packets[20:31]:
        deliver(buffer, reception, packet)
    buffer.skip(9)
    assert buffer.pull(packets[30].at) == audio(position(last) + 10 * FRAME, FRAME)


def test_memory_is_bounded_when_nobody_pulls() -> None:
    buffer, reception = listener(), Reception()
    for packet in stream(5000, ptime_ms=10):
        deliver(buffer, reception, replace(packet, at=100.0))
        assert buffer.held_pieces <= MAX_PIECES


def test_the_delay_never_grows_beyond_what_a_conversation_bears() -> None:
    buffer = listener()
    play(impair(stream(500), delay=1000, jitter=1000), buffer=buffer)
    assert buffer.target_delay_ms <= MOST_DELAY_MS


def test_captured_speech_in_packets_of_30_ms_comes_out_whole() -> None:
    datagrams = udp_payloads(vectors("pcap", "sipp", "g711a.pcap").read_bytes())
    packets = [packet for packet in map(parse_packet, datagrams) if packet is not None]
    assert {len(packet.payload) for packet in packets} == {240}
    sent = [
        Sent(
            at=100 + index * 0.03,
            sequence=packet.sequence,
            timestamp=packet.timestamp,
            payload=packet.payload,
            marker=packet.marker,
            ssrc=packet.ssrc,
        )
        for index, packet in enumerate(packets)
    ]
    whole = b"".join(packet.payload for packet in packets)
    heard = b"".join(play(sent).audio)
    assert heard == whole[: len(heard)]
    assert len(whole) - len(heard) < FRAME


HOSTILE = st.builds(
    Sent,
    at=st.floats(0, 100),
    sequence=st.integers(0, 0xFFFF),
    timestamp=st.integers(0, 0xFFFFFFFF),
    payload=st.one_of(
        st.none(), st.binary(max_size=40), st.sampled_from([bytes(n) for n in (80, 160, 161, 1600, 1601)])
    ),
    marker=st.booleans(),
    ssrc=st.integers(1, 2),
)
NEARLY_HONEST = st.builds(
    lambda index, shift, late, length: Sent(
        at=100 + index * 0.02 + late / 1000,
        sequence=index & 0xFFFF,
        timestamp=(index * 160 + shift) & 0xFFFFFFFF,
        payload=bytes(length),
    ),
    st.integers(0, 300),
    st.integers(-200, 200),
    st.integers(0, 500),
    st.integers(1, 400),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(HOSTILE, NEARLY_HONEST), max_size=120))
def test_whatever_arrives_a_tick_gives_at_most_one_frame_and_memory_is_bounded(packets: list[Sent]) -> None:
    buffer, reception = listener(), Reception()
    for index, packet in enumerate(packets):
        deliver(buffer, reception, packet)
        for late in (0.0, 0.02):
            frame = buffer.pull(100 + index * 0.02 + late)
            assert isinstance(frame, Gap) or 0 < len(frame) <= FRAME
        assert buffer.held_pieces <= MAX_PIECES + 10


def test_after_a_loss_the_buffer_says_what_follows_it() -> None:
    packets = stream(20, payload=lambda index: bytes([index]) * FRAME)
    lost = {5, 9, 10, 11}
    buffer, reception = listener(), Reception()
    told: list[list[int] | None] = []
    for tick in range(30):
        for packet in packets[tick : tick + 1]:
            if tick not in lost:
                deliver(buffer, reception, packet)
        frame = buffer.pull(packets[0].at + 0.01 + tick * 0.02)
        if frame is Gap.LOST:
            told.append(None if buffer.following is None else list(buffer.following[:1]))
    # Of three in a row the first two are over before more has come.
    assert told == [[6], [12]]


def test_an_empty_buffer_is_silent() -> None:
    buffer: JitterBuffer[bytes] = JitterBuffer(quiet=lambda frame: True)
    assert [buffer.pull(tick * 0.02) for tick in range(50)] == [Gap.SILENT] * 50

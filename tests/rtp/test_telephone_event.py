from __future__ import annotations

import random
import struct
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.rtp.captures import udp_payloads
from tests.vectors.location import vectors

from offhook.rtp.packet import parse_packet
from offhook.rtp.telephone_event import (
    DIGIT_GAP_MS,
    DIGITS,
    LOST_END_S,
    MAX_QUEUED_DIGITS,
    STRAGGLING_S,
    DigitPressed,
    DtmfReceiver,
    DtmfSender,
)

FRAME = 160


def event(code: int, duration: int, *, end: bool = False) -> bytes:
    return struct.pack("!BBH", code, 0x8A if end else 0x0A, duration)


class Packet(NamedTuple):
    timestamp: int
    payload: bytes
    sequence: int = -1
    """-1: the place in the list given to ``receive``."""


def press(digit: int, timestamp: int, *, updates: int = 5, ends: int = 3, step: int = FRAME) -> list[Packet]:
    """The packets of one key press."""
    growing = [Packet(timestamp, event(digit, step * (index + 1))) for index in range(updates)]
    return growing + [Packet(timestamp, event(digit, step * updates, end=True))] * ends


def numbered(packets: list[Packet], first: int = 0) -> list[Packet]:
    """As they were sent, to be shuffled afterwards."""
    return [packet._replace(sequence=first + index) for index, packet in enumerate(packets)]


def receive(packets: list[Packet], receiver: DtmfReceiver | None = None, *, start: float = 0.0) -> list[DigitPressed]:
    receiver = receiver or DtmfReceiver()
    told: list[DigitPressed] = []
    now = start
    for place, (timestamp, payload, sequence) in enumerate(packets):
        now += 0.02
        told += receiver.receive((place if sequence < 0 else sequence) & 0xFFFF, timestamp & 0xFFFFFFFF, payload, now)
    return told + receiver.expire(now + 2 * LOST_END_S)


def digits(told: list[DigitPressed]) -> str:
    return "".join(pressed.digit for pressed in told)


# ── received ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_key_press_is_told_once_with_its_duration() -> None:
    assert receive(press(5, 1000)) == [DigitPressed(digit="5", duration_ms=100)]


def test_it_is_told_at_the_first_end_packet() -> None:
    receiver = DtmfReceiver()
    packets = press(5, 1000, updates=2)
    told = [receiver.receive(at, packet.timestamp, packet.payload, 0.0) for at, packet in enumerate(packets)]
    assert [len(pressed) for pressed in told] == [0, 0, 1, 0, 0]
    assert not receiver.pending


def test_all_sixteen_events_have_their_digit() -> None:
    packets = [packet for code in range(16) for packet in press(code, 1000 + code * 2000)]
    assert digits(receive(packets)) == "0123456789*#ABCD"


def test_the_same_digit_twice_is_two_digits() -> None:
    assert digits(receive(press(1, 1000) + press(1, 3000))) == "11"


@pytest.mark.parametrize("ends", [0, 1, 2])
def test_lost_ends_lose_no_digit(ends: int) -> None:
    packets = press(1, 1000, ends=ends) + press(2, 4000, ends=ends) + press(3, 7000, ends=ends)
    told = receive(packets)
    assert told == [DigitPressed(digit=digit, duration_ms=100) for digit in "123"]


def test_a_digit_whose_end_was_lost_is_told_after_a_while_and_not_before() -> None:
    receiver = DtmfReceiver()
    receiver.receive(5, 1000, event(9, 320), 10.0)
    assert receiver.pending
    assert receiver.expire(10.0 + LOST_END_S - 0.01) == []
    assert receiver.expire(10.0 + LOST_END_S) == [DigitPressed(digit="9", duration_ms=40)]
    assert receiver.expire(99.0) == []
    # Its end comes after all: it is no second digit.
    assert receiver.receive(6, 1000, event(9, 480, end=True), 11.0) == []


@pytest.mark.parametrize("kept", [0, 2, 4, 5, 7])
def test_any_one_packet_is_enough(kept: int) -> None:
    assert digits(receive([press(8, 1000)[kept]])) == "8"


def test_a_rising_duration_is_one_digit() -> None:
    packets = [Packet(1000, event(4, duration)) for duration in range(160, 16_000, 160)]
    assert receive(packets) == [DigitPressed(digit="4", duration_ms=1980)]


def test_packets_out_of_order_are_one_digit() -> None:
    packets = numbered(press(3, 1000))
    shuffled = [packets[index] for index in (1, 0, 3, 2, 5, 4, 6, 7)]
    assert digits(receive(shuffled)) == "3"


def test_stragglers_of_the_digit_before_are_no_digit() -> None:
    first, second = numbered(press(1, 1000)), numbered(press(2, 3000), first=8)
    mixed = [*first[:6], *second[:3], first[6], *second[3:], first[7]]
    assert digits(receive(mixed)) == "12"


def test_a_long_press_in_segments_is_one_digit() -> None:
    # §2.5.1.3: the duration field is full, the next segment begins where it ended.
    first = [Packet(1000, event(6, duration)) for duration in (160, 30_000, 65_535)]
    second = [Packet(1000 + 65_535, event(6, duration)) for duration in (160, 8000)]
    ends = [Packet(1000 + 65_535, event(6, 8000, end=True))] * 3
    assert receive(first + second + ends) == [DigitPressed(digit="6", duration_ms=(65_535 + 8000) // 8)]


def test_timestamps_may_wrap_between_digits() -> None:
    assert digits(receive(press(1, 0xFFFFFF00) + press(2, 0x100000700))) == "12"


def test_another_clock_tells_the_true_duration() -> None:
    told = receive(press(5, 1000, step=320), DtmfReceiver(clock_hz=16_000))
    assert told == [DigitPressed(digit="5", duration_ms=100)]


def test_a_sender_that_restarts_its_clock_is_heard_again() -> None:
    assert digits(receive(press(1, 500_000_000) + press(2, 7))) == "12"


# ── a bad network ────────────────────────────────────────────────────────────────────────────────────────


def test_a_digit_overtaken_by_the_next_is_told_before_it() -> None:
    first, second = numbered(press(1, 1000)), numbered(press(2, 2500), first=12)
    assert digits(receive([second[0], first[7], *second[1:]])) == "12"
    assert digits(receive([second[0], first[0], second[1], first[7], *second[2:]])) == "12"


def test_a_digit_whose_turn_has_passed_is_not_told_out_of_order() -> None:
    first, second = numbered(press(1, 1000)), numbered(press(2, 2500), first=12)
    third = numbered(press(3, 4000), first=24)
    assert digits(receive([*second, first[7]])) == "2"
    assert digits(receive([*second, third[0], first[7], *third[1:]])) == "23"


def test_the_end_may_overtake_the_updates() -> None:
    packets = numbered(press(7, 1000))
    assert digits(receive([packets[5], *packets[:5], *packets[6:]])) == "7"


@pytest.mark.parametrize("gap_ms", [40, 60, 80])
def test_the_same_key_again_after_a_short_pause_whatever_is_lost(gap_ms: int) -> None:
    first = numbered(press(1, 1000, updates=3))
    second = numbered(press(1, 1000 + 480 + gap_ms * 8, updates=3), first=5 + gap_ms // 20)
    for left_of_first in range(1, 2 ** len(first), 3):
        for left_of_second in range(1, 2 ** len(second), 3):
            kept = [packet for index, packet in enumerate(first) if left_of_first >> index & 1]
            kept += [packet for index, packet in enumerate(second) if left_of_second >> index & 1]
            assert digits(receive(kept)) == "11"


def test_a_digit_told_for_its_silence_is_not_told_again_when_the_network_is_back() -> None:
    receiver = DtmfReceiver()
    packets = numbered(press(5, 1000, updates=40))
    assert digits(receive(packets[:10], receiver)) == "5"
    assert receive(packets[30:], receiver, start=0.7) == []


@pytest.mark.parametrize("seed", range(20))
def test_ten_digits_at_5_percent_loss_and_30_ms_of_jitter(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(50):
        keys = "".join(rng.choices(DIGITS, k=10))
        assert over_a_bad_network(keys, rng, duration_ms=100, loss=0.05, burst=1) == keys


def test_bursts_of_loss_invent_and_double_nothing_and_seldom_cost_a_digit() -> None:
    rng = random.Random(3)
    whole = 0
    for _ in range(1000):
        keys = "".join(rng.choices(DIGITS, k=10))
        told = over_a_bad_network(keys, rng, duration_ms=250, loss=0.05, burst=3)
        assert is_part_of(told, keys)
        whole += told == keys
    assert whole >= 990


def over_a_bad_network(keys: str, rng: random.Random, *, duration_ms: int, loss: float, burst: float) -> str:
    """What is left of ``keys`` sent by ``DtmfSender``: 40 ± 30 ms of delay, Gilbert-Elliott loss as in impair.py."""
    sender = DtmfSender()
    sender.queue(keys, duration_ms)
    arriving, bad, tick = [], False, 0
    start, numbers = rng.randrange(2**32), rng.randrange(2**16)
    while not sender.idle:
        payload = sender.next_payload((start + tick * FRAME) & 0xFFFFFFFF)
        bad = rng.random() >= 1 / burst if bad else rng.random() < loss / (1 - loss) / burst
        if payload is not None and not bad:
            at = tick * 0.02 + 0.04 + rng.uniform(-0.03, 0.03)
            arriving.append((at, (numbers + tick) & 0xFFFF, sender.timestamp, payload))
        tick += 1
    receiver = DtmfReceiver()
    told: list[DigitPressed] = []
    for at, sequence, timestamp, payload in sorted(arriving):
        told += receiver.expire(at) + receiver.receive(sequence, timestamp, payload, at)
    return digits(told + receiver.expire(1e6))


def is_part_of(told: str, keys: str) -> bool:
    """``told`` is ``keys`` with some left out: none doubled, none invented, none out of order."""
    rest = iter(keys)
    return all(digit in rest for digit in told)


# ── habits of other senders ──────────────────────────────────────────────────────────────────────────────


def counting_on(digit: int, timestamp: int, *, updates: int, step: int = FRAME, growing: bool = True) -> list[Packet]:
    """Each packet has its own timestamp, against §2.3's one for all."""
    packets = [
        Packet(timestamp + index * step, event(digit, step * (index + 1) if growing else 0)) for index in range(updates)
    ]
    end = packets[-1].timestamp
    return packets + [
        Packet(end + step * index, event(digit, step * updates if growing else 0, end=True)) for index in (1, 2, 3)
    ]


@pytest.mark.parametrize("step", [FRAME, 400])
@pytest.mark.parametrize("growing", [True, False])
def test_timestamps_that_count_on_within_an_event(step: int, growing: bool) -> None:
    first = numbered(counting_on(1, 1000, updates=5, step=step, growing=growing))
    again = numbered(counting_on(1, 1000 + 8 * step + 320, updates=5, step=step, growing=growing), first=20)
    other = numbered(counting_on(2, 1000 + 18 * step + 640, updates=5, step=step, growing=growing), first=40)
    assert digits(receive(first + other)) == "12"
    assert digits(receive(first + again + other)) == "112"


def test_timestamps_that_count_on_with_packets_lost_and_overtaken() -> None:
    packets = numbered(counting_on(1, 1000, updates=8))
    assert digits(receive([packets[1], packets[0], *packets[3:5], packets[2], *packets[5:]])) == "1"
    assert digits(receive([packets[0], *packets[5:]])) == "1"


def test_a_clock_that_stands_still_while_digits_sound() -> None:
    second = press(1, 1000, updates=3)
    assert digits(receive(press(1, 1000) + second)) == "11"
    assert digits(receive(press(1, 1000) + press(1, 1320))) == "11"


def test_an_end_with_a_duration_of_its_own_is_one_end() -> None:
    ends = [Packet(1000, event(1, 0, end=True))] * 3
    assert digits(receive(press(1, 1000, ends=0) + ends)) == "1"


def test_a_duration_that_overflows_is_one_long_press() -> None:
    packets = [Packet(1000, event(3, duration & 0xFFFF)) for duration in range(160, 80_000, 160)]
    assert digits(receive([*packets, Packet(1000, event(3, 14_400, end=True))])) == "3"


def test_no_duration_at_all_is_as_long_as_packets_came() -> None:
    packets = [Packet(1000, event(8, 0))] * 5 + [Packet(1000, event(8, 0, end=True))]
    assert receive(packets) == [DigitPressed(digit="8", duration_ms=100)]


def test_one_end_packet_is_enough_and_updates_may_be_50_ms_apart() -> None:
    assert digits(receive(press(1, 1000, ends=1, step=400) + press(1, 5000, ends=1, step=400))) == "11"


def test_a_hook_flash_is_no_digit_and_ends_none() -> None:
    packets = press(1, 1000)
    assert digits(receive([*packets[:3], Packet(1000, event(16, 160)), *packets[3:]])) == "1"


@pytest.mark.parametrize("clock_hz", [8000, 16_000, 48_000])
def test_other_clocks(clock_hz: int) -> None:
    step = clock_hz // 50
    packets = press(1, 1000, step=step) + press(1, 1000 + 10 * step, step=step)
    told = receive(packets, DtmfReceiver(clock_hz=clock_hz))
    assert told == [DigitPressed(digit="1", duration_ms=100)] * 2


# ── a sender that begins anew ────────────────────────────────────────────────────────────────────────────


def test_a_key_held_while_the_stream_begins_anew_is_one_press() -> None:
    receiver = DtmfReceiver()
    packets = press(4, 1000, updates=10)
    assert [receiver.receive(at, *packets[at][:2], at * 0.02) for at in range(5)] == [[]] * 5
    receiver.restart()
    rest = [packet._replace(timestamp=777_000, sequence=60_000 + at) for at, packet in enumerate(packets[5:])]
    assert digits(receive(rest, receiver, start=0.1)) == "4"


def test_another_press_after_a_new_beginning_is_another_press() -> None:
    receiver = DtmfReceiver()
    assert digits(receive(numbered(press(4, 1000), first=9000), receiver)) == "4"
    receiver.restart()
    assert digits(receive(numbered(press(4, 500)), receiver, start=1.0)) == "4"
    receiver.receive(8, 3000, event(5, 160), 2.0)
    receiver.restart()
    assert digits(receive(numbered(press(6, 40), first=100), receiver, start=2.1)) == "56"


def test_events_in_a_stream_of_their_own_are_one_digit_each() -> None:
    """Audio and events under two SSRCs: each change of stream is a new beginning."""
    receiver = DtmfReceiver()
    told = []
    for at, packet in enumerate(press(1, 1000) + press(1, 3000)):
        receiver.restart()
        told += receiver.receive(at, packet.timestamp, packet.payload, at * 0.02)
    assert digits(told) == "11"


def test_the_same_packets_long_after_their_end_are_another_press() -> None:
    receiver = DtmfReceiver()
    packets = numbered(press(1, 1000), first=500)
    assert digits(receive(packets, receiver)) == "1"
    assert digits(receive(packets, receiver, start=0.2 + STRAGGLING_S)) == "1"
    receiver.restart()
    assert digits(receive(packets, receiver, start=0.4 + 2 * STRAGGLING_S)) == "1"


def test_older_numbers_after_a_second_are_no_stragglers() -> None:
    receiver = DtmfReceiver()
    assert digits(receive(numbered(press(3, 5000), first=80), receiver)) == "3"
    assert digits(receive(numbered(press(2, 1000), first=40), receiver, start=0.2 + STRAGGLING_S)) == "2"


def test_a_digit_after_eleven_minutes_is_not_taken_for_an_old_one() -> None:
    receiver = DtmfReceiver()
    assert digits(receive(numbered(press(1, 1000)), receiver)) == "1"
    assert digits(receive(numbered(press(2, 1000 + 800 * 8000), first=40_000), receiver, start=800.0)) == "2"


@pytest.mark.parametrize("payload", [b"", b"\x05\x0a\x00", event(16, 160), event(255, 160, end=True)])
def test_what_is_no_digit_is_none(payload: bytes) -> None:
    assert receive([Packet(1000, payload)]) == []


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.binary(max_size=6), st.integers(0, 2**16 - 1))))
def test_whatever_arrives_there_are_never_more_digits_than_packets(packets: list[tuple[int, bytes, int]]) -> None:
    assert len(receive([Packet(*packet) for packet in packets])) <= len(packets)


@pytest.mark.parametrize("name", [*"0123456789", "pound", "star"])
def test_the_digits_sipp_plays(name: str) -> None:
    data = vectors("pcap", "sipp", f"dtmf_2833_{name}.pcap").read_bytes()
    receiver = DtmfReceiver()
    told: list[DigitPressed] = []
    for at, datagram in enumerate(udp_payloads(data)):
        packet = parse_packet(datagram)
        assert packet is not None
        told += receiver.receive(packet.sequence, packet.timestamp, packet.payload, at * 0.02)
    told += receiver.expire(1e6)
    assert digits(told) == {"pound": "#", "star": "*"}.get(name, name)


# ── sent ─────────────────────────────────────────────────────────────────────────────────────────────────


def send(sender: DtmfSender, ticks: int, start: int = 8000) -> list[tuple[int, bool, bytes] | None]:
    """(timestamp, marker, payload) of each tick's event packet, None where audio is sent."""
    out: list[tuple[int, bool, bytes] | None] = []
    for tick in range(ticks):
        payload = sender.next_payload(start + tick * FRAME)
        out.append((sender.timestamp, sender.marker, payload) if payload is not None else None)
    return out


def test_a_digit_on_the_wire() -> None:
    sender = DtmfSender()
    assert sender.idle
    sender.queue("5", duration_ms=80)
    assert send(sender, 12) == [
        (8000, True, event(5, 160)),
        (8000, False, event(5, 320)),
        (8000, False, event(5, 480)),
        (8000, False, event(5, 640, end=True)),
        (8000, False, event(5, 640, end=True)),
        (8000, False, event(5, 640, end=True)),
        None,
        None,
        None,
        None,
        None,
        None,
    ]
    assert sender.idle


def test_digits_follow_one_another_with_a_gap_of_audio() -> None:
    sender = DtmfSender()
    sender.queue("1#", duration_ms=40)
    packets = send(sender, 20)
    gap = DIGIT_GAP_MS // 20
    assert [packet is not None for packet in packets[: 8 + gap]] == [True] * 4 + [False] * gap + [True] * 4
    second = packets[4 + gap]
    assert second is not None
    assert second == (8000 + (4 + gap) * FRAME, True, event(11, 160))


@pytest.mark.parametrize(("asked_ms", "sent_ms"), [(0, 40), (40, 40), (50, 60), (160, 160), (99_999, 6000)])
def test_durations_are_whole_frames_within_bounds(asked_ms: int, sent_ms: int) -> None:
    sender = DtmfSender()
    sender.queue("A", duration_ms=asked_ms)
    packets = [packet for packet in send(sender, 400) if packet is not None]
    assert packets[-1][2] == event(12, sent_ms * 8, end=True)
    assert len(packets) == sent_ms // 20 + 2


def test_what_is_sent_is_what_is_received() -> None:
    sender = DtmfSender()
    sender.queue("0123456789*#abcd", duration_ms=60)
    packets = [Packet(timestamp, payload) for timestamp, _, payload in filter(None, send(sender, 200))]
    told = receive(packets)
    assert digits(told) == "0123456789*#ABCD"
    assert {pressed.duration_ms for pressed in told} == {60}


def test_a_long_digit_of_a_fast_clock_is_sent_in_segments() -> None:
    sender = DtmfSender(clock_hz=48_000)
    sender.queue("9", duration_ms=3000)
    sent = [packet for tick in range(160) if (packet := sender.next_payload(tick * 960)) and [packet]]
    sender.queue("9", duration_ms=3000)
    packets = []
    for tick in range(200, 360):
        payload = sender.next_payload(tick * 960)
        if payload is not None:
            packets.append(Packet(sender.timestamp, payload))
    assert len({packet.timestamp for packet in packets}) == 3
    assert receive(packets, DtmfReceiver(clock_hz=48_000)) == [DigitPressed(digit="9", duration_ms=3000)]
    assert len(sent) == len(packets) == 152


def test_a_change_of_clock_ends_the_digit_that_sounds_and_keeps_the_others() -> None:
    sender = DtmfSender()
    sender.queue("12", duration_ms=100)
    packets = [Packet(timestamp, payload) for timestamp, _, payload in filter(None, send(sender, 2))]
    sender.retune(16_000)
    for tick in range(20):
        payload = sender.next_payload(100_000 + 320 * tick)
        if payload is not None:
            packets.append(Packet(sender.timestamp, payload))
    assert digits(receive(packets)) == "12"
    assert packets[-1].payload == event(2, 1600, end=True)


def test_what_is_cleared_is_not_sent() -> None:
    sender = DtmfSender()
    sender.queue("123")
    send(sender, 3)
    sender.clear()
    assert sender.idle
    assert send(sender, 20) == [None] * 20


@pytest.mark.parametrize("wrong", ["x", "1 2", "+", "1" * (MAX_QUEUED_DIGITS + 1)])
def test_no_digit_is_refused_and_nothing_of_it_sent(wrong: str) -> None:
    sender = DtmfSender()
    with pytest.raises(ValueError, match=r"."):
        sender.queue(wrong)
    assert sender.idle

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.rtp.captures import udp_payloads
from tests.vectors.location import vectors

from offhook.rtp.packet import parse_packet
from offhook.rtp.telephone_event import (
    DIGIT_GAP_MS,
    LOST_END_S,
    MAX_QUEUED_DIGITS,
    DigitPressed,
    DtmfReceiver,
    DtmfSender,
)

FRAME = 160


def event(code: int, duration: int, *, end: bool = False) -> bytes:
    return struct.pack("!BBH", code, 0x8A if end else 0x0A, duration)


def press(digit: int, timestamp: int, *, updates: int = 5, ends: int = 3, step: int = FRAME) -> list[tuple[int, bytes]]:
    """The packets of one key press: (timestamp, payload)."""
    growing = [(timestamp, event(digit, step * (index + 1))) for index in range(updates)]
    return growing + [(timestamp, event(digit, step * updates, end=True))] * ends


def receive(packets: list[tuple[int, bytes]], receiver: DtmfReceiver | None = None) -> list[DigitPressed]:
    receiver = receiver or DtmfReceiver()
    told: list[DigitPressed] = []
    now = 0.0
    for timestamp, payload in packets:
        now += 0.02
        told += receiver.receive(timestamp & 0xFFFFFFFF, payload, now)
    return told + receiver.expire(now + 2 * LOST_END_S)


def digits(told: list[DigitPressed]) -> str:
    return "".join(pressed.digit for pressed in told)


# ── received ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_key_press_is_told_once_with_its_duration() -> None:
    assert receive(press(5, 1000)) == [DigitPressed(digit="5", duration_ms=100)]


def test_it_is_told_at_the_first_end_packet() -> None:
    receiver = DtmfReceiver()
    packets = press(5, 1000, updates=2)
    told = [receiver.receive(timestamp, payload, 0.0) for timestamp, payload in packets]
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
    receiver.receive(1000, event(9, 320), 10.0)
    assert receiver.pending
    assert receiver.expire(10.0 + LOST_END_S - 0.01) == []
    assert receiver.expire(10.0 + LOST_END_S) == [DigitPressed(digit="9", duration_ms=40)]
    assert receiver.expire(99.0) == []
    # Its end comes after all: it is no second digit.
    assert receiver.receive(1000, event(9, 480, end=True), 11.0) == []


@pytest.mark.parametrize("kept", [0, 2, 4, 5, 7])
def test_any_one_packet_is_enough(kept: int) -> None:
    assert digits(receive([press(8, 1000)[kept]])) == "8"


def test_a_rising_duration_is_one_digit() -> None:
    packets = [(1000, event(4, duration)) for duration in range(160, 16_000, 160)]
    assert receive(packets) == [DigitPressed(digit="4", duration_ms=1980)]


def test_packets_out_of_order_and_doubled_are_one_digit() -> None:
    packets = press(3, 1000)
    shuffled = [packets[index] for index in (1, 0, 3, 2, 5, 4, 6, 6, 7, 1)]
    assert digits(receive(shuffled)) == "3"


def test_stragglers_of_the_digit_before_are_no_digit() -> None:
    first, second = press(1, 1000), press(2, 3000)
    mixed = [*first[:6], *second[:3], first[6], *second[3:], first[7]]
    assert digits(receive(mixed)) == "12"


def test_a_long_press_in_segments_is_one_digit() -> None:
    # §2.5.1.3: the duration field is full, the next segment begins where it ended.
    first = [(1000, event(6, duration)) for duration in (160, 30_000, 65_535)]
    second = [(1000 + 65_535, event(6, duration)) for duration in (160, 8000)]
    ends = [(1000 + 65_535, event(6, 8000, end=True))] * 3
    assert receive(first + second + ends) == [DigitPressed(digit="6", duration_ms=(65_535 + 8000) // 8)]


def test_timestamps_may_wrap_between_digits() -> None:
    assert digits(receive(press(1, 0xFFFFFF00) + press(2, 0x100000700))) == "12"


def test_another_clock_tells_the_true_duration() -> None:
    told = receive(press(5, 1000, step=320), DtmfReceiver(clock_hz=16_000))
    assert told == [DigitPressed(digit="5", duration_ms=100)]


def test_a_sender_that_restarts_its_clock_is_heard_again() -> None:
    assert digits(receive(press(1, 500_000_000) + press(2, 7))) == "12"


@pytest.mark.parametrize("payload", [b"", b"\x05\x0a\x00", event(16, 160), event(255, 160, end=True)])
def test_what_is_no_digit_is_none(payload: bytes) -> None:
    assert receive([(1000, payload)]) == []


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.binary(max_size=6))))
def test_whatever_arrives_there_are_never_more_digits_than_packets(packets: list[tuple[int, bytes]]) -> None:
    assert len(receive(packets)) <= len(packets)


@pytest.mark.parametrize("name", ["0", "1", "5", "9", "pound", "star"])
def test_the_digits_sipp_plays(name: str) -> None:
    data = vectors("pcap", "sipp", f"dtmf_2833_{name}.pcap").read_bytes()
    receiver = DtmfReceiver()
    told: list[DigitPressed] = []
    for at, datagram in enumerate(udp_payloads(data)):
        packet = parse_packet(datagram)
        assert packet is not None
        told += receiver.receive(packet.timestamp, packet.payload, at * 0.02)
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
    packets = [(timestamp, payload) for timestamp, _, payload in filter(None, send(sender, 200))]
    told = receive(packets)
    assert digits(told) == "0123456789*#ABCD"
    assert {pressed.duration_ms for pressed in told} == {60}


@pytest.mark.parametrize("wrong", ["x", "1 2", "+", "1" * (MAX_QUEUED_DIGITS + 1)])
def test_no_digit_is_refused_and_nothing_of_it_sent(wrong: str) -> None:
    sender = DtmfSender()
    with pytest.raises(ValueError, match=r"."):
        sender.queue(wrong)
    assert sender.idle

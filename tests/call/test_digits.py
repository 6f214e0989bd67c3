from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.call.digits import (
    MAX_INFO_BYTES,
    PLAIN_TYPE,
    RELAY_TYPE,
    SAME_PRESS_S,
    DigitGate,
    DigitSource,
    InfoDialler,
    choose_way,
    is_digits,
    parse_info,
    write_info,
)
from offhook.model.trunks import DtmfMethod
from offhook.rtp.telephone_event import (
    DEFAULT_DURATION_MS,
    DIGIT_GAP_MS,
    DIGITS,
    MAX_QUEUED_DIGITS,
    MOST_DURATION_MS,
    DigitPressed,
)

# ── the body of an INFO ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("content_type", "known"),
    [
        ("application/dtmf-relay", True),
        ("Application/DTMF-Relay; charset=utf-8", True),
        (" application/dtmf ", True),
        ("application/vnd.nortelnetworks.digits", True),
        ("application/media_control+xml", False),
        ("application/dtmf-relays", False),
        ("", False),
    ],
)
def test_content_types(content_type: str, known: bool) -> None:
    assert is_digits(content_type) == known


@pytest.mark.parametrize(
    ("body", "digit", "duration_ms"),
    [
        (b"Signal=5\r\nDuration=160\r\n", "5", 160),
        (b"Signal=5\r\nDuration=160", "5", 160),
        (b"Signal= 5\r\nDuration= 250\r\n", "5", 250),
        (b"signal=a\nduration=90\n", "A", 90),
        (b"SIGNAL = d\rDURATION = 90", "D", 90),
        (b"Duration=100\r\nSignal=*\r\n", "*", 100),
        (b"Signal=#\r\n", "#", DEFAULT_DURATION_MS),
        (b"Signal=10\r\nDuration=100", "*", 100),
        (b"Signal=11\r\nDuration=100", "#", 100),
        (b"Signal=15\r\nDuration=100", "D", 100),
        (b"Signal=07\r\nDuration=100", "7", 100),
        (b'Signal="3"\r\nDuration="120"\r\n', "3", 120),
        (b"Signal: 8\r\nDuration: 120\r\n", "8", 120),
        (b"p=Digit-Collection\r\ny=Digits\r\nd=4\r\nDuration=70\r\n", "4", 70),
        (b"Signal=star", "*", DEFAULT_DURATION_MS),
        (b"Signal=pound", "#", DEFAULT_DURATION_MS),
        (b"5", "5", DEFAULT_DURATION_MS),
        (b"#\r\n", "#", DEFAULT_DURATION_MS),
        (b"  9  ", "9", DEFAULT_DURATION_MS),
        (b"11", "#", DEFAULT_DURATION_MS),
        (b"Signal=1\r\nSignal=2\r\nDuration=100\r\n", "1", 100),
        (b"Signal=1\r\nDuration=0\r\n", "1", DEFAULT_DURATION_MS),
        (b"Signal=1\r\nDuration=-5\r\n", "1", DEFAULT_DURATION_MS),
        (b"Signal=1\r\nDuration=soon\r\n", "1", DEFAULT_DURATION_MS),
        (b"Signal=1\r\nDuration=999999999999\r\n", "1", MOST_DURATION_MS),
        (b"Signal=1\r\nDuration=100" + b"\r\nx: y" * 1000, "1", 100),
    ],
)
def test_what_phones_write(body: bytes, digit: str, duration_ms: int) -> None:
    assert parse_info(body) == DigitPressed(digit=digit, duration_ms=duration_ms)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\r\n",
        b"Signal=\r\nDuration=100\r\n",
        b"Signal=E\r\n",
        b"Signal=16\r\nDuration=100\r\n",  # a hook flash
        b"Signal=hf\r\n",
        b"Signal=99\r\n",
        b"Signal=123\r\n",
        b"Signal=\xc2\xb2\r\n",
        b"\xff\xfe5",
        b"Duration=5",
        b"123",
        b"5 6",
        b"<media_control/>",
        b" " * MAX_INFO_BYTES + b"Signal=5",
    ],
)
def test_what_is_no_key(body: bytes) -> None:
    assert parse_info(body) is None


@given(st.binary(max_size=2 * MAX_INFO_BYTES))
def test_no_body_raises(body: bytes) -> None:
    pressed = parse_info(body)
    assert pressed is None or (pressed.digit in DIGITS and 0 < pressed.duration_ms <= MOST_DURATION_MS)


@pytest.mark.parametrize("digit", DIGITS)
def test_what_is_written_is_read(digit: str) -> None:
    assert write_info(digit, 200) == f"Signal={digit}\r\nDuration=200\r\n".encode()
    assert parse_info(write_info(digit, 200)) == DigitPressed(digit=digit, duration_ms=200)
    assert write_info(digit, 200, content_type=PLAIN_TYPE) == digit.encode()


# ── one stream out of three sources ──────────────────────────────────────────────────────────────────────

Report = tuple[str, DigitSource, float]
TABLE: dict[str, tuple[list[Report], str]] = {
    "one source, one press": ([("5", "rfc4733", 1.0)], "5"),
    "one source, the same key twice": ([("5", "rfc4733", 1.0), ("5", "rfc4733", 1.2)], "55"),
    "one source, keys in a row": ([("1", "info", 1.0), ("2", "info", 1.1), ("1", "info", 1.2)], "121"),
    "tones alone, the same key twice": ([("5", "inband", 1.0), ("5", "inband", 1.2)], "55"),
    "INFO and events for one press": ([("5", "rfc4733", 1.0), ("5", "info", 1.05)], "5"),
    "the other order": ([("5", "info", 0.9), ("5", "rfc4733", 1.05)], "5"),
    "an INFO that was lost twice": ([("5", "rfc4733", 1.0), ("5", "info", 2.6)], "5"),
    "all three": ([("5", "inband", 1.0), ("5", "info", 1.1), ("5", "rfc4733", 1.2)], "5"),
    "the same key twice by two sources": (
        [("5", "rfc4733", 1.0), ("5", "info", 1.1), ("5", "rfc4733", 1.4), ("5", "info", 1.5)],
        "55",
    ),
    "the same key twice, one source late with both": (
        [("5", "rfc4733", 1.0), ("5", "rfc4733", 1.3), ("5", "info", 1.6), ("5", "info", 1.9)],
        "55",
    ),
    "the same key four times, by both in any order": (
        [
            ("7", "info", 1.0),
            ("7", "rfc4733", 1.1),
            ("7", "rfc4733", 1.4),
            ("7", "info", 1.5),
            ("7", "info", 1.8),
            ("7", "rfc4733", 1.9),
            ("7", "rfc4733", 2.2),
            ("7", "info", 2.3),
        ],
        "7777",
    ),
    "other keys between": (
        [("1", "rfc4733", 1.0), ("2", "rfc4733", 1.2), ("1", "info", 1.3), ("2", "info", 1.4), ("1", "rfc4733", 1.6)],
        "121",
    ),
    "one source misses a press": ([("5", "rfc4733", 1.0), ("5", "rfc4733", 1.3), ("5", "info", 1.4)], "55"),
    "another source, much later, is another press": (
        [("5", "rfc4733", 1.0), ("5", "info", 1.3 + SAME_PRESS_S)],
        "55",
    ),
    "tones beside signalling are heard once at most": (
        [("5", "inband", 1.0), ("5", "info", 1.1), ("5", "inband", 1.2), ("6", "inband", 9.0)],
        "5",
    ),
    "different keys at once are two": ([("5", "rfc4733", 1.0), ("6", "info", 1.0)], "56"),
}


@pytest.mark.parametrize("name", TABLE)
def test_one_stream_of_three(name: str) -> None:
    reports, expected = TABLE[name]
    gate = DigitGate()
    told = [digit for digit, source, at in reports if gate.admit(digit, source, at=at, duration_ms=100)]
    assert "".join(told) == expected
    assert gate.dropped == len(reports) - len(expected)


def test_a_long_press_told_by_info_at_its_beginning_and_by_an_event_at_its_end_is_one() -> None:
    gate = DigitGate()
    assert gate.admit("5", "info", at=1.0, duration_ms=160)
    assert not gate.admit("5", "rfc4733", at=6.0, duration_ms=5000)


def test_a_flood_of_one_source_is_what_it_says() -> None:
    gate = DigitGate()
    for at in range(10_000):
        assert gate.admit("5", "info", at=at / 1000, duration_ms=1)
    assert gate.dropped == 0


# ── the way out ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("method", "payload_type", "allows_info", "way"),
    [
        ("auto", 101, None, "rfc4733"),
        ("auto", 101, True, "rfc4733"),
        ("auto", None, True, "info"),
        ("auto", None, False, "inband"),
        ("auto", None, None, "inband"),
        ("rfc4733", 101, True, "rfc4733"),
        ("rfc4733", None, True, None),
        ("info", 101, False, "info"),
        ("info", None, None, "info"),
        ("inband", 101, True, "inband"),
        ("inband", None, None, "inband"),
    ],
)
def test_the_way_out(method: DtmfMethod, payload_type: int | None, allows_info: bool | None, way: str | None) -> None:
    assert choose_way(method, dtmf_payload_type=payload_type, allows_info=allows_info) == way


def test_every_method_has_a_way() -> None:
    assert all(choose_way(method, dtmf_payload_type=0, allows_info=None) for method in get_args(DtmfMethod))


def sent(dialler: InfoDialler, now: float) -> str:
    """The body of what is to be sent now; empty: nothing."""
    request = dialler.next_request(now)
    return request.body.decode().replace("\r\n", " ").strip() if request else ""


def test_digits_by_info_go_one_by_one_each_after_the_answer_and_the_time_of_the_last() -> None:
    dialler = InfoDialler()
    assert dialler.idle
    dialler.queue("1#", 100)
    assert dialler.get_timer() == 0.0
    assert sent(dialler, 10.0) == "Signal=1 Duration=100"
    assert dialler.get_timer() is None  # in flight
    assert sent(dialler, 11.0) == ""
    assert dialler.answered(200) == ""
    assert dialler.get_timer() == pytest.approx(10.0 + 0.1 + DIGIT_GAP_MS / 1000)
    assert sent(dialler, 10.1) == ""
    assert sent(dialler, 10.2) == "Signal=# Duration=100"
    assert not dialler.idle
    assert dialler.answered(200) == ""
    assert dialler.idle
    assert dialler.get_timer() is None


def test_a_peer_that_does_not_know_the_type_gets_the_plain_one() -> None:
    dialler = InfoDialler()
    dialler.queue("12")
    first = dialler.next_request(1.0)
    assert first is not None
    assert first.content_type == RELAY_TYPE
    assert dialler.answered(415) == ""
    for now, body in ((1.01, b"1"), (2.0, b"2")):
        request = dialler.next_request(now)
        assert request is not None
        assert (request.content_type, request.body) == (PLAIN_TYPE, body)
        assert dialler.answered(200) == ""


@pytest.mark.parametrize(
    ("statuses", "left"),
    [([405], "123"), ([415, 415], "123"), ([200, 501], "23"), ([200, 408], ""), ([481], ""), ([None], "123")],
)
def test_what_a_peer_refuses_is_left_for_another_way(statuses: list[int | None], left: str) -> None:
    dialler = InfoDialler()
    dialler.queue("123")
    given_back = ""
    for at, status in enumerate(statuses):
        assert dialler.next_request(float(at)) is not None
        given_back = dialler.answered(status)
    assert given_back == left
    assert dialler.refused == bool(left)
    assert dialler.idle


def test_an_answer_to_nothing_is_nothing() -> None:
    dialler = InfoDialler()
    assert dialler.answered(405) == ""


@pytest.mark.parametrize("wrong", ["x", "1 2", "1" * (MAX_QUEUED_DIGITS + 1)])
def test_no_digit_is_refused_and_nothing_of_it_sent(wrong: str) -> None:
    dialler = InfoDialler()
    with pytest.raises(ValueError, match=r"."):
        dialler.queue(wrong)
    assert dialler.idle

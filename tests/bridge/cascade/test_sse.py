"""Server-sent events, however the bytes are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.bridge.cascade.sse import MAX_EVENT_BYTES, EventTooLongError, SseParser

STREAM = b": hello\r\ndata: one\r\n\r\nevent: x\ndata: two\ndata: three\n\ndata:four\n\ndata: last"


def parsed(*pieces: bytes) -> list[bytes]:
    parser = SseParser()
    return [event for piece in pieces for event in parser.feed(piece)] + parser.end()


def test_events_are_found() -> None:
    assert parsed(STREAM) == [b"one", b"two\nthree", b"four", b"last"]


@given(st.integers(1, 20))
def test_cuts_do_not_matter(step: int) -> None:
    assert parsed(*[STREAM[at : at + step] for at in range(0, len(STREAM), step)]) == parsed(STREAM)


@given(st.binary(max_size=300))
def test_anything_is_read(data: bytes) -> None:
    parsed(data)


def test_an_event_without_end_is_refused() -> None:
    with pytest.raises(EventTooLongError):
        parsed(b"data: " + bytes(MAX_EVENT_BYTES))

"""Server-sent events out of a stream of bytes, cut anywhere (HTML standard §9.2.6). Pure."""

from __future__ import annotations

MAX_EVENT_BYTES = 4 << 20
"""Of one event; the largest are seconds of audio as base64."""


class EventTooLongError(ValueError):
    """More than ``MAX_EVENT_BYTES`` without an end."""


class SseParser:
    """``feed`` gives the ``data`` of each event that became whole; names, ids and comments are left out."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> list[bytes]:
        """Raises ``EventTooLongError``."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        events: list[bytes] = []
        for line in lines:
            self._take(line.removesuffix(b"\r"), events)
        if self._size + len(self._rest) > MAX_EVENT_BYTES:
            raise EventTooLongError("an event that does not end")
        return events

    def end(self) -> list[bytes]:
        """The stream is over: an event whose blank line was never sent counts, as many servers forget it."""
        events: list[bytes] = []
        self._take(self._rest.removesuffix(b"\r"), events)
        self._take(b"", events)
        self._rest = b""
        return events

    def _take(self, line: bytes, events: list[bytes]) -> None:
        if line.startswith(b"data:"):
            value = line[5:].removeprefix(b" ")
            self._data.append(value)
            self._size += len(value)
        elif not line and self._data:
            events.append(b"\n".join(self._data))
            self._data, self._size = [], 0

"""Server-sent events (WHATWG HTML §9.2): a call's history and then its life, or the life of all calls of an account."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec
from aiohttp import web

from offhook.api.endpoints import EVENT_STREAM, Asked
from offhook.api.live import Following, Told
from offhook.delivery.event_documents import event_document, signal_document
from offhook.model.call_events import CallEnded, CallEvent

RECONNECT_MS = 2_000
"""After which a browser tries again; it then says by Last-Event-ID what it had."""

HISTORY_PAGE = 200
"""Events read from the database at once: half of what an ordinary call has."""

ReadEvents = Callable[[int, int], Awaitable[Sequence[CallEvent]]]
"""(after seq, limit) -> the call's committed events after that one, in order."""


class EventStream:
    """One open stream. ``send`` raises ``ConnectionError`` or ``TimeoutError`` when its reader is gone or too slow."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._response = web.StreamResponse(
            headers={
                "Content-Type": EVENT_STREAM,
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",  # nginx would keep events back
                "Server": "offhook",
            }
        )

    async def begin(self) -> None:
        await self._response.prepare(self._asked.request)
        await self._write(f"retry: {RECONNECT_MS}\n\n".encode())

    async def send(self, told: Told) -> None:
        """An event with its seq as id; a signal without."""
        if isinstance(told, CallEvent):
            await self._write(_frame(event_document(told), told.seq))
        else:
            await self._write(_frame(signal_document(told, self._asked.parts.now())))

    async def sign_of_life(self) -> None:
        await self._write(b":\n\n")

    async def end(self) -> web.StreamResponse:
        await self._response.write_eof()
        return self._response

    def cut(self) -> web.StreamResponse:
        """Without a word: the reader takes nothing."""
        if self._asked.request.transport is not None:
            self._asked.request.transport.abort()
        return self._response

    async def _write(self, data: bytes) -> None:
        async with asyncio.timeout(self._asked.parts.limits.write_s):
            await self._response.write(data)


def _frame(document: Mapping[str, Any], event_id: int | None = None) -> bytes:
    """JSON has no line ends of its own, so it is one ``data`` line."""
    numbered = b"" if event_id is None else b"id: %d\n" % event_id
    return b"%sevent: %s\ndata: %s\n\n" % (numbered, document["event"].encode(), msgspec.json.encode(document))


async def follow_call(
    asked: Asked, following: Following, read: ReadEvents, *, after: int, ended: bool
) -> web.StreamResponse:
    """Everything after ``after``, once and in order, until the call's end. ``ended``: it was over when we began.

    ``following`` must have begun before ``ended`` was read: so nothing is missed in between.
    """
    stream = EventStream(asked)
    await stream.begin()
    try:
        last, over = await _send_history(stream, read, after)
        while not (over or ended):
            told = await following.next(asked.parts.limits.heartbeat_s)
            if not told:
                if following.over:
                    break
                await stream.sign_of_life()
            for each in told:
                last, over = await _send_in_place(stream, read, each, last)
        return await stream.end()
    except (ConnectionError, TimeoutError):
        return stream.cut()


async def _send_history(stream: EventStream, read: ReadEvents, after: int) -> tuple[int, bool]:
    """The seq that was sent last, and whether it was the call's last one."""
    last = after
    while True:
        events = await read(last, HISTORY_PAGE)
        for event in events:
            await stream.send(event)
            last = event.seq
            if isinstance(event.fact, CallEnded):
                return last, True
        if len(events) < HISTORY_PAGE:
            return last, False


async def _send_in_place(stream: EventStream, read: ReadEvents, told: Told, last: int) -> tuple[int, bool]:
    if not isinstance(told, CallEvent):
        await stream.send(told)
        return last, False
    if told.seq <= last:  # the history had it
        return last, False
    if told.seq > last + 1:
        last, over = await _send_history(stream, read, last)
        if over or told.seq <= last:
            return last, over
    await stream.send(told)
    return told.seq, isinstance(told.fact, CallEnded)


async def follow_account(asked: Asked, following: Following) -> web.StreamResponse:
    """What happens from now on in all calls of an account."""
    stream = EventStream(asked)
    await stream.begin()
    try:
        while not following.over:
            told = await following.next(asked.parts.limits.heartbeat_s)
            if not told:
                await stream.sign_of_life()
            for each in told:
                await stream.send(each)
        return await stream.end()
    except (ConnectionError, TimeoutError):
        return stream.cut()

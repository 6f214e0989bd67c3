"""Hold audio from real servers: fetched once, in time, and never at the cost of a call."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from aiohttp import web
from tests.call.answerers import Server
from tests.call.phones import phone, scripted
from tests.delivery.receivers import INSIDE, OPEN, Receiver, receiver

from offhook.audio.tones import tone
from offhook.audio.wav import write_wav
from offhook.call.hold_audio import HoldAudio
from offhook.delivery import fetched_audio
from offhook.delivery.fetched_audio import AGAIN_S, FRESH_S, FetchedAudio
from offhook.delivery.outbound_http import OutboundHttp
from offhook.model.audio import PCMU_8K, Encoding
from offhook.model.call_events import CallAnswered
from offhook.model.records import Tool

SOUND = tone(900, 1000, -12, Encoding.PCMU)
WAV = write_wav(PCMU_8K, SOUND)


class Shelf:
    """Who fetches, where it is kept, and a clock of its own."""

    def __init__(self, http: OutboundHttp) -> None:
        self.now = 0.0
        self.audio = HoldAudio()
        self.fetched = FetchedAudio(http, self.audio, now=lambda: self.now)
        self.audio.on_wanted = self.fetched.want

    async def want(self, url: str) -> None:
        """As a call does when it begins; and whatever comes of it."""
        self.audio.want(url)
        async with asyncio.timeout(5):
            while self.fetched.under_way:  # noqa: ASYNC110 nobody is told of it
                await asyncio.sleep(0.005)

    def sound(self, url: str) -> bytes:
        return self.audio.audio(url, PCMU_8K)


@asynccontextmanager
async def shelf(content: bytes = WAV, status: int = 200) -> AsyncIterator[tuple[Receiver, Shelf]]:
    async with receiver() as there, OutboundHttp(OPEN) as http:
        there.answer = serving(content, status)
        made = Shelf(http)
        yield there, made
        await made.fetched.close()


def serving(content: bytes, status: int = 200):  # type: ignore[no-untyped-def]  # an aiohttp answer
    async def serve(request: web.Request) -> web.StreamResponse:
        return web.Response(body=content, status=status)

    return serve


async def test_a_sound_is_fetched_once_and_again_after_an_hour() -> None:
    async with shelf() as (there, one):
        url = there.url("/hold.wav?key=1")
        await one.want(url)
        await one.want(url)
        assert (one.sound(url), len(there.seen)) == (SOUND, 1)
        there.answer = serving(write_wav(PCMU_8K, SOUND[:800]))
        one.now = FRESH_S + 1
        await one.want(url)
        assert (one.sound(url), len(there.seen)) == (SOUND[:800], 2)


@pytest.mark.parametrize(
    ("content", "status", "problem"),
    [(b"<html>", 200, "not a WAV file"), (WAV, 404, "answered 404"), (WAV, 302, "answered 302"), (b"", 200, "not a")],
)
async def test_what_fails_is_logged_once_and_tried_again_later(
    content: bytes, status: int, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with shelf(content, status) as (there, one):
        url = there.url("/hold.wav?key=secret")
        for now in (0.0, 1.0, AGAIN_S, 2 * AGAIN_S):
            one.now = now
            await one.want(url)
        assert (one.sound(url), len(there.seen)) == (b"", 3)
        (logged,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        assert problem in logged
        assert "secret" not in logged
        there.answer = serving(WAV)
        one.now = 4 * AGAIN_S
        await one.want(url)
        assert one.sound(url) == SOUND


async def test_one_that_fails_later_leaves_what_is_there() -> None:
    async with shelf() as (there, one):
        url = there.url()
        await one.want(url)
        there.answer = serving(b"", 500)
        one.now = FRESH_S
        await one.want(url)
        assert (one.sound(url), len(there.seen)) == (SOUND, 2)


async def test_neither_a_private_address_nor_a_large_answer_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetched_audio, "MAX_BYTES", 1000)
    async with shelf() as (there, one), receiver(host=INSIDE) as inside:
        for url in (there.url(), inside.url(host=INSIDE)):
            await one.want(url)
            assert one.sound(url) == b""
        assert inside.seen == []


async def test_only_a_few_are_fetched_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetched_audio, "MOST_AT_ONCE", 2)
    async with shelf() as (there, one):
        for number in range(5):
            one.audio.want(there.url(f"/{number}"))
        await one.want(there.url("/last"))
        assert len(there.seen) == 2


async def test_a_call_has_its_sounds_fetched_when_it_begins() -> None:
    """No tool was used yet."""
    async with shelf() as (there, one):
        tool = Tool(tool_id="s", name="slow", url="https://s.example/", hold_audio=there.url("/hold.wav"))
        agent = replace(scripted(), tools=(tool,))
        async with phone(agent, questions=Server(), hold_audio=one.audio) as callee, phone() as caller:
            call = caller.call(callee)
            await caller.facts.until(CallAnswered)
            await one.want(tool.hold_audio)
            assert one.sound(tool.hold_audio) == SOUND
            caller.hang_up(call)
            await caller.over(call)
        assert len(there.seen) == 1

"""A voice of single pieces: in order, the next one asked for early, one more try."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from tests.bridge.cascade.recorded_parts import RecordedVoice

from offhook.bridge.cascade.piecewise import PiecewiseVoice, Sound
from offhook.bridge.codec import BridgeFault
from offhook.model.audio import PCMU_8K
from offhook.model.errors import BridgeError, Verdict


class Mouth:
    """Makes each piece in two halves of 400 ms; those that ``waits`` names when it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.stopped: list[str] = []
        self.fails: dict[str, Verdict] = {}
        self.go_on = asyncio.Event()
        self.waits = ""
        self.heard = RecordedVoice()
        self.voice = PiecewiseVoice(self.sounds, self.heard, PCMU_8K)

    async def sounds(self, text: str) -> AsyncGenerator[Sound, None]:
        self.asked.append(text)
        verdict = self.fails.pop(text, None)
        if verdict is not None:
            raise BridgeError("voice", "gone", verdict)
        try:
            yield Sound(audio=text[:1].encode() * 3200)
            if text == self.waits:
                await self.go_on.wait()
            yield Sound(audio=text[:1].encode() * 3200)
        except asyncio.CancelledError:
            self.stopped.append(text)
            raise

    def say(self, context: str, *pieces: str) -> None:
        self.voice.begin(context)
        for piece in pieces:
            self.voice.say(context, piece)
        self.voice.finish(context)


async def test_pieces_come_in_order_with_their_places() -> None:
    mouth = Mouth()
    mouth.say("c1", "Once upon. ", "A time.")
    await mouth.heard.until(lambda: mouth.heard.done() == ["c1"])
    assert mouth.heard.audio["c1"] == b"O" * 6400 + b"A" * 6400
    assert mouth.heard.words("c1") == [("Once", 0), ("upon.", 325), ("A", 800), ("time.", 930)]
    await mouth.voice.close()


async def test_the_next_piece_is_asked_for_when_the_first_sound_is_there() -> None:
    mouth = Mouth()
    mouth.waits = "One. "
    mouth.say("c1", "One. ", "Two. ", "Three.")
    await mouth.heard.until(lambda: len(mouth.heard.audio.get("c1", b"")) == 3200)
    await asyncio.sleep(0.01)
    assert mouth.asked == ["One. ", "Two. "]
    mouth.go_on.set()
    await mouth.heard.until(lambda: mouth.heard.done() == ["c1"])
    assert mouth.heard.audio["c1"] == b"O" * 6400 + b"T" * 12800
    await mouth.voice.close()


async def test_contexts_follow_one_another_and_a_cut_one_is_silent() -> None:
    mouth = Mouth()
    mouth.waits = "One. "
    mouth.say("c1", "One. ", "Two. ")
    mouth.say("c2", "Next.")
    await mouth.heard.until(lambda: "c1" in mouth.heard.audio)
    mouth.voice.cancel("c1")
    await mouth.heard.until(lambda: mouth.heard.done() == ["c2"])
    assert mouth.heard.audio["c1"] == b"O" * 3200
    assert "One. " in mouth.stopped
    await mouth.voice.close()


async def test_a_context_that_waits_can_be_given_up() -> None:
    mouth = Mouth()
    mouth.waits = "One. "
    mouth.say("c1", "One. ")
    mouth.say("c2", "Never.")
    mouth.voice.cancel("c2")
    mouth.go_on.set()
    await mouth.heard.until(lambda: mouth.heard.done() == ["c1"])
    await asyncio.sleep(0.01)
    assert mouth.asked == ["One. "]
    await mouth.voice.close()


async def test_one_more_try_before_the_first_sound() -> None:
    mouth = Mouth()
    mouth.fails = {"Two. ": "retry"}
    mouth.say("c1", "One. ", "Two. ")
    await mouth.heard.until(lambda: mouth.heard.done() == ["c1"])
    assert mouth.asked == ["One. ", "Two. ", "Two. "]
    assert [fault.verdict for fault in mouth.heard.of(BridgeFault)] == ["retry"]
    await mouth.voice.close()


@pytest.mark.parametrize("verdict", ["fall_over", "fatal"])
async def test_a_failure_is_told(verdict: Verdict) -> None:
    mouth = Mouth()
    mouth.fails = {"Two. ": verdict}
    mouth.say("c1", "One. ", "Two. ")
    await mouth.heard.until(lambda: bool(mouth.heard.of(BridgeFault)))
    assert [fault.verdict for fault in mouth.heard.of(BridgeFault)] == [verdict]
    assert mouth.heard.done() == []
    await mouth.voice.close()


async def test_closing_ends_everything() -> None:
    mouth = Mouth()
    mouth.waits = "One. "
    mouth.say("c1", "One. ", "Two. ")
    await mouth.heard.until(lambda: "c1" in mouth.heard.audio)
    await mouth.voice.close()
    before = len(mouth.heard.events)
    mouth.go_on.set()
    await asyncio.sleep(0.01)
    assert len(mouth.heard.events) == before

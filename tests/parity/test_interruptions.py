"""Speaking over the agent on every provider, with a real voice: a hum and an echo let it go on, "wait, stop" stops it.

Where the extra ``local`` is installed the server's own recogniser listens too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.interop.speech import Samples, flite_wav, read_wav
from tests.parity.behaviours import WAITS, facts, said
from tests.parity.columns import COLUMNS
from tests.parity.world import Scene, World, world

pytestmark = pytest.mark.interop

STORY = "This is a story about a ship that sailed from one end of the sea to the other and never came home again."
"""Six seconds, in one piece: cascades speak sentence by sentence."""

OVER_S = 1.0
"""So long the agent is heard before the caller speaks."""

GLITCH_MS = 80
"""A pause nobody notices, until the first of an echo is known as one."""

SAID_OVER = {"mm_hm": "mm-hm", "wait_stop": "wait, stop", "echo": "", "stop_through_echo": "wait, stop"}
"""What the caller says, and what a provider understands."""

LATE = ("ultravox",)
"""Its server takes two short words for no interruption, cannot be told of ours, and answers when the story is over
by its own clock."""

ECHO_DB = -20

QUIET_MS = 3600
"""Longer than the agent is ever paused."""


def scene_of(text: str) -> Scene:
    turns = [{"hears": "tell me a story", "says": STORY}]
    answer = [{"hears": text, "says": "I heard you."}] if text else []
    return Scene(script={"turns": turns + answer}, agent=WAITS)


async def speaks_over(there: World, name: str, over: Samples) -> Mapping[str, Any]:
    """The record of a call in which the caller does."""
    async with there.call(name) as talk:
        await talk.says_something()
        await talk.hears(STORY)
        if "echo" in name:
            talk.caller.phone.echo_db = ECHO_DB
        await asyncio.sleep(OVER_S)
        await talk.caller.phone.say(over)
        await talk.caller.hears_silence(QUIET_MS, within_s=20)
        return await talk.hangs_up()


def story_of(record: Mapping[str, Any]) -> Mapping[str, Any]:
    turn: Mapping[str, Any] = next(turn for turn in record["transcript"] if turn["speaker"] == "agent")
    return turn


@pytest.mark.parametrize("provider", COLUMNS)
async def test_a_hum_and_an_echo_let_it_go_on_and_wait_stop_stops_it(provider: str, tmp_path: Path) -> None:
    scenes = {name: scene_of(text) for name, text in SAID_OVER.items()}
    over = {name: await voice(text, tmp_path / f"{name}.wav") for name, text in SAID_OVER.items()}
    async with world(COLUMNS[provider], scenes, tmp_path) as there:
        records = await asyncio.gather(*(speaks_over(there, name, over[name]) for name in SAID_OVER))
    mm_hm, stop, echo, stop_through_echo = records
    for record in (mm_hm, echo):
        story = story_of(record)
        assert (story["text"], story["interrupted"]) == (STORY, False)
    assert len(said(echo, "caller")) == 1
    assert all(resumed["paused_ms"] <= GLITCH_MS for resumed in facts(echo, "InterruptionResumed"))
    for record in (stop, stop_through_echo):
        story = story_of(record)
        assert story["interrupted"]
        assert len(story["text"]) < 0.8 * len(STORY)
        assert provider in LATE or said(record, "agent")[-1] == "I heard you."


async def voice(text: str, path: Path) -> Samples:
    return read_wav(await flite_wav(path, "slt", text, after_ms=200)) if text else np.zeros(800)

"""Twenty ways in which a provider fails, and a call that goes on all the same."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

from tests.parity.behaviours import LONG, facts, said
from tests.parity.caller import until
from tests.parity.world import Scene, Talk

EVER = 1000

FAULTS: Mapping[str, Mapping[str, Any]] = {
    "key refused": {"on": "connect", "do": "refuse", "code": 401},
    "too many calls": {"on": "connect", "do": "refuse", "code": 429},
    "out of order": {"on": "connect", "do": "refuse", "code": 503},
    "connection lost at once": {"on": "setup", "do": "drop"},
    "closed at once": {"on": "setup", "do": "close", "code": 1011},
    "set-up refused": {"on": "setup", "do": "error", "text": "invalid_value"},
    "set-up never answered": {"on": "setup", "do": "stall"},
    "set-up answered with noise": {"on": "setup", "do": "garbage"},
    "lost while it greets": {"on": "greeting", "do": "drop"},
    "closed while it greets": {"on": "greeting", "do": "close", "code": 1011},
    "lost before it answers": {"on": "turn", "do": "drop"},
    "closed before it answers": {"on": "turn", "do": "close", "code": 1011},
    "policy before it answers": {"on": "turn", "do": "close", "code": 1008},
    "error instead of an answer": {"on": "turn", "do": "error", "text": "server_error"},
    "noise instead of an answer": {"on": "turn", "do": "garbage"},
    "unknown message": {"on": "turn", "do": "unknown"},
    "lost in the middle of an answer": {"on": "audio", "do": "drop"},
    "closed in the middle of an answer": {"on": "audio", "do": "close", "code": 1011},
    "lost while a tool runs": {"on": "tool", "do": "drop"},
    "lost when it is interrupted": {"on": "interrupted", "do": "drop"},
}

BEFORE_THE_TALK = frozenset({"connect", "setup", "greeting"})

HEARD_WITHIN_S = 2.0

MET_WITHIN_S = 5.0
"""The moment of the fault, after what leads to it."""

WATCHED_S = 6.0

OPENING_S = 12.0
"""A provider that never answers is given up after ten seconds, before the call is."""

SHORT = "This is a short story of a ship that sailed away."
"""Three seconds: what came of it before the fault is played to its end while we watch."""

_SCRIPT = {
    "greeting_tone_hz": 2000,
    "greeting_ms": 6000,
    "greeting_text": "I greet.",
    "steps": [{"on": "text", "do": [{"do": "speak", "tone_hz": 2000, "ms": 6000, "text": "I go on."}]}],
}
"""It greets where nothing was said yet, and goes on where it is told that it takes over."""

_TAKES_OVER = {"provider": "scripted", "options": {"script": json.dumps(_SCRIPT)}}


def key_of(name: str) -> str:
    return name.replace(" ", "_")


def scene(fault: Mapping[str, Any]) -> Scene:
    tools = [{"name": "weather"}] if fault["on"] == "tool" else []
    turn = {"hears": "go on", "says": SHORT if fault["on"] == "audio" else LONG, "tools": tools}
    return Scene(
        script={"turns": [turn, turn], "faults": [{**fault, "times": EVER}]},
        agent={"greeting": "Hello there.", "fallbacks": [_TAKES_OVER], "tools": ["weather"]},
    )


async def goes_on(talk: Talk, fault: Mapping[str, Any]) -> None:
    """The caller is not left in silence, whatever fails; and the record says whether anything did."""
    if fault["on"] not in BEFORE_THE_TALK:
        await talk.hears("Hello there.")
        await talk.caller.hears_silence(200)
        await talk.says_something()
    if fault["on"] == "interrupted":
        await talk.hears(LONG)
        await talk.says_something()
    await until(lambda: talk.faults_met() > 0, MET_WITHIN_S, "the fault never came")
    met = max(time.monotonic(), talk.caller.answered_at)
    await asyncio.sleep(met + WATCHED_S - time.monotonic())
    silence = talk.caller.longest_silence(met, met + WATCHED_S)
    record = await talk.hangs_up()
    failures = [(one["verdict"], one["problem"]) for one in facts(record, "ProviderFailed")]
    assert silence <= HEARD_WITHIN_S, f"silence for {silence:.1f} s after {failures}, {said(record, 'agent')}"
    assert (record["ended_by"], record["cause"]) == ("caller", "hangup")
    assert bool(failures) != (fault["do"] == "unknown"), failures

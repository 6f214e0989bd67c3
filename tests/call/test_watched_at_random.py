"""Random events at random moments in calls of which it is not known yet who picked up: each ends once, last of all, and
nothing is left. A seed that failed is printed; pass it to ``crowd`` to see it again.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import pytest
from tests.call.exchange import TARGET
from tests.call.phones import PATIENCE_S, SILENT, TestPhone, phone, scripted
from tests.call.toys import Toys

from offhook.bridge.codec import TextInput
from offhook.call.dialling import PlaceCall
from offhook.call.session import CallSession
from offhook.model.audio import AudioFormat
from offhook.model.call_events import CallArrived, CallEnded, TransferMode
from offhook.model.errors import BridgeError
from offhook.model.records import Agent, AnsweringMachinePlan, ProviderFallback, TransferDestination
from offhook.model.trunks import CallRules, OpenTrunk
from offhook.sip.uri import SipUri

MOST_EVENTS = 5
MOST_PAUSE_S = 1.2
SETTLES_S = 40.0
"""For the longest goodbye, and a busy machine."""

LOUD = OpenTrunk(trunk_id="loud", calls_per_s=1000, rules=CallRules(early_media=True))
"""Its callers hear it ring, or whatever is played before the answer."""

MODES: tuple[TransferMode, ...] = ("blind", "attended", "bridge", "warm")

PROFILES: tuple[dict[str, Any], ...] = (
    {},
    {"greets_on_open": True},
    {"exact_say": False},
    {"greets_on_open": True, "exact_say": False},
)

PLANS = (
    AnsweringMachinePlan(detect=True),
    AnsweringMachinePlan(detect=True, on_voicemail="hang_up"),
    AnsweringMachinePlan(detect=True, on_voicemail="ignore", on_screening="ignore"),
    AnsweringMachinePlan(detect=True, on_voicemail="leave_message", message="Call us back."),
    AnsweringMachinePlan(detect=True, on_screening="answer", screening_answer="It is Acme."),
)


def sounds(name: str, *, ms: int, hz: int, rings_ms: int = 0, then: str = "") -> Agent:
    """One tone after the answer; ``then`` what is done a second later."""
    steps: list[dict[str, object]] = [
        {"on": "ready", "after_ms": 200, "do": [{"do": "speak", "ms": ms, "tone_hz": hz}]},
    ]
    steps += [{"on": "ready", "after_ms": 1400, "do": [{"do": then}]}] if then else []
    return scripted(name, open_after_ms=rings_ms, steps=steps)


CALLEES = (
    SILENT,
    sounds("beeps", ms=400, hz=1000),
    sounds("fax", ms=3000, hz=2100),
    sounds("slow", ms=400, hz=1000, rings_ms=700),
    sounds("leaves", ms=400, hz=1000, then="end_call"),
    sounds("breaks", ms=400, hz=1000, then="fail"),
)


class Voice:
    """Slow, and not always there."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    async def speak(self, text: str, audio_format: AudioFormat) -> bytes:
        await asyncio.sleep(self._rng.random() * 0.5)
        if self._rng.random() < 0.2:
            raise BridgeError("local", "no voice", "fatal")
        return bytes(500 * audio_format.bytes_per_ms)


class Ear:
    """Hears what nobody said."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    async def __call__(self, audio: bytes, audio_format: AudioFormat) -> Sequence[str]:
        await asyncio.sleep(self._rng.random() * 0.3)
        return self._rng.choice([(), (), (), ("leave a message",), ("state your name",)])


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everybody there, and chance."""

    rng: random.Random
    ours: TestPhone
    theirs: TestPhone
    target: TestPhone

    def destination(self) -> TransferDestination:
        address = self.target.address
        target = f"sip:target@{address.host}:{address.port}"
        return TransferDestination(name="sales", target=target, mode=self.rng.choice(MODES))

    def agent(self) -> Agent:
        """Greets, and often fails, hangs up or transfers by itself; sometimes another provider follows."""
        later: dict[str, object] = {"on": "ready", "after_ms": self.rng.randrange(4000)}
        does = self.rng.choice(
            [
                [],
                [],
                [{"do": "fail", "verdict": self.rng.choice(["fatal", "fall_over", "retry"])}],
                [{"do": "end_call"}],
                [{"do": "use_tool", "name": "transfer_call", "arguments": {"destination": "sales"}}],
            ]
        )
        greets = {"on": "ready", "do": [{"do": "speak", "text": "hello from us", "ms": 300}]}
        agent = scripted("ours", open_after_ms=self.rng.choice([0, 500, 2000]), steps=[greets, {**later, "do": does}])
        second = ProviderFallback(provider="scripted", options={"script": json.dumps({"steps": [greets]})})
        return replace(
            agent,
            destinations=(self.destination(),),
            fallbacks=self.rng.choice([(), (second,)]),
            max_call_s=self.rng.choice([2, 300, 300]),
            first_speaker=self.rng.choice(["agent", "caller"]),
            machines=self.rng.choice(PLANS),
        )

    def happens(self, call: CallSession) -> str:
        """Something; returns what."""
        manager, call_id = self.ours.phone.manager, call.call_id
        what = self.rng.choice(["delete", "inject", "say", "hold", "take back", "press", "transfer", "they hang up"])
        match what:
            case "delete":
                manager.hang_up(call_id, goodbye_s=1.0)
            case "inject":
                manager.inject(call_id, TextInput(role="system", text="News.", respond=self.rng.random() < 0.5))
            case "say":
                manager.say(call_id, "One moment.", exact=self.rng.random() < 0.5)
            case "hold" | "take back":
                manager.hold(call_id, what == "hold")
            case "press":
                manager.press(call_id, "12")
            case "transfer":
                manager.transfer(call_id, self.destination())
            case _:
                for theirs in tuple(self.theirs.phone.manager.calls.values())[:1]:
                    self.theirs.hang_up(theirs)
        return what

    async def one_call(self) -> None:
        address, callee = self.theirs.address, self.rng.choice(CALLEES)
        target = SipUri.parse(f"sip:{callee.agent_id}@{address.host}:{address.port}")
        command = PlaceCall(target=target, agent=self.agent(), trunk=self.rng.choice([None, LOUD]))
        call = self.ours.phone.manager.place(command)
        did = []
        for _ in range(self.rng.randrange(MOST_EVENTS + 1)):
            await asyncio.sleep(self.rng.random() * MOST_PAUSE_S)
            did.append(self.happens(call))
        await asyncio.sleep(self.rng.random() * MOST_PAUSE_S)
        self.ours.phone.manager.hang_up(call.call_id, goodbye_s=1.0)
        async with asyncio.timeout(SETTLES_S):
            await self.ours.phone.manager.wait(call)
        facts = [event.fact for event in self.ours.facts.events if event.call_id == call.call_id]
        kinds = [type(fact) for fact in facts]
        assert (kinds.count(CallArrived), kinds.count(CallEnded), kinds[-1]) == (1, 1, CallEnded), (callee, did, facts)
        assert isinstance(facts[-1], CallEnded)
        assert facts[-1].cause != "internal_error", (callee, did, facts)

    async def everybody_leaves(self) -> None:
        for one in (self.theirs, self.target):
            for call in tuple(one.phone.manager.calls.values()):
                one.hang_up(call)
        for one in (self.ours, self.theirs, self.target):
            await one.quiet()


async def crowd(seed: int, calls: int) -> None:
    print("seed", seed)
    rng, before = random.Random(seed), asyncio.all_tasks()
    ear = rng.choice([None, Ear(rng)])
    toys, voice = Toys(**rng.choice(PROFILES)), rng.choice([None, Voice(rng)])
    async with (
        phone(*CALLEES, trunks=(LOUD,), max_calls=100) as theirs,
        phone(TARGET, trunks=(LOUD,), max_calls=100) as target,
        phone(max_calls=100, bridges=toys, voice=voice, spotter=lambda: ear) as ours,
    ):
        scene = Scene(rng=rng, ours=ours, theirs=theirs, target=target)
        await asyncio.gather(*(scene.one_call() for _ in range(calls)))
        await scene.everybody_leaves()
    assert all(connection.closed for connection in toys.connections if connection.opened)
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_S):
            while asyncio.all_tasks() != before:  # noqa: ASYNC110 tasks that are cancelled have no event for it
                await asyncio.sleep(0.01)
    assert asyncio.all_tasks() == before


async def test_whatever_happens_while_it_is_listened_for_leaves_nothing() -> None:
    await crowd(1, 6)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(2, 12))
async def test_whatever_happens_in_many_such_calls_leaves_nothing(seed: int) -> None:
    await crowd(seed, 20)

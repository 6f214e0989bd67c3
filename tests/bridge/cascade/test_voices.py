"""What every voice of a cascade does alike, each on a real websocket with its vendor's simulator at the other end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from tests.bridge.cascade.part_talk import say, voice_at

from offhook.bridge.cascade.ports import Aligned, ContextDone, TtsVendor
from offhook.bridge.cascade.tts_cartesia import CARTESIA_TTS
from offhook.bridge.cascade.tts_deepgram import DEEPGRAM_TTS
from offhook.bridge.cascade.tts_elevenlabs import ELEVENLABS_TTS
from offhook.bridge.codec import BridgeFault
from offhook.model.audio import PCMA_8K, PCMU_8K, AudioFormat
from offhook.model.errors import BridgeError
from offhook.simulators.cartesia import CartesiaSimulator
from offhook.simulators.deepgram import DeepgramSimulator
from offhook.simulators.elevenlabs_tts import ElevenLabsTtsSimulator
from offhook.simulators.script import Fault, Script
from offhook.simulators.stage import Simulator
from offhook.simulators.voice import spoken


@dataclass(frozen=True, kw_only=True)
class Case:
    """A vendor; ``broken``: an error of its own words after which another websocket serves, ``key_error``: its word for
    a key it does not know.
    """

    vendor: TtsVendor
    simulator: Callable[[Script], Simulator]
    broken: Fault
    key_error: str


CASES = [
    Case(vendor=CARTESIA_TTS, simulator=CartesiaSimulator, broken=Fault(do="garbage"), key_error="unauthorized"),
    Case(vendor=DEEPGRAM_TTS, simulator=DeepgramSimulator, broken=Fault(do="error"), key_error="INVALID_AUTH"),
    Case(
        vendor=ELEVENLABS_TTS,
        simulator=ElevenLabsTtsSimulator,
        broken=Fault(do="error", text="system_busy"),
        key_error="invalid_api_key",
    ),
]

each_vendor = pytest.mark.parametrize("case", CASES, ids=lambda case: case.vendor.name)


@each_vendor
@pytest.mark.parametrize("audio_format", [PCMU_8K, PCMA_8K], ids=["pcmu", "pcma"])
async def test_what_is_spoken_is_what_was_sent(case: Case, audio_format: AudioFormat) -> None:
    simulator = case.simulator(Script())
    async with voice_at(simulator, case.vendor, audio_format) as (voice, heard):
        say(voice, "a", "Good morning, ", "how are you?")
        say(voice, "b", "And again.")
        await heard.until(lambda: heard.done() == ["a", "b"])
    first = spoken("Good morning,", audio_format)
    assert heard.audio["a"] == first + spoken("how are you?", audio_format)
    assert heard.audio["b"] == spoken("And again.", audio_format)
    if case.vendor.aligns:
        assert [word for word, _ in heard.words("a")] == ["Good", "morning,", "how", "are", "you?"]
        assert dict(heard.words("a"))["how"] == len(first) // 8
        kinds = [type(event) for event in heard.events]
        assert kinds.index(Aligned) < kinds.index(ContextDone)
    assert simulator.journal.problems == []


@each_vendor
async def test_cutting_off_is_final_and_the_next_one_is_whole(case: Case) -> None:
    simulator = case.simulator(Script(pace=8, faults=(Fault(do="late_audio", on="interrupted"),)))
    async with voice_at(simulator, case.vendor) as (voice, heard):
        say(voice, "a", "A very long story that will be cut off in the middle of its first sentence. ", "And on.")
        await heard.until(lambda: "a" in heard.audio)
        voice.cancel("a")
        came = len(heard.audio["a"])
        say(voice, "b", "Yes?")
        await heard.until(lambda: heard.done() == ["b"])
    assert len(heard.audio["a"]) == came
    assert heard.audio["b"] == spoken("Yes?", PCMU_8K)
    assert simulator.journal.problems == []


@each_vendor
@pytest.mark.parametrize("how", ["close", "drop", "broken"])
async def test_a_websocket_that_breaks_says_its_text_on_the_next(case: Case, how: str) -> None:
    faults = {"close": Fault(do="close", code=1011), "drop": Fault(do="drop"), "broken": case.broken}
    simulator = case.simulator(Script(faults=(faults[how],)))
    async with voice_at(simulator, case.vendor) as (voice, heard):
        say(voice, "a", "Good morning.")
        await heard.until(lambda: heard.done() == ["a"])
    assert heard.audio["a"] == spoken("Good morning.", PCMU_8K)
    assert [one.verdict for one in heard.of(BridgeFault)] == ["retry"]
    assert simulator.journal.connections == 2


@each_vendor
@pytest.mark.parametrize("kind", ["unknown", "burst", "trickle"])
async def test_what_is_odd_changes_nothing(case: Case, kind: Any) -> None:
    async with voice_at(case.simulator(Script(faults=(Fault(do=kind),))), case.vendor) as (voice, heard):
        say(voice, "a", "Good morning.")
        await heard.until(lambda: heard.done() == ["a"])
    assert heard.audio["a"] == spoken("Good morning.", PCMU_8K)
    assert heard.of(BridgeFault) == []


@each_vendor
async def test_a_refused_key_is_told_at_once(case: Case) -> None:
    fault = Fault(do="refuse", on="connect", code=401, text=case.key_error)
    with pytest.raises(BridgeError, match=case.key_error) as told:
        async with voice_at(case.simulator(Script(faults=(fault,))), case.vendor):
            pass
    assert told.value.verdict == "fall_over"

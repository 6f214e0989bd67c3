"""What every recogniser of a cascade does alike, on a real websocket with its vendor's simulator at the other end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from tests.bridge.cascade.part_talk import ear_at, talk_until_heard, utterance

from offhook.audio.g711 import silence
from offhook.audio.tones import tone
from offhook.bridge.cascade.ports import SttVendor
from offhook.bridge.cascade.stt_cartesia import CARTESIA_STT
from offhook.bridge.cascade.stt_deepgram import DEEPGRAM_STT
from offhook.bridge.cascade.stt_openai import OPENAI_STT
from offhook.bridge.codec import BridgeFault
from offhook.model.audio import PCMA_8K, PCMU_8K, AudioFormat, Encoding
from offhook.model.errors import BridgeError
from offhook.simulators.cartesia import CartesiaSimulator
from offhook.simulators.deepgram import DeepgramSimulator
from offhook.simulators.openai_realtime import OpenAiSimulator
from offhook.simulators.script import Fault, FaultKind, Script, Turn
from offhook.simulators.stage import Simulator

MAX_ON_THE_WAY_BYTES = 4 * PCMU_8K.frame_bytes
"""Some take several frames in a message, and some frames were fed in the moment of the answer."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A vendor; ``key_error``: its word for a key it does not know."""

    vendor: SttVendor
    simulator: Callable[[Script], Simulator]
    key_error: str
    model: str = ""


CASES = {
    "cartesia": Case(vendor=CARTESIA_STT, simulator=CartesiaSimulator, key_error="unauthorized"),
    "flux": Case(vendor=DEEPGRAM_STT, simulator=DeepgramSimulator, key_error="INVALID_AUTH", model="flux-general-en"),
    "nova": Case(vendor=DEEPGRAM_STT, simulator=DeepgramSimulator, key_error="INVALID_AUTH", model="nova-3"),
    "openai": Case(vendor=OPENAI_STT, simulator=OpenAiSimulator, key_error="invalid_api_key"),
}

each_vendor = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@each_vendor
@pytest.mark.parametrize("audio_format", [PCMU_8K, PCMA_8K], ids=["pcmu", "pcma"])
async def test_every_frame_arrives_and_turns_come_back(case: Case, audio_format: AudioFormat) -> None:
    simulator = case.simulator(Script(turns=(Turn(hears="is it open"), Turn(hears="thank you"))))
    audio = utterance(audio_format)
    async with ear_at(simulator, case.vendor, audio_format, model=case.model) as (recogniser, heard):
        fed = await talk_until_heard(recogniser, heard, audio, 1, audio_format)
        fed += await talk_until_heard(recogniser, heard, audio, 2, audio_format)
    assert heard.turns() == ["is it open", "thank you"]
    assert "is it" in heard.partials()
    arrived = bytes(simulator.journal.audio_of[1])
    assert fed.startswith(arrived)
    assert len(fed) - len(arrived) < MAX_ON_THE_WAY_BYTES
    assert simulator.journal.problems == []


@each_vendor
@pytest.mark.parametrize("kind", ["close", "drop", "garbage"])
async def test_a_websocket_that_breaks_is_followed_by_another(case: Case, kind: FaultKind) -> None:
    fault = Fault(do=kind, on="after", ms=50)
    simulator = case.simulator(Script(faults=(fault,), turns=(Turn(hears="hello"),)))
    async with ear_at(simulator, case.vendor, model=case.model) as (recogniser, heard):
        await heard.until(lambda: bool(heard.of(BridgeFault)))
        await talk_until_heard(recogniser, heard, utterance(), 1)
    assert [one.verdict for one in heard.of(BridgeFault)] == ["retry"]
    assert heard.turns() == ["hello"]
    assert simulator.journal.connections == 2


@each_vendor
async def test_a_refused_key_is_told_at_once(case: Case) -> None:
    fault = Fault(do="refuse", on="connect", code=401, text=case.key_error)
    with pytest.raises(BridgeError, match=case.key_error) as told:
        async with ear_at(case.simulator(Script(faults=(fault,))), case.vendor, model=case.model):
            pass
    assert told.value.verdict == "fall_over"


@pytest.mark.parametrize("case", [CASES["cartesia"], CASES["flux"]], ids=["cartesia", "flux"])
async def test_who_goes_on_after_a_pause_is_resumed(case: Case) -> None:
    audio = tone(400, 600, -15, Encoding.PCMU) + silence(PCMU_8K) * 18 + utterance()
    simulator = case.simulator(Script(turns=(Turn(hears="well then"),)))
    async with ear_at(simulator, case.vendor, model=case.model) as (recogniser, heard):
        await talk_until_heard(recogniser, heard, audio, 1)
    assert heard.turns() == ["well then"]
    kinds = [name for name in heard.names() if name != "PartialText"]
    assert kinds == ["SpeechBegan", "EagerEnd", "Resumed", "EagerEnd", "EndOfTurn"]

"""The local agent's voice in a cascade."""

from __future__ import annotations

from tests.bridge.cascade.recorded_parts import RecordedVoice

from offhook.bridge.cascade.tts_local import SpokenHere
from offhook.bridge.codec import BridgeFault
from offhook.bridge.local.messages import Synthesised
from offhook.model.audio import PCMU_8K, AudioFormat
from offhook.model.errors import BridgeError


async def speak(text: str, audio_format: AudioFormat) -> Synthesised:
    if text == "gone":
        raise BridgeError("local", "the voice is gone", "fall_over")
    words = text.split()
    return Synthesised(audio=bytes(800 * len(words)), word_ms=tuple(100 * at for at in range(len(words))))


async def test_it_knows_the_place_of_each_word() -> None:
    heard = RecordedVoice()
    voice = SpokenHere(speak, heard, PCMU_8K)
    voice.begin("c1")
    voice.say("c1", "One two. ")
    voice.say("c1", "Three.")
    voice.finish("c1")
    await heard.until(lambda: heard.done() == ["c1"])
    assert heard.words("c1") == [("One", 0), ("two.", 100), ("Three.", 200)]
    await voice.close()


async def test_its_failure_is_told() -> None:
    heard = RecordedVoice()
    voice = SpokenHere(speak, heard, PCMU_8K)
    voice.begin("c1")
    voice.say("c1", "gone")
    await heard.until(lambda: bool(heard.of(BridgeFault)))
    assert heard.of(BridgeFault)[0].verdict == "fall_over"
    await voice.close()

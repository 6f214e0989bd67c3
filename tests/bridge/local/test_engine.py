"""The real recogniser and the real voice, in their processes."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import numpy as np
import psutil
import pytest
from tests.bridge.local.caller import flite, shipped

from offhook.audio.convert import converter
from offhook.audio.g711 import decode
from offhook.audio.level import frame_level_db
from offhook.bridge.local.engine import LocalEngine
from offhook.bridge.local.name_grammar import MAX_GRAMMARS
from offhook.bridge.local.phrases import Intent, RepeatAfter, Vocabulary, meaning
from offhook.bridge.local.worker_pool import WorkerError
from offhook.model.audio import L16_8K, L16_16K, PCMA_8K, PCMU_8K, AudioFormat

pytestmark = pytest.mark.asyncio(loop_scope="module")

VOICES = ("slt", "rms", "kal")
ONE_VOICE_OR_ALL = pytest.mark.parametrize("voices", [VOICES[:1], pytest.param(VOICES, marks=pytest.mark.soak)])
"""Recognition is a minute of CPU time here: what three voices show where nothing new is said, they show in the soak."""
IN_TURN_OR_ALL = pytest.mark.parametrize(
    "in_turn", [True, pytest.param(False, marks=pytest.mark.soak)], ids=["", "all"]
)
"""Likewise: each phrase by one of the voices, or by each."""

CORE = [
    ("what time is it", Intent.TIME),
    ("could you tell me the time", Intent.TIME),
    ("what's the date today", Intent.DATE),
    ("what day is it", Intent.DATE),
    ("what can you do", Intent.HELP),
    ("good bye", Intent.GOODBYE),
    ("wait a moment", Intent.STOP),
    ("uh huh", Intent.BACKCHANNEL),
    ("mm-hm", Intent.BACKCHANNEL),
    ("okay", Intent.BACKCHANNEL),
]
ASKING = [
    ("transfer me please", Intent.TRANSFER),
    ("i want to speak to a human", Intent.PERSON),
    ("operator", Intent.TRANSFER),
]
DECIDING = [
    ("put the call through", Intent.ACCEPT),
    ("accept", Intent.ACCEPT),
    ("not now", Intent.DECLINE),
    ("decline", Intent.DECLINE),
]


@pytest.mark.parametrize("audio_format", [PCMU_8K, PCMA_8K, L16_8K, L16_16K])
async def test_understands_the_shipped_question_in_every_format(engine: LocalEngine, audio_format: AudioFormat) -> None:
    assert await engine.recognise(shipped("what_time_is_it", audio_format), audio_format) == "what time is it"
    assert await engine.recognise(shipped("goodbye", audio_format), audio_format) == "goodbye"


@pytest.mark.parametrize(
    ("vocabulary", "phrases"),
    [(Vocabulary.COMMON, CORE), (Vocabulary.ASKING, ASKING), (Vocabulary.DECIDING, DECIDING)],
    ids=["common", "asking", "deciding"],
)
@IN_TURN_OR_ALL
async def test_understands_three_voices(
    engine: LocalEngine, vocabulary: Vocabulary, phrases: list[tuple[str, Intent]], in_turn: bool
) -> None:
    assert await misunderstood(engine, vocabulary, phrases, in_turn=in_turn) == []


@IN_TURN_OR_ALL
@pytest.mark.parametrize(
    ("vocabulary", "phrases"),
    [(Vocabulary.ASKING, CORE[::2]), (Vocabulary.DECIDING, CORE[1::2])],
    ids=["asking", "deciding"],
)
async def test_a_larger_vocabulary_hides_nothing(
    engine: LocalEngine, vocabulary: Vocabulary, phrases: list[tuple[str, Intent]], in_turn: bool
) -> None:
    assert await misunderstood(engine, vocabulary, phrases if in_turn else CORE, in_turn=in_turn) == []


async def misunderstood(
    engine: LocalEngine, vocabulary: Vocabulary, phrases: list[tuple[str, Intent]], *, in_turn: bool
) -> list[tuple[str, str, str | None]]:
    """(voice, phrase, what was understood) wherever it means something else. ``in_turn``: a voice says every third."""
    wrong = []
    for number, (phrase, intent) in enumerate(phrases):
        for voice in VOICES[number % len(VOICES) :][:1] if in_turn else VOICES:
            text = await engine.understand(flite(voice, phrase), PCMU_8K, vocabulary)
            if meaning(text or "") is not intent:
                wrong.append((voice, phrase, text))
    return wrong


@ONE_VOICE_OR_ALL
async def test_hears_free_speech_nearly_word_for_word(engine: LocalEngine, voices: tuple[str, ...]) -> None:
    said = "my name is john and i live in berlin"
    for voice in voices:
        assert await engine.recognise(flite(voice, said), PCMU_8K) == said


async def test_hears_what_it_shall_repeat(engine: LocalEngine) -> None:
    text = await engine.recognise(flite("rms", "repeat after me the quick brown fox"), PCMU_8K)
    assert meaning(text) == RepeatAfter(words="the quick brown fox")


NAMES = ("sales", "technical support", "Anna Schmidt", "Müller", "", "<x> | ;")
"""Three that can be heard, and three that no dictionary has."""


@ONE_VOICE_OR_ALL
@pytest.mark.parametrize("text", ["connect me to sales", "can i speak to anna schmidt", "technical support please"])
async def test_hears_the_names_that_it_listens_for(engine: LocalEngine, text: str, voices: tuple[str, ...]) -> None:
    for voice in voices:
        assert await engine.understand(flite(voice, text), PCMU_8K, Vocabulary.ASKING, NAMES) == text


@ONE_VOICE_OR_ALL
@pytest.mark.parametrize("text", ["can i talk to my mother", "what time is it"])
async def test_hears_no_name_where_none_was_said(engine: LocalEngine, text: str, voices: tuple[str, ...]) -> None:
    for voice in voices:
        with_names = await engine.understand(flite(voice, text), PCMU_8K, Vocabulary.ASKING, NAMES)
        assert with_names == await engine.understand(flite(voice, text), PCMU_8K, Vocabulary.ASKING)


@ONE_VOICE_OR_ALL
@pytest.mark.parametrize(
    "text",
    ["i want to talk about the contract", pytest.param("connect the cable to the machine", marks=pytest.mark.soak)],
)
async def test_hears_nobody_asked_for_where_there_is_nobody(
    engine: LocalEngine, text: str, voices: tuple[str, ...]
) -> None:
    for voice in voices:
        before = await engine.understand(flite(voice, text), PCMU_8K)
        assert meaning(before or "") is None
        await engine.understand(flite(voice, text), PCMU_8K, Vocabulary.ASKING, NAMES)
        assert await engine.understand(flite(voice, text), PCMU_8K) == before


@pytest.mark.soak
async def test_more_lists_of_names_than_are_kept(engine: LocalEngine) -> None:
    short = flite("rms", "sales")[: 400 * 8]
    for number in range(MAX_GRAMMARS + 2):
        names = tuple("sales" if number & 1 << bit else "support" for bit in range(5))
        await engine.understand(short, PCMU_8K, Vocabulary.ASKING, names)
    words = "connect me to sales"
    assert await engine.understand(flite("rms", words), PCMU_8K, Vocabulary.ASKING, NAMES) == words


def _noise(ms: int, envelope_ms: int) -> bytes:
    """White noise that dies away, as a cough does."""
    count = 8 * ms
    decay = np.exp(-np.arange(count) / (8 * envelope_ms))
    samples = np.random.default_rng(7).normal(0, 5000, count) * decay
    convert = converter(L16_8K, PCMU_8K)
    assert convert is not None
    return convert(np.clip(samples, -32768, 32767).astype("<i2").tobytes())


@pytest.mark.parametrize(
    "noise",
    [b"", b"\xff", b"\xff" * 8000, _noise(1000, 5000), _noise(400, 80), _noise(60, 20)],
    ids=["nothing", "a byte", "silence", "hiss", "cough", "click"],
)
async def test_noise_is_no_speech(engine: LocalEngine, noise: bytes) -> None:
    assert await engine.understand(noise, PCMU_8K) is None
    assert await engine.recognise(noise, PCMU_8K) == ""


@pytest.mark.parametrize("audio_format", [PCMU_8K, PCMA_8K])
async def test_speaks_at_telephone_level(engine: LocalEngine, audio_format: AudioFormat) -> None:
    speech = await engine.synthesise("It is 9:47 PM. Goodbye.", audio_format)
    assert 1500 * 8 < len(speech.audio) < 5000 * 8
    frames = [speech.audio[at : at + 160] for at in range(0, len(speech.audio), 160)]
    levels = [frame_level_db(audio_format.encoding, frame) for frame in frames]
    loud = [level for level in levels if level > max(levels) - 20]
    assert -23 < float(np.mean(loud)) < -14
    samples = np.frombuffer(decode(audio_format.encoding, speech.audio), dtype="<i2")
    assert np.mean(np.abs(samples.astype(int)) > 32000) == 0


async def test_words_have_rising_places_within_the_audio(engine: LocalEngine) -> None:
    text = "Today is Friday, November 20, 2026."
    speech = await engine.synthesise(text, PCMU_8K)
    assert len(speech.word_ms) == len(text.split())
    assert list(speech.word_ms) == sorted(speech.word_ms)
    assert speech.word_ms[0] < 100
    assert len(set(speech.word_ms)) == len(speech.word_ms)
    assert speech.word_ms[-1] < len(speech.audio) / 8


@pytest.mark.parametrize("text", ["", "...", "<b>&amp;", "Grüße 你好", "[[h@l'oU]]", "\x00\x01", "x" * 20_000])
async def test_speaks_or_skips_any_text(engine: LocalEngine, text: str) -> None:
    audio = await engine.speak(text, PCMU_8K)
    assert len(audio) < 8000 * 60 * 30
    assert await engine.speak("hello", PCMU_8K)


async def test_a_sentence_is_ready_at_once(engine: LocalEngine) -> None:
    await engine.speak("warm up", PCMU_8K)
    began = time.perf_counter()
    await engine.speak("I can tell you the time and the date.", PCMU_8K)
    assert time.perf_counter() - began < 0.5


async def test_the_loop_never_waits_for_recognition(engine: LocalEngine) -> None:
    audio = flite("rms", "my name is john and i live in berlin") * 3
    recognition = asyncio.create_task(engine.understand(audio, PCMU_8K))
    gaps = []
    began = last = time.perf_counter()
    while not recognition.done():
        await asyncio.sleep(0.001)
        now = time.perf_counter()
        gaps.append(now - last - 0.001)
        last = now
    assert len(gaps) > 50
    # The scheduler of a shared machine may take slices away; recognition in the loop would be one long gap.
    assert max(gaps) < (last - began) / 4


async def test_a_killed_recogniser_loses_one_utterance(engine: LocalEngine) -> None:
    recogniser = engine.pids[0]
    question = shipped("what_time_is_it")
    answer = asyncio.create_task(engine.understand(question * 4, PCMU_8K))
    await asyncio.sleep(0.05)  # it decodes for more than a second
    os.kill(recogniser, signal.SIGKILL)
    with pytest.raises(WorkerError):
        await answer
    assert await engine.understand(question, PCMU_8K) == "what time is it"
    assert recogniser not in engine.pids


async def test_a_killed_voice_speaks_again(engine: LocalEngine) -> None:
    voice = engine.pids[-1]
    os.kill(voice, signal.SIGKILL)
    with pytest.raises(WorkerError, match="died"):
        await engine.synthesise("lost", PCMU_8K)
    assert (await engine.synthesise("found", PCMU_8K)).audio
    assert voice not in engine.pids


async def test_closing_leaves_no_process() -> None:
    engine = LocalEngine(recognisers=2)
    await engine.start()
    pids = engine.pids
    assert len(pids) == 3
    await engine.close()
    await engine.close()
    assert not [pid for pid in pids if psutil.pid_exists(pid)]
    assert engine.pids == ()

"""The echo of our own voice is told from somebody who speaks."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import numpy as np
import pytest
from tests.audio.signals import Samples, frames_of, l16, spoken, voice

from offhook.audio.echo import EchoDetector, Heard
from offhook.audio.g711 import encode, silence
from offhook.audio.level import rms_of
from offhook.audio.resample import Resampler
from offhook.model.audio import L16_16K, PCMA_8K, PCMU_8K, AudioFormat, Encoding

LEAK_FRAMES = 7
"""At once: a voice activity detector needs 45 ms of sound at another threshold, 20 dB higher, to take it for speech."""

AGENT = "This is the agent. Ask me for the time or the date, or say help. We are open from nine in the morning."


def echo_of(sent: Samples, db: float, delay_ms: int, *, smeared: bool = False) -> Samples:
    """As a hybrid gives it back; ``smeared`` over 10 ms."""
    chance = np.random.default_rng(delay_ms)
    path = chance.normal(size=80) * np.exp(-np.arange(80) / 12) if smeared else np.eye(1, 80)[0]
    late = np.concatenate((np.zeros(8 * delay_ms), np.convolve(sent, path / np.sqrt(np.sum(path**2)))))
    return late[: len(sent)] * 10 ** (db / 20)


def line(*sounds: Samples) -> Samples:
    """All of them at once, and a little noise."""
    return sum(sounds, np.random.default_rng(5).normal(0, rms_of(-65.0), len(sounds[0])))


def judged(sent: Samples, heard: Samples, audio_format: AudioFormat = PCMU_8K) -> list[Heard]:
    """Frame by frame."""
    detector, size = EchoDetector(audio_format), audio_format.frame_bytes
    told = []
    for ours, theirs in zip(
        frames_of(coded(sent, audio_format), size), frames_of(coded(heard, audio_format), size), strict=True
    ):
        told.append(detector.heard(theirs))
        detector.sent(ours)
    return told


def coded(samples: Samples, audio_format: AudioFormat) -> bytes:
    if audio_format.encoding is Encoding.L16:
        return Resampler(8000, 16000)(l16(samples))
    return encode(audio_format.encoding, l16(samples))


def longest(told: list[Heard]) -> int:
    """Frames of somebody on end."""
    text = "".join("x" if one is Heard.SOUND else " " for one in told)
    return max((len(run) for run in text.split()), default=0)


@pytest.mark.parametrize("audio_format", [PCMU_8K, PCMA_8K, L16_16K], ids=["PCMU", "PCMA", "L16"])
@pytest.mark.parametrize("smeared", [False, True], ids=["clean", "smeared"])
@pytest.mark.parametrize(("db", "delay_ms"), [(-20, 25), (-20, 300), (-12, 100), (-12, 480)])
def test_an_echo_is_no_speech(db: int, delay_ms: int, smeared: bool, audio_format: AudioFormat) -> None:
    agent = voice(1)
    told = judged(agent, line(echo_of(agent, db, delay_ms, smeared=smeared)), audio_format)
    assert longest(told) <= LEAK_FRAMES
    assert told.count(Heard.ECHO) > 5 * told.count(Heard.SOUND)


@pytest.mark.parametrize("caller_db", [-18, -34])
@pytest.mark.parametrize("seed", range(2, 8))
def test_another_voice_is_no_echo(seed: int, caller_db: int) -> None:
    told = judged(voice(1), line(voice(seed, level_dbm0=caller_db)))
    assert Heard.ECHO not in told
    assert told.count(Heard.SOUND) > 60


@pytest.mark.parametrize(("db", "caller_db"), [(-20, -24), (-20, -34), (-12, -24)])
def test_who_speaks_into_the_echo_is_heard(db: int, caller_db: int) -> None:
    agent = voice(1)
    caller = np.concatenate((np.zeros(16000), voice(3, 1000, caller_db), np.zeros(8000)))
    told = judged(agent, line(echo_of(agent, db, 120), caller))
    sounding = [index for index in range(100, 150) if np.abs(caller[index * 160 :][:160]).max() > 3 * rms_of(caller_db)]
    heard = [told[index] is Heard.SOUND for index in sounding]
    assert heard.count(True) > 0.8 * len(sounding)


def test_a_second_later_nothing_is_an_echo() -> None:
    agent = voice(1)
    sent = np.concatenate((agent, np.zeros(16000)))
    heard = np.concatenate((np.zeros(len(agent) + 8000), agent[8000:16000]))
    assert Heard.ECHO not in judged(sent, line(heard))


def test_an_echo_that_moves_is_found_again() -> None:
    """A jitter buffer on the way lost or made a frame."""
    agent = voice(1, 6000)
    near, far = echo_of(agent, -20, 100), echo_of(agent, -20, 160)
    told = judged(agent, line(np.concatenate((near[:24000], far[24000:]))))
    assert longest(told) <= WINDOW_AND_A_BIT
    assert told[200:].count(Heard.SOUND) < 10


WINDOW_AND_A_BIT = 14
"""The window that straddles the jump is alike nowhere."""


def test_frames_that_come_two_at_a_time_are_compared_with_what_they_echo() -> None:
    """The network brings them so; what is sent goes evenly."""
    agent = voice(1)
    detector, told, chance = EchoDetector(PCMU_8K), list[Heard](), np.random.default_rng(7)
    waiting = deque(frames_of(coded(line(echo_of(agent, -14, 140)), PCMU_8K)))
    late = 0
    for ours in frames_of(coded(agent, PCMU_8K)):
        detector.sent(ours)
        late += 1
        for _ in range(late - int(chance.integers(0, 3))):
            told.append(detector.heard(waiting.popleft()))
            late -= 1
    assert longest(told) <= LEAK_FRAMES
    assert told.count(Heard.ECHO) > 5 * told.count(Heard.SOUND)


def test_noise_of_the_line_is_nothing() -> None:
    noise = np.random.default_rng(6).normal(0, rms_of(-45.0), 32000)
    assert set(judged(voice(1), line(noise))[100:]) == {Heard.NOTHING}


def test_the_last_second_is_told_anew_where_it_was_in_doubt() -> None:
    agent = voice(1)
    detector = EchoDetector(PCMU_8K)
    for ours, theirs in zip(
        frames_of(coded(agent, PCMU_8K)), frames_of(coded(line(echo_of(agent, -12, 60)), PCMU_8K)), strict=True
    ):
        if detector.heard(theirs) is Heard.SOUND and detector.lately() is Heard.ECHO:
            break
        detector.sent(ours)
    else:
        raise AssertionError("it was never in doubt")


@pytest.mark.parametrize("asks", [False, True])
def test_the_delay_is_told_whenever_somebody_asks(asks: bool) -> None:
    agent = voice(1)
    detector = EchoDetector(PCMU_8K)
    heard = frames_of(coded(line(echo_of(agent, -20, 240)), PCMU_8K))
    for ours, theirs in zip(frames_of(coded(agent, PCMU_8K)), heard, strict=True):
        detector.heard(theirs)
        detector.sent(ours)
        if asks:
            detector.lately()
    assert detector.delay_ms == pytest.approx(240, abs=1)


def test_what_is_sent_may_have_another_format_than_what_is_heard() -> None:
    """A provider hears L16 where the line is PCMA."""
    agent = voice(1)
    detector, told = EchoDetector(L16_16K, PCMA_8K), list[Heard]()
    heard = frames_of(coded(line(echo_of(agent, -16, 200)), L16_16K), L16_16K.frame_bytes)
    for ours, theirs in zip(frames_of(coded(agent, PCMA_8K)), heard, strict=True):
        told.append(detector.heard(theirs))
        detector.sent(ours)
    assert longest(told) <= LEAK_FRAMES
    detector.sends_in(PCMU_8K)
    assert not detector.may_echo


def test_frames_of_any_length_are_taken() -> None:
    detector = EchoDetector(PCMU_8K)
    for length in (0, 1, 159, 160, 400):
        assert detector.heard(b"\xff" * length) is Heard.NOTHING
        detector.sent(silence(PCMU_8K))
    assert detector.lately() is Heard.NOTHING


@pytest.mark.parametrize("said", ["mm-hm", "wait, stop", "no, wait a minute"])
@pytest.mark.parametrize("speaks", ["slt", "rms", "kal"])
def test_voices_of_flite_are_told_from_their_echo(speaks: str, said: str, tmp_path: Path) -> None:
    agent = spoken(AGENT, tmp_path, voice="slt", level_dbm0=-16.0)
    caller = spoken(said, tmp_path, voice=speaks, level_dbm0=-22.0)
    over = np.zeros(len(agent))
    over[16000 : 16000 + len(caller)] = caller
    echo = echo_of(agent, -20, 140, smeared=True)
    assert longest(judged(agent, line(echo))) <= LEAK_FRAMES
    assert longest(judged(agent, line(echo, over))) > LEAK_FRAMES

"""The provider that plays a file: all of it, once, in time, then the call ends; and what cannot be played is told."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.bridge.recording_listener import RecordingListener, request_for

from offhook.audio.tones import tone
from offhook.audio.wav import write_wav
from offhook.bridge.audio_file import AUDIO_FILE, MAX_FILE_BYTES, AudioFileConnection, open_audio_file
from offhook.bridge.codec import AudioDone, Begin, Digits, Interrupt, Ready, Say, TextInput, ToolCall
from offhook.model.audio import FRAME_MS, L16_16K, PCMU_8K, AudioFormat, Encoding, SampleRate
from offhook.model.errors import BridgeError, ConfigError
from offhook.model.records import Agent

SILENT_FRAME = b"\xff" * 160


def wav(file: Path, ms: int, rate_hz: SampleRate = 8000) -> Path:
    audio_format = AudioFormat(encoding=Encoding.L16, sample_rate_hz=rate_hz)
    file.write_bytes(write_wav(audio_format, tone(440, ms, -18, Encoding.L16, sample_rate_hz=rate_hz)))
    return file


def agent(by_operator: bool = True, **options: Any) -> Agent:
    return Agent(agent_id="a1", provider="audio_file", options=options, by_operator=by_operator)


async def opened(listener: RecordingListener, file: Path, audio_format: AudioFormat = PCMU_8K) -> AudioFileConnection:
    request = request_for(listener, provider="audio_file", audio_format=audio_format)
    connection = open_audio_file(replace(request, agent=agent(file=str(file))))
    await connection.open()
    return connection


def hear(connection: AudioFileConnection, ms: int) -> None:
    for _ in range(ms // FRAME_MS):
        connection.send_audio(SILENT_FRAME)


async def test_it_plays_the_file_as_the_line_goes_on_and_hangs_up_once_all_was_given(tmp_path: Path) -> None:
    listener = RecordingListener()
    connection = await opened(listener, wav(tmp_path / "welcome.wav", 3500))
    assert listener.events == [Ready()]
    connection.send(Begin())
    assert len(listener.audio["file"]) == 2000 * PCMU_8K.bytes_per_ms
    hear(connection, 980)
    assert len(listener.audio["file"]) == 2000 * PCMU_8K.bytes_per_ms
    hear(connection, 1000)
    assert listener.of(ToolCall) == []
    hear(connection, 1000)
    assert listener.audio["file"] == tone(440, 3500, -18, Encoding.PCMU)
    assert listener.names()[-3:] == ["AudioDone", "ResponseDone", "ToolCall"]
    assert listener.of(ToolCall) == [ToolCall(tool_call_id="end_call", name="end_call", arguments="{}")]
    assert listener.said() == ["[welcome.wav]"]


async def test_it_begins_when_the_talk_does_and_does_not_listen(tmp_path: Path) -> None:
    listener = RecordingListener()
    connection = await opened(listener, wav(tmp_path / "a.wav", 500))
    hear(connection, 5000)
    for command in (Digits(digits="1"), Say(text="hello"), TextInput(role="user", text="hello")):
        connection.send(command)
    assert listener.events == [Ready()]
    connection.send(Begin())
    connection.send(Interrupt(item="file", played_ms=20))
    connection.send(Begin())
    hear(connection, 5000)
    assert listener.of(AudioDone) == [AudioDone(item="file")]
    assert len(listener.audio["file"]) == 500 * PCMU_8K.bytes_per_ms


async def test_in_the_place_of_a_provider_that_failed_it_plays_when_it_is_told_to_speak(tmp_path: Path) -> None:
    listener = RecordingListener()
    connection = await opened(listener, wav(tmp_path / "a.wav", 500))
    connection.send(TextInput(role="system", text="Go on.", respond=True))
    assert listener.audio


async def test_nothing_comes_after_its_close(tmp_path: Path) -> None:
    listener = RecordingListener()
    connection = await opened(listener, wav(tmp_path / "a.wav", 5000))
    connection.send(Begin())
    await connection.close()
    given, told = len(listener.audio["file"]), len(listener.events)
    hear(connection, 5000)
    connection.send(Begin())
    assert (len(listener.audio["file"]), len(listener.events)) == (given, told)


@pytest.mark.parametrize("rate_hz", [8000, 16000, 22050, 24000, 44100, 48000])
async def test_any_rate_becomes_the_line_s(tmp_path: Path, rate_hz: SampleRate) -> None:
    listener = RecordingListener()
    connection = await opened(listener, wav(tmp_path / "a.wav", 1000, rate_hz), L16_16K)
    connection.send(Begin())
    assert len(listener.audio["file"]) == pytest.approx(1000 * L16_16K.bytes_per_ms, rel=0.01)


async def test_a_file_that_changed_is_read_anew(tmp_path: Path) -> None:
    file = wav(tmp_path / "a.wav", 500)
    before = RecordingListener()
    (await opened(before, file)).send(Begin())
    wav(file, 300)
    os.utime(file, ns=(1, 1))
    after = RecordingListener()
    (await opened(after, file)).send(Begin())
    assert (len(before.audio["file"]), len(after.audio["file"])) == (4000, 2400)


@pytest.mark.parametrize(
    ("options", "key", "problem"),
    [
        ({}, "options.file", "is missing"),
        ({"file": 7}, "options.file", "is missing"),
        ({"file": "/nonexistent/a.wav"}, "options.file", "cannot be read"),
        ({"file": "/"}, "options.file", "is no file"),
        ({"fil": "a.wav"}, "options.fil", "is not known"),
    ],
)
def test_what_names_no_file_is_told_at_the_start(options: Mapping[str, Any], key: str, problem: str) -> None:
    with pytest.raises(ConfigError) as raised:
        AUDIO_FILE.check(agent(**options))
    assert raised.value.key == key
    assert problem in raised.value.problem
    assert "AUDIO_FILE" in raised.value.fix or key != "options.file"


def test_what_is_no_wav_or_too_long_is_told_at_the_start(tmp_path: Path) -> None:
    text, empty, long = tmp_path / "a.txt", tmp_path / "empty.wav", tmp_path / "long.wav"
    text.write_text("not audio at all")
    empty.write_bytes(write_wav(PCMU_8K, b""))
    with long.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    for file_of, problem in ((text, "not a WAV file"), (empty, "shorter than 20 ms"), (long, "larger than")):
        with pytest.raises(ConfigError, match=problem) as raised:
            AUDIO_FILE.check(agent(file=str(file_of)))
        assert "AUDIO_FILE" in str(raised.value)


def test_a_tenant_s_agent_reads_no_file_of_the_server(tmp_path: Path) -> None:
    theirs = agent(by_operator=False, file=str(wav(tmp_path / "a.wav", 500)))
    with pytest.raises(ConfigError, match="plays a file of the server"):
        AUDIO_FILE.check(theirs)


async def test_a_file_that_went_away_since_the_start_fails_the_provider(tmp_path: Path) -> None:
    request = request_for(RecordingListener(), provider="audio_file")
    connection = open_audio_file(replace(request, agent=agent(file=str(tmp_path / "gone.wav"))))
    with pytest.raises(BridgeError, match="cannot be read") as raised:
        await connection.open()
    assert raised.value.verdict == "fatal"

"""Voices over HTTP: what is asked of them, and what their samples are."""

from __future__ import annotations

import json

import pytest

from offhook.audio.wav import write_wav
from offhook.bridge.cascade.ports import PartSettings
from offhook.bridge.cascade.tts_http import rate_of, speech_request
from offhook.model.audio import AudioFormat, Encoding


def test_the_request_names_its_format() -> None:
    settings = PartSettings(base_url="http://x/v1", model="m", voice="v", speed=1.2, extra={"instructions": "Smile."})
    request = speech_request(settings, "Hi.", "pcm")
    assert json.loads(request.body) == {
        "model": "m",
        "input": "Hi.",
        "voice": "v",
        "response_format": "pcm",
        "speed": 1.2,
        "instructions": "Smile.",
    }
    assert "Authorization" not in dict(request.headers)


@pytest.mark.parametrize("rate_hz", [8000, 16000, 22050, 24000, 44100, 48000])
def test_the_rate_is_in_the_head(rate_hz: int) -> None:
    audio_format = AudioFormat(encoding=Encoding.L16, sample_rate_hz=rate_hz)  # type: ignore[arg-type]
    assert rate_of(write_wav(audio_format, b"")[:44]) == rate_hz


@pytest.mark.parametrize("head", [b"", b"RIFF", b"ID3 mp3", b"RIFF....WAVEfmt ", b"RIFF....WAVEfmt " + bytes(20)])
def test_no_rate_is_none(head: bytes) -> None:
    assert rate_of(head) is None

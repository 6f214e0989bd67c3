"""Turns as transcriptions over HTTP."""

from __future__ import annotations

from email.parser import BytesParser
from email.policy import HTTP

import pytest

from offhook.bridge.cascade.ports import PartSettings
from offhook.bridge.cascade.stt_http import plausible, transcription_request

SETTINGS = PartSettings(
    base_url="http://x/v1", api_key="k", model="m", language="de-DE", keywords=("Acme", "Ulm"), extra={"temperature": 0}
)


def test_the_request_is_a_form() -> None:
    request = transcription_request(SETTINGS, b"RIFF\x00\r\n--", streams=True)
    kind = dict(request.headers)["Content-Type"]
    message = BytesParser(policy=HTTP).parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + request.body)
    fields = {part.get_param("name", header="content-disposition"): part for part in message.iter_parts()}
    texts = {name: part.get_content().strip() for name, part in fields.items() if name != "file"}
    assert texts == {
        "model": "m",
        "response_format": "json",
        "language": "de",
        "prompt": "Acme, Ulm",
        "stream": "true",
        "temperature": "0",
    }
    assert fields["file"].get_content() == b"RIFF\x00\r\n--"
    assert (request.url, dict(request.headers)["Authorization"]) == ("http://x/v1/audio/transcriptions", "Bearer k")


@pytest.mark.parametrize(
    ("text", "speech_ms", "no_speech", "kept"),
    [
        (" Hello. ", 500, 0.1, "Hello."),
        ("Thank you for watching!", 500, 0.0, ""),
        ("Thank you for watching!", 3000, 0.0, "Thank you for watching!"),
        ("Bye.", 400, 0.0, "Bye."),
        ("Thank you.", 400, 0.0, "Thank you."),
        ("I see.", 3000, 0.9, ""),
        ("", 500, 0.0, ""),
    ],
)
def test_what_is_made_of_noise_is_dropped(text: str, speech_ms: int, no_speech: float, kept: str) -> None:
    assert plausible(text, speech_ms, no_speech) == kept

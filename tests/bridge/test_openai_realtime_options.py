"""What an agent may set for OpenAI Realtime, and what is refused."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from offhook.bridge.openai_realtime import options as options_of_openai
from offhook.bridge.openai_realtime.options import Setup, setup_of
from offhook.bridge.options import ProviderAccess
from offhook.model.errors import ConfigError
from offhook.model.records import Agent

ACCESS = ProviderAccess(api_key="key")


def setup(access: ProviderAccess = ACCESS, **options: Any) -> Setup:
    return setup_of(Agent(agent_id="a1", provider="openai", options=options, by_operator=True), access)


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("", "wss://api.openai.com/v1/realtime?model=gpt-realtime-2.1"),
        ("https://api.openai.com/v1/", "wss://api.openai.com/v1/realtime?model=gpt-realtime-2.1"),
        ("http://127.0.0.1:80/v1", "ws://127.0.0.1:80/v1/realtime?model=gpt-realtime-2.1"),
        ("wss://x.openai.azure.com/openai/v1", "wss://x.openai.azure.com/openai/v1/realtime?model=gpt-realtime-2.1"),
        ("wss://x.openai.azure.com/openai/realtime?api-version=1&deployment=d",
         "wss://x.openai.azure.com/openai/realtime?api-version=1&deployment=d"),
        ("wss://voice.example/realtime?model=m", "wss://voice.example/realtime?model=m"),
        ("wss://voice.example/?a=b", "wss://voice.example/realtime?a=b&model=gpt-realtime-2.1"),
    ],
)  # fmt: skip
def test_urls(base_url: str, url: str) -> None:
    assert setup(ProviderAccess(api_key="k", base_url=base_url)).url == url


@pytest.mark.parametrize(
    ("base_url", "options", "headers"),
    [
        ("", {}, {"Authorization": "Bearer k"}),
        ("", {"api_key": "own"}, {"Authorization": "Bearer own"}),
        ("", {"headers": {"OpenAI-Project": "p"}}, {"OpenAI-Project": "p", "Authorization": "Bearer k"}),
        ("wss://x.openai.azure.com/openai/v1", {}, {"api-key": "k"}),
        ("wss://x.example/v1", {"auth": "api-key"}, {"api-key": "k"}),
        ("wss://x.example/v1", {"auth": "none"}, {}),
        ("wss://x.example/v1", {"headers": {"Authorization": "Token t"}}, {"Authorization": "Token t"}),
    ],
)
def test_headers(base_url: str, options: dict[str, Any], headers: dict[str, str]) -> None:
    assert dict(setup(ProviderAccess(api_key="k", base_url=base_url), **options).headers) == headers


@pytest.mark.parametrize(
    ("options", "voice", "key"),
    [
        ({"voice": "bob"}, "", "options.voice"),
        ({}, "bob", "voice"),
        ({"temperature": 0.8}, "", "options.temperature"),
        ({"speed": 3}, "", "options.speed"),
        ({"turn_detection": {"threshold": 2}}, "", "options.turn_detection.threshold"),
        ({"turn_detection": {"silence": 2}}, "", "options.turn_detection.silence"),
        ({"turn_detection": {"type": "semantic_vad", "threshold": 0.5}}, "", "options.turn_detection.threshold"),
        ({"turn_detection": {"eagerness": "low"}}, "", "options.turn_detection.eagerness"),
        ({"turn_detection": "loud"}, "", "options.turn_detection"),
        ({"model": "gpt-realtime-1.5", "reasoning_effort": "low"}, "", "options.reasoning_effort"),
        ({"base_url": "nowhere"}, "", "options.base_url"),
    ],
)
def test_options_that_cannot_be_used_are_named(options: dict[str, Any], voice: str, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        setup_of(Agent(agent_id="a1", provider="openai", voice=voice, options=options), ACCESS)
    assert caught.value.key == key


@pytest.mark.parametrize("base_url", ["", "wss://x.openai.azure.com/openai/v1"])
def test_a_missing_key_is_named(base_url: str) -> None:
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        setup(ProviderAccess(base_url=base_url))


def test_a_server_of_ones_own_needs_no_key_and_has_its_own_names() -> None:
    made = setup(ProviderAccess(base_url="ws://127.0.0.1:8000/v1"), model="mine", voice="bob", reasoning_effort="low")
    assert (made.model, made.voice) == ("mine", "bob")


def test_old_names_are_replaced_with_one_warning_each(caplog: pytest.LogCaptureFixture) -> None:
    options_of_openai._warn.cache_clear()  # others of this process may have had them
    old: dict[str, Any] = {
        "voice": "onyx",
        "model": "gpt-4o-realtime-preview-2025-06-03",
        "transcription_model": "whisper-1",
    }
    with caplog.at_level(logging.WARNING, "offhook.bridge"):
        for _ in range(3):
            made = setup(**old)
            assert (made.voice, made.model, made.transcriber) == ("cedar", "gpt-realtime-2.1", "gpt-live-transcribe")
    assert [record.getMessage().split(";")[0] for record in caplog.records] == [
        "OpenAI Realtime: the model gpt-4o-realtime-preview-2025-06-03 is retired",
        "OpenAI Realtime: the voice onyx is retired",
        "OpenAI Realtime: the transcription model whisper-1 is retired",
    ]


@pytest.mark.parametrize("voice", ["fable", "nova"])
def test_the_voices_of_old_configurations_are_taken(voice: str) -> None:
    assert setup(voice=voice).voice in ("ballad", "marin")


def test_keys_are_in_no_repr() -> None:
    assert "secret-key" not in repr(setup(ProviderAccess(api_key="secret-key")))

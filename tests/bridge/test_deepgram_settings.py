"""What Deepgram's Voice Agent is told first, and which options it cannot work with."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from offhook.bridge.codec import ToolSpec, Utterance
from offhook.bridge.deepgram_agent import provider
from offhook.bridge.deepgram_settings import (
    DEFAULT_SPEAK,
    MAX_NOTES,
    NOTES_CHARACTERS,
    DeepgramOptions,
    PromptNotes,
    _warn_of_old_name,
    settings,
    think,
    voice_of,
)
from offhook.bridge.options import ProviderAccess, ProviderOptions, read_options
from offhook.bridge.outside import Outside
from offhook.bridge.provider_http import ProviderHttp
from offhook.bridge.told import MAX_CHARACTERS, MAX_UTTERANCES
from offhook.model.audio import L16_16K, PCMA_8K, PCMU_8K
from offhook.model.errors import ConfigError
from offhook.model.records import Agent
from offhook.simulators.deepgram_settings import Settings, check_settings, read_message
from offhook.store.forms import AgentForm


def agent_with(options: Mapping[str, Any], **more: Any) -> Agent:
    return Agent(agent_id="a", provider="deepgram", options=options, by_operator=True, **more)


def told(
    options: Mapping[str, Any], *, tools: Sequence[ToolSpec] = (), history: Sequence[Utterance] = (), **more: Any
) -> dict[str, Any]:
    """The settings, which the simulator accepts."""
    agent = agent_with(options, **more)
    read = read_options(agent, DeepgramOptions)
    message = settings(
        agent,
        read,
        formats=(PCMU_8K, PCMA_8K),
        think=think(read, "Be kind.", tools),
        greeting="",
        history=history,
    )
    accepted = read_message(message.decode())
    assert isinstance(accepted, Settings)
    check_settings(accepted)
    document: dict[str, Any] = msgspec.json.decode(message)
    return document


def test_the_least_that_is_told() -> None:
    assert told({}) == {
        "type": "Settings",
        "audio": {
            "input": {"encoding": "mulaw", "sample_rate": 8000},
            "output": {"encoding": "alaw", "sample_rate": 8000, "container": "none"},
        },
        "agent": {
            "listen": {"provider": {"type": "deepgram", "version": "v2", "model": "flux-general-en"}},
            "think": {"provider": {"type": "open_ai", "model": "gpt-4.1-mini"}, "prompt": "Be kind."},
            "speak": {"provider": {"type": "deepgram", "model": DEFAULT_SPEAK}},
        },
    }


def test_the_names_of_the_seed() -> None:
    agent = told(
        {
            "model": "aura-asteria-en",
            "listen_model": "nova-3",
            "think_provider": "anthropic",
            "think_model": "claude-sonnet-4-5",
        },
        language="de",
    )["agent"]
    assert agent["speak"]["provider"]["model"] == "aura-asteria-en"
    assert agent["listen"]["provider"] == {"type": "deepgram", "version": "v1", "model": "nova-3", "language": "de"}
    assert agent["think"]["provider"] == {"type": "anthropic", "model": "claude-sonnet-4-5"}


def test_whole_numbers_are_written_whole_and_nothing_is_null() -> None:
    document = told(
        {
            "eot_threshold": 1.0,
            "eager_eot_threshold": 0.4,
            "eot_timeout_ms": 3000,
            "think_temperature": 1.0,
            "speed": 1.0,
        }
    )
    text = msgspec.json.encode(document).decode()
    assert '"eot_threshold":1,' in text
    assert "1.0" not in text
    assert "null" not in text


def test_all_that_can_be_set_is_accepted() -> None:
    document = told(
        {
            "think_endpoint_url": "https://llm.example/v1/chat/completions",
            "think_endpoint_headers": {"x-team": "voice"},
            "think_key": "secret",
            "context_length": "max",
            "early_tools": ["look_up"],
            "keyterms": ["Acme"],
            "mip_opt_out": True,
            "tags": ["sip"],
            "language": "es-MX",
        },
        tools=[
            ToolSpec(name="look_up", description="d", parameters="{}"),
            ToolSpec(name="pay", description="d", parameters="{}"),
        ],
    )
    think_settings = document["agent"]["think"]
    assert think_settings["endpoint"] == {
        "url": "https://llm.example/v1/chat/completions",
        "headers": {"authorization": "Bearer secret", "x-team": "voice"},
    }
    deferred = {each["name"]: each.get("defer_until_eot", False) for each in think_settings["functions"]}
    assert deferred == {"look_up": False, "pay": True}
    assert document["agent"]["listen"]["provider"]["language_hints"] == ["es-MX"]
    assert document["agent"]["speak"]["provider"]["model"] == "aura-2-celeste-es"
    assert (document["mip_opt_out"], document["tags"]) == (True, ["sip"])


@pytest.mark.parametrize(
    ("speak_provider", "url", "header"),
    [
        ("eleven_labs", "wss://api.elevenlabs.io/v1/text-to-speech/v1/multi-stream-input", "xi-api-key"),
        ("cartesia", "wss://api.cartesia.ai/tts/websocket", "x-api-key"),
        ("open_ai", "https://api.openai.com/v1/audio/speech", "authorization"),
    ],
)
def test_voices_of_other_companies_have_an_endpoint(speak_provider: str, url: str, header: str) -> None:
    speak = told({"speak_provider": speak_provider, "speak_key": "k"}, voice="v1")["agent"]["speak"]
    assert speak["endpoint"]["url"] == url
    assert list(speak["endpoint"]["headers"]) == [header]
    assert "v1" in str(speak)


def test_linear_audio_has_its_rate() -> None:
    agent = agent_with({})
    message = settings(
        agent,
        DeepgramOptions(),
        formats=(L16_16K, L16_16K),
        think=think(DeepgramOptions(), "", ()),
        greeting="Hi.",
        history=(),
    )
    document = msgspec.json.decode(message)
    assert document["audio"]["input"] == {"encoding": "linear16", "sample_rate": 16000}
    assert document["agent"]["greeting"] == "Hi."


def test_of_a_long_talk_the_newest_is_told() -> None:
    talk = [Utterance(speaker="caller", text=f"{number}") for number in range(2 * MAX_UTTERANCES)]
    messages = told({}, history=talk)["agent"]["context"]["messages"]
    assert [messages[0]["content"], messages[-1]["content"]] == [f"{MAX_UTTERANCES}", f"{2 * MAX_UTTERANCES - 1}"]
    speech = [Utterance(speaker="agent", text="x" * (MAX_CHARACTERS // 2)) for _ in range(5)]
    assert len(told({}, history=speech)["agent"]["context"]["messages"]) == 2


def test_what_is_added_to_the_prompt_has_an_end() -> None:
    notes = PromptNotes()
    for number in range(3 * MAX_NOTES):
        notes.add(f"n{number}" + "x" * 1000)
    assert len(notes.merged("")) <= NOTES_CHARACTERS + 100
    assert f"n{3 * MAX_NOTES - 1}" in notes.merged("")


# ── options ──────────────────────────────────────────────────────────────────────────────────────────────


def check(options: Mapping[str, Any], *, api_key: str = "k", **more: Any) -> None:
    access = {"deepgram": ProviderAccess(api_key=api_key)}
    provider(Outside(http=ProviderHttp(), accesses=access)).check(agent_with(options, **more))


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"voice": "x"}, "options.voice"),
        ({"model": "nova-3"}, "options.model"),
        ({"eot_threshold": 0.2}, "options.eot_threshold"),
        ({"eot_timeout_ms": 5000.5}, "options.eot_timeout_ms"),
        ({"speak_provider": "cartesia"}, "options.speak_key"),
        ({"speak_provider": "cartesia", "speak_key": "k"}, "options.model"),
        ({"think_provider": "groq"}, "options.think_endpoint_url"),
        ({"context_length": 1000}, "options.context_length"),
        ({"base_url": "nowhere"}, "options.base_url"),
    ],
)
def test_options_it_cannot_work_with_are_named(options: Mapping[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check(options)
    assert caught.value.key == key


def test_a_missing_key_is_told_with_the_variable_that_holds_it() -> None:
    with pytest.raises(ConfigError, match="DEEPGRAM_API_KEY"):
        check({}, api_key="")
    check({"api_key": "mine"}, api_key="")


@pytest.mark.parametrize("name", ["fable", "onyx", "nova"])
def test_voices_of_old_are_replaced_with_one_warning(name: str, caplog: pytest.LogCaptureFixture) -> None:
    _warn_of_old_name.cache_clear()
    with caplog.at_level(logging.WARNING):
        check({}, voice=name)
        assert voice_of(agent_with({}, voice=name), DeepgramOptions()) == DEFAULT_SPEAK
        assert told({"model": name, "language": "de"})["agent"]["speak"]["provider"]["model"] == "aura-2-viktoria-de"
        check({"language": "de", "model": name})
    assert [name in record.getMessage() for record in caplog.records] == [True, True], (
        "once for each that speaks instead"
    )


def test_the_page_shows_an_agent_that_works_and_names_every_option() -> None:
    page = (Path(__file__).parents[2] / "docs" / "providers" / "deepgram.md").read_text()
    found = re.search(r"```json\n(.*?)```", page, re.DOTALL)
    assert found is not None
    form = msgspec.json.decode(found.group(1), type=AgentForm)
    check(form.options)
    own = set(DeepgramOptions.__struct_fields__) - set(ProviderOptions.__struct_fields__)
    assert [name for name in own if f"`{name}`" not in page] == []

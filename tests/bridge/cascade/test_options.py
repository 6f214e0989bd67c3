"""What an agent's options become, and which of them cannot be used."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import pytest

from offhook.bridge.cascade import provider
from offhook.bridge.cascade.options import Plan, cartesia_options, pipeline_options, plan_of
from offhook.bridge.options import ProviderAccess
from offhook.bridge.outside import Outside
from offhook.bridge.provider_http import ProviderHttp
from offhook.model.audio import AudioFormat
from offhook.model.errors import ConfigError
from offhook.model.records import Agent

OWN = {"base_url": "http://127.0.0.1:1/v1", "llm_model": "m"}
VOICE = {"voice_id": "v"}


def agent(provider_name: str, options: Mapping[str, Any], **more: Any) -> Agent:
    return Agent(agent_id="a", provider=provider_name, options=options, by_operator=True, **more)


def outside(*keys: str, voice: bool = False) -> Outside:
    async def speak(text: str, audio_format: AudioFormat) -> Any:
        raise NotImplementedError

    accesses = {name: ProviderAccess(api_key=f"{name}-key") for name in keys}
    return Outside(http=ProviderHttp(), accesses=accesses, local_voice=speak if voice else None)


def pipeline(options: Mapping[str, Any], there: Outside | None = None, **more: Any) -> Plan:
    made = agent("pipeline", options, **more)
    return plan_of(made, pipeline_options(made), there or outside())


def cartesia(options: Mapping[str, Any], *keys: str, **more: Any) -> Plan:
    made = agent("cartesia", options, **more)
    return plan_of(made, cartesia_options(made), outside(*keys))


def test_one_server_for_everything() -> None:
    plan = pipeline({**OWN, "api_key": "k", "headers": {"X-A": "b"}}, voice="ada", language="de-DE")
    assert {plan.stt.base_url, plan.llm.base_url, plan.tts.base_url} == {OWN["base_url"]}
    assert {plan.stt.api_key, plan.llm.api_key, plan.tts.api_key} == {"k"}
    assert (plan.tts.voice, plan.stt.language, plan.llm.headers) == ("ada", "de-DE", {"X-A": "b"})
    assert plan.tts_rate_hz == 0


def test_a_part_has_its_own() -> None:
    plan = pipeline(
        {**OWN, "tts_base_url": "http://voice/v1/", "tts_api_key": "t", "tts_voice": "x", "tts_sample_rate": 16000},
        voice="ada",
    )
    assert (plan.tts.base_url, plan.tts.api_key, plan.tts.voice) == ("http://voice/v1", "t", "x")
    assert (plan.stt.api_key, plan.tts_rate_hz) == ("", 16000)


def test_vendors_have_keys_of_the_server_and_never_those_of_ones_own_servers() -> None:
    options = {**OWN, "api_key": "mine", "headers": {"X-A": "b"}, "llm_provider": "openai", "llm_model": ""}
    plan = pipeline(options, outside("openai"))
    assert (plan.llm.base_url, plan.llm.api_key) == ("https://api.openai.com/v1", "openai-key")
    assert plan.llm.headers == {}
    assert plan.llm.model == "gpt-4.1-mini"


def test_fields_of_the_model() -> None:
    plan = pipeline({**OWN, "llm_temperature": 0.0, "llm_reasoning_effort": "low", "llm_extra": {"seed": 1}})
    assert plan.llm.fields == {"temperature": 0.0, "reasoning_effort": "low", "seed": 1}


def test_cartesia_as_the_seed_has_it() -> None:
    seed = {"voice_id": "v", "stt_provider": "cartesia", "llm_provider": "groq", "llm_model": "llama"}
    for options in (seed, {"cartesia": seed}):
        plan = cartesia(options, "cartesia", "groq")
        assert (plan.tts_vendor.name, plan.stt_vendor.name, plan.llm_vendor.name) == ("cartesia", "cartesia", "groq")
        assert (plan.tts.voice, plan.llm.model, plan.tts.api_key) == ("v", "llama", "cartesia-key")


def test_cartesias_own_key_is_not_shown_to_others() -> None:
    options = {**VOICE, "api_key": "c", "base_url": "http://127.0.0.1:1", "llm_provider": "custom"}
    plan = cartesia({**options, "llm_base_url": "http://m/v1", "llm_model": "m"}, "deepgram")
    assert (plan.tts.api_key, plan.tts.base_url) == ("c", "http://127.0.0.1:1")
    assert (plan.llm.api_key, plan.stt.api_key) == ("", "deepgram-key")


def test_old_models_are_replaced_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        plans = [
            cartesia({**VOICE, "model": "sonic-2", "llm_model": "gpt-4o-mini"}, "cartesia", "openai", "deepgram")
        ] * 2
        cartesia({**VOICE, "model": "sonic-2"}, "cartesia", "openai", "deepgram")
    assert (plans[0].tts.model, plans[0].llm.model) == ("sonic-3.5", "gpt-4.1-mini")
    assert sum("sonic-2" in record.message for record in caplog.records) <= 1


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({}, "options.stt_base_url"),
        ({"base_url": "nowhere", "llm_model": "m"}, "options.stt_base_url"),
        ({"base_url": OWN["base_url"]}, "options.llm_model"),
        ({**OWN, "stt_provider": "acme"}, "options.stt_provider"),
        ({**OWN, "llm_provider": "openai"}, "options.llm_api_key"),
        ({**OWN, "tts_provider": "elevenlabs", "tts_api_key": "k"}, "options.tts_voice"),
        ({**OWN, "tts_provider": "local"}, "options.tts_provider"),
        ({**OWN, "tts_sample_rate": 96000}, "options.tts_sample_rate"),
        ({**OWN, "stt_end_ms": 100}, "options.stt_eager_ms"),
        ({**OWN, "llm_timeout_s": 0}, "options.llm_timeout_s"),
        ({**OWN, "sst_model": "x"}, "options.sst_model"),
    ],
)
def test_what_cannot_be_used(options: Mapping[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as error:
        provider.pipeline(outside()).check(agent("pipeline", options))
    assert error.value.key == key


@pytest.mark.parametrize(
    ("options", "keys", "key"),
    [
        ({}, ("cartesia", "openai", "deepgram"), "options.voice_id"),
        (VOICE, ("openai", "deepgram"), "options.tts_api_key"),
        (VOICE, ("cartesia", "deepgram"), "options.llm_api_key"),
        (VOICE, ("cartesia", "openai"), "options.stt_api_key"),
        ({**VOICE, "tts_provider": "local"}, ("cartesia", "openai", "deepgram"), "options.tts_provider"),
    ],
)
def test_what_cartesia_needs(options: Mapping[str, Any], keys: tuple[str, ...], key: str) -> None:
    with pytest.raises(ConfigError) as error:
        provider.cartesia(outside(*keys)).check(agent("cartesia", options))
    assert error.value.key == key


def test_the_local_voice_needs_no_server() -> None:
    plan = pipeline({**OWN, "tts_provider": "local"}, outside(voice=True))
    assert plan.tts_vendor.name == "local"

"""SIP4AI's keys of config.json: the agent they describe, and what is said of those that are wrong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import json5
import jsonschema_rs
import msgspec
import pytest
from tests.config.loading import ACCOUNT, VENDOR_KEYS, load, problems_of
from tests.interop.seed_snippets import seed

from offhook.config import Settings, config_schema, provider_agent, provider_record
from offhook.server.providers import PROVIDERS, provider_problems

EXAMPLES = ("config.json — Full example", "OpenAI configuration", "ElevenLabs configuration", "Gemini configuration")


def with_provider(example: str, provider: str) -> str:
    return re.sub(r'"provider": "\w+"', f'"provider": "{provider}"', example, count=1)


@pytest.mark.parametrize("heading", EXAMPLES)
def test_every_example_of_the_document_is_taken_as_it_is(heading: str, tmp_path: Path) -> None:
    assert problems_of(tmp_path, seed().source(heading), VENDOR_KEYS) == []
    assert problems_of(tmp_path, seed().source(heading), VENDOR_KEYS | ACCOUNT) == []


@pytest.mark.parametrize("provider", ["openai", "elevenlabs", "gemini", "deepgram", "cartesia"])
def test_the_full_example_is_taken_with_each_of_its_providers(provider: str, tmp_path: Path) -> None:
    example = with_provider(seed().source(EXAMPLES[0]), provider)
    assert problems_of(tmp_path, example, VENDOR_KEYS) == []


def test_the_full_example_says_what_it_says(tmp_path: Path) -> None:
    settings = load(tmp_path, seed().source(EXAMPLES[0]), ACCOUNT)
    agent = provider_record(settings)
    assert agent is not None
    assert (agent.agent_id, agent.provider, agent.voice, agent.greeting) == ("main", "openai", "alloy", "Hello!")
    assert (agent.instructions[:20], dict(agent.options)) == ("You are a helpful as", {})
    (tool,) = agent.tools
    assert (tool.name, tool.dialect, tool.method) == ("get_customer_info", "sip4ai", "POST")
    assert (settings.mode, settings.http.port, settings.http.enabled) == ("inbound", 8080, True)
    assert settings.trunks[-1].caller_ids == (settings.outbound.caller_id,)
    other = provider_agent(settings, "elevenlabs")
    assert other is not None
    assert (other.provider, other.options, other.greeting) == ("elevenlabs", {"agent_id": "your-agent-id"}, "Hello!")
    assert other.tools == ("get_customer_info",)


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ({"greeting": "a", "first_message": "b"}, "greeting", "b"),
        ({"greeting": "a", "first_message": ""}, "greeting", "a"),
        ({"instructions": "a", "system_prompt": "b"}, "instructions", "b"),
        ({"instructions": "a"}, "instructions", "a"),
        ({"voice": "a", "voice_id": "b"}, "voice", "b"),
        ({"voice": "a"}, "voice", "a"),
        ({"model": "m", "turn_detection": None}, "options", {"model": "m", "turn_detection": None}),
    ],
)
@pytest.mark.parametrize("provider", ["openai", "gemini", "ultravox", "pipeline", "local"])
def test_what_a_section_says_becomes_the_agent(provider: str, section: dict[str, Any], field: str, value: Any) -> None:
    agent = provider_agent(msgspec.convert({"provider": provider, provider: section}, Settings))
    assert agent is not None
    assert (agent.provider, getattr(agent, field)) == (provider, value)


def test_without_a_provider_there_is_no_such_agent_unless_one_is_asked_for() -> None:
    settings = msgspec.convert({"openai": {"voice": "echo"}, "outbound": {"hangup_on_task_complete": False}}, Settings)
    assert provider_agent(settings) is None
    assert provider_record(settings) is None
    asked = provider_agent(settings, "openai")
    assert asked is not None
    assert (asked.voice, asked.hangs_up_when_done) == ("echo", False)
    assert provider_agent(settings, "gemini") == msgspec.structs.replace(asked, provider="gemini", voice="")
    record = provider_record(settings, "openai")
    assert record is not None
    assert (record.voice, record.by_operator) == ("echo", True)
    assert provider_record(settings, "gemini") is None


def test_a_name_that_is_no_section_has_none() -> None:
    settings = msgspec.convert({"data_dir": "x", "functions": []}, Settings)
    for name in ("data_dir", "functions", "sip", "nobody"):
        agent = provider_agent(settings, name)
        assert agent is not None
        assert agent.options == {}


def test_every_provider_has_its_section() -> None:
    assert set(PROVIDERS) - {"audio_file"} <= {field.name for field in msgspec.structs.fields(Settings)}


def test_an_audio_file_speaks_for_every_provider_but_one_that_is_asked_for() -> None:
    settings = msgspec.convert({"provider": "openai", "audio_file": "a.wav", "openai": {"voice": "x"}}, Settings)
    for provider in ("", "audio_file"):
        agent = provider_agent(settings, provider)
        assert agent is not None
        assert (agent.id, agent.provider, agent.options, agent.voice) == ("main", "audio_file", {"file": "a.wav"}, "")
    asked = provider_agent(settings, "openai")
    assert asked is not None
    assert asked.voice == "x"


FUNCTION = {"name": "look_up", "webhook": "https://app.example/f"}


@pytest.mark.parametrize(
    ("document", "key", "fix"),
    [
        ({"mode": "both"}, "mode", "Use one of: inbound, outbound"),
        ({"api_port": 70000}, "api_port", "config.json"),
        ({"api_port": "8080"}, "api_port", "a whole number, without quotes"),
        ({"providr": "openai"}, "providr", "Remove it, or use provider"),
        ({"OpenAI": {}}, "OpenAI", "Remove it, or use openai"),
        ({"api_port": True}, "api_port", "config.json"),
        ({"provider": 5}, "provider", "config.json"),
        ({"provider": "openia"}, "provider", "openai"),
        ({"openai": []}, "openai", "an object: {…}"),
        ({"openai": {"greeting": 5}}, "openai.greeting", "quotes"),
        ({"gemini": {"voice_id": ["Puck"]}}, "gemini.voice_id", "config.json"),
        ({"openia": {}}, "openia", "openai"),
        ({"provider": "openai", "openai": {"voicee": "alloy"}}, "openai.voicee", "or use voice"),
        ({"provider": "openai", "openai": {"voice": "bob"}}, "openai.voice", "alloy"),
        ({"provider": "openai", "openai": {"voice_id": "bob"}}, "openai.voice_id", "alloy"),
        ({"provider": "openai", "openai": {"xyz": 1}}, "openai.xyz", "instructions"),
        ({"provider": "openai", "openai": {"model": 1}}, "openai.model", "docs/providers/openai.md"),
        (
            {"provider": "openai", "openai": {"turn_detection": {"type": "server_vad", "treshold": 1}}},
            "openai.turn_detection.treshold",
            "docs/providers/openai.md",
        ),
        ({"provider": "openai", "openai": {"base_url": "x"}}, "openai.base_url", "wss://"),
        ({"provider": "elevenlabs"}, "elevenlabs.agent_id", "agent_id"),
        ({"provider": "cartesia"}, "cartesia.voice_id", "voice"),
        ({"provider": "deepgram", "deepgram": {"model": "nova-3"}}, "deepgram.model", "aura-2-thalia-en"),
        ({"provider": "deepgram", "deepgram": {"voice": "nova-3"}}, "deepgram.voice", "aura-2-thalia-en"),
        ({"provider": "deepgram", "deepgram": {"speak_provider": "cartesia"}}, "deepgram.speak_key", "key"),
        ({"provider": "local", "local": {"voicee": "x"}}, "local.voicee", "voice"),
        ({"audio_file": "absent.wav"}, "audio_file", "AUDIO_FILE"),
        ({"outbound": {"target": "1"}}, "outbound.target", "target_number"),
        ({"outbound": {"hangup_on_task_complete": "yes"}}, "outbound.hangup_on_task_complete", "true or false"),
        ({"functions": {}}, "functions", "a list: […]"),
        ({"functions": [{**FUNCTION, "name": "look up"}]}, "functions[0].name", "letters, digits"),
        ({"provider": "deepgram", "deepgram": {"think_provider": "openai"}}, "deepgram.think_provider", "open_ai"),
        (
            {"provider": "openai", "openai": {"turn_detection": {"type": "server"}}},
            "openai.turn_detection.type",
            "server_vad",
        ),
        ({"outbound": {"target_number": "http://x"}}, "outbound.target_number", "+4930123456"),
        ({"mode": "outbound", "outbound": {"task_description": "Ask."}}, "outbound.target_number", "mode"),
        ({"mode": "outbound", "outbound": {"target_number": "+4930123456"}}, "outbound.task_description", "to do"),
        ({"outbound": {"caller_id": "me"}}, "outbound.caller_id", "+4930123456"),
        ({"outbound": {"result_webhook": "app.example"}}, "outbound.result_webhook", "https://host/path"),
        (
            {
                "mode": "outbound",
                "outbound": {"target_number": "+4930123456", "caller_id": "+4930123", "task_description": "-"},
                "trunks": [{"id": "a", "kind": "gateway", "targets": ["sip:a.example"], "caller_ids": ["+4930124"]}],
            },
            "outbound.caller_id",
            "caller_ids",
        ),
        ({"functions": [{"webhook": "https://app.example"}]}, "functions[0].name", "name"),
        ({"functions": [FUNCTION, {"name": "b"}]}, "functions[1].webhook", "transfer"),
        ({"functions": [FUNCTION, {"name": "b", "webhok": "x"}]}, "functions[1].webhok", "webhook"),
        ({"functions": [FUNCTION, FUNCTION]}, "functions[1].name", "its own name"),
        ({"functions": [{"name": "b", "type": "transfer"}]}, "functions[0].target", "+4930123456"),
        ({"functions": [{**FUNCTION, "method": "get"}]}, "functions[0].method", "GET"),
        (
            {"functions": [FUNCTION], "tools": [{"id": "look_up", "name": "x", "url": "https://a.example"}]},
            "tools[0].id",
            "function",
        ),
        ({"event_webhook": "app.example"}, "event_webhook", "https://host/path"),
        (
            {
                "event_webhook": "https://app.example",
                "webhooks": [{"id": "event_webhook", "url": "https://a.example"}],
            },
            "webhooks[0].id",
            "another id",
        ),
        ({"webhook_secret": "short"}, "webhook_secret", "16 characters"),
        ({"provider": "openai", "agents": [{"id": "a"}, {"id": "main"}]}, "agents[1].id", "another id"),
        ({"numbers": [{"user": "1", "agent": "demo"}], "provider": "openai"}, "numbers[0].agent", "main"),
    ],
)
def test_what_is_wrong_names_the_user_s_own_key_and_the_fix(
    document: dict[str, Any], key: str, fix: str, tmp_path: Path
) -> None:
    (problem,) = problems_of(tmp_path, document, VENDOR_KEYS)
    assert problem.key == key
    assert fix in problem.fix
    assert "options." not in str(problem)


@pytest.mark.parametrize(
    ("provider", "section", "variable"),
    [
        ("openai", {}, "OPENAI_API_KEY"),
        ("gemini", {}, "GEMINI_API_KEY"),
        ("deepgram", {}, "DEEPGRAM_API_KEY"),
        ("ultravox", {}, "ULTRAVOX_API_KEY"),
        ("cartesia", {"voice_id": "v", "stt_provider": "cartesia", "llm_api_key": "k"}, "CARTESIA_API_KEY"),
        ("cartesia", {"voice_id": "v"}, "DEEPGRAM_API_KEY"),
    ],
)
def test_a_provider_without_its_key_names_the_variable(
    provider: str, section: dict[str, Any], variable: str, tmp_path: Path
) -> None:
    (problem,) = problems_of(tmp_path, {"provider": provider, provider: section})
    assert problem.key.startswith(f"{provider}.")
    assert problem.fix.startswith(f"Set {variable} in the environment, or {provider}.")
    assert str(problem).count(". ") == 1


def test_all_unknown_keys_of_a_section_are_told_and_what_else_is_wrong(tmp_path: Path) -> None:
    section = {"voicee": "x", "turn_detection": {"type": "server_vad", "treshold": 1}, "modl": "m", "voice": "bob"}
    keys = [problem.key for problem in problems_of(tmp_path, {"provider": "openai", "openai": section}, VENDOR_KEYS)]
    assert sorted(keys[:3]) == ["openai.modl", "openai.turn_detection.treshold", "openai.voicee"]
    assert keys[3:] == ["openai.voice"]


def test_all_functions_and_sections_that_are_wrong_are_told(tmp_path: Path) -> None:
    document: dict[str, Any] = {"functions": [{"name": "a"}, FUNCTION, {"name": "b", "type": "transfer"}]}
    document["webhook_secret"] = "short"
    keys = [problem.key for problem in problems_of(tmp_path, document)]
    assert keys == ["functions[0].webhook", "functions[2].target", "webhook_secret"]
    document = {"openai": {"greeting": 1, "voice": None, "x": 1}, "gemini": {"system_prompt": []}}
    keys = [problem.key for problem in problems_of(tmp_path, document)]
    assert keys == ["openai.greeting", "openai.voice", "gemini.system_prompt"]


def test_sections_of_other_providers_are_not_asked_for_keys(tmp_path: Path) -> None:
    document = {"provider": "local", "openai": {"voicee": "x"}, "gemini": {"voice": "Puck"}, "elevenlabs": {}}
    assert problems_of(tmp_path, document) == []


@pytest.mark.parametrize("caller_id", ["+4930123", "+49 (30) 123-45", "200", "user", ""])
@pytest.mark.parametrize("target", ["+1234567890", "sip:200@pbx.example", "tel:+49-30-1234567", "200"])
def test_a_call_of_ours_may_go_anywhere_and_show_what_its_trunk_may(
    target: str, caller_id: str, tmp_path: Path
) -> None:
    outbound = {"target_number": target, "caller_id": caller_id, "task_description": "Ask."}
    assert problems_of(tmp_path, {"mode": "outbound", "outbound": outbound}, ACCOUNT) == []


@pytest.mark.parametrize("caller_id", ["me", "+", "1", "anonymous", "sip:a@b.example"])
def test_a_caller_id_that_is_no_number_is_told_once_by_its_own_key(caller_id: str, tmp_path: Path) -> None:
    outbound = {"target_number": "+4930123456", "caller_id": caller_id, "task_description": "-"}
    (problem,) = problems_of(tmp_path, {"mode": "outbound", "outbound": outbound}, ACCOUNT)
    assert (problem.key, problem.fix) == ("outbound.caller_id", "Write it like +4930123456")


def test_settings_and_errors_do_not_show_keys(tmp_path: Path) -> None:
    document = {"provider": "openai", "openai": {"api_key": "hush", "voice": "bob"}, "webhook_secret": "hush" * 4}
    settings = load(tmp_path, document)
    assert "hush" not in repr(settings)
    assert "hush" not in "".join(map(str, provider_problems(settings)))


@pytest.mark.parametrize("heading", EXAMPLES)
def test_every_example_of_the_document_is_valid_by_the_schema(heading: str) -> None:
    assert jsonschema_rs.Draft202012Validator(config_schema()).is_valid(json5.loads(seed().source(heading)))


def test_the_schema_describes_every_key_of_the_document() -> None:
    schema = config_schema()
    top = schema["properties"]
    for key in ("mode", "api_port", "provider", "openai", "cartesia", "outbound", "functions", "event_webhook"):
        assert top[key]["description"], key
    assert top["openai"]["properties"]["first_message"] == {"type": "string"}
    assert top["webhook_secret"]["writeOnly"] is True
    described = schema["$defs"]["OutboundSettings"]["properties"]
    assert all(shape["description"] for shape in described.values())

"""``offhook elevenlabs prepare`` against the simulated vendor: what it changes there, and what it leaves."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.cli.typed import typed

from offhook.cli.elevenlabs import IGNORED_TERMS, OVERRIDES, parameter_schema
from offhook.simulators.elevenlabs_agent import ElevenlabsSimulator
from offhook.simulators.elevenlabs_workspace import NEW_AGENT, merged
from offhook.simulators.script import Script
from offhook.simulators.stage import Stage

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "array", "items": {"type": ["null", "integer"]}}},
    "required": ["city"],
}


@contextmanager
def served(simulator: ElevenlabsSimulator) -> Iterator[str]:
    """In a thread: a command runs a loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    stage = Stage(simulator)
    try:
        asyncio.run_coroutine_threadsafe(stage.start(), loop).result(10)
        yield stage.url
        asyncio.run_coroutine_threadsafe(stage.close(), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
def vendor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ElevenlabsSimulator, str]]:
    """With config.json of an agent there, and its path."""
    for name in ("ELEVENLABS_API_KEY", "ELEVEN_LABS_API_KEY", "ELEVENLABS_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    simulator = ElevenlabsSimulator(Script(), agent=NEW_AGENT, api_key="k")
    with served(simulator) as url:
        options = {"agent_id": "agent_1", "api_key": "k", "base_url": url}
        config = {
            "tools": [{"id": "t", "name": "weather", "url": "https://example.com", "parameters": SCHEMA}],
            "agents": [{"id": "a", "provider": "elevenlabs", "options": options, "tools": ["t"]}],
        }
        path = tmp_path / "config.json"
        path.write_text(json.dumps(config))
        yield simulator, str(path)


def changed(simulator: ElevenlabsSimulator) -> list[str]:
    return [m.path for m in simulator.journal.received if not m.path.startswith("GET ")]


def test_an_agent_is_made_fit_for_the_telephone(vendor: tuple[ElevenlabsSimulator, str]) -> None:
    simulator, config = vendor
    done = typed("elevenlabs", "prepare", "agent_1", "--config", config)
    assert (done.returncode, done.stderr) == (0, "")
    assert "ulaw_8000" in done.stdout
    assert "weather" in done.stdout
    agent = simulator.workspace.agent("agent_1")
    settings = agent["conversation_config"]
    assert settings["asr"]["user_input_audio_format"] == settings["tts"]["agent_output_audio_format"] == "ulaw_8000"
    assert settings["tts"]["voice_id"] == "default"
    assert {"client_tool_call", "agent_response_complete", "ping"} <= set(settings["conversation"]["client_events"])
    assert settings["turn"]["interruption_ignore_terms"] == list(IGNORED_TERMS)
    assert settings["turn"]["interruption_ignore_term_languages"] == ["en"]
    assert agent["platform_settings"]["overrides"] == OVERRIDES
    assert simulator.journal.problems == []
    names = done.stdout.strip().partition("tools: ")[2].split(", ")
    assert {"end_call", "send_dtmf", "weather"} <= set(names)
    assert len(settings["agent"]["prompt"]["tool_ids"]) == len(names)


def test_a_second_time_changes_nothing(vendor: tuple[ElevenlabsSimulator, str]) -> None:
    simulator, config = vendor
    typed("elevenlabs", "prepare", "agent_1", "--config", config)
    before, count = json.dumps(simulator.workspace.agent("agent_1")), len(changed(simulator))
    assert typed("elevenlabs", "prepare", "agent_1", "--config", config).returncode == 0
    assert json.dumps(simulator.workspace.agent("agent_1")) == before
    assert {path.split()[0] for path in changed(simulator)[count:]} == {"PATCH"}


def test_what_the_vendor_does_itself_is_left_to_it(vendor: tuple[ElevenlabsSimulator, str]) -> None:
    simulator, config = vendor
    prompt = {"built_in_tools": {"end_call": {"name": "end_call"}, "language_detection": None}}
    agent = simulator.workspace.agent("agent_1")
    agent["conversation_config"] = merged(agent["conversation_config"], {"agent": {"prompt": prompt}})
    done = typed("elevenlabs", "prepare", "agent_1", "--config", config)
    assert "end_call" not in done.stdout
    assert "send_dtmf" in done.stdout


def test_a_dry_run_shows_what_would_be_changed(vendor: tuple[ElevenlabsSimulator, str]) -> None:
    simulator, config = vendor
    done = typed("elevenlabs", "prepare", "agent_1", "--config", config, "--dry-run")
    planned = json.loads(done.stdout)
    assert planned["agent"]["conversation_config"]["asr"] == {"user_input_audio_format": "ulaw_8000"}
    [weather] = [tool for tool in planned["tools"] if tool["name"] == "weather"]
    assert (weather["type"], weather["expects_response"], weather["response_timeout_secs"]) == ("client", True, 21)
    assert weather["parameters"] == {
        "type": "object",
        "description": "weather",
        "properties": {
            "city": {"type": "string", "description": "city"},
            "days": {
                "type": "array",
                "description": "days",
                "items": {"type": "integer", "description": "days"},
            },
        },
        "required": ["city"],
    }
    assert changed(simulator) == []


@pytest.mark.parametrize(
    ("schema", "wanted"),
    [
        ({}, {"type": "string", "description": "x"}),
        ({"type": "string", "enum": ["a", 1]}, {"type": "string", "description": "x", "enum": ["a", "1"]}),
        ({"type": "integer", "minimum": 3}, {"type": "integer", "description": "x"}),
        ({"properties": {}}, {"type": "object", "description": "x", "properties": {}, "required": []}),
        ({"type": ["null"], "description": "d"}, {"type": "string", "description": "d"}),
    ],
)
def test_parameters_are_told_as_far_as_the_vendor_knows_them(schema: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert parameter_schema(schema, "x") == wanted


def test_a_key_that_is_missing_or_wrong_is_told(vendor: tuple[ElevenlabsSimulator, str], tmp_path: Path) -> None:
    simulator, config = vendor
    bare = tmp_path / "bare.json"
    bare.write_text(json.dumps({"agents": [{"id": "a", "provider": "scripted"}]}))
    done = typed("elevenlabs", "prepare", "agent_1", "--config", str(bare))
    assert done.returncode == 1
    assert "ELEVENLABS_API_KEY" in done.stderr
    wrong = Path(config)
    wrong.write_text(wrong.read_text().replace('"api_key": "k"', '"api_key": "no"'))
    done = typed("elevenlabs", "prepare", "agent_1", "--config", config)
    assert done.returncode == 1
    assert "(401)" in done.stderr
    assert changed(simulator) == []

"""Every problem of a configuration at once; `load_settings` tells the first of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from offhook.config import all_problems, load_settings
from offhook.model.errors import ConfigError


def problems(tmp_path: Path, document: Any, environment: dict[str, str] | None = None) -> list[str]:
    file = tmp_path / "config.json"
    file.write_text(document if isinstance(document, str) else json.dumps(document))
    return [error.key for error in all_problems(file, environment or {})]


def test_every_wrong_value_and_unknown_key_is_told_in_the_order_of_the_file(tmp_path: Path) -> None:
    document = {
        "foo": 1,
        "sip": {"port": "x", "prot": 1, "transports": ["a"]},
        "agents": [{"id": "a b", "x": 1}, {"id": "b", "destinations": [{"name": "", "target": 1, "zz": 2}]}],
        "trunks": [{"id": "a", "kind": "register", "server": "x", "usernam": "s"}, {"id": "b", "kind": "pbx"}],
        "numbers": 3,
        "http": [],
    }
    assert problems(tmp_path, document) == [
        "foo",
        "sip.port",
        "sip.prot",
        "sip.transports[0]",
        "agents[0].id",
        "agents[0].x",
        "agents[1].destinations[0].name",
        "agents[1].destinations[0].target",
        "agents[1].destinations[0].zz",
        "trunks[0].usernam",
        "trunks[0].username",
        "trunks[1].kind",
        "numbers",
        "http",
    ]


def test_what_no_single_key_shows_is_told_for_each_form(tmp_path: Path) -> None:
    document = {
        "sip": {"transports": []},
        "rtp": {"port_min": 20000, "port_max": 10000},
        "agents": [{"id": "a"}, {"id": "a"}],
        "numbers": [{"user": "1", "agent": "b"}, {"user": "2", "agent": "c"}],
        "webhooks": [{"id": "w", "url": "ftp://x"}],
        "security": {"allowed_targets": ["x"]},
    }
    assert problems(tmp_path, document) == [
        "rtp.port_max",
        "sip.transports",
        "security.allowed_targets[0]",
        "agents[1].id",
        "numbers[0].agent",
        "numbers[1].agent",
        "webhooks[0].url",
    ]


@pytest.mark.parametrize(
    ("agent", "key"),
    [
        ({"silence_prompts": ["hello?"]}, "silence_prompt_s"),
        ({"silence_prompt_s": 5}, "silence_prompts"),
        ({"fallbacks": [{}]}, "fallbacks[0]"),
        ({"fallbacks": [{"provider": "local", "prompt": "default"}]}, "fallbacks[0]"),
        ({"fallbacks": [{"prompt": "default", "voice": "x"}]}, "fallbacks[0].provider"),
        ({"fallbacks": [{"transfer": "nobody"}]}, "fallbacks[0].transfer"),
    ],
)
def test_what_an_agent_lacks_is_named(tmp_path: Path, agent: dict[str, Any], key: str) -> None:
    assert problems(tmp_path, {"agents": [{"id": "a", **agent}]}) == [f"agents[0].{key}"]


@pytest.mark.parametrize("text", ["", "[1]", '{"max_calls": 0}', '{"numbers": [{"user": "1", "agent": "b"}]}'])
def test_the_first_of_them_is_what_load_settings_raises(tmp_path: Path, text: str) -> None:
    first, *_ = problems(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_settings(tmp_path / "config.json", {})
    assert caught.value.key == first


def test_a_variable_that_cannot_be_read_is_a_problem_too(tmp_path: Path) -> None:
    assert problems(tmp_path, "{}", {"OFFHOOK_SIP_PORT": "many"}) == ["OFFHOOK_SIP_PORT"]


def test_a_configuration_that_is_well_has_none(tmp_path: Path) -> None:
    assert problems(tmp_path, {"agents": [{"id": "a"}], "numbers": [{"user": "*", "agent": "a"}]}) == []


@pytest.mark.parametrize(
    ("dialling", "key", "fix"),
    [
        ({"allow": ["+49", "4a"]}, "allow[1]", "+49"),
        ({"deny": ["+0"]}, "deny[0]", "+49"),
        ({"deny": [""]}, "deny[0]", "+49"),
        ({"allow": ["4930123"]}, "allow[0]", "+4930"),
        ({"allow": ["+49 30"]}, "allow[0]", "+4930"),
        ({"permit": ["premium", "all"]}, "permit[1]", "satellite"),
        ({"hours": "8-20"}, "hours", "08:00-20:30"),
        ({"hours": "08:00-24:00"}, "hours", "08:00-20:30"),
        ({"hours": "08:60-20:00"}, "hours", "08:00-20:30"),
        ({"hours": "08:00-08:00"}, "hours", "08:00-20:30"),
        ({"time_zone": "Europe/Atlantis"}, "time_zone", "Europe/Berlin"),
        ({"time_zone": "/etc/passwd"}, "time_zone", "Europe/Berlin"),
        ({"time_zone": "Europe"}, "time_zone", "Europe/Berlin"),
        ({"time_zone": "../x"}, "time_zone", "Europe/Berlin"),
        ({"max_calls": -1}, "max_calls", "config.json"),
    ],
)
def test_what_is_wrong_with_dialling_is_named(tmp_path: Path, dialling: dict[str, Any], key: str, fix: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"dialling": dialling}))
    (problem,) = all_problems(file, {})
    assert problem.key == f"dialling.{key}"
    assert fix in problem.fix


def test_dialling_takes_what_it_shows(tmp_path: Path) -> None:
    dialling = {
        "allow": ["+4", "+4930", "200", "2xx"],
        "deny": ["+49900"],
        "hours": "20:00-06:30",
        "time_zone": "Europe/Berlin",
    }
    assert problems(tmp_path, {"dialling": dialling}) == []

"""``offhook config``: all problems at once, for people and machines, and the schema."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.typed import typed
from tests.config.loading import ACCOUNT


def test_all_problems_are_told_and_the_exit_code_says_so(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text('{"sip": {"prot": 1}, "agents": [{"id": "a", "x": 1}]}')
    done = typed("config", "check", str(file))
    assert done.returncode == 1
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == ["sip.prot", "agents[0].x", "2 problems"]


def test_what_shows_only_in_use_is_told_too(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    missing = str(tmp_path / "missing.pem")
    document = {
        "sip": {"stun_server": "no host"},
        "tls": {"certificate": missing, "private_key": missing},
        "agents": [{"id": "a", "provider": "nobody"}, {"id": "b", "hold_audio": missing}],
    }
    file.write_text(json.dumps(document))
    told = json.loads(typed("config", "check", str(file), "--json").stdout)
    assert told["ok"] is False
    keys = [problem["key"] for problem in told["problems"]]
    assert keys == ["agents[0].provider", "tls.certificate", "agents[1].hold_audio", "sip.stun_server"]
    assert all(problem["fix"] for problem in told["problems"])


def test_a_file_that_is_well_is_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "config.json"
    file.write_text('{"max_calls": 3}')
    monkeypatch.setenv("OFFHOOK_MAX_CALL", "3")
    done = typed("config", "check", str(file))
    assert done.returncode == 0
    assert "did you mean OFFHOOK_MAX_CALLS?" in done.stdout
    assert done.stdout.splitlines()[-1] == f"{file} is well"
    told = json.loads(typed("config", "check", str(file), "--json").stdout)
    assert (told["ok"], told["problems"], len(told["warnings"])) == (True, [], 1)


def test_without_a_file_it_is_said_who_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in ("CONFIG_FILE", "AUDIO_FILE", "SIP_USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    assert typed("config", "check").stdout == "there is no config.json: the demo agent answers\n"
    for variable, text in (ACCOUNT | {"OPENAI_API_KEY": "key"}).items():
        monkeypatch.setenv(variable, text)
    assert typed("config", "check").stdout == "there is no config.json: openai answers\n"
    monkeypatch.delenv("SIP_DOMAIN")
    done = typed("config", "check")
    assert (done.returncode, done.stdout.partition(":")[0]) == (1, "SIP_DOMAIN")


def test_the_schema_is_printed_as_json() -> None:
    assert json.loads(typed("config", "schema").stdout)["$defs"]["SipSettings"]["properties"]["port"]["default"] == 5060

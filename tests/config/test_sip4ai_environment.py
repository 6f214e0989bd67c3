"""SIP4AI's variables: the account, ports, the file that is played, and which provider speaks where none is named."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from tests.config.loading import ACCOUNT, VENDOR_KEYS, load, problems_of

from offhook.config import agents_of, all_problems, numbers_of, trunks_of
from offhook.model.trunks import CallRules, RegisterTrunk


def test_an_account_is_a_trunk_beside_those_of_the_file(tmp_path: Path) -> None:
    document = {"trunks": [{"id": "web", "kind": "open"}], "outbound": {"caller_id": "+49 (30) 123"}}
    more = {"SIP_AUTH_ID": "auth", "SIP_SERVER": "sip.example.net:5070", "SIP_TRANSPORT": "TCP"}
    web, account = trunks_of(load(tmp_path, document, ACCOUNT | more))
    assert web.trunk_id == "web"
    assert account == RegisterTrunk(
        trunk_id="sip",
        server="sip.example.net",
        port=5070,
        username="user",
        password="pass",
        domain="pbx.example.com",
        auth_id="auth",
        transport="tcp",
        rules=CallRules(caller_ids=("+4930123",)),
    )


def test_without_an_account_there_is_no_trunk(tmp_path: Path) -> None:
    empty = dict.fromkeys(ACCOUNT, "")
    companions = {"SIP_TRANSPORT": "tcp", "SIP_AUTH_ID": "x", "SIP_OUTBOUND_PROXY": "proxy.example"}
    for environment in ({}, empty, companions, empty | companions, dict.fromkeys(ACCOUNT, "  ")):
        assert trunks_of(load(tmp_path, "{}", environment)) == ()


@pytest.mark.parametrize(
    ("server", "host", "port"),
    [
        ("pbx.example.com", "pbx.example.com", 0),
        ("pbx.example.com:5070", "pbx.example.com", 5070),
        (" 192.0.2.1 ", "192.0.2.1", 0),
        ("192.0.2.1:5060", "192.0.2.1", 5060),
        ("[2001:db8::1]:5061", "2001:db8::1", 5061),
        ("[2001:db8::1]", "2001:db8::1", 0),
        ("2001:db8::1", "2001:db8::1", 0),
    ],
)
def test_the_server_may_name_its_port(server: str, host: str, port: int, tmp_path: Path) -> None:
    (trunk,) = trunks_of(load(tmp_path, "{}", ACCOUNT | {"SIP_SERVER": server}))
    assert isinstance(trunk, RegisterTrunk)
    assert (trunk.server, trunk.port, trunk.transport) == (host, port, "udp")


@pytest.mark.parametrize(
    ("proxy", "transport", "is_told"),
    [
        ("proxy.example.com:5096", "", "sip:proxy.example.com:5096;transport=udp"),
        ("proxy.example.com", "tls", "sip:proxy.example.com;transport=tls"),
        ("[2001:db8::1]:5060", "tcp", "sip:[2001:db8::1]:5060;transport=tcp"),
        ("sip:proxy.example.com;transport=tcp", "udp", "sip:proxy.example.com;transport=tcp"),
    ],
)
def test_the_outbound_proxy_is_reached_as_the_server_would_be(
    proxy: str, transport: str, is_told: str, tmp_path: Path
) -> None:
    environment = ACCOUNT | {"SIP_OUTBOUND_PROXY": proxy, "SIP_TRANSPORT": transport}
    (trunk,) = trunks_of(load(tmp_path, "{}", environment))
    assert isinstance(trunk, RegisterTrunk)
    assert trunk.outbound_proxy == is_told


@pytest.mark.parametrize("count", [1, 2, 3])
def test_of_an_account_in_part_the_first_missing_variable_is_named_and_all_are_told(count: int, tmp_path: Path) -> None:
    for names in itertools.combinations(ACCOUNT, count):
        missing = [name for name in ACCOUNT if name not in names]
        (problem,) = problems_of(tmp_path, "{}", {name: ACCOUNT[name] for name in names})
        assert problem.key == missing[0]
        assert all(name in problem.fix for name in ACCOUNT)


@pytest.mark.parametrize(
    ("variable", "text", "fix"),
    [
        ("SIP_SERVER", "sip:pbx.example.com", "pbx.example.com:5060"),
        ("SIP_SERVER", "user@pbx.example.com", "pbx.example.com:5060"),
        ("SIP_SERVER", "pbx.example.com:99999", "pbx.example.com:5060"),
        ("SIP_SERVER", "pbx.example.com:0", "pbx.example.com:5060"),
        ("SIP_SERVER", "pbx.example.com:sip", "pbx.example.com:5060"),
        ("SIP_SERVER", "pbx.example.com;transport=tcp", "pbx.example.com:5060"),
        ("SIP_SERVER", "https://pbx.example.com", "pbx.example.com:5060"),
        ("SIP_DOMAIN", "pbx.example.com:5060", "without a port"),
        ("SIP_DOMAIN", "two words", "without a port"),
        ("SIP_USERNAME", "user@pbx.example.com", "before the @"),
        ("SIP_TRANSPORT", "sctp", "udp, tcp, tls"),
        ("SIP_OUTBOUND_PROXY", "proxy example", "proxy.example.com:5060"),
        ("SIP_OUTBOUND_PROXY", "sip:", "proxy.example.com:5060"),
        ("SIP_OUTBOUND_PROXY", "sip:a.example;transport=sctp", "udp, tcp, tls"),
        ("API_PORT", "http", "no HTTP server"),
        ("API_PORT", "70000", "no HTTP server"),
        ("API_PORT", "-1", "no HTTP server"),
        ("API_PORT", "8" * 5000, "no HTTP server"),
        ("DEBUG_FORCE_PORT", "10001", "Set it to 10000"),
        ("DEBUG_FORCE_PORT", "80", "1024 to 65534"),
        ("DEBUG_FORCE_PORT", "65536", "1024 to 65534"),
        ("DEBUG_FORCE_PORT", "some", "1024 to 65534"),
        ("AUDIO_FILE", "absent.wav", "AUDIO_FILE"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named_with_the_fix(
    variable: str, text: str, fix: str, tmp_path: Path
) -> None:
    (problem,) = problems_of(tmp_path, "{}", ACCOUNT | {variable: text})
    assert problem.key == ("audio_file" if variable == "AUDIO_FILE" else variable)
    assert fix in problem.fix


def test_all_variables_that_are_wrong_are_told_and_what_is_wrong_in_the_file(tmp_path: Path) -> None:
    environment = ACCOUNT | {"SIP_SERVER": "a b", "SIP_TRANSPORT": "x", "API_PORT": "x", "OFFHOOK_SIP_PORT": "x"}
    keys = [problem.key for problem in problems_of(tmp_path, {"foo": 1}, environment)]
    assert keys == ["OFFHOOK_SIP_PORT", "API_PORT", "SIP_SERVER", "SIP_TRANSPORT", "foo"]


def test_a_trunk_of_the_same_name_is_told(tmp_path: Path) -> None:
    document = {"trunks": [{"id": "sip", "kind": "open"}]}
    (problem,) = problems_of(tmp_path, document, ACCOUNT)
    assert problem.key == "SIP_USERNAME"
    assert "trunks[0]" in problem.fix
    assert problems_of(tmp_path, document) == []


@pytest.mark.parametrize(
    ("document", "environment", "flags", "won"),
    [
        ({}, {}, {}, (8080, True)),
        ({"api_port": 9000}, {}, {}, (9000, True)),
        ({"api_port": 0}, {}, {}, (8080, False)),
        ({"api_port": 9000, "http": {"port": 7000}}, {}, {}, (9000, True)),
        ({"api_port": 9000, "http": {"enabled": False}}, {}, {}, (9000, False)),
        ({"api_port": 9000}, {"API_PORT": "9001"}, {}, (9001, True)),
        ({"api_port": 0}, {"API_PORT": "9001"}, {}, (9001, True)),
        ({"api_port": 9000}, {"API_PORT": "0"}, {}, (8080, False)),
        ({"api_port": 9000}, {"API_PORT": ""}, {}, (9000, True)),
        ({}, {"API_PORT": "9001", "OFFHOOK_HTTP_PORT": "9002"}, {}, (9001, True)),
        ({"api_port": 9000}, {"OFFHOOK_HTTP_PORT": "9002"}, {}, (9002, True)),
        ({"api_port": 9000}, {"OFFHOOK_API_PORT": "9003"}, {}, (9003, True)),
        ({}, {"OFFHOOK_HTTP_PORT": "0"}, {}, (0, True)),
        ({}, {"API_PORT": "9001"}, {"http__port": 9004}, (9004, True)),
        ({}, {"API_PORT": "9001"}, {"api_port": 9005}, (9005, True)),
        ({}, {"API_PORT": "9001"}, {"api_port": 0}, (8080, False)),
    ],
)
def test_the_port_of_the_api_has_one_winner(
    document: dict[str, Any],
    environment: dict[str, str],
    flags: dict[str, int],
    won: tuple[int, bool],
    tmp_path: Path,
) -> None:
    http = load(tmp_path, document, environment, **flags).http
    assert (http.port, http.enabled) == won


def test_a_forced_port_is_the_only_pair(tmp_path: Path) -> None:
    for port in ("20000", "1024", "65534"):
        environment = {"DEBUG_FORCE_PORT": port, "OFFHOOK_RTP_PORT_MIN": "30000"}
        rtp = load(tmp_path, {"rtp": {"port_max": 40000}}, environment).rtp
        assert (rtp.port_min, rtp.port_max) == (int(port), int(port) + 1)


def test_a_file_is_played_to_every_caller(tmp_path: Path) -> None:
    document = {"provider": "openai", "agents": [{"id": "desk"}]}
    for settings in (load(tmp_path, document, {"AUDIO_FILE": "a.wav"}), load(tmp_path, "{}", {"AUDIO_FILE": "a.wav"})):
        agent = agents_of(settings)[-1]
        assert (agent.agent_id, agent.provider, agent.options) == ("main", "audio_file", {"file": "a.wav"})
        assert agent.by_operator
        assert [number.agent_id for number in numbers_of(settings)] == ["main"]


@pytest.mark.parametrize(
    ("document", "environment", "provider"),
    [
        ({}, ACCOUNT | VENDOR_KEYS, "openai"),
        ({}, ACCOUNT | {"ELEVENLABS_API_KEY": "k", "CARTESIA_KEY": "k"}, "elevenlabs"),
        ({}, ACCOUNT | {"GOOGLE_API_KEY": "k", "DEEPGRAM_API_KEY": "k"}, "gemini"),
        ({}, ACCOUNT | {"CARTESIA_KEY": "k"}, "cartesia"),
        ({}, ACCOUNT | {"OPENAI_API_KEY": "", "GROQ_API_KEY": "k", "OPENAI_BASE_URL": "http://x"}, ""),
        ({}, ACCOUNT, ""),
        ({}, VENDOR_KEYS, ""),
        ({"provider": "gemini"}, ACCOUNT | VENDOR_KEYS, "gemini"),
        ({"agents": [{"id": "desk"}]}, ACCOUNT | VENDOR_KEYS, ""),
        ({"numbers": [{"user": "1", "agent": "demo"}]}, ACCOUNT | VENDOR_KEYS, ""),
    ],
)
def test_the_first_provider_with_a_key_speaks_where_an_account_is_all_that_is_said(
    document: dict[str, Any], environment: dict[str, str], provider: str, tmp_path: Path
) -> None:
    assert load(tmp_path, document, environment).provider == provider


@pytest.mark.parametrize(
    ("variable", "vendor"),
    [
        ("OPENAI_API_KEY", "openai"),
        ("ELEVEN_LABS_API_KEY", "elevenlabs"),
        ("ELEVENLABS_API_KEY", "elevenlabs"),
        ("GEMINI_API_KEY", "gemini"),
        ("GOOGLE_API_KEY", "gemini"),
        ("DEEPGRAM_API_KEY", "deepgram"),
        ("CARTESIA_API_KEY", "cartesia"),
        ("CARTESIA_KEY", "cartesia"),
    ],
)
def test_every_key_of_the_document_and_its_twin_is_read(variable: str, vendor: str, tmp_path: Path) -> None:
    providers = load(tmp_path, "{}", {variable: "the key"}).providers
    assert getattr(providers, vendor).api_key == "the key"


NONSENSE: tuple[Any, ...] = (None, 5, "x", [], [5], [[]], {}, {"x": 1}, {"id": []}, [{"id": {}}], True)


@pytest.mark.parametrize("key", ["agents", "functions", "http", "openai", "outbound", "provider", "rtp", "trunks"])
def test_whatever_stands_where_variables_are_put_is_told_and_nothing_else_is(key: str, tmp_path: Path) -> None:
    environment = ACCOUNT | VENDOR_KEYS | {"API_PORT": "8081", "DEBUG_FORCE_PORT": "20000", "AUDIO_FILE": "a.wav"}
    file = tmp_path / "config.json"
    for nonsense in NONSENSE:
        file.write_text(json.dumps({key: nonsense}))
        found = [problem.key for problem in all_problems(file, environment)]
        assert all(name.startswith((key, "SIP_USERNAME")) for name in found), (nonsense, found)

"""Settings: what is read, what wins, and what an error says."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from offhook.config import DEMO_AGENT_ID, Settings, agents_of, load_settings, numbers_of, trunks_of
from offhook.model.audio import Encoding
from offhook.model.errors import ConfigError
from offhook.model.trunks import GatewayTrunk, OpenTrunk, RegisterTrunk
from offhook.store import trunk_forms


def load(tmp_path: Path, text: str, environment: dict[str, str] | None = None, **flags: object) -> Settings:
    file = tmp_path / "config.json"
    file.write_text(text)
    return load_settings(file, environment or {}, {key.replace("__", "."): value for key, value in flags.items()})


def error_of(tmp_path: Path, text: str, environment: dict[str, str] | None = None) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, environment)
    return caught.value


def test_comments_and_trailing_commas_are_read(tmp_path: Path) -> None:
    settings = load(tmp_path, '{ // where\n "sip": {"port": 5070,}, /* all */ "max_calls": 5 }')
    assert (settings.sip.port, settings.max_calls) == (5070, 5)


def test_flags_beat_the_environment_which_beats_the_file(tmp_path: Path) -> None:
    text = '{"sip": {"port": 1}}'
    assert load(tmp_path, text).sip.port == 1
    assert load(tmp_path, text, {"OFFHOOK_SIP_PORT": "2"}).sip.port == 2
    assert load(tmp_path, text, {"OFFHOOK_SIP_PORT": "2"}, sip__port=3).sip.port == 3
    assert load(tmp_path, text, {"OFFHOOK_SIP_PORT": "2"}, sip__port=None).sip.port == 2


def test_environment_lists_are_comma_separated_and_booleans_are_words(tmp_path: Path) -> None:
    settings = load(tmp_path, "{}", {"OFFHOOK_SIP_TRANSPORTS": "udp, tcp", "OFFHOOK_LOG_SPEECH": "true"})
    assert settings.sip.transports == ("udp", "tcp")
    assert settings.log.speech is True


def test_the_file_is_found_by_its_variable(tmp_path: Path) -> None:
    file = tmp_path / "other.json"
    file.write_text('{"max_calls": 7}')
    assert load_settings(None, {"CONFIG_FILE": str(file)}).max_calls == 7


def test_without_a_file_the_demo_agent_answers_every_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings(None, {})
    assert [agent.agent_id for agent in agents_of(settings)] == [DEMO_AGENT_ID]
    assert [(number.user, number.agent_id) for number in numbers_of(settings)] == [("*", DEMO_AGENT_ID)]


def test_the_readme_s_example_is_accepted(tmp_path: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    example = readme.split("```json5\n", 1)[1].split("```", 1)[0]
    assert [agent.agent_id for agent in agents_of(load(tmp_path, example))] == ["desk"]


DOCS = Path(__file__).parents[2] / "docs"
HOW_TO = "".join((DOCS / name).read_text() for name in ("TRUNKS.md", "TRANSFERS.md", "MID_CALL.md", "OUTBOUND.md"))


@pytest.mark.parametrize("example", [block.split("```", 1)[0] for block in HOW_TO.split("```json5\n")[1:]])
def test_the_how_to_s_examples_are_accepted(tmp_path: Path, example: str) -> None:
    assert load(tmp_path, example).sip.port == 5060


def test_agents_become_records(tmp_path: Path) -> None:
    text = '{"agents": [{"id": "a", "provider": "scripted", "options": {"script": "{}"}}]}'
    (agent,) = agents_of(load(tmp_path, text))
    assert (agent.agent_id, agent.provider, agent.options["script"]) == ("a", "scripted", "{}")


@pytest.mark.parametrize(
    ("text", "key", "says"),
    [
        ('{"sip": {"prot": 1}}', "sip.prot", "or use port"),
        ('{"foo": 1}', "foo", "use one of: agents"),
        ('{"agents": [{"id": "a", "x": 1}]}', "agents[0].x", "use one of: destinations"),
        ('{"sip": {"port": "5060"}}', "sip.port", "expected `int`"),
        ('{"sip": {"port": 70000}}', "sip.port", "<= 65535"),
        ('{"sip": {"transports": []}}', "sip.transports", "Name at least one"),
        ('{"sip": {"transports": ["sctp"]}}', "sip.transports[0]", "'sctp'"),
        ('{"sip": {"transports": ["tls"]}}', "tls.certificate", "PEM files"),
        ('{"sip": {"advertised_address": "sip.example.com"}}', "sip.advertised_address", "not an IP address"),
        ('{"sip": {"local_networks": ["10.0.0.1/8"]}}', "sip.local_networks[0]", "host bits set"),
        ('{"sip": {"nameservers": ["dns.example"]}}', "sip.nameservers[0]", "not an IP address"),
        ('{"trunks": [{"id": "a", "server": "x"}]}', "trunks[0]", "register, gateway, open"),
        ('{"trunks": [{"id": "a", "kind": "pbx"}]}', "trunks[0].kind", "register, gateway, open"),
        ('{"trunks": [{"id": "a", "kind": "register", "server": "x"}]}', "trunks[0].username", "is missing"),
        (
            '{"trunks": [{"id": "a", "kind": "register", "server": "x:5060", "username": "1"}]}',
            "trunks[0].server",
            "more than a host",
        ),
        (
            '{"trunks": [{"id": "a", "kind": "register", "server": "x", "username": "1", "passwort": "p"}]}',
            "trunks[0].passwort",
            "password, port",
        ),
        (
            '{"trunks": [{"id": "a", "kind": "register", "server": "x", "username": "1", "expires_s": 5}]}',
            "trunks[0].expires_s",
            ">= 30",
        ),
        ('{"trunks": [{"id": "a", "kind": "gateway"}]}', "trunks[0]", "Name peers"),
        (
            '{"trunks": [{"id": "a", "kind": "gateway", "targets": ["sip:x"], "caller_ids": ["+4930123", "+49 30"]}]}',
            "trunks[0].caller_ids[1]",
            "+4930123456",
        ),
        (
            '{"trunks": [{"id": "a", "kind": "gateway", "targets": ["sip:x"], "region": "ZZ"}]}',
            "trunks[0].region",
            "ISO 3166",
        ),
        ('{"trunks": [{"id": "a", "kind": "gateway", "peers": ["x"]}]}', "trunks[0].peers[0]", "no network"),
        ('{"trunks": [{"id": "a", "kind": "gateway", "targets": ["x"]}]}', "trunks[0].targets[0]", "sip:host"),
        (
            '{"trunks": [{"id": "a", "kind": "gateway", "require_digest": true}]}',
            "trunks[0].password",
            "username and password",
        ),
        (
            '{"agents": [{"id": "a", "destinations": [{"name": "x", "target": "http://x"}]}]}',
            "agents[0].destinations[0].target",
            "tel:+4930123456",
        ),
        (
            '{"agents": [{"id": "a", "destinations": [{"name": "x", "target": "1", "trunk": "t"}]}]}',
            "agents[0].destinations[0].trunk",
            "none is configured",
        ),
        (
            '{"agents": [{"id": "a", "destinations": [{"name": "x", "target": "1", "briefing_agent": "b"}]}]}',
            "agents[0].destinations[0].briefing_agent",
            "Use one of: a",
        ),
        (
            '{"agents": [{"id": "a", "destinations": [{"name": "x", "target": "1", "headers": {"Via": "x"}}]}]}',
            "agents[0].destinations[0].headers.Via",
            "X-Ticket",
        ),
        ('{"trunks": [{"id": "a", "kind": "open", "srtp": "yes"}]}', "trunks[0].srtp", "off, optional, required"),
        ('{"trunks": [{"id": "a", "kind": "open", "codecs": ["G729"]}]}', "trunks[0].codecs[0]", "G722, PCMU"),
        ('{"trunks": [{"id": "a", "kind": "open", "min_se_s": 60}]}', "trunks[0].min_se_s", "90"),
        (
            '{"trunks": [{"id": "a", "kind": "open", "session_expires_s": 120, "min_se_s": 200}]}',
            "trunks[0].session_expires_s",
            "200 or more",
        ),
        ('{"trunks": [{"id": "a", "kind": "open"}, {"id": "a", "kind": "open"}]}', "trunks[1].id", "twice"),
        ('{"numbers": [{"user": "1", "agent": "b"}]}', "numbers[0].agent", "Use one of: demo"),
        ('{"agents": [{"id": "a"}, {"id": "a"}]}', "agents[1].id", "used twice"),
        ('{"numbers": [{"user": "1", "agent": "demo"}, {"user": "1", "agent": "demo"}]}', "numbers[1].user", "twice"),
        ('{"sip": {"transports": ["udp", "udp"]}}', "sip.transports", "twice"),
        ('{"rtp": {"port_min": 20000, "port_max": 10000}}', "rtp.port_max", "Widen the range"),
        ('{"http": {"prot": 1}}', "http.prot", "or use port"),
        ('{"security": {"allowed_targets": ["10.0.0.1/8"]}}', "security.allowed_targets[0]", "host bits set"),
        ('{"retention": {"deliveries_days": 7}}', "retention.deliveries_days", "30 or more"),
        ('{"retention": {"calls_days": -1}}', "retention.calls_days", ">= 0"),
        ('{"telemetry": {"otlp_endpoint": "collector:4318"}}', "telemetry.otlp_endpoint", "https://host"),
        ('{"log": {"format": "xml"}}', "log.format", "text, json"),
        ('{"webhooks": [{"id": "w", "url": "ftp://x"}]}', "webhooks[0].url", "no web address"),
        (
            '{"webhooks": [{"id": "w", "url": "https://x.example", "event": ["*"]}]}',
            "webhooks[0].event",
            "or use events",
        ),
        (
            '{"squads": [{"id": "s", "members": [{"agent": "a", "x": 1}]}]}',
            "squads[0].members[0].x",
            "agent, hands_over",
        ),
        ('{"rtp": {"port_min": 20001, "port_max": 20002}}', "rtp.port_max", "Widen the range"),
    ],
)
def test_an_error_names_the_key_and_the_fix(tmp_path: Path, text: str, key: str, says: str) -> None:
    error = error_of(tmp_path, text)
    assert error.key == key
    assert says in str(error)


def test_opus_without_libopus_is_refused_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trunk_forms, "opus_problem", lambda: "Install libopus: apt-get install libopus0")
    error = error_of(tmp_path, '{"trunks": [{"id": "a", "kind": "open", "codecs": ["opus", "PCMU"]}]}')
    assert (error.key, error.fix) == ("trunks[0].codecs", "Install libopus: apt-get install libopus0")
    load(tmp_path, '{"trunks": [{"id": "a", "kind": "open", "codecs": ["G722"]}]}')


def test_trunks_become_records_that_hide_their_passwords(tmp_path: Path) -> None:
    text = """{"trunks": [
        {"id": "pbx", "kind": "register", "server": "pbx.example", "username": "200", "password": "hush"},
        {"id": "carrier", "kind": "gateway", "peers": ["192.0.2.0/24"], "targets": ["sip:a.example"]},
        {"id": "web", "kind": "open", "calls_per_s": 2},
    ]}"""
    trunks = trunks_of(load(tmp_path, text))
    assert trunks == (
        RegisterTrunk(trunk_id="pbx", server="pbx.example", username="200", password="hush"),
        GatewayTrunk(trunk_id="carrier", peers=("192.0.2.0/24",), targets=("sip:a.example",)),
        OpenTrunk(trunk_id="web", calls_per_s=2),
    )
    assert "hush" not in repr(trunks)


@pytest.mark.parametrize("server", ["127.0.0.1", "127.0.0.1:5353", "::1", "[::1]:5353"])
def test_a_nameserver_may_name_its_port(tmp_path: Path, server: str) -> None:
    assert load(tmp_path, f'{{"sip": {{"nameservers": ["{server}"]}}}}').sip.nameservers == (server,)


@pytest.mark.parametrize("text", ["{ sip ", "", "[1]", '"text"', "[" * 100_000])
def test_what_is_no_json_object_is_said_to_be_none(tmp_path: Path, text: str) -> None:
    assert "config.json" in error_of(tmp_path, text).key


def test_a_bad_variable_is_named(tmp_path: Path) -> None:
    error = error_of(tmp_path, "{}", {"OFFHOOK_SIP_PORT": "many"})
    assert (error.key, "environment variable" in error.fix) == ("OFFHOOK_SIP_PORT", True)


def test_a_file_that_was_asked_for_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings(tmp_path / "absent.json", {})


def test_destinations_and_rules_become_records(tmp_path: Path) -> None:
    text = """{
        "agents": [
            {"id": "a", "destinations": [
                {"name": "sales", "target": "tel:+49-30", "mode": "warm", "briefing_agent": "b",
                 "headers": {"X-A": "7"}},
            ]},
            {"id": "b", "destinations": [{"name": "back", "target": "200", "briefing_agent": "a"}]},
        ],
        "trunks": [{"id": "pbx", "kind": "open", "codecs": ["PCMA", "G722"], "srtp": "required"}],
    }"""
    settings = load(tmp_path, text)
    (destination,) = agents_of(settings)[0].destinations
    assert (destination.mode, destination.headers) == ("warm", (("X-A", "7"),))
    assert destination.briefing_agent is not None
    assert (destination.briefing_agent.agent_id, destination.briefing_agent.destinations) == ("b", ())
    rules = trunks_of(settings)[0].rules
    assert (rules.codecs, rules.srtp) == ((Encoding.PCMA, Encoding.G722), "required")


def test_every_scalar_has_its_variable(tmp_path: Path) -> None:
    variables = {
        "OFFHOOK_HTTP_PORT": "0",
        "OFFHOOK_HTTP_ENABLED": "false",
        "OFFHOOK_DATABASE_URL": "postgresql://u:p@h/d",
        "OFFHOOK_SECURITY_ALLOWED_TARGETS": "10.0.0.0/8, ::1",
        "OFFHOOK_RETENTION_RECORDINGS_DAYS": "0",
        "OFFHOOK_DRAIN_TIMEOUT_S": "12.5",
        "OFFHOOK_LOG_FORMAT": "json",
    }
    settings = load(tmp_path, "{}", variables)
    assert (settings.http.port, settings.http.enabled) == (0, False)
    assert settings.database.url == "postgresql://u:p@h/d"
    assert settings.security.allowed_targets == ("10.0.0.0/8", "::1")
    assert (settings.retention.recordings_days, settings.drain_timeout_s) == (0, 12.5)
    assert settings.log.format == "json"


def test_a_misspelt_variable_is_warned_of_with_the_nearest(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    load(
        tmp_path, "{}", {"OFFHOOK_SIP_PROT": "hush", "OFFHOOK_SIP_PORT": "5070", "OFFHOOK_MASTER_KEY": "x", "PATH": "y"}
    )
    assert caplog.messages == ["OFFHOOK_SIP_PROT is no variable offhook knows: did you mean OFFHOOK_SIP_PORT?"]


def test_settings_do_not_show_the_database_s_password(tmp_path: Path) -> None:
    settings = load(tmp_path, '{"database": {"url": "postgresql://u:hush@h/d"}}')
    assert "hush" not in repr(settings)
    assert "hush" not in str(error_of(tmp_path, '{"database": {"url": "postgresql://u:hush@h/d", "size": 1}}'))


def test_the_manual_has_the_days_that_things_are_kept() -> None:
    listed = re.findall(r"^\| `(\w+_days)` \| (\d+)", (DOCS / "OPERATIONS.md").read_text(), re.M)
    assert {key: int(days) for key, days in listed} == msgspec.structs.asdict(Settings().retention)


def test_an_escaped_emoji_is_one_character(tmp_path: Path) -> None:
    text = r'{"agents": [{"id": "a", "provider": "scripted", "greeting": "Hi \ud83d\ude00"}]}'
    (agent,) = load(tmp_path, text).agents
    assert agent.greeting == "Hi \U0001f600"


@pytest.mark.parametrize(
    ("text", "environment", "key"),
    [
        (r'{"mode": "\ud83d"}', {}, "mode"),
        (r'{"agents": [{"id": "a\udc00"}]}', {}, "agents[0].id"),
        (r'{"\udc00": 1}', {}, "config.json"),
        ("{}", {"OFFHOOK_DATA_DIR": "\udcff"}, "data_dir"),
    ],
)
def test_half_a_character_is_named(tmp_path: Path, text: str, environment: dict[str, str], key: str) -> None:
    refused = error_of(tmp_path, text, environment)
    assert (refused.key, refused.problem) == (key, "holds half of a character")

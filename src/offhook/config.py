"""config.json (comments and trailing commas allowed) + environment + flags -> frozen ``Settings``, read once.

Precedence, weakest first: defaults, the file, the environment (``OFFHOOK_`` + the key's path in capitals:
``OFFHOOK_SIP_PORT``), flags. Every error names the key and the fix (``ConfigError``). Later features add
sections here, not mechanisms.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

import json5
import msgspec

from offhook.model.errors import ConfigError
from offhook.model.records import Agent, Number
from offhook.model.trunks import Trunk
from offhook.store.forms import (
    TRUNK_KINDS,
    AgentForm,
    Catalogue,
    Known,
    NumberForm,
    Port,
    SquadForm,
    ToolForm,
    TrunkForm,
    agent_record,
    check_agent,
    check_networks,
    check_number,
    check_squad,
    check_tool,
    check_trunk,
    number_record,
    trunk_record,
)

CONFIG_FILE_VARIABLE = "CONFIG_FILE"
DEFAULT_CONFIG_FILE = "config.json"
ENVIRONMENT_PREFIX = "OFFHOOK_"
MAX_CONFIG_BYTES = 4 * 1024 * 1024
"""No sensible configuration is larger; a log file named by mistake is."""

DEMO_AGENT_ID = "demo"


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of config.json: unknown keys are errors."""


class SipSettings(_Section, frozen=True):
    """Where SIP is listened for, and how others find us. An empty ``host`` is every address, IPv4 and IPv6.

    ``advertised_address``: our address as the outside sees it, behind 1:1 NAT or in Docker; or ``stun_server``
    (``host`` or ``host:port``) tells it. Peers in ``local_networks`` (CIDRs) are told the machine's own address.
    ``nameservers``: IP addresses, with a port where it is not 53; empty: the machine's. ``trace``: keep the SIP
    messages of every call for `offhook trace`.
    """

    host: str = ""
    port: Port = 5060
    tls_port: Port = 5061
    transports: tuple[Literal["udp", "tcp", "tls"], ...] = ("udp", "tcp")
    advertised_address: str = ""
    stun_server: str = ""
    local_networks: tuple[str, ...] = ()
    nameservers: tuple[str, ...] = ()
    trace: bool = True


class TlsFiles(_Section, frozen=True):
    """PEM files. ``ca_file``: authorities to trust beside the system's. Read again on SIGHUP."""

    certificate: str = ""
    private_key: str = ""
    ca_file: str = ""
    client_certificate: Literal["none", "optional", "required"] = "none"


class RtpSettings(_Section, frozen=True):
    """UDP ports for media: each call takes an even one and the odd one above it."""

    port_min: Annotated[int, msgspec.Meta(ge=1024, le=65534)] = 10000
    port_max: Annotated[int, msgspec.Meta(ge=1025, le=65535)] = 19999
    media_timeout_s: Annotated[float, msgspec.Meta(ge=0)] = 60.0


class LogSettings(_Section, frozen=True):
    """``speech``: what callers and agents say, and digits, are shown in the log. Off: they are private."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    speech: bool = False


class Settings(_Section, frozen=True):
    """Everything the operator decides. Without ``agents`` and ``numbers`` every number reaches the demo agent.

    Without ``trunks`` anyone who reaches us may call; with them, only those they let in.
    """

    sip: SipSettings = SipSettings()
    tls: TlsFiles = TlsFiles()
    rtp: RtpSettings = RtpSettings()
    log: LogSettings = LogSettings()
    agents: tuple[AgentForm, ...] = ()
    numbers: tuple[NumberForm, ...] = ()
    trunks: tuple[TrunkForm, ...] = ()
    tools: tuple[ToolForm, ...] = ()
    squads: tuple[SquadForm, ...] = ()
    data_dir: str = "offhook-data"
    max_calls: Annotated[int, msgspec.Meta(ge=1, le=10000)] = 1000


def load_settings(
    path: Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
) -> Settings:
    """Read, merge and check. ``flags`` maps key paths (``sip.port``) to values; None values are left out.

    Raises ``ConfigError``.
    """
    environment = os.environ if environment is None else environment
    document = _read_file(path, environment)
    _overlay_environment(document, environment)
    for key, value in (flags or {}).items():
        if value is not None:
            _put(document, key.split("."), value)
    settings = _convert(document)
    _check(settings)
    return settings


def agents_of(settings: Settings) -> tuple[Agent, ...]:
    """The configured agents as records; the demo agent where none is configured."""
    if not settings.agents:
        return (Agent(agent_id=DEMO_AGENT_ID, provider="local", name="Demo"),)
    catalogue = Catalogue(
        agents={agent.id: agent for agent in settings.agents}, tools={tool.id: tool for tool in settings.tools}
    )
    return tuple(agent_record(agent, catalogue) for agent in settings.agents)


def numbers_of(settings: Settings) -> tuple[Number, ...]:
    """The configured numbers as records; without any, every number reaches the first agent."""
    if not settings.numbers:
        first = settings.agents[0].id if settings.agents else DEMO_AGENT_ID
        return (Number(user="*", agent_id=first),)
    return tuple(number_record(number) for number in settings.numbers)


def trunks_of(settings: Settings) -> tuple[Trunk, ...]:
    """The configured trunks as records."""
    return tuple(trunk_record(trunk) for trunk in settings.trunks)


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────


def _read_file(path: Path | None, environment: Mapping[str, str]) -> dict[str, Any]:
    """The file's document. Only a file that was asked for has to exist."""
    named = path if path is not None else environment.get(CONFIG_FILE_VARIABLE)
    file = Path(named or DEFAULT_CONFIG_FILE)
    if named is None and not file.exists():
        return {}
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise ConfigError(str(file), f"cannot be read ({error.strerror})", "Give the path of a config.json") from None
    if len(raw) > MAX_CONFIG_BYTES:
        raise ConfigError(str(file), f"is larger than {MAX_CONFIG_BYTES} bytes", "Give the path of a config.json")
    try:
        document = json5.loads(raw.decode())
    except (ValueError, RecursionError) as error:
        problem = str(error).replace("<string>:", "line ", 1)
        raise ConfigError(str(file), f"is not JSON: {problem}", "Mend the file; comments are allowed") from None
    if not isinstance(document, dict):
        raise ConfigError(str(file), "is not a JSON object", 'Start it with "{" and end it with "}"')
    return document


def _overlay_environment(document: dict[str, Any], environment: Mapping[str, str]) -> None:
    for path, kind in _scalar_keys(Settings):
        variable = ENVIRONMENT_PREFIX + "_".join(path).upper()
        if variable in environment:
            _put(document, list(path), _from_text(variable, environment[variable], kind))


def _scalar_keys(section: type[msgspec.Struct], prefix: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """(path, type) of every key that one environment variable can hold."""
    keys: list[tuple[tuple[str, ...], Any]] = []
    for field in msgspec.structs.fields(section):
        path = (*prefix, field.name)
        if isinstance(field.type, type) and issubclass(field.type, _Section):
            keys += _scalar_keys(field.type, path)
        elif field.name not in {"agents", "numbers", "trunks", "tools", "squads"}:
            keys.append((path, field.type))
    return keys


def _from_text(variable: str, text: str, kind: Any) -> Any:
    """An environment variable's text as its key's type; lists are comma-separated."""
    if getattr(kind, "__origin__", None) is tuple:
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        return msgspec.convert(text, kind, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(variable, _problem(str(error)), "Change the environment variable, or unset it") from None


def _put(document: dict[str, Any], path: list[str], value: object) -> None:
    *sections, key = path
    for section in sections:
        inner = document.setdefault(section, {})
        if not isinstance(inner, dict):
            raise ConfigError(section, "is not a JSON object", f'Write it as {{"{key}": …}}')
        document = inner
    document[key] = value


# ── checking ─────────────────────────────────────────────────────────────────────────────────────────────


def _convert(document: dict[str, Any]) -> Settings:
    try:
        return msgspec.convert(document, Settings)
    except msgspec.ValidationError as error:
        message = str(error)
        where = re.search(r" - at `\$\.?(.*)`$", message)
        key = where.group(1) if where and where.group(1) else "config.json"
        unknown = re.search(r"unknown field `(.*?)`", message)
        if unknown:
            path = unknown.group(1) if key == "config.json" else f"{key}.{unknown.group(1)}"
            raise ConfigError(path, "is no key offhook knows", _known_keys(key)) from None
        if key.endswith(".kind") or "`kind`" in message:
            raise ConfigError(key, _problem(message), f"Set kind to one of: {', '.join(TRUNK_KINDS)}") from None
        raise ConfigError(key, _problem(message), "Correct the value in config.json") from None


def _problem(message: str) -> str:
    text = re.sub(r" - at `.*`$", "", message)
    return text[:1].lower() + text[1:]


def _known_keys(section: str) -> str:
    kinds: dict[str, type[msgspec.Struct]] = {
        "sip": SipSettings,
        "tls": TlsFiles,
        "rtp": RtpSettings,
        "log": LogSettings,
        "agents": AgentForm,
        "numbers": NumberForm,
        "tools": ToolForm,
        "squads": SquadForm,
    }
    top = re.sub(r"\[.*", "", section)
    if top == "trunks":
        return "Remove it. " + "; ".join(f"{kind}: {_names(section)}" for kind, section in TRUNK_KINDS.items())
    return f"Remove it, or use one of: {_names(kinds.get(top, Settings))}"


def _names(section: type[msgspec.Struct]) -> str:
    return ", ".join(sorted(field.name for field in msgspec.structs.fields(section)))


def _check(settings: Settings) -> None:
    """What no single key shows."""
    known = Known(
        agents=[agent.id for agent in settings.agents] or [DEMO_AGENT_ID],
        trunks=[trunk.id for trunk in settings.trunks],
        tools=[tool.id for tool in settings.tools],
    )
    for name in ("agents", "trunks", "tools", "squads"):
        _check_ids(name, [form.id for form in getattr(settings, name)])
    _check_ids("numbers", [number.id for number in settings.numbers], "user")
    _check_addresses(settings)
    for index, trunk in enumerate(settings.trunks):
        check_trunk(f"trunks[{index}]", trunk)
    for index, tool in enumerate(settings.tools):
        check_tool(f"tools[{index}]", tool)
    for index, agent in enumerate(settings.agents):
        check_agent(f"agents[{index}]", agent, known)
    for index, number in enumerate(settings.numbers):
        check_number(f"numbers[{index}]", number, known)
    for index, squad in enumerate(settings.squads):
        check_squad(f"squads[{index}]", squad, known)


def _check_ids(name: str, ids: list[str], key: str = "id") -> None:
    for index, one in enumerate(ids):
        if one in ids[:index]:
            fix = "Keep one of them" if name == "numbers" else f"Give each {name[:-1]} its own id"
            raise ConfigError(f"{name}[{index}].{key}", f"{one!r} is used twice", fix)


def _check_addresses(settings: Settings) -> None:
    rtp, transports = settings.rtp, settings.sip.transports
    if rtp.port_max <= rtp.port_min + rtp.port_min % 2:
        fix = "Widen the range: a call takes an even port and the odd one above"
        raise ConfigError("rtp.port_max", "leaves no pair of ports above rtp.port_min", fix)
    if "tls" in transports and not (settings.tls.certificate and settings.tls.private_key):
        raise ConfigError("tls.certificate", "is needed for transport tls", "Name the PEM files of certificate and key")
    check_networks("sip.local_networks", settings.sip.local_networks)
    if settings.sip.advertised_address:
        _check_address("sip.advertised_address", settings.sip.advertised_address)
    for index, server in enumerate(settings.sip.nameservers):
        _check_address(
            f"sip.nameservers[{index}]", server.partition("]")[0].lstrip("[") if "[" in server else _host(server)
        )
    if not transports:
        raise ConfigError("sip.transports", "is empty", 'Name at least one: ["udp", "tcp"]')
    if len(set(transports)) < len(transports):
        raise ConfigError("sip.transports", "names one transport twice", "Name each once")


def _host(address: str) -> str:
    """Without the port, where there is one: an IPv6 address without brackets has none."""
    return address.partition(":")[0] if address.count(":") == 1 else address


def _check_address(key: str, text: str) -> None:
    try:
        ip_address(text)
    except ValueError:
        raise ConfigError(key, f"{text!r} is not an IP address", "Write it as 192.0.2.1 or 2001:db8::1") from None

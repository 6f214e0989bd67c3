"""config.json (comments and trailing commas allowed) + environment + flags -> frozen ``Settings``, read once.

Precedence, weakest first: defaults, the file, the environment (``OFFHOOK_`` + the key's path in capitals:
``OFFHOOK_SIP_PORT``), flags. Every error names the key and the fix (``ConfigError``). Later features add
sections here, not mechanisms.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import json5
import msgspec

from offhook.model.errors import ConfigError
from offhook.model.records import Agent, Number

CONFIG_FILE_VARIABLE = "CONFIG_FILE"
DEFAULT_CONFIG_FILE = "config.json"
ENVIRONMENT_PREFIX = "OFFHOOK_"
MAX_CONFIG_BYTES = 4 * 1024 * 1024
"""No sensible configuration is larger; a log file named by mistake is."""

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
DEMO_AGENT_ID = "demo"


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of config.json: unknown keys are errors."""


class SipSettings(_Section, frozen=True):
    """Where SIP is listened for. An empty ``host`` is every address of the machine, IPv4 and IPv6."""

    host: str = ""
    port: Port = 5060
    transports: tuple[Literal["udp", "tcp"], ...] = ("udp", "tcp")


class RtpSettings(_Section, frozen=True):
    """UDP ports for media: each call takes an even one and the odd one above it."""

    port_min: Annotated[int, msgspec.Meta(ge=1024, le=65534)] = 10000
    port_max: Annotated[int, msgspec.Meta(ge=1025, le=65535)] = 19999
    media_timeout_s: Annotated[float, msgspec.Meta(ge=0)] = 60.0


class LogSettings(_Section, frozen=True):
    """``speech``: what callers and agents say, and digits, are shown in the log. Off: they are private."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    speech: bool = False


class AgentSettings(_Section, frozen=True):
    """One agent; ``options`` go to its provider as they are."""

    id: Annotated[str, msgspec.Meta(min_length=1)]
    provider: str = "local"
    name: str = ""
    greeting: str = ""
    instructions: str = ""
    voice: str = ""
    record: bool = True
    interruptible: bool = True
    max_call_s: Annotated[int, msgspec.Meta(ge=1, le=86400)] = 3600
    options: dict[str, str] = {}


class NumberSettings(_Section, frozen=True):
    """A dialled user part and the agent that answers it; ``*`` answers every user part not listed."""

    user: Annotated[str, msgspec.Meta(min_length=1)]
    agent: str


class Settings(_Section, frozen=True):
    """Everything the operator decides. Without ``agents`` and ``numbers`` every number reaches the demo agent."""

    sip: SipSettings = SipSettings()
    rtp: RtpSettings = RtpSettings()
    log: LogSettings = LogSettings()
    agents: tuple[AgentSettings, ...] = ()
    numbers: tuple[NumberSettings, ...] = ()
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
    return tuple(_agent_record(agent) for agent in settings.agents)


def numbers_of(settings: Settings) -> tuple[Number, ...]:
    """The configured numbers as records; without any, every number reaches the first agent."""
    if not settings.numbers:
        first = settings.agents[0].id if settings.agents else DEMO_AGENT_ID
        return (Number(user="*", agent_id=first),)
    return tuple(Number(user=number.user, agent_id=number.agent) for number in settings.numbers)


def _agent_record(agent: AgentSettings) -> Agent:
    values = msgspec.structs.asdict(agent)
    return Agent(agent_id=values.pop("id"), **values)


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
        elif field.name not in {"agents", "numbers"}:
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
        raise ConfigError(key, _problem(message), "Correct the value in config.json") from None


def _problem(message: str) -> str:
    text = re.sub(r" - at `.*`$", "", message)
    return text[:1].lower() + text[1:]


def _known_keys(section: str) -> str:
    kinds: dict[str, type[msgspec.Struct]] = {
        "sip": SipSettings,
        "rtp": RtpSettings,
        "log": LogSettings,
        "agents": AgentSettings,
        "numbers": NumberSettings,
    }
    kind = kinds.get(re.sub(r"\[.*", "", section), Settings)
    names = ", ".join(sorted(field.name for field in msgspec.structs.fields(kind)))
    return f"Remove it, or use one of: {names}"


def _check(settings: Settings) -> None:
    """What no single key shows."""
    ids = [agent.id for agent in settings.agents] or [DEMO_AGENT_ID]
    for index, agent_id in enumerate(ids):
        if agent_id in ids[:index]:
            raise ConfigError(f"agents[{index}].id", f"{agent_id!r} is used twice", "Give each agent its own id")
    users = [number.user for number in settings.numbers]
    for index, number in enumerate(settings.numbers):
        if number.agent not in ids:
            fix = f"Use one of: {', '.join(ids)}"
            raise ConfigError(f"numbers[{index}].agent", f"there is no agent {number.agent!r}", fix)
        if number.user in users[:index]:
            raise ConfigError(f"numbers[{index}].user", f"{number.user!r} is used twice", "Keep one of them")
    _check_addresses(settings)


def _check_addresses(settings: Settings) -> None:
    rtp, transports = settings.rtp, settings.sip.transports
    if rtp.port_max <= rtp.port_min + rtp.port_min % 2:
        fix = "Widen the range: a call takes an even port and the odd one above"
        raise ConfigError("rtp.port_max", "leaves no pair of ports above rtp.port_min", fix)
    if not transports:
        raise ConfigError("sip.transports", "is empty", 'Name at least one: ["udp", "tcp"]')
    if len(set(transports)) < len(transports):
        raise ConfigError("sip.transports", "names one transport twice", "Name each once")

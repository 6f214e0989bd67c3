"""config.json (comments and trailing commas allowed) + environment + flags -> frozen ``Settings``, read once.

Precedence, weakest first: defaults, the file, the environment (``OFFHOOK_`` + the key's path in capitals:
``OFFHOOK_SIP_PORT``), flags. Every error names the key and the fix (``ConfigError``). Later features add
sections here, not mechanisms.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

import json5
import msgspec

from offhook.audio.opus import opus_problem
from offhook.model.audio import Encoding
from offhook.model.call_events import TransferMode
from offhook.model.errors import ConfigError, SipParseError
from offhook.model.records import NO_ANSWER_S, AfterBriefing, Agent, Number, TransferDestination
from offhook.model.trunks import (
    MIN_SE_S,
    REGISTRATION_S,
    SESSION_EXPIRES_S,
    CallRules,
    DigestAlgorithm,
    DtmfMethod,
    GatewayTrunk,
    OpenTrunk,
    ReferPolicy,
    RegisterTrunk,
    ReliableProvisional,
    SrtpPolicy,
    Trunk,
)
from offhook.sip.custom_headers import is_custom_header
from offhook.sip.targets import parse_target
from offhook.sip.uri import SipUri

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


class DestinationSettings(_Section, frozen=True):
    """Whom an agent may transfer to; see ``TransferDestination``. ``briefing_agent`` is another agent's id."""

    name: Annotated[str, msgspec.Meta(min_length=1)]
    target: Annotated[str, msgspec.Meta(min_length=1)]
    mode: TransferMode = "blind"
    fallback: bool = True
    trunk: str = ""
    headers: dict[str, str] = {}
    no_answer_s: Annotated[float, msgspec.Meta(gt=0, le=300)] = NO_ANSWER_S
    briefing: str = ""
    briefing_agent: str = ""
    after_briefing: AfterBriefing = "hand_over"


class AgentSettings(_Section, frozen=True):
    """One agent; ``options`` go to its provider as they are, ``destinations`` are whom it may transfer callers to."""

    id: Annotated[str, msgspec.Meta(min_length=1)]
    provider: str = "local"
    name: str = ""
    greeting: str = ""
    instructions: str = ""
    voice: str = ""
    record: bool = True
    interruptible: bool = True
    max_call_s: Annotated[int, msgspec.Meta(ge=1, le=86400)] = 3600
    destinations: tuple[DestinationSettings, ...] = ()
    transfers_anywhere: bool = False
    hold_audio: str = ""
    options: dict[str, str] = {}


class NumberSettings(_Section, frozen=True):
    """A dialled user part and the agent that answers it; ``*`` answers every user part not listed."""

    user: Annotated[str, msgspec.Meta(min_length=1)]
    agent: str


CodecName = Literal["G722", "PCMU", "PCMA", "opus"]
"""As SDP writes them (RFC 3551 §6, RFC 7587)."""


class _TrunkSettings(_Section, frozen=True, tag_field="kind"):
    """What every kind of trunk has; see ``CallRules``."""

    id: Annotated[str, msgspec.Meta(min_length=1)]
    codecs: Annotated[tuple[CodecName, ...], msgspec.Meta(min_length=1)] = ("G722", "PCMU", "PCMA")
    srtp: SrtpPolicy = "off"
    srtp_without_tls: bool = False
    dtmf: DtmfMethod = "auto"
    refer: ReferPolicy = "refuse"
    session_expires_s: Annotated[int, msgspec.Meta(ge=0, le=86400)] = SESSION_EXPIRES_S
    min_se_s: Annotated[int, msgspec.Meta(ge=MIN_SE_S, le=86400)] = MIN_SE_S
    reliable_provisional: ReliableProvisional = "supported"
    early_media: bool = False
    headers: dict[str, str] = {}


class RegisterSettings(_TrunkSettings, frozen=True, kw_only=True, tag="register"):
    """We are an extension of ``server``; see ``RegisterTrunk``."""

    server: Annotated[str, msgspec.Meta(min_length=1)]
    username: Annotated[str, msgspec.Meta(min_length=1)]
    password: str = ""
    port: Port = 0
    transport: Literal["", "udp", "tcp", "tls"] = ""
    domain: str = ""
    auth_id: str = ""
    outbound_proxy: str = ""
    expires_s: Annotated[int, msgspec.Meta(ge=30, le=86400)] = REGISTRATION_S


class GatewaySettings(_TrunkSettings, frozen=True, tag="gateway"):
    """Peers known by address; see ``GatewayTrunk``."""

    peers: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    username: str = ""
    auth_id: str = ""
    password: str = ""
    require_digest: bool = False
    digest_algorithms: Annotated[tuple[DigestAlgorithm, ...], msgspec.Meta(min_length=1)] = ("SHA-256", "MD5")


class OpenSettings(_TrunkSettings, frozen=True, tag="open"):
    """Anyone may dial the numbers served; see ``OpenTrunk``."""

    calls_per_s: Annotated[float, msgspec.Meta(gt=0, le=10000)] = 10.0


TrunkSettings = RegisterSettings | GatewaySettings | OpenSettings
TRUNK_KINDS: Mapping[str, type[msgspec.Struct]] = {
    "register": RegisterSettings,
    "gateway": GatewaySettings,
    "open": OpenSettings,
}


class Settings(_Section, frozen=True):
    """Everything the operator decides. Without ``agents`` and ``numbers`` every number reaches the demo agent.

    Without ``trunks`` anyone who reaches us may call; with them, only those they let in.
    """

    sip: SipSettings = SipSettings()
    tls: TlsFiles = TlsFiles()
    rtp: RtpSettings = RtpSettings()
    log: LogSettings = LogSettings()
    agents: tuple[AgentSettings, ...] = ()
    numbers: tuple[NumberSettings, ...] = ()
    trunks: tuple[TrunkSettings, ...] = ()
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
    return tuple(_agent_record(agent, settings.agents) for agent in settings.agents)


def numbers_of(settings: Settings) -> tuple[Number, ...]:
    """The configured numbers as records; without any, every number reaches the first agent."""
    if not settings.numbers:
        first = settings.agents[0].id if settings.agents else DEMO_AGENT_ID
        return (Number(user="*", agent_id=first),)
    return tuple(Number(user=number.user, agent_id=number.agent) for number in settings.numbers)


def trunks_of(settings: Settings) -> tuple[Trunk, ...]:
    """The configured trunks as records."""
    return tuple(_trunk_record(trunk) for trunk in settings.trunks)


def _trunk_record(trunk: TrunkSettings) -> Trunk:
    values = msgspec.structs.asdict(trunk)
    values["trunk_id"] = values.pop("id")
    rules = {name: values.pop(name) for name in CallRules.__slots__}
    rules["codecs"] = tuple(Encoding(name) for name in trunk.codecs)
    rules["headers"] = tuple(trunk.headers.items())
    values["rules"] = CallRules(**rules)
    kinds = {RegisterSettings: RegisterTrunk, GatewaySettings: GatewayTrunk, OpenSettings: OpenTrunk}
    record: Trunk = kinds[type(trunk)](**values)
    return record


def _agent_record(agent: AgentSettings, others: tuple[AgentSettings, ...]) -> Agent:
    values = msgspec.structs.asdict(agent)
    values["destinations"] = tuple(_destination_record(one, others) for one in agent.destinations)
    return Agent(agent_id=values.pop("id"), **values)


def _destination_record(destination: DestinationSettings, agents: tuple[AgentSettings, ...]) -> TransferDestination:
    values = msgspec.structs.asdict(destination)
    values["trunk_id"] = values.pop("trunk")
    values["headers"] = tuple(destination.headers.items())
    briefer = next((agent for agent in agents if agent.id == destination.briefing_agent), None)
    # Who briefs an operator transfers nobody: so agents may name each other without end.
    values["briefing_agent"] = None if briefer is None else _agent_record(_without_destinations(briefer), ())
    return TransferDestination(**values)


def _without_destinations(agent: AgentSettings) -> AgentSettings:
    return msgspec.structs.replace(agent, destinations=())


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
        elif field.name not in {"agents", "numbers", "trunks"}:
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
        "agents": AgentSettings,
        "numbers": NumberSettings,
    }
    top = re.sub(r"\[.*", "", section)
    if top == "trunks":
        return "Remove it. " + "; ".join(f"{kind}: {_names(section)}" for kind, section in TRUNK_KINDS.items())
    return f"Remove it, or use one of: {_names(kinds.get(top, Settings))}"


def _names(section: type[msgspec.Struct]) -> str:
    return ", ".join(sorted(field.name for field in msgspec.structs.fields(section)))


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
    _check_trunks(settings.trunks)
    for index, agent in enumerate(settings.agents):
        _check_destinations(f"agents[{index}].destinations", agent, settings)


def _check_destinations(key: str, agent: AgentSettings, settings: Settings) -> None:
    names = [destination.name.lower() for destination in agent.destinations]
    agents, trunks = [one.id for one in settings.agents], [trunk.id for trunk in settings.trunks]
    for index, destination in enumerate(agent.destinations):
        here = f"{key}[{index}]"
        if destination.name.lower() in names[:index]:
            raise ConfigError(f"{here}.name", f"{destination.name!r} is used twice", "Give each its own name")
        if destination.trunk and destination.trunk not in trunks:
            fix = f"Use one of: {', '.join(trunks) or 'none is configured'}"
            raise ConfigError(f"{here}.trunk", f"there is no trunk {destination.trunk!r}", fix)
        if destination.briefing_agent and destination.briefing_agent not in agents:
            fix = f"Use one of: {', '.join(agents)}"
            raise ConfigError(f"{here}.briefing_agent", f"there is no agent {destination.briefing_agent!r}", fix)
        try:
            parse_target(destination.target)
        except SipParseError as error:
            fix = "Write it as sip:user@host, tel:+4930123456 or +4930123456"
            raise ConfigError(f"{here}.target", error.problem, fix) from None
        _check_headers(f"{here}.headers", destination.headers)


def _check_headers(key: str, headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        if not is_custom_header(name, value):
            fix = "Use a name like X-Ticket, of letters, digits and hyphens, and a value on one line"
            raise ConfigError(f"{key}.{name}", "cannot be sent", fix)


def _check_addresses(settings: Settings) -> None:
    rtp, transports = settings.rtp, settings.sip.transports
    if rtp.port_max <= rtp.port_min + rtp.port_min % 2:
        fix = "Widen the range: a call takes an even port and the odd one above"
        raise ConfigError("rtp.port_max", "leaves no pair of ports above rtp.port_min", fix)
    if "tls" in transports and not (settings.tls.certificate and settings.tls.private_key):
        raise ConfigError("tls.certificate", "is needed for transport tls", "Name the PEM files of certificate and key")
    _check_networks("sip.local_networks", settings.sip.local_networks)
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


def _check_networks(key: str, networks: tuple[str, ...]) -> None:
    for index, text in enumerate(networks):
        try:
            ip_network(text)
        except ValueError as error:
            fix = "Write an address or a network: 192.0.2.1, 192.0.2.0/24, 2001:db8::/32"
            raise ConfigError(f"{key}[{index}]", f"{text!r} is no network ({error})", fix) from None


def _check_trunks(trunks: tuple[TrunkSettings, ...]) -> None:
    ids = [trunk.id for trunk in trunks]
    for index, trunk in enumerate(trunks):
        if trunk.id in ids[:index]:
            raise ConfigError(f"trunks[{index}].id", f"{trunk.id!r} is used twice", "Give each trunk its own id")
        _check_headers(f"trunks[{index}].headers", trunk.headers)
        if "opus" in trunk.codecs and (remedy := opus_problem()):
            raise ConfigError(f"trunks[{index}].codecs", "opus cannot be used here", remedy)
        if trunk.session_expires_s and trunk.session_expires_s < trunk.min_se_s:
            fix = f"Set it to {trunk.min_se_s} or more, or to 0 for none"
            raise ConfigError(f"trunks[{index}].session_expires_s", "is less than min_se_s", fix)
        if isinstance(trunk, GatewaySettings):
            _check_gateway(f"trunks[{index}]", trunk)
        elif isinstance(trunk, RegisterSettings):
            _check_register(f"trunks[{index}]", trunk)


def _check_register(key: str, trunk: RegisterSettings) -> None:
    for name, value in (("server", trunk.server), ("domain", trunk.domain)):
        bare = f"[{value}]" if value.count(":") > 1 and not value.startswith("[") else value
        try:
            uri = SipUri.parse(f"sip:{bare or 'none'}")
        except SipParseError:
            raise ConfigError(f"{key}.{name}", f"{value!r} is no host", "Give a name or an IP address alone") from None
        if uri.user is not None or uri.params or uri.port is not None:
            raise ConfigError(
                f"{key}.{name}", f"{value!r} is more than a host", "Put its parts into username, port, transport"
            )


def _check_gateway(key: str, trunk: GatewaySettings) -> None:
    _check_networks(f"{key}.peers", trunk.peers)
    for index, target in enumerate(trunk.targets):
        try:
            SipUri.parse(target)
        except SipParseError as error:
            fix = "Write it as sip:host, sip:host:port or sip:host;transport=tcp"
            raise ConfigError(f"{key}.targets[{index}]", error.problem, fix) from None
    if not trunk.peers and not trunk.targets and not trunk.require_digest:
        raise ConfigError(key, "neither lets anyone in nor leads anywhere", "Name peers, targets, or both")
    if trunk.require_digest and not (trunk.username and trunk.password):
        raise ConfigError(f"{key}.password", "is needed with require_digest", "Give username and password")

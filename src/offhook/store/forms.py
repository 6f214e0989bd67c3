"""Agents, trunks, numbers, tools, squads and webhooks as JSON has them: in config.json, in the API, in the database.

A form is checked at birth by its types, then by ``check_…`` for what no single key shows; then it becomes the record
the engine acts on. Every error is a ``ConfigError`` that names the key.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from phonenumbers import SUPPORTED_REGIONS

from offhook.audio.opus import opus_problem
from offhook.model.audio import Encoding
from offhook.model.call_events import DEFAULT_ACCOUNT, TransferMode
from offhook.model.errors import ConfigError, SipParseError
from offhook.model.records import (
    NO_ANSWER_S,
    TOOL_TIMEOUT_S,
    AfterBriefing,
    Agent,
    AnsweringMachinePlan,
    Dialect,
    Fallback,
    Number,
    PromptFallback,
    ProviderFallback,
    Squad,
    SquadMember,
    Tool,
    ToolMethod,
    TransferDestination,
    TransferFallback,
    is_fetched,
)
from offhook.model.tool_schema import schema_problem
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

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
FormId = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=r"^[^\s/?#]+$")]
"""What can be a part of a URL's path."""

Secret = Annotated[str, msgspec.Meta(extra_json_schema={"writeOnly": True})]
"""A password or a key: never given back, and encrypted where it is stored."""

SecretMap = Annotated[dict[str, str], msgspec.Meta(extra_json_schema={"writeOnly": True})]

SECRET_OPTIONS = r"(?i)(^|[_-])(key|token|secret|password|apikey)$"
"""Names of a provider's options that are secrets, of whatever provider: ``api_key``."""

OptionMap = Annotated[dict[str, Any], msgspec.Meta(extra_json_schema={"x-write-only-names": SECRET_OPTIONS})]
"""What a name says is a secret is treated as one; the rest is shown."""

ToolName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
"""What every model takes as the name of a function."""

BUILT_IN_TOOLS = frozenset(
    {"end_call", "send_dtmf", "send_text", "transfer_call", "accept_transfer", "decline_transfer", "complete_task"}
)

REPLACEABLE_TOOL = "transfer_call"
"""The only tool of ours whose name a destination's own function may have, and replaces."""

WebhookUrl = Annotated[str, msgspec.Meta(min_length=1, max_length=2000)]


class Form(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Unknown keys are errors."""


class DestinationForm(Form, frozen=True):
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
    function: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{0,64}$")] = ""
    description: str = ""


class AnsweringMachineForm(Form, frozen=True):
    """What happens when no person picks up a call of ours; see ``AnsweringMachinePlan``."""

    detect: bool = False
    on_voicemail: Literal["agent", "leave_message", "hang_up", "ignore"] = "agent"
    message: Annotated[str, msgspec.Meta(max_length=2000)] = ""
    on_screening: Literal["agent", "answer", "hang_up", "ignore"] = "agent"
    screening_answer: Annotated[str, msgspec.Meta(max_length=500)] = ""


class FallbackForm(Form, frozen=True):
    """What happens when the provider fails: exactly one of ``provider``, ``prompt`` (a WAV file; "default" is ours) and
    ``transfer`` (the name of a destination). ``voice`` and ``options`` go with ``provider``.
    """

    provider: str = ""
    voice: str = ""
    options: OptionMap = {}
    prompt: str = ""
    transfer: str = ""


class AgentForm(Form, frozen=True):
    """One agent; ``options`` go to its provider as they are, ``destinations`` are whom it may transfer callers to.

    ``tools``: ids of the tools it may use. Options that are keys by their names (``api_key``) are secrets.
    """

    id: FormId
    provider: str = "local"
    name: str = ""
    greeting: str = ""
    instructions: str = ""
    voice: str = ""
    record: bool = True
    interruptible: bool = True
    max_call_s: Annotated[int, msgspec.Meta(ge=1, le=86400)] = 3600
    destinations: tuple[DestinationForm, ...] = ()
    transfers_anywhere: bool = False
    hold_audio: str = ""
    tools: tuple[str, ...] = ()
    first_speaker: Literal["agent", "caller"] = "agent"
    language: str = ""
    silence_prompt_s: Annotated[float, msgspec.Meta(ge=0, le=600)] = 0.0
    silence_prompts: tuple[str, ...] = ()
    silence_timeout_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 0.0
    task: str = ""
    hangs_up_when_done: bool = True
    machines: AnsweringMachineForm = AnsweringMachineForm()
    fallbacks: tuple[FallbackForm, ...] = ()
    options: OptionMap = {}


class NumberForm(Form, frozen=True):
    """A dialled user part and the agent that answers it; ``*`` answers every user part not listed.

    ``trunk``: only for calls by that trunk. ``ask_url``: a server of yours names the agent, call by call, and ``agent``
    answers where it does not.
    """

    user: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    agent: str = ""
    trunk: str = ""
    ask_url: Annotated[str, msgspec.Meta(max_length=2000)] = ""
    ask_secret: Secret = ""

    @property
    def id(self) -> str:
        """Chosen by nobody: a number is told from others by what is dialled, and by its trunk."""
        return f"{self.user}@{self.trunk}" if self.trunk else self.user


class ToolForm(Form, frozen=True):
    """A function of the model that your server runs; see ``Tool``. ``parameters``: JSON Schema of its arguments."""

    id: FormId
    name: ToolName
    url: WebhookUrl
    description: str = ""
    parameters: dict[str, Any] = {}
    method: ToolMethod = "POST"
    headers: SecretMap = {}
    secret: Secret = ""
    filler: str = ""
    hold_audio: str = ""
    timeout_s: Annotated[float, msgspec.Meta(ge=1, le=120)] = TOOL_TIMEOUT_S
    dialect: Dialect = "offhook"


class SquadMemberForm(Form, frozen=True):
    agent: FormId
    hands_over_to: tuple[str, ...] = ()


class SquadForm(Form, frozen=True, kw_only=True):
    """Agents that answer together; the first one speaks first."""

    id: FormId
    name: str = ""
    members: Annotated[tuple[SquadMemberForm, ...], msgspec.Meta(min_length=1, max_length=50)]


EventName = Annotated[str, msgspec.Meta(pattern=r"^(\*|[a-z_]+\.[a-z_]+)$")]


class WebhookForm(Form, frozen=True):
    """Your server, told what happens. ``events``: ``call.ended`` …, or ``*``. Without a ``secret`` one is made.

    ``previous_secret`` signs beside it, until every receiver of yours has the new one. ``dialect`` sip4ai: SIP4AI's
    events, signed with the installation's secret.
    """

    id: FormId
    url: WebhookUrl
    events: Annotated[tuple[EventName, ...], msgspec.Meta(min_length=1)] = ("*",)
    description: str = ""
    enabled: bool = True
    secret: Secret = ""
    previous_secret: Secret = ""
    dialect: Dialect = "offhook"

    @property
    def secrets(self) -> tuple[str, ...]:
        """Those that sign, the newest first."""
        return tuple(secret for secret in (self.secret, self.previous_secret) if secret)


CodecName = Literal["G722", "PCMU", "PCMA", "opus"]
"""As SDP writes them (RFC 3551 §6, RFC 7587)."""


class _TrunkForm(Form, frozen=True, tag_field="kind"):
    """What every kind of trunk has; see ``CallRules``."""

    id: FormId
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
    price_per_min: Annotated[float, msgspec.Meta(ge=0, le=1000)] = 0.0
    caller_ids: Annotated[tuple[str, ...], msgspec.Meta(max_length=1000)] = ()
    region: Annotated[str, msgspec.Meta(pattern="^([A-Z]{2})?$")] = ""
    max_calls: Annotated[int, msgspec.Meta(ge=0, le=10000)] = 0


class RegisterForm(_TrunkForm, frozen=True, kw_only=True, tag="register"):
    """We are an extension of ``server``; see ``RegisterTrunk``."""

    server: Annotated[str, msgspec.Meta(min_length=1)]
    username: Annotated[str, msgspec.Meta(min_length=1)]
    password: Secret = ""
    port: Port = 0
    transport: Literal["", "udp", "tcp", "tls"] = ""
    domain: str = ""
    auth_id: str = ""
    outbound_proxy: str = ""
    expires_s: Annotated[int, msgspec.Meta(ge=30, le=86400)] = REGISTRATION_S


class GatewayForm(_TrunkForm, frozen=True, tag="gateway"):
    """Peers known by address; see ``GatewayTrunk``."""

    peers: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    username: str = ""
    auth_id: str = ""
    password: Secret = ""
    require_digest: bool = False
    digest_algorithms: Annotated[tuple[DigestAlgorithm, ...], msgspec.Meta(min_length=1)] = ("SHA-256", "MD5")


class OpenForm(_TrunkForm, frozen=True, tag="open"):
    """Anyone may dial the numbers served; see ``OpenTrunk``."""

    calls_per_s: Annotated[float, msgspec.Meta(gt=0, le=10000)] = 10.0


TrunkForm = RegisterForm | GatewayForm | OpenForm
TRUNK_KINDS: Mapping[str, type[msgspec.Struct]] = {
    "register": RegisterForm,
    "gateway": GatewayForm,
    "open": OpenForm,
}

AnyForm = AgentForm | NumberForm | ToolForm | SquadForm | WebhookForm | RegisterForm | GatewayForm | OpenForm


# ── what no single key shows ─────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """The ids that a form may refer to; of its own account, and of config.json."""

    agents: Collection[str] = ()
    trunks: Collection[str] = ()
    tools: Collection[str] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Catalogue:
    """The forms that records are made with: agents name tools and other agents by their ids.

    ``by_operator``: ids of the agents that config.json has.
    """

    agents: Mapping[str, AgentForm] = field(default_factory=dict)
    tools: Mapping[str, ToolForm] = field(default_factory=dict)
    by_operator: Collection[str] = ()


NOTHING_ELSE = Catalogue()


def check_agent(key: str, agent: AgentForm, known: Known) -> None:
    """Raises ``ConfigError``; ``key`` is the form's own path, "" in the API."""
    for index, tool in enumerate(agent.tools):
        _check_known(_at(key, f"tools[{index}]"), "tool", tool, known.tools)
    names = [destination.name.lower() for destination in agent.destinations]
    for index, destination in enumerate(agent.destinations):
        here = _at(key, f"destinations[{index}]")
        if destination.name.lower() in names[:index]:
            raise ConfigError(f"{here}.name", f"{destination.name!r} is used twice", "Give each its own name")
        _check_destination(here, destination, known)
    _check_own_functions(key, agent)
    for index, fallback in enumerate(agent.fallbacks):
        _check_fallback(_at(key, f"fallbacks[{index}]"), fallback, names)
    if bool(agent.silence_prompts) != bool(agent.silence_prompt_s):
        missing = "silence_prompt_s" if agent.silence_prompts else "silence_prompts"
        raise ConfigError(_at(key, missing), "is missing: prompts and the time before each go together", "Give both")


def _check_own_functions(key: str, agent: AgentForm) -> None:
    """Each function that transfers has a name of its own, and none of a tool of ours but ``transfer_call``."""
    names = [destination.function for destination in agent.destinations]
    for index, name in enumerate(names):
        here = _at(key, f"destinations[{index}].function")
        if name in BUILT_IN_TOOLS and name != REPLACEABLE_TOOL:
            raise ConfigError(here, f"{name!r} is a tool of offhook's own", "Choose another name")
        if name and name in names[:index]:
            raise ConfigError(here, f"{name!r} is used twice", "Give each its own function")


def _check_destination(here: str, destination: DestinationForm, known: Known) -> None:
    if destination.trunk:
        _check_known(f"{here}.trunk", "trunk", destination.trunk, known.trunks)
    if destination.briefing_agent:
        _check_known(f"{here}.briefing_agent", "agent", destination.briefing_agent, known.agents)
    try:
        parse_target(destination.target)
    except SipParseError as error:
        fix = "Write it as sip:user@host, tel:+4930123456 or +4930123456"
        raise ConfigError(f"{here}.target", error.problem, fix) from None
    _check_headers(f"{here}.headers", destination.headers)


def _check_fallback(here: str, fallback: FallbackForm, names: list[str]) -> None:
    given = [name for name in ("provider", "prompt", "transfer") if getattr(fallback, name)]
    if (fallback.voice or fallback.options) and not fallback.provider:
        raise ConfigError(f"{here}.provider", "is missing: voice and options are a provider's", "Name it")
    if len(given) != 1:
        raise ConfigError(
            here, f"has {' and '.join(given) or 'none'} of provider, prompt, transfer", "Give exactly one"
        )
    if fallback.transfer and fallback.transfer.lower() not in names:
        known = ", ".join(names) or "none"
        raise ConfigError(f"{here}.transfer", f"there is no destination {fallback.transfer!r}", f"Known are: {known}")


def check_number(key: str, number: NumberForm, known: Known) -> None:
    """Raises ``ConfigError``."""
    if number.agent:
        _check_known(_at(key, "agent"), "agent", number.agent, known.agents)
    elif not number.ask_url:
        raise ConfigError(_at(key, "agent"), "is missing, and no ask_url tells who answers", "Name an agent")
    if number.trunk:
        _check_known(_at(key, "trunk"), "trunk", number.trunk, known.trunks)
    if number.ask_url:
        check_url(_at(key, "ask_url"), number.ask_url)
    _check_signing(_at(key, "ask_secret"), number.ask_secret)


def check_tool(key: str, tool: ToolForm) -> None:
    """Raises ``ConfigError``."""
    check_url(_at(key, "url"), tool.url)
    _check_signing(_at(key, "secret"), tool.secret)
    if is_fetched(tool.hold_audio):
        check_url(_at(key, "hold_audio"), tool.hold_audio)
    if tool.name in BUILT_IN_TOOLS:
        raise ConfigError(_at(key, "name"), f"{tool.name!r} is a tool of offhook's own", "Choose another name")
    if tool.parameters and tool.parameters.get("type", "object") != "object":
        fix = 'Write {"type": "object", "properties": {…}}'
        raise ConfigError(_at(key, "parameters"), "is no JSON Schema of an object", fix)
    if problem := schema_problem(msgspec.json.encode(tool.parameters).decode()):
        fix = "Write a JSON Schema that refers to nothing outside itself, with patterns without look-around"
        raise ConfigError(_at(key, "parameters"), f"is no JSON Schema that can be used: {problem}", fix)
    for name, value in tool.headers.items():
        if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}", name) or not re.fullmatch(r"[\x20-\x7e\t]*", value):
            raise ConfigError(_at(key, f"headers.{name}"), "cannot be sent", "Use one line of ASCII")


def check_squad(key: str, squad: SquadForm, known: Known) -> None:
    """Raises ``ConfigError``."""
    members = [member.agent for member in squad.members]
    for index, member in enumerate(squad.members):
        here = _at(key, f"members[{index}]")
        _check_known(f"{here}.agent", "agent", member.agent, known.agents)
        if member.agent in members[:index]:
            raise ConfigError(f"{here}.agent", f"{member.agent!r} is named twice", "Keep one of them")
        for place, other in enumerate(member.hands_over_to):
            _check_known(f"{here}.hands_over_to[{place}]", "member", other, members)


def check_webhook(key: str, webhook: WebhookForm) -> None:
    """Raises ``ConfigError``."""
    check_url(_at(key, "url"), webhook.url)
    _check_signing(_at(key, "secret"), webhook.secret)
    _check_signing(_at(key, "previous_secret"), webhook.previous_secret)


def check_trunk(key: str, trunk: TrunkForm) -> None:
    """Raises ``ConfigError``."""
    _check_headers(_at(key, "headers"), trunk.headers)
    _check_numbers(key, trunk)
    if "opus" in trunk.codecs and (remedy := opus_problem()):
        raise ConfigError(_at(key, "codecs"), "opus cannot be used here", remedy)
    if trunk.session_expires_s and trunk.session_expires_s < trunk.min_se_s:
        fix = f"Set it to {trunk.min_se_s} or more, or to 0 for none"
        raise ConfigError(_at(key, "session_expires_s"), "is less than min_se_s", fix)
    if isinstance(trunk, GatewayForm):
        _check_gateway(key, trunk)
    elif isinstance(trunk, RegisterForm):
        _check_register(key, trunk)


def _check_numbers(key: str, trunk: TrunkForm) -> None:
    for index, number in enumerate(trunk.caller_ids):
        if not re.fullmatch(r"\+[1-9][0-9]{1,19}|[A-Za-z0-9_.-]{1,64}", number):
            fix = "Write it as +4930123456, or the digits or name that the system behind the trunk knows, as 200"
            raise ConfigError(_at(key, f"caller_ids[{index}]"), f"{number[:40]!r} is no number", fix)
    if trunk.region and trunk.region not in SUPPORTED_REGIONS:
        fix = "Use the two letters of ISO 3166, as DE, GB or US"
        raise ConfigError(_at(key, "region"), f"{trunk.region!r} is no country with numbers of its own", fix)


def _check_register(key: str, trunk: RegisterForm) -> None:
    for name, value in (("server", trunk.server), ("domain", trunk.domain)):
        bare = f"[{value}]" if value.count(":") > 1 and not value.startswith("[") else value
        try:
            uri = SipUri.parse(f"sip:{bare or 'none'}")
        except SipParseError:
            fix = "Give a name or an IP address alone"
            raise ConfigError(_at(key, name), f"{value!r} is no host", fix) from None
        if uri.user is not None or uri.params or uri.port is not None:
            fix = "Put its parts into username, port, transport"
            raise ConfigError(_at(key, name), f"{value!r} is more than a host", fix)


def _check_gateway(key: str, trunk: GatewayForm) -> None:
    check_networks(_at(key, "peers"), trunk.peers)
    for index, target in enumerate(trunk.targets):
        try:
            SipUri.parse(target)
        except SipParseError as error:
            fix = "Write it as sip:host, sip:host:port or sip:host;transport=tcp"
            raise ConfigError(_at(key, f"targets[{index}]"), error.problem, fix) from None
    if not trunk.peers and not trunk.targets and not trunk.require_digest:
        raise ConfigError(key or "peers", "neither lets anyone in nor leads anywhere", "Name peers, targets, or both")
    if trunk.require_digest and not (trunk.username and trunk.password):
        raise ConfigError(_at(key, "password"), "is needed with require_digest", "Give username and password")


def check_networks(key: str, networks: tuple[str, ...]) -> None:
    """Raises ``ConfigError`` naming the one that is no address and no network."""
    for index, text in enumerate(networks):
        try:
            ip_network(text)
        except ValueError as error:
            fix = "Write an address or a network: 192.0.2.1, 192.0.2.0/24, 2001:db8::/32"
            raise ConfigError(f"{key}[{index}]", f"{text!r} is no network ({error})", fix) from None


def check_url(key: str, url: str) -> None:
    """Whether it is a web address; if it may be reached is judged when it is used. Raises ``ConfigError``."""
    fix = "Write it as https://host/path"
    try:
        parts = urlsplit(url)
        problem = "" if parts.scheme in ("http", "https") and parts.hostname else "is no web address"
        _ = parts.port
    except ValueError as error:
        raise ConfigError(key, f"is no web address ({error})", fix) from None
    if problem or not url.isprintable() or " " in url:
        raise ConfigError(key, problem or "has characters no URL has", fix)
    if parts.username is not None or parts.password is not None:
        raise ConfigError(key, "holds a user name or password", "Send them as a header")


def _check_signing(key: str, secret: str) -> None:
    if secret and not re.fullmatch(r"whsec_[A-Za-z0-9+/]{32,88}={0,2}", secret):
        fix = "Write whsec_ and 24 to 64 octets in base64, or leave it out"
        raise ConfigError(key, "is no Standard Webhooks secret", fix)


def _check_headers(key: str, headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        if not is_custom_header(name, value):
            fix = "Use a name like X-Ticket, of letters, digits and hyphens, and a value on one line"
            raise ConfigError(f"{key}.{name}", "cannot be sent", fix)


def _check_known(key: str, kind: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        choice = ", ".join(sorted(known)[:20]) or "none is configured"
        raise ConfigError(key, f"there is no {kind} {name!r}", f"Use one of: {choice}")


def _at(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


# ── records ──────────────────────────────────────────────────────────────────────────────────────────────


def agent_record(agent: AgentForm, catalogue: Catalogue) -> Agent:
    """The agent with its tools and the agents that brief for it; what it names and does not exist is left out."""
    values = msgspec.structs.asdict(agent)
    values["destinations"] = tuple(destination_record(one, catalogue) for one in agent.destinations)
    values["tools"] = tuple(tool_record(catalogue.tools[name]) for name in agent.tools if name in catalogue.tools)
    values["fallbacks"] = tuple(_fallback_record(one) for one in agent.fallbacks)
    values["machines"] = AnsweringMachinePlan(**msgspec.structs.asdict(agent.machines))
    return Agent(agent_id=values.pop("id"), by_operator=agent.id in catalogue.by_operator, **values)


def _fallback_record(form: FallbackForm) -> Fallback:
    if form.provider:
        return ProviderFallback(provider=form.provider, voice=form.voice, options=form.options)
    if form.transfer:
        return TransferFallback(destination=form.transfer)
    return PromptFallback(audio="" if form.prompt == "default" else form.prompt)


def destination_record(destination: DestinationForm, catalogue: Catalogue = NOTHING_ELSE) -> TransferDestination:
    values = msgspec.structs.asdict(destination)
    values["trunk_id"] = values.pop("trunk")
    values["headers"] = tuple(destination.headers.items())
    briefer = catalogue.agents.get(destination.briefing_agent)
    # Who briefs an operator transfers nobody: so agents may name each other without end.
    alone = None if briefer is None else msgspec.structs.replace(briefer, destinations=())
    values["briefing_agent"] = None if alone is None else agent_record(alone, catalogue)
    return TransferDestination(**values)


def number_record(number: NumberForm, account_id: str = DEFAULT_ACCOUNT) -> Number:
    return Number(
        user=number.user,
        agent_id=number.agent,
        trunk_id=number.trunk,
        ask_url=number.ask_url,
        ask_secret=number.ask_secret,
        account_id=account_id,
    )


def tool_record(tool: ToolForm) -> Tool:
    return Tool(
        tool_id=tool.id,
        name=tool.name,
        url=tool.url,
        description=tool.description,
        parameters=msgspec.json.encode(tool.parameters).decode(),
        method=tool.method,
        headers=tuple(tool.headers.items()),
        secret=tool.secret,
        timeout_s=tool.timeout_s,
        filler=tool.filler,
        hold_audio=tool.hold_audio,
        dialect=tool.dialect,
    )


def squad_record(squad: SquadForm) -> Squad:
    members = tuple(SquadMember(agent_id=one.agent, hands_over_to=one.hands_over_to) for one in squad.members)
    return Squad(squad_id=squad.id, name=squad.name, members=members)


def trunk_record(trunk: TrunkForm) -> Trunk:
    values = msgspec.structs.asdict(trunk)
    values["trunk_id"] = values.pop("id")
    rules = {name: values.pop(name) for name in CallRules.__slots__}
    rules["codecs"] = tuple(Encoding(name) for name in trunk.codecs)
    rules["headers"] = tuple(trunk.headers.items())
    values["rules"] = CallRules(**rules)
    kinds = {RegisterForm: RegisterTrunk, GatewayForm: GatewayTrunk, OpenForm: OpenTrunk}
    record: Trunk = kinds[type(trunk)](**values)
    return record

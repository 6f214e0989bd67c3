"""Agents, trunks, numbers, tools, squads and webhooks as JSON has them: in config.json, in the API, in the database.

A form is checked at birth by its types, then by ``check_…`` for what no single key shows; then it becomes the record
the engine acts on. Every error is a ``ConfigError`` that names the key.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec

from offhook.model.call_events import DEFAULT_ACCOUNT, TransferMode
from offhook.model.errors import ConfigError
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
from offhook.model.written_values import TOOL_NAME
from offhook.store.form_parts import (
    Form,
    FormId,
    OptionMap,
    Secret,
    SecretMap,
    at,
    check_headers,
    check_known,
    check_signing,
    check_target,
    check_url,
)
from offhook.store.trunk_forms import GatewayForm, OpenForm, RegisterForm

ToolName = Annotated[str, msgspec.Meta(pattern=TOOL_NAME)]
"""What every model takes as the name of a function."""

BUILT_IN_TOOLS = frozenset(
    {"end_call", "send_dtmf", "send_text", "transfer_call", "accept_transfer", "decline_transfer", "complete_task"}
)

REPLACEABLE_TOOL = "transfer_call"
"""The only tool of ours whose name a destination's own function may have, and replaces."""

WebhookUrl = Annotated[str, msgspec.Meta(min_length=1, max_length=2000)]


class DestinationForm(Form, frozen=True):
    """Whom an agent may transfer to; see ``TransferDestination``. ``briefing_agent`` is another agent's id."""

    name: Annotated[str, msgspec.Meta(min_length=1)]
    target: Annotated[str, msgspec.Meta(min_length=1)]
    mode: TransferMode = "blind"
    fallback: bool = True
    trunk: str = ""
    headers: dict[str, str] = msgspec.field(default_factory=dict)
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
    options: OptionMap = msgspec.field(default_factory=dict)
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
    options: OptionMap = msgspec.field(default_factory=dict)


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
    parameters: dict[str, Any] = msgspec.field(default_factory=dict)
    method: ToolMethod = "POST"
    headers: SecretMap = msgspec.field(default_factory=dict)
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
        check_known(at(key, f"tools[{index}]"), "tool", tool, known.tools)
    names = [destination.name.lower() for destination in agent.destinations]
    for index, destination in enumerate(agent.destinations):
        here = at(key, f"destinations[{index}]")
        if destination.name.lower() in names[:index]:
            raise ConfigError(f"{here}.name", f"{destination.name!r} is used twice", "Give each its own name")
        _check_destination(here, destination, known)
    _check_own_functions(key, agent)
    for index, fallback in enumerate(agent.fallbacks):
        _check_fallback(at(key, f"fallbacks[{index}]"), fallback, names)
    if bool(agent.silence_prompts) != bool(agent.silence_prompt_s):
        missing = "silence_prompt_s" if agent.silence_prompts else "silence_prompts"
        raise ConfigError(at(key, missing), "is missing: prompts and the time before each go together", "Give both")


def _check_own_functions(key: str, agent: AgentForm) -> None:
    """Each function that transfers has a name of its own, and none of a tool of ours but ``transfer_call``."""
    names = [destination.function for destination in agent.destinations]
    for index, name in enumerate(names):
        here = at(key, f"destinations[{index}].function")
        check_transfer_name(here, name)
        if name and name in names[:index]:
            raise ConfigError(here, f"{name!r} is used twice", "Give each its own function")


def check_transfer_name(key: str, name: str) -> None:
    """Whether a function that transfers may be called so. Raises ``ConfigError``."""
    if name != REPLACEABLE_TOOL:
        _check_not_built_in(key, name)


def _check_not_built_in(key: str, name: str) -> None:
    if name in BUILT_IN_TOOLS:
        raise ConfigError(key, f"{name!r} is a tool of offhook's own", "Choose another name")


def _check_destination(here: str, destination: DestinationForm, known: Known) -> None:
    if destination.trunk:
        check_known(f"{here}.trunk", "trunk", destination.trunk, known.trunks)
    if destination.briefing_agent:
        check_known(f"{here}.briefing_agent", "agent", destination.briefing_agent, known.agents)
    check_target(f"{here}.target", destination.target)
    check_headers(f"{here}.headers", destination.headers)


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
        check_known(at(key, "agent"), "agent", number.agent, known.agents)
    elif not number.ask_url:
        raise ConfigError(at(key, "agent"), "is missing, and no ask_url tells who answers", "Name an agent")
    if number.trunk:
        check_known(at(key, "trunk"), "trunk", number.trunk, known.trunks)
    if number.ask_url:
        check_url(at(key, "ask_url"), number.ask_url)
    check_signing(at(key, "ask_secret"), number.ask_secret)


def check_tool(key: str, tool: ToolForm) -> None:
    """Raises ``ConfigError``."""
    check_url(at(key, "url"), tool.url)
    check_signing(at(key, "secret"), tool.secret)
    if is_fetched(tool.hold_audio):
        check_url(at(key, "hold_audio"), tool.hold_audio)
    _check_not_built_in(at(key, "name"), tool.name)
    if tool.parameters and tool.parameters.get("type", "object") != "object":
        fix = 'Write {"type": "object", "properties": {…}}'
        raise ConfigError(at(key, "parameters"), "is no JSON Schema of an object", fix)
    if problem := schema_problem(msgspec.json.encode(tool.parameters).decode()):
        fix = "Write a JSON Schema that refers to nothing outside itself, with patterns without look-around"
        raise ConfigError(at(key, "parameters"), f"is no JSON Schema that can be used: {problem}", fix)
    for name, value in tool.headers.items():
        if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}", name) or not re.fullmatch(r"[\x20-\x7e\t]*", value):
            raise ConfigError(at(key, f"headers.{name}"), "cannot be sent", "Use one line of ASCII")


def check_squad(key: str, squad: SquadForm, known: Known) -> None:
    """Raises ``ConfigError``."""
    members = [member.agent for member in squad.members]
    for index, member in enumerate(squad.members):
        here = at(key, f"members[{index}]")
        check_known(f"{here}.agent", "agent", member.agent, known.agents)
        if member.agent in members[:index]:
            raise ConfigError(f"{here}.agent", f"{member.agent!r} is named twice", "Keep one of them")
        for place, other in enumerate(member.hands_over_to):
            check_known(f"{here}.hands_over_to[{place}]", "member", other, members)


def check_webhook(key: str, webhook: WebhookForm) -> None:
    """Raises ``ConfigError``."""
    check_url(at(key, "url"), webhook.url)
    check_signing(at(key, "secret"), webhook.secret)
    check_signing(at(key, "previous_secret"), webhook.previous_secret)


# ── records ──────────────────────────────────────────────────────────────────────────────────────────────


def agent_record(agent: AgentForm, catalogue: Catalogue) -> Agent:
    """The agent with its tools and the agents that brief for it; what it names and does not exist is left out."""
    values = msgspec.structs.asdict(agent)
    values["destinations"] = tuple(destination_record(one, catalogue) for one in agent.destinations)
    values["tools"] = tuple(tool_record(catalogue.tools[name]) for name in agent.tools if name in catalogue.tools)
    values["fallbacks"] = tuple(_fallback_record(one) for one in agent.fallbacks)
    values["machines"] = machines_record(agent.machines)
    return Agent(agent_id=values.pop("id"), by_operator=agent.id in catalogue.by_operator, **values)


def machines_record(form: AnsweringMachineForm) -> AnsweringMachinePlan:
    return AnsweringMachinePlan(**msgspec.structs.asdict(form))


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

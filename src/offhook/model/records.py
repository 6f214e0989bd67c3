"""What the engine acts on and keeps: agents, numbers, calls. Frozen; a change makes a new value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import msgspec

from offhook.model.call_events import (
    DEFAULT_ACCOUNT,
    AnsweredBy,
    CallPhase,
    Direction,
    EndCause,
    EndedBy,
    ProviderUsage,
    TaskCompleted,
    TransferEnded,
    TransferMode,
    TurnSpoken,
)

_NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})


AfterBriefing = Literal["hand_over", "three_way"]

Source = Literal["config", "api"]
"""Where a record was defined: in config.json, which the API cannot change, or by the API."""

Dialect = Literal["offhook", "sip4ai"]
"""Whose requests somebody's server gets: their bodies, names and signatures."""

ToolMethod = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]

TOOL_TIMEOUT_S = 20.0
"""A caller who hears nothing for longer hangs up."""

NO_ANSWER_S = 30.0
"""About six rings: who has not answered by then will not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TransferDestination:
    """Somebody an agent may hand its caller to; ``target`` is a ``sip:`` or ``tel:`` URI, or a number.

    ``fallback``: where the caller's side takes no REFER, or breaks off, we call there ourselves and stay between.
    ``trunk_id``: by which our own call to it goes; "": by the one the caller came by. ``headers`` go with that call, or
    with the REFER. ``briefing``: what the operator is told in a ``warm`` transfer, by ``briefing_agent`` where there is
    one, else by the agent itself. ``after_briefing``: whether the agent leaves, or stays in the talk. ``function``: the
    model transfers there by a function of this name, described by ``description``; "": by ``transfer_call``.
    """

    name: str
    target: str
    mode: TransferMode = "blind"
    fallback: bool = True
    trunk_id: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    no_answer_s: float = NO_ANSWER_S
    briefing: str = ""
    briefing_agent: Agent | None = None
    after_briefing: AfterBriefing = "hand_over"
    function: str = ""
    description: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tool:
    """A function the model may call, run by somebody else's server at ``url``.

    ``parameters``: JSON Schema of its arguments, as JSON text. ``headers`` go with each request and may hold secrets;
    ``secret`` signs it (``whsec_…``, "" for none). While it runs, the caller hears ``filler`` said by the agent, then
    ``hold_audio``, a WAV file or the https URL of one; "" for nothing. ``dialect``: how its server is asked.
    """

    tool_id: str
    name: str
    url: str
    description: str = ""
    parameters: str = "{}"
    method: ToolMethod = "POST"
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    secret: str = field(default="", repr=False)
    timeout_s: float = TOOL_TIMEOUT_S
    filler: str = ""
    hold_audio: str = ""
    dialect: Dialect = "offhook"


def is_fetched(hold_audio: str) -> bool:
    """Whether it is the URL of a sound, not the path of one on this machine."""
    return hold_audio.startswith(("https://", "http://"))


@dataclass(frozen=True, kw_only=True, slots=True)
class AnsweringMachinePlan:
    """What happens when no person picks up a call of ours.

    ``detect``: whether it is listened for at all; the agent then waits with its first words until it is known.
    ``on_voicemail``: after the beep the agent is told and speaks (``agent``), or ``message`` is said word by word and
    the call ends (``leave_message``), or it ends at once. ``on_screening``: the agent is told what it is asked, or
    ``screening_answer`` is said, or the call ends. ``ignore``: it is recorded, and the agent goes on as with anybody.
    Who meets a fax or the network's information tones hangs up.
    """

    detect: bool = False
    on_voicemail: Literal["agent", "leave_message", "hang_up", "ignore"] = "agent"
    message: str = ""
    on_screening: Literal["agent", "answer", "hang_up", "ignore"] = "agent"
    screening_answer: str = ""


class ProviderFallback(msgspec.Struct, frozen=True, kw_only=True, tag="provider"):
    """Another provider goes on with the talk, as the same agent."""

    provider: str
    voice: str = ""
    options: Mapping[str, Any] = {}

    def __repr__(self) -> str:
        """Options may hold keys, which are in no log."""
        return f"ProviderFallback(provider={self.provider!r}, voice={self.voice!r})"


class PromptFallback(msgspec.Struct, frozen=True, kw_only=True, tag="prompt"):
    """A recorded sentence is played: the WAV file ``audio``, or a shipped one; then the next fallback is tried."""

    audio: str = ""


class TransferFallback(msgspec.Struct, frozen=True, kw_only=True, tag="transfer"):
    """The caller is handed over to this one of the agent's destinations."""

    destination: str


Fallback = ProviderFallback | PromptFallback | TransferFallback
"""What happens when an agent's provider fails in the call, in their order; after the last one the call ends.

Structs with tags, not dataclasses: a call is handed to another process as JSON, agent and all.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Agent:
    """An AI persona. ``provider`` names a bridge of the registry; ``options`` is for that provider alone.

    ``destinations``: whom it may transfer callers to, and nobody else unless ``transfers_anywhere``. ``hold_audio``: a
    WAV file for callers who wait meanwhile; "" is a quiet melody of ours. ``briefs``: it speaks to the operator of a
    warm transfer, who takes the caller or does not (tools ``accept_transfer`` and ``decline_transfer``).

    ``greeting`` is said as it is; "" lets the model find its own. ``first_speaker`` "caller": it waits to be spoken to.
    When nobody has spoken for ``silence_prompt_s``, ``silence_prompts`` are said one by one, and after the last one, or
    after ``silence_timeout_s`` in all, the call ends; 0 is never. ``task``: what the call is for; the tool
    ``complete_task`` then ends it, unless ``hangs_up_when_done`` is False. ``machines``: what happens when no person
    picks up. ``fallbacks``: what comes when the provider fails.

    ``by_operator``: config.json has it, so that its options may lead anywhere, with this server's keys. Any other is a
    tenant's: where its URLs lead is judged, and what they lead to gets no key but the tenant's own.
    """

    agent_id: str
    provider: str
    name: str = ""
    greeting: str = ""
    instructions: str = ""
    voice: str = ""
    record: bool = True
    interruptible: bool = True
    max_call_s: int = 3600
    destinations: tuple[TransferDestination, ...] = ()
    transfers_anywhere: bool = False
    hold_audio: str = ""
    briefs: bool = False
    tools: tuple[Tool, ...] = ()
    first_speaker: Literal["agent", "caller"] = "agent"
    language: str = ""
    silence_prompt_s: float = 0.0
    silence_prompts: tuple[str, ...] = ()
    silence_timeout_s: float = 0.0
    task: str = ""
    hangs_up_when_done: bool = True
    machines: AnsweringMachinePlan = AnsweringMachinePlan()
    fallbacks: tuple[Fallback, ...] = ()
    options: Mapping[str, Any] = field(default_factory=lambda: _NO_OPTIONS, repr=False)
    by_operator: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Number:
    """A dialled user part (``demo``, ``+4930123``) and who answers it; ``*`` stands for every other one.

    ``trunk_id``: for calls that come by that trunk only; "" for all. ``ask_url``: the server that is asked who answers;
    ``agent_id`` then answers where it gives no answer, "" for nobody.
    """

    user: str
    agent_id: str = ""
    trunk_id: str = ""
    ask_url: str = ""
    ask_secret: str = field(default="", repr=False)
    account_id: str = DEFAULT_ACCOUNT


@dataclass(frozen=True, kw_only=True, slots=True)
class Answering:
    """Who answers a call: whom the server at ``ask_url`` names; ``agent`` where it names none, or none is asked."""

    account_id: str
    agent: Agent | None
    ask_url: str = ""
    ask_secret: str = field(default="", repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class SquadMember:
    """An agent of a squad, and to whom it may hand over: names of other members."""

    agent_id: str
    hands_over_to: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Squad:
    """Agents that answer together; the first one speaks first."""

    squad_id: str
    name: str
    members: tuple[SquadMember, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class AccountLimits:
    """What an account may use; 0 is no limit. Days are UTC; spend is in the currency of the trunks' prices."""

    max_calls: int = 0
    minutes_per_day: float = 0.0
    spend_per_day: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class WebhookEndpoint:
    """Somebody's server that is told what happens. ``events``: names such as ``call.ended``; ``*`` is all.

    ``secrets``: each signs (``whsec_…``), so that one can be replaced without a gap. ``dialect``: which events there
    are, and what they look like.
    """

    webhook_id: str
    account_id: str
    url: str
    events: tuple[str, ...] = ("*",)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    dialect: Dialect = "offhook"


@dataclass(frozen=True, kw_only=True, slots=True)
class ApiKey:
    """A key to an account's API. The key itself is shown once and never kept: ``digest`` is its SHA-256.

    ``hint``: its first characters and its last four. ``scopes``: ``calls:read``, ``agents:write`` …; ``*`` is all.
    """

    key_id: str
    account_id: str
    name: str
    hint: str
    digest: bytes = field(repr=False)
    scopes: tuple[str, ...] = ("*",)
    created_at: float = 0.0
    expires_at: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class FunctionCalled:
    """A function of the agent's own that the model called; both texts are JSON or plain. ``result`` None: none came."""

    tool_call_id: str
    name: str
    arguments: str
    result: str | None = None
    is_error: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class CallRecord:
    """One call as it is kept: the projection of its events. ``provider``: the last one that spoke in it.

    ``event_webhooks``: URLs that are told of this call alone, in the dialect ``sip4ai``.
    """

    call_id: str
    account_id: str
    node_id: str
    direction: Direction
    phase: CallPhase
    from_uri: str
    to_uri: str
    sip_call_id: str
    remote_address: str
    trunk_id: str = ""
    agent_id: str = ""
    provider: str = ""
    codec: str = ""
    srtp: str = ""
    created_at: float = 0.0
    answered_at: float | None = None
    ended_at: float | None = None
    duration_ms: int = 0
    ended_by: EndedBy | None = None
    cause: EndCause | None = None
    sip_code: int | None = None
    reason: str = ""
    provider_fault: str | None = None
    spend: float = 0.0
    transcript: tuple[TurnSpoken, ...] = ()
    digits: str = ""
    transfers: tuple[TransferEnded, ...] = ()
    recording: str | None = None
    usage: tuple[ProviderUsage, ...] = ()
    task: TaskCompleted | None = None
    answered_by: AnsweredBy | None = None
    functions_called: tuple[FunctionCalled, ...] = ()
    event_webhooks: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class UnfinishedCall:
    """A call that was not over when its process died. ``last_seq``: of its last event that was kept.

    ``last_at``: when its process was last known to live, by that event or by a later sign of life. ``legs``: what was
    saved of each answered leg that was not over (``EventSink.save_leg``), by its id.
    """

    call_id: str
    account_id: str
    last_seq: int
    last_at: float
    phase: CallPhase
    answered_at: float | None = None
    legs: Mapping[str, bytes] = field(default_factory=dict)

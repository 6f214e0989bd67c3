"""What the engine acts on and keeps: agents, numbers, calls. Frozen; a change makes a new value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from offhook.model.call_events import (
    CallPhase,
    Direction,
    EndCause,
    EndedBy,
    TransferEnded,
    TransferMode,
    TurnSpoken,
)

DEFAULT_ACCOUNT = "default"
_NO_OPTIONS: Mapping[str, str] = MappingProxyType({})


AfterBriefing = Literal["hand_over", "three_way"]

NO_ANSWER_S = 30.0
"""About six rings: who has not answered by then will not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TransferDestination:
    """Somebody an agent may hand its caller to; ``target`` is a ``sip:`` or ``tel:`` URI, or a number.

    ``fallback``: where the caller's side takes no REFER, or breaks off, we call there ourselves and stay between.
    ``trunk_id``: by which our own call to it goes; "": by the one the caller came by. ``headers`` go with that call, or
    with the REFER. ``briefing``: what the operator is told in a ``warm`` transfer, by ``briefing_agent`` where there is
    one, else by the agent itself. ``after_briefing``: whether the agent leaves, or stays in the talk.
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Agent:
    """An AI persona. ``provider`` names a bridge of the registry; ``options`` is for that provider alone.

    ``destinations``: whom it may transfer callers to, and nobody else unless ``transfers_anywhere``. ``hold_audio``: a
    WAV file for callers who wait meanwhile; "" is a quiet melody of ours. ``briefs``: it speaks to the operator of a
    warm transfer, who takes the caller or does not (tools ``accept_transfer`` and ``decline_transfer``).
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
    options: Mapping[str, str] = field(default_factory=lambda: _NO_OPTIONS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Number:
    """A dialled user part (``demo``, ``+4930123``) and the agent that answers it; ``*`` answers the rest."""

    user: str
    agent_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CallRecord:
    """One call as it is kept: the projection of its events."""

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
    transcript: tuple[TurnSpoken, ...] = ()
    digits: str = ""
    transfers: tuple[TransferEnded, ...] = ()
    recording: str | None = None

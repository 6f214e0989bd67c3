"""What the engine acts on and keeps: agents, numbers, calls. Frozen; a change makes a new value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from offhook.model.call_events import CallPhase, Direction, EndCause, EndedBy, TurnSpoken

DEFAULT_ACCOUNT = "default"
_NO_OPTIONS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True, slots=True)
class Agent:
    """An AI persona. ``provider`` names a bridge of the registry; ``options`` is for that provider alone."""

    agent_id: str
    provider: str
    name: str = ""
    greeting: str = ""
    instructions: str = ""
    voice: str = ""
    record: bool = True
    interruptible: bool = True
    max_call_s: int = 3600
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
    recording: str | None = None

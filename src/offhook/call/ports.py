"""What a call asks of the world, as protocols; built by ``server``, implemented below or beside the call."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from offhook.model.audio import AudioFormat
from offhook.model.call_events import CallArrived, CallEvent, Direction, LiveSignal
from offhook.model.records import Agent, Answering, Tool


class EventSink(Protocol):
    """Takes every durable fact, in order, and never drops one. What is not abstract does for who stores nothing."""

    @abstractmethod
    def append(self, event: CallEvent) -> None: ...

    async def kept(self, event: CallEvent) -> None:
        """Return when an appended event, and all before it, are on disk: only then may others hear of the call."""
        return

    def save_leg(self, call_id: str, leg_id: str, saved: bytes | None) -> None:
        """Keep what another process needs to end or take over an answered leg (JSON); None when the leg is over.

        In order with the events, and committed with them.
        """
        return

    def signal(self, signal: LiveSignal) -> None:
        """A live signal: may be dropped."""
        return


class Directory(Protocol):
    """Who answers which number. An in-memory copy: never waits."""

    def answering(self, user: str, trunk_id: str) -> Answering | None:
        """Who answers a dialled user part that came by a trunk; None where the number is not served."""
        ...


class Limits(Protocol):
    """What accounts may use. In memory: never waits."""

    def refuse(self, account_id: str, direction: Direction) -> str | None:
        """Why an account may have no further call now, as a sentence; None where it may."""
        ...

    def refuse_party(self, account_id: str) -> str | None:
        """Why a call that it has may call no second party now; None where it may."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentForCall:
    """Who shall answer this call? Asked of the number's server before anything rings: it may decline the call."""

    account_id: str
    call_id: str
    url: str
    arrived: CallArrived
    secret: str = field(default="", repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentNamed:
    """This agent, as the server named or described it."""

    agent: Agent


@dataclass(frozen=True, kw_only=True, slots=True)
class CallDeclined:
    """Nobody: refuse the call with this SIP status (400 to 699)."""

    status: int
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolUse:
    """The model calls a tool; ``arguments`` is its JSON text, an object."""

    account_id: str
    call_id: str
    agent_id: str
    tool: Tool
    tool_call_id: str
    arguments: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolOutput:
    """What the model is told: text, or JSON text."""

    output: str
    is_error: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class NoAnswer:
    """Nothing usable came: unreachable, too late, not understood; as a sentence."""

    reason: str


AgentAnswer = AgentNamed | CallDeclined | NoAnswer


class Questions(Protocol):
    """Asks somebody else's server, by its deadline. Never raises."""

    async def agent_for_call(
        self, question: AgentForCall, deadline_s: float
    ) -> AgentNamed | CallDeclined | NoAnswer: ...

    async def use_tool(self, question: ToolUse, deadline_s: float) -> ToolOutput | NoAnswer: ...


class Voice(Protocol):
    """A voice of this machine's. Raises ``BridgeError`` where it cannot speak."""

    async def speak(self, text: str, audio_format: AudioFormat) -> bytes: ...


Spotter = Callable[[bytes, AudioFormat], Awaitable[tuple[str, ...]]]
"""(some seconds of a call, their format): which phrases of ``answer_phrases`` are said in them. Never raises."""

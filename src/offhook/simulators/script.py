"""What a simulated provider will do: the same script means the same on every provider. JSON; unknown names are errors.

Example::

    {"greets": true,
     "turns": [{"hears": "what is the weather", "tools": [{"name": "weather", "arguments": {"city": "Ulm"}}],
                "says": "It is {weather}."},
               {"hears": "goodbye", "says": "Goodbye.", "ends_call": true}],
     "faults": [{"on": "turn", "turn": 2, "do": "close", "code": 1011}]}
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from offhook.model.errors import ConfigError

FaultKind = Literal[
    "refuse",  # the handshake, by an HTTP status: ``code``
    "close",  # the websocket, by a close code: ``code``
    "drop",  # the connection, without a word
    "error",  # an error of the provider's own: ``text`` is its code or type
    "garbage",  # a message that is no JSON
    "unknown",  # a message of a kind nobody knows
    "stall",  # nothing more is said, for ``ms``; 0: ever
    "late_audio",  # audio of what was interrupted goes on coming
    "duplicate",  # the last event once more
    "burst",  # all the audio of the turn in one message
    "trickle",  # the audio in pieces of an odd number of bytes
]

FaultMoment = Literal[
    "connect",  # the handshake
    "setup",  # our introduction came
    "greeting",  # while the greeting is sent
    "turn",  # when the turn's answer begins; ``turn`` counts from 1, 0 is any
    "audio",  # in the middle of a turn's audio
    "tool",  # a tool was called, its result is awaited
    "interrupted",  # after an interruption
    "after",  # ``ms`` after the session began
]


class _Data(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class ScriptedTool(_Data, frozen=True):
    """``cancel``: it is taken back when the caller speaks before its result came."""

    name: str
    arguments: dict[str, Any] = {}
    cancel: bool = False


class Turn(_Data, frozen=True):
    """One utterance of the caller and what the agent does about it.

    ``hears``: what the recogniser makes of the caller's next utterance, whatever it is; or, of text that was written to
    the agent, what it has to contain. ``tools`` are called at once, before ``says``; in ``says`` the name of a tool in
    braces is its result. ``pause_ms``: thought before the answer.
    """

    hears: str = "hello"
    says: str = ""
    tools: tuple[ScriptedTool, ...] = ()
    ends_call: bool = False
    pause_ms: int = 0


class Fault(_Data, frozen=True):
    """``times``: how often in the life of the simulator, after it was spared so many times first (``spares``)."""

    do: FaultKind
    on: FaultMoment = "turn"
    turn: int = 0
    code: int = 1011
    text: str = ""
    ms: int = 0
    times: int = 1
    spares: int = 0


class Script(_Data, frozen=True):
    """``greets``: it speaks first, when it is asked to, or its protocol is so. ``chunk_ms``: audio sent in one message.

    ``pace``: how much faster than real time audio is sent; 0 is as fast as it goes. ``interim``: what was understood is
    told in pieces as well. ``backchannels``: words that do not count as an utterance of the caller, where the provider
    looks for such; none as a rule.
    """

    greets: bool = True
    turns: tuple[Turn, ...] = ()
    otherwise: Turn = Turn(says="I see.")
    """After the last turn."""
    faults: tuple[Fault, ...] = ()
    chunk_ms: int = 200
    pace: float = 0.0
    interim: bool = True
    hangover_ms: int = 500
    """Silence that ends the caller's utterance, unless the session says otherwise."""


def parse_script(text: str | bytes) -> Script:
    """Raises ``ConfigError`` naming what cannot be used."""
    try:
        return msgspec.json.decode(text or b"{}", type=Script)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise ConfigError("script", str(error), "See docs/HOW_TO_PROVIDERS.md") from None

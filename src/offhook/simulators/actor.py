"""Plays a script, whatever the wire: hears the caller, decides what happens. Pure; the caller's audio is its clock.

A simulator feeds it and carries out what it says, in its protocol's words::

    for deed in actor.hear(pcmu): ...
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count

import msgspec

from offhook.audio.vad import VoiceActivityDetector
from offhook.model.audio import FRAME_MS, PCMU_8K, Encoding
from offhook.simulators.script import Fault, FaultMoment, Script, ScriptedTool, Turn

EXACTLY = re.compile(r'exactly[^"]*"(.*)"', re.DOTALL)
"""How a model is asked to say something as it is: an obedient one does."""

TOLD = re.compile(r'(?:say|tell the caller) this\b[^:"]*: *"?([^"<\]]+)', re.IGNORECASE)
"""How it is asked to say something in words of its own: this one has none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeechBegan:
    """The caller's, ``at_ms`` of all audio that came."""

    at_ms: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeechEnded:
    at_ms: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Understood:
    """``text`` is what the caller said, as the recogniser has it."""

    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CallTool:
    tool_call_id: str
    name: str
    arguments: str
    """JSON text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CancelTool:
    tool_call_id: str
    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """Say this, then, with ``ends_call``, hang up. ``turn`` counts from 1; 0 is the greeting."""

    text: str
    turn: int
    ends_call: bool = False
    pause_ms: int = 0


Deed = SpeechBegan | SpeechEnded | Understood | CallTool | CancelTool | Answer


class Actor:
    """One conversation. ``spent``: how often each fault happened, shared by all conversations of a simulator."""

    def __init__(self, script: Script, spent: Counter[int] | None = None, *, hangover_ms: int = 0) -> None:
        self.script = script
        self._spent = Counter[int]() if spent is None else spent
        self._hangover_ms = hangover_ms or script.hangover_ms
        self._vad = VoiceActivityDetector(Encoding.PCMU, hangover_ms=self._hangover_ms)
        self._rest = b""
        self._ids = count(1)
        self._turn = 0
        self._running: dict[str, ScriptedTool] = {}
        self._results: dict[str, str] = {}
        self._pending: Turn | None = None
        self.heard_ms = 0
        """Audio of the caller that came."""

    # ── the caller's voice ───────────────────────────────────────────────────────────────────────────────

    def hear(self, pcmu: bytes) -> list[Deed]:
        """Audio of the caller, PCMU at 8 kHz, of any length. An utterance that ends is a turn."""
        self._rest += pcmu
        deeds: list[Deed] = []
        while len(self._rest) >= PCMU_8K.frame_bytes:
            frame, self._rest = self._rest[: PCMU_8K.frame_bytes], self._rest[PCMU_8K.frame_bytes :]
            self.heard_ms += FRAME_MS
            change = self._vad.feed(frame)
            if change == "started":
                deeds += [SpeechBegan(at_ms=self.heard_ms), *self._cancel()]
            elif change == "stopped":
                deeds += [SpeechEnded(at_ms=self.heard_ms), *self._spoken_turn()]
        return deeds

    def listen(self, hangover_ms: int) -> None:
        """The session says which silence ends the caller's utterance; what was heard of one is forgotten."""
        self._vad = VoiceActivityDetector(Encoding.PCMU, hangover_ms=hangover_ms)

    def commit(self) -> list[Deed]:
        """The client itself says that the caller's utterance is over, whatever was heard: that is a turn."""
        return self._spoken_turn()

    @property
    def hearing(self) -> str:
        """What the utterance the caller speaks, or will speak next, is going to be understood as."""
        turns = self.script.turns
        return (turns[self._turn] if self._turn < len(turns) else self.script.otherwise).hears

    def _spoken_turn(self) -> list[Deed]:
        turn = self._next_turn()
        return [Understood(text=turn.hears), *self._act(turn)]

    def _cancel(self) -> list[Deed]:
        taken_back = [key for key, tool in self._running.items() if tool.cancel]
        deeds: list[Deed] = [CancelTool(tool_call_id=key, name=self._running.pop(key).name) for key in taken_back]
        if deeds and not self._running:
            self._pending = None
        return deeds

    def end_turn(self) -> list[Deed]:
        """The caller's utterance is over because somebody says so; nothing where he does not speak."""
        if not self._vad.speaking:
            return []
        self._vad = VoiceActivityDetector(Encoding.PCMU, hangover_ms=self._hangover_ms)
        return [SpeechEnded(at_ms=self.heard_ms), *self._spoken_turn()]

    def resume(self, turns: int) -> None:
        """So many of the script's turns were done in an earlier session of the same conversation."""
        self._turn = turns

    # ── what is written to it ────────────────────────────────────────────────────────────────────────────

    def greet(self, text: str) -> list[Deed]:
        """It is time to speak first; ``text`` is the greeting that was asked for, "" is its own."""
        return [Answer(text=text or "Hello.", turn=0)] if self.script.greets else []

    def read(self, text: str) -> list[Deed]:
        """Text that is to be answered: with the words it asks for, else by the next turn if that is about this text,
        else by an echo of it.
        """
        exact = EXACTLY.search(text) or TOLD.search(text)
        if exact is not None:
            return [Answer(text=exact.group(1), turn=self._turn)]
        nxt = self.script.turns[self._turn] if self._turn < len(self.script.turns) else None
        if nxt is not None and nxt.hears and nxt.hears.lower() in text.lower():
            self._turn += 1
            return self._act(nxt)
        return [Answer(text=f"You wrote: {text}", turn=self._turn)]

    def recall(self, text: str) -> None:
        """``text`` tells what was said in an earlier conversation: turns it holds the answers of are over."""
        turns = self.script.turns
        while self._turn < len(turns) and turns[self._turn].says and turns[self._turn].says in text:
            self._turn += 1

    def take_result(self, tool_call_id: str, output: str) -> list[Deed] | None:
        """Of a tool that was called; None for one that was not, or whose result is no longer wanted."""
        tool = self._running.pop(tool_call_id, None)
        if tool is None:
            return None
        self._results[tool.name] = output
        if self._running or self._pending is None:
            return []
        turn, self._pending = self._pending, None
        return self._say(turn)

    def may_cancel(self, tool_call_ids: Iterable[str]) -> bool:
        """One of these waits for its result, and is taken back when the caller speaks."""
        return any(key in self._running and self._running[key].cancel for key in tool_call_ids)

    @property
    def waits_for_tools(self) -> bool:
        return bool(self._running)

    def _next_turn(self) -> Turn:
        turns = self.script.turns
        turn = turns[self._turn] if self._turn < len(turns) else self.script.otherwise
        self._turn += 1
        return turn

    def _act(self, turn: Turn) -> list[Deed]:
        if not turn.tools:
            return self._say(turn)
        self._pending = turn
        calls: list[Deed] = []
        for tool in turn.tools:
            key = f"call_{next(self._ids)}"
            self._running[key] = tool
            arguments = msgspec.json.encode(tool.arguments).decode()
            calls.append(CallTool(tool_call_id=key, name=tool.name, arguments=arguments))
        return calls

    def _say(self, turn: Turn) -> list[Deed]:
        text = turn.says
        for name, output in self._results.items():
            text = text.replace(f"{{{name}}}", output)
        return [Answer(text=text, turn=self._turn, ends_call=turn.ends_call, pause_ms=turn.pause_ms)]

    # ── faults ───────────────────────────────────────────────────────────────────────────────────────────

    def fault(self, on: FaultMoment, turn: int = 0) -> Fault | None:
        """What goes wrong at this moment, if anything does; each as often as it says."""
        for index, fault in enumerate(self.script.faults):
            if fault.on == on and fault.turn in (0, turn):
                self._spent[index] += 1
                if fault.spares < self._spent[index] <= fault.spares + fault.times:
                    return fault
        return None

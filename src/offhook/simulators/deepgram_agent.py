"""Deepgram's Voice Agent. Wire: developers.deepgram.com/docs/voice-agent and …/reference/voice-agent/voice-agent.

It cannot hang up: where the script ends the call, the function ``end_call`` is called, if there is one.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import count
from typing import assert_never

from aiohttp import web

from offhook.audio.convert import Converter, converter
from offhook.model.audio import PCMU_8K, AudioFormat
from offhook.simulators.actor import Actor, Answer, CallTool, CancelTool, Deed, SpeechBegan, SpeechEnded, Understood
from offhook.simulators.deepgram_settings import (
    ForceEndTurn,
    FunctionCallResponse,
    InjectAgentMessage,
    InjectUserMessage,
    KeepAlive,
    Settings,
    Think,
    UpdateListen,
    UpdatePrompt,
    UpdateSpeak,
    UpdateThink,
    check_settings,
    check_speaking,
    check_thinking,
    formats_of,
    listed,
    read_message,
    too_long,
)
from offhook.simulators.deepgram_wire import REQUEST_ID, DeepgramRefusalError, DeepgramSocket
from offhook.simulators.mishaps import pieces_of
from offhook.simulators.mouth import Mouth
from offhook.simulators.script import Fault
from offhook.simulators.stage import Journal
from offhook.simulators.voice import spoken

LATE_AUDIO_MS = 400

_SENTENCE_END = re.compile(r"(?<=[.!?…])\s+")


class AgentSocket(DeepgramSocket):
    """One conversation. What it says is said by one task, one answer after the other."""

    def __init__(self, request: web.Request, websocket: web.WebSocketResponse, actor: Actor, journal: Journal) -> None:
        super().__init__(request, websocket, actor, journal)
        self._settings: Settings | None = None
        self._heard: Converter | None = None
        self._spoken: AudioFormat = PCMU_8K
        self._thinking: Sequence[Think] = ()
        self._mouth = Mouth(self._speak)
        self._said: tuple[str, int] = ("", 0)
        """The answer that is being sent, or was last, and its turn."""
        self._caller_speaks = False
        self._called: dict[str, str] = {}
        self._taken_back: set[str] = set()
        self._call_ids = count(1)

    async def began(self) -> None:
        await self.send({"type": "Welcome", "request_id": REQUEST_ID})

    async def ended(self) -> None:
        await self._mouth.stop()

    # ── what the client says ─────────────────────────────────────────────────────────────────────────────

    async def take_audio(self, audio: bytes) -> None:
        if self._settings is None:
            raise DeepgramRefusalError("BINARY_MESSAGE_BEFORE_SETTINGS", "Audio came before Settings.")
        await self._carry_out(self.actor.hear(audio if self._heard is None else self._heard(audio)))

    async def take_text(self, text: str) -> None:
        message = read_message(text)
        if self._settings is None and not isinstance(message, Settings):
            raise DeepgramRefusalError("NON_SETTINGS_MESSAGE_BEFORE_SETTINGS", "Settings have to come first.")
        match message:
            case Settings():
                await self._begin(message)
            case UpdatePrompt() | UpdateThink() | UpdateSpeak() | UpdateListen():
                await self._change(message)
            case InjectUserMessage() | InjectAgentMessage():
                await self._inject(message)
            case FunctionCallResponse():
                await self._take_result(message)
            case ForceEndTurn():
                await self._carry_out(self.actor.end_turn())
            case KeepAlive():
                pass
            case _:
                assert_never(message)

    async def _begin(self, settings: Settings) -> None:
        if self._settings is not None:
            raise DeepgramRefusalError("SETTINGS_ALREADY_APPLIED", "Settings were applied before.")
        check_settings(settings)
        heard, self._spoken = formats_of(settings)
        self._heard = converter(heard, PCMU_8K)
        self._settings, self._thinking = settings, listed(settings.agent.think)
        await self.misbehave("setup")
        await self.send({"type": "SettingsApplied"})
        await self._warn_of_length(self._thinking[0].prompt)
        self.actor.resume(sum(message.role == "user" for message in settings.agent.context.messages))
        if settings.agent.greeting:
            await self._carry_out(self.actor.greet(settings.agent.greeting))

    async def _change(self, update: UpdatePrompt | UpdateThink | UpdateSpeak | UpdateListen) -> None:
        match update:
            case UpdatePrompt(prompt=prompt):
                await self.send({"type": "PromptUpdated"})
                await self._warn_of_length(prompt)
            case UpdateThink(think=think):
                self._thinking = listed(think)
                for one in self._thinking:
                    check_thinking(one)
                await self.send({"type": "ThinkUpdated"})
            case UpdateSpeak(speak=speak):
                for voice in listed(speak):
                    check_speaking(voice)
                await self.send({"type": "SpeakUpdated"})
            case UpdateListen():
                await self.send({"type": "ListenUpdated"})
            case _:
                assert_never(update)

    async def _warn_of_length(self, prompt: str) -> None:
        if too_long(prompt, self._thinking):
            self.journal.problems.append("The prompt is too long and is cut off")
            await self.send({"type": "Warning", "code": "PROMPT_TOO_LONG", "description": "The prompt was truncated."})

    async def _inject(self, message: InjectUserMessage | InjectAgentMessage) -> None:
        busy = self._caller_speaks or self._mouth.speaks
        behavior = message.behavior if isinstance(message, InjectAgentMessage) else "default"
        if busy and behavior == "default":
            await self.send({"type": "InjectionRefused", "message": "Somebody is speaking."})
            return
        if isinstance(message, InjectUserMessage):
            await self._tell_text("user", message.content)
            await self._carry_out(self.actor.read(message.content))
            return
        if behavior == "interrupt":
            await self._mouth.stop()
        self._mouth.say(Answer(text=message.message, turn=self._said[1]))

    async def _take_result(self, response: FunctionCallResponse) -> None:
        name = self._called.pop(response.id, None)
        if response.id in self._taken_back:
            self.journal.problems.append(f"{response.name} was answered, though it was cancelled")
        elif name != response.name:
            self.journal.problems.append(f"{response.id} is no call of {response.name}")
        else:
            await self._carry_out(self.actor.take_result(response.id, response.content) or [])

    # ── what comes of it ─────────────────────────────────────────────────────────────────────────────────

    async def _carry_out(self, deeds: Sequence[Deed]) -> None:
        calls: list[CallTool] = []
        for deed in deeds:
            match deed:
                case SpeechBegan():
                    await self._interrupted()
                case SpeechEnded():
                    self._caller_speaks = False
                case Understood(text=text):
                    await self._tell_text("user", text)
                case CallTool():
                    calls.append(deed)
                case CancelTool():
                    await self._take_back(deed)
                case Answer():
                    self._mouth.say(deed)
                case _:
                    assert_never(deed)
        if calls:
            await self._call(calls)

    async def _interrupted(self) -> None:
        self._caller_speaks = True
        spoke = await self._mouth.stop()
        await self.send({"type": "UserStartedSpeaking"})
        if not spoke and not self._said[0]:
            return
        fault = await self.misbehave("interrupted", self._said[1])
        if fault is not None and fault.do == "late_audio":
            audio = spoken(self._said[0], self._spoken)
            await self.send_audio(audio[-LATE_AUDIO_MS * self._spoken.bytes_per_ms :])

    async def _call(self, calls: Sequence[CallTool]) -> None:
        """All in one request. A function that was never declared cannot be called."""
        known = {function.name for think in self._thinking for function in think.functions}
        for call in calls:
            if call.name not in known:
                raise DeepgramRefusalError("NON_EXISTENT_FUNCTION_CALLED", f"{call.name} is not in the settings.")
        await self._request_functions([(call.tool_call_id, call.name, call.arguments) for call in calls])
        await self.misbehave("tool")

    async def _request_functions(self, calls: Sequence[tuple[str, str, str]]) -> None:
        self._called |= {key: name for key, name, _ in calls}
        functions = [
            {"id": key, "name": name, "arguments": arguments, "client_side": True} for key, name, arguments in calls
        ]
        await self.send({"type": "FunctionCallRequest", "functions": functions})

    async def _take_back(self, cancelled: CancelTool) -> None:
        self._called.pop(cancelled.tool_call_id, None)
        self._taken_back.add(cancelled.tool_call_id)
        function = {"id": cancelled.tool_call_id, "name": cancelled.name}
        await self.send({"type": "FunctionCallCancelled", "functions": [function]})

    async def _tell_text(self, role: str, content: str) -> None:
        text = {"type": "ConversationText", "role": role, "content": content, "conversational_behavior": "default"}
        await self.send(text)
        if self._settings is not None and self._settings.flags.history:
            await self.send({"type": "History", "role": role, "content": content})

    # ── speaking ─────────────────────────────────────────────────────────────────────────────────────────

    async def _speak(self, answer: Answer) -> None:
        fault = await self.misbehave("turn" if answer.turn else "greeting", answer.turn)
        if answer.pause_ms:
            await self.send({"type": "AgentThinking", "content": "Let me see."})
            await asyncio.sleep(answer.pause_ms / 1000)
        self._said = (answer.text, answer.turn)
        if answer.text:
            await self._send_speech(answer, fault)
        if answer.ends_call and any(function.name == "end_call" for function in self._thinking[0].functions):
            await self._request_functions([(f"end_{next(self._call_ids)}", "end_call", "{}")])

    async def _send_speech(self, answer: Answer, fault: Fault | None) -> None:
        """Words before their sound, sentence by sentence; ``AgentAudioDone`` long before anybody has heard it all."""
        audio = spoken(answer.text, self._spoken)
        per_ms = self._spoken.bytes_per_ms
        pieces = pieces_of(audio, fault, _odd(self.actor.script.chunk_ms * per_ms))
        sentences = deque(_sentences(answer.text))
        sent = 0
        for index, piece in enumerate(pieces):
            while sentences and sentences[0][0] * len(audio) <= sent:
                await self._tell_text("assistant", sentences.popleft()[1])
            if index == 0:
                await self._tell_start()
            if answer.turn and index == len(pieces) // 2:
                await self.misbehave("audio", answer.turn)
            await self.send_audio(piece)
            sent += len(piece)
            pace = self.actor.script.pace
            await asyncio.sleep(len(piece) / per_ms / 1000 / pace if pace else 0)
        for _, sentence in sentences:
            await self._tell_text("assistant", sentence)
        await self.send({"type": "AgentAudioDone"})

    async def _tell_start(self) -> None:
        latency = {"total_latency": 0.9, "tts_latency": 0.3, "ttt_latency": 0.6}
        if self._settings is not None and self._settings.experimental:
            await self.send({"type": "AgentStartedSpeaking", **latency})
        await self.send({"type": "LatencyReport", "stt_latency": 0.1, "ttt_text_latency": 0.6, "tts_latency": 0.3})


def _odd(size: int) -> int:
    """No whole number of frames or samples: 200 ms of G.711 are 1,371 bytes."""
    return max(1, size * 6 // 7) | 1


def _sentences(text: str) -> Iterator[tuple[float, str]]:
    """Each with the share of the text that comes before it."""
    position = 0
    for sentence in _SENTENCE_END.split(text):
        yield position / len(text), sentence
        position += len(sentence) + 1

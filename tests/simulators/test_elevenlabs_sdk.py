"""ElevenLabs' own client holds conversations with the simulator, and finds nothing to complain about."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from elevenlabs import ElevenLabs

from offhook.audio.g711 import silence
from offhook.audio.tones import tone
from offhook.model.audio import L16_16K, Encoding
from offhook.simulators.elevenlabs_agent import ElevenlabsSimulator
from offhook.simulators.elevenlabs_workspace import NEW_AGENT, TELEPHONE_AGENT, merged
from offhook.simulators.script import Fault, Script, ScriptedTool, Turn
from offhook.simulators.stage import Stage
from offhook.simulators.voice import spoken

with warnings.catch_warnings():  # it names a class of websockets by its old name
    warnings.simplefilter("ignore", DeprecationWarning)
    from elevenlabs.conversational_ai.conversation import (
        AsyncAudioInterface,
        AsyncConversation,
        AudioInterface,
        ClientTools,
        Conversation,
        ConversationInitiationData,
    )

PRIVATE = merged(NEW_AGENT, {"platform_settings": {"auth": {"enable_auth": True}}})
"""As a new agent is: 16 kHz linear."""

LONG = "This is a very long story about a ship that went to sea and never came home again."


class Loudspeaker(AsyncAudioInterface):
    """What the SDK plays and records."""

    def __init__(self) -> None:
        self.played = b""
        self.interruptions = 0
        self.microphone: Callable[[bytes], Awaitable[None]] | None = None

    async def start(self, input_callback: Callable[[bytes], Awaitable[None]]) -> None:
        self.microphone = input_callback

    async def stop(self) -> None:
        self.microphone = None

    async def output(self, audio: bytes) -> None:
        self.played += audio

    async def interrupt(self) -> None:
        self.interruptions += 1

    async def speak(self) -> None:
        assert self.microphone is not None
        voice = tone(440, 600, -12, Encoding.L16, sample_rate_hz=16000)
        audio = voice + silence(L16_16K) * 40
        for at in range(0, len(audio), 8000):  # 250 ms, as the SDK's own microphone
            await self.microphone(audio[at : at + 8000])


class Account:
    """What the SDK told its user."""

    def __init__(self) -> None:
        self.agent: list[str] = []
        self.caller: list[str] = []
        self.corrections: list[tuple[str, str]] = []
        self.characters: list[str] = []

    async def said(self, text: str) -> None:
        self.agent.append(text)

    async def heard(self, text: str) -> None:
        self.caller.append(text)

    async def corrected(self, original: str, corrected: str) -> None:
        self.corrections.append((original, corrected))

    async def aligned(self, alignment: Any) -> None:
        self.characters += alignment.chars


@asynccontextmanager
async def conversation(
    stage: Stage, loudspeaker: Loudspeaker, account: Account, *, requires_auth: bool = True, **more: Any
) -> AsyncIterator[AsyncConversation]:
    client = ElevenLabs(api_key="key", base_url=stage.url)
    tools = more.pop("client_tools", None) or ClientTools(loop=asyncio.get_running_loop())
    talking = AsyncConversation(
        client,
        "agent_1",
        requires_auth=requires_auth,
        audio_interface=loudspeaker,
        client_tools=tools,
        callback_agent_response=account.said,
        callback_agent_response_correction=account.corrected,
        callback_user_transcript=account.heard,
        callback_audio_alignment=account.aligned,
        **more,
    )
    await talking.start_session()  # type: ignore[no-untyped-call]  # the SDK's
    try:
        yield talking
    finally:
        await talking.end_session()  # type: ignore[no-untyped-call]
        await talking.wait_for_session_end()


async def until(condition: Callable[[], object], within_s: float = 10.0) -> None:
    for _ in range(round(within_s / 0.01)):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen")


WEATHER = Turn(
    hears="the weather", tools=(ScriptedTool(name="weather", arguments={"city": "Ulm"}),), says="It is {weather}."
)


@pytest.mark.parametrize("requires_auth", [True, False], ids=["signed", "public"])
async def test_a_conversation_from_greeting_to_goodbye(*, requires_auth: bool) -> None:
    turns = (WEATHER, Turn(hears="bye", says="Goodbye.", ends_call=True))
    simulator = ElevenlabsSimulator(Script(turns=turns), agent=PRIVATE if requires_auth else NEW_AGENT, ping_s=0.05)
    loudspeaker, account = Loudspeaker(), Account()
    tools = ClientTools(loop=asyncio.get_running_loop())
    asked: list[Any] = []

    async def weather(parameters: Any) -> str:
        asked.append(parameters["city"])
        return "sunny"

    tools.register("weather", weather, is_async=True)
    async with (
        Stage(simulator) as stage,
        conversation(stage, loudspeaker, account, requires_auth=requires_auth, client_tools=tools) as talking,
    ):
        await until(lambda: loudspeaker.played == spoken("Hello.", L16_16K))
        await loudspeaker.speak()
        await until(lambda: loudspeaker.played.endswith(spoken("It is sunny.", L16_16K)))
        await talking.send_contextual_update("The caller is a premium member.")
        await talking.register_user_activity()  # type: ignore[no-untyped-call]
        await loudspeaker.speak()
        await until(lambda: loudspeaker.microphone is None)
    assert asked == ["Ulm"]
    assert account.agent == ["Hello.", "It is sunny.", "Goodbye."]
    assert account.caller == ["the weather", "bye"]
    assert "".join(account.characters).startswith("Hello.It is")
    assert simulator.journal.problems == []


async def test_an_interruption_and_a_message_that_is_written() -> None:
    faults = (Fault(do="late_audio", on="interrupted"),)
    turns = (Turn(hears="a story", says=LONG), Turn(hears="wait", says="I stopped."))
    simulator = ElevenlabsSimulator(Script(turns=turns, faults=faults, greets=False), agent=NEW_AGENT)
    loudspeaker, account = Loudspeaker(), Account()
    async with Stage(simulator) as stage, conversation(stage, loudspeaker, account) as talking:
        await until(lambda: loudspeaker.microphone)
        await loudspeaker.speak()
        await until(lambda: loudspeaker.played == spoken(LONG, L16_16K))
        await loudspeaker.speak()
        await until(lambda: account.agent == [LONG, "I stopped."])
        await until(lambda: loudspeaker.played == spoken(LONG, L16_16K) + spoken("I stopped.", L16_16K))
        await talking.send_user_message("What now?")
        await until(lambda: account.agent[-1] == "You wrote: What now?")
    assert loudspeaker.interruptions == 2
    [first, _] = account.corrections
    assert first[0] == LONG
    assert LONG.startswith(first[1])
    assert len(first[1]) < len(LONG)
    assert simulator.journal.problems == []


async def test_what_the_client_overrides_is_obeyed_or_refused() -> None:
    loudspeaker, account = Loudspeaker(), Account()
    config = ConversationInitiationData(
        conversation_config_override={"agent": {"first_message": "Good day."}}, dynamic_variables={"name": "Ann"}
    )
    prepared = ElevenlabsSimulator(Script(), agent=TELEPHONE_AGENT)
    async with Stage(prepared) as stage, conversation(stage, loudspeaker, account, config=config):
        await until(lambda: account.agent == ["Good day."])
    assert prepared.journal.problems == []
    forbidden = ElevenlabsSimulator(Script(), agent=NEW_AGENT)
    ended: list[Any] = []

    async def note(details: Any) -> None:
        ended.append(details)

    async with (
        Stage(forbidden) as stage,
        conversation(stage, Loudspeaker(), Account(), config=config, callback_disconnect=note),
    ):
        await until(lambda: ended)
    assert (ended[0].close_code, ended[0].close_reason) == (1008, "override_error")


class Headset(AudioInterface):
    """Of the SDK's client without asyncio."""

    def __init__(self) -> None:
        self.played = b""
        self.microphone: Callable[[bytes], None] | None = None

    def start(self, input_callback: Callable[[bytes], None]) -> None:
        self.microphone = input_callback

    def stop(self) -> None:
        self.microphone = None

    def output(self, audio: bytes) -> None:
        self.played += audio

    def interrupt(self) -> None:
        self.played = b""


async def test_the_client_without_asyncio_converses_too() -> None:
    simulator = ElevenlabsSimulator(Script(turns=(Turn(hears="hello", says="It is noon."),)), agent=PRIVATE)
    headset, heard = Headset(), list[str]()
    async with Stage(simulator) as stage:
        client = ElevenLabs(api_key="key", base_url=stage.url)
        talking = Conversation(
            client, "agent_1", requires_auth=True, audio_interface=headset, callback_user_transcript=heard.append
        )
        await asyncio.to_thread(talking.start_session)
        await until(lambda: headset.played == spoken("Hello.", L16_16K))
        assert headset.microphone is not None
        voice = tone(440, 600, -12, Encoding.L16, sample_rate_hz=16000)
        await asyncio.to_thread(headset.microphone, silence(L16_16K) * 40)
        await asyncio.to_thread(headset.microphone, voice + silence(L16_16K) * 40)
        await until(lambda: headset.played.endswith(spoken("It is noon.", L16_16K)))
        await asyncio.to_thread(talking.end_session)
        await asyncio.to_thread(talking.wait_for_session_end)
    assert heard == ["hello"]
    assert simulator.journal.problems == []

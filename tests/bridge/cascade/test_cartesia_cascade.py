"""The provider ``cartesia`` whole: the simulator of Cartesia listens and speaks, a model of one's own thinks."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.bridge.provider_talk import until
from tests.bridge.recording_listener import RecordingListener

from offhook.audio.g711 import silence
from offhook.audio.tones import tone
from offhook.bridge.cascade.provider import cartesia
from offhook.bridge.codec import (
    AudioDone,
    Begin,
    BridgeConnection,
    BridgeFault,
    BridgeRequest,
    Digits,
    Interrupt,
    Say,
    SpeechStarted,
    TextInput,
    ToolCall,
    ToolResult,
    ToolSpec,
    TranscriptDelta,
    UsageReported,
    Utterance,
)
from offhook.bridge.options import ProviderAccess
from offhook.bridge.outside import Outside
from offhook.bridge.provider_http import ProviderHttp
from offhook.model.audio import PCMA_8K, PCMU_8K, AudioFormat
from offhook.model.errors import BridgeError
from offhook.model.records import Agent
from offhook.simulators.cartesia import CartesiaSimulator
from offhook.simulators.script import Fault, FaultKind, FaultMoment, Script, ScriptedTool, Turn
from offhook.simulators.self_hosted import SelfHostedSimulator
from offhook.simulators.stage import Stage
from offhook.simulators.voice import spoken

VOICE = "a0e99841-438c-4a64-b679-ae501e7d6091"

WEATHER = ToolSpec(name="weather", description="Of a city", parameters='{"type":"object","properties":{}}')
CLOCK = ToolSpec(name="clock", description="The time", parameters='{"type":"object","properties":{}}')


class Talk:
    """A caller on the line, whose silence is heard as well, a little faster than it would be."""

    def __init__(
        self,
        connection: BridgeConnection,
        audio_format: AudioFormat,
        ear: CartesiaSimulator,
        model: SelfHostedSimulator,
    ) -> None:
        self.connection = connection
        self.format = audio_format
        self.ear = ear
        self.model = model
        self.spoken = b""

    def told_the_model(self) -> list[tuple[str, str]]:
        """Roles and texts of the last request, without its system prompt."""
        asked = [m.data for m in self.model.journal.received if m.path.endswith("/chat/completions")]
        messages = json.loads(asked[-1])["messages"]
        return [(message["role"], message["content"]) for message in messages[1:]]

    def speak(self, ms: int = 600) -> None:
        audio = tone(440, ms, -12, self.format.encoding)
        for at in range(0, len(audio), 160):
            self._send(audio[at : at + 160])

    async def listen(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self._send(silence(self.format))
                await asyncio.sleep(0.002)

    def _send(self, frame: bytes) -> None:
        self.spoken += frame
        self.connection.send_audio(frame)


def verdicts(listener: RecordingListener) -> set[str]:
    return {fault.verdict for fault in listener.of(BridgeFault)}


@asynccontextmanager
async def call(
    script: Script,
    *,
    audio_format: AudioFormat = PCMU_8K,
    tools: Sequence[ToolSpec] = (),
    history: Sequence[Utterance] = (),
    greeting: str = "Good morning.",
    voice_faults: tuple[Fault, ...] = (),
    model_script: Script | None = None,
    **options: Any,
) -> AsyncIterator[tuple[Talk, RecordingListener]]:
    """Open and ready. The recogniser and the model play the same script; ``voice_faults`` are the voice's alone.

    ``model_script``: of the model, where it is not the recogniser's too.
    """
    ear, model = CartesiaSimulator(script), SelfHostedSimulator(model_script or script)
    mouth = CartesiaSimulator(Script(pace=script.pace, faults=voice_faults))
    listener = RecordingListener()
    async with AsyncExitStack() as stack:
        heard, thought, said = [await stack.enter_async_context(Stage(one)) for one in (ear, model, mouth)]
        http = ProviderHttp()
        stack.push_async_callback(http.close)
        outside = Outside(
            http=http,
            accesses={"cartesia": ProviderAccess(api_key="k", base_url=said.url)},
        )
        chosen = {
            "voice_id": VOICE,
            "stt_provider": "cartesia",
            "stt_base_url": heard.url,
            "llm_base_url": f"{thought.url}/v1",
            **options,
        }
        agent = Agent(
            agent_id="a",
            provider="cartesia",
            greeting=greeting,
            instructions="Be kind.",
            options=chosen,
            by_operator=True,
        )
        request = BridgeRequest(
            call_id="c",
            agent=agent,
            input_format=audio_format,
            output_format=audio_format,
            listener=listener,
            tools=tuple(tools),
            history=lambda: history,
        )
        connection = cartesia(outside).factory(request)
        stack.push_async_callback(connection.close)
        await connection.open()
        yield Talk(connection, audio_format, ear, model), listener
    assert ear.journal.problems == []
    assert model.journal.problems == []
    assert mouth.journal.problems == []


@pytest.mark.parametrize("audio_format", [PCMU_8K, PCMA_8K])
async def test_greets_listens_and_answers_byte_for_byte(audio_format: AudioFormat) -> None:
    script = Script(turns=(Turn(hears="is it open", says="Yes, until six."),))
    async with call(script, audio_format=audio_format) as (talk, listener):
        talk.connection.send(Begin())
        await listener.until(lambda: listener.said() == ["Good morning."])
        talk.speak()
        await talk.listen(lambda: "Yes, until six." in listener.said())
        items = [event.item for event in listener.of(AudioDone)]
        assert listener.audio[items[0]] == spoken("Good morning.", audio_format)
        assert listener.audio[items[1]] == spoken("Yes, until six.", audio_format)
        assert listener.heard() == ["is it open"]
        assert bytes(talk.ear.journal.audio_of[1]) == talk.spoken[: len(talk.ear.journal.audio_of[1])]
    assert listener.of(SpeechStarted)
    placed = [d.at_ms for d in listener.of(TranscriptDelta) if d.speaker == "agent" and not d.final]
    assert placed[0] == 0
    assert None not in placed
    units = {usage.units for usage in listener.of(UsageReported)}
    assert {"characters", "seconds"} <= units
    assert talk.told_the_model() == [("assistant", "Good morning."), ("user", "is it open")]


async def test_what_was_not_heard_was_not_said() -> None:
    long = "This is a very long sentence that goes on and on about nothing at all."
    script = Script(turns=(Turn(hears="tell me", says=long), Turn(hears="stop", says="Yes?")))
    async with call(script) as (talk, listener):
        talk.speak()
        await talk.listen(lambda: long in listener.said())
        item = listener.of(AudioDone)[-1].item
        words = [d for d in listener.of(TranscriptDelta) if d.item == item and d.at_ms is not None]
        played_ms = (words[3].at_ms or 0) + 10
        talk.speak()
        talk.connection.send(Interrupt(item=item, played_ms=played_ms))
        await talk.listen(lambda: "Yes?" in listener.said())
    assert ("assistant", "This is a very") in talk.told_the_model()


async def test_a_voice_that_is_cut_off_says_nothing_more_of_it() -> None:
    script = Script(
        pace=10, turns=(Turn(hears="tell me", says="A long sentence that goes on and on. And another one."),)
    )
    async with call(script) as (talk, listener):
        talk.speak()
        await talk.listen(lambda: bool(listener.audio))
        (item,) = listener.audio
        talk.connection.send(Interrupt(item=item, played_ms=100))
        came = len(listener.audio[item])
        talk.connection.send(Say(text="All right."))
        await listener.until(lambda: "All right." in listener.said())
        assert len(listener.audio[item]) == came


async def test_tools_are_called_side_by_side_and_their_results_are_spoken() -> None:
    tools = (ScriptedTool(name="weather", arguments={"city": "Ulm"}), ScriptedTool(name="clock"))
    script = Script(turns=(Turn(hears="how is it", tools=tools, says="It is {weather} at {clock}."),))
    async with call(script, tools=(WEATHER, CLOCK)) as (talk, listener):
        talk.speak()
        await talk.listen(lambda: len(listener.of(ToolCall)) == 2)
        weather, clock = listener.of(ToolCall)
        assert (weather.name, json.loads(weather.arguments)) == ("weather", {"city": "Ulm"})
        talk.connection.send(ToolResult(tool_call_id=clock.tool_call_id, output="noon"))
        talk.connection.send(ToolResult(tool_call_id=weather.tool_call_id, output="sunny"))
        await talk.listen(lambda: "It is sunny at noon." in listener.said())


async def test_is_told_things_and_digits() -> None:
    script = Script(turns=(Turn(hears="well?", says="Five it is."),))
    async with call(script) as (talk, listener):
        talk.connection.send(TextInput(role="system", text="The caller is a friend."))
        talk.connection.send(Digits(digits="5"))
        talk.connection.send(TextInput(role="user", text="Well?", respond=True))
        await listener.until(lambda: "Five it is." in listener.said())
    assert ("system", "The caller is a friend.") in talk.told_the_model()
    assert ("user", "[The caller pressed 5]\nWell?") in talk.told_the_model()


async def test_takes_over_what_was_said_before() -> None:
    earlier = (Utterance(speaker="caller", text="hello"), Utterance(speaker="agent", text="Hi."))
    script = Script(turns=(Turn(hears="go on", says="Gladly."),))
    async with call(script, history=earlier) as (talk, listener):
        talk.connection.send(TextInput(role="user", text="go on", respond=True))
        await listener.until(lambda: "Gladly." in listener.said())
    assert talk.told_the_model() == [("user", "hello"), ("assistant", "Hi."), ("user", "go on")]


@pytest.mark.parametrize("fault", [Fault(do="drop", on="audio"), Fault(do="close", code=1011), Fault(do="stall")])
async def test_a_voice_that_breaks_once_is_heard_all_the_same(fault: Fault) -> None:
    async with call(Script(), voice_faults=(fault,)) as (talk, listener):
        talk.connection.send(Begin())
        await listener.until(lambda: listener.said() == ["Good morning."])
        (audio,) = listener.audio.values()
    came = 0 if fault.on == "turn" else 1600  # one piece of "Good", of which the rest is not said again
    rest = "morning." if came else "Good morning."
    assert audio == spoken("Good morning.", PCMU_8K)[:came] + spoken(rest, PCMU_8K)
    assert verdicts(listener) <= {"retry"}


async def test_a_voice_without_credit_falls_over() -> None:
    async with call(Script(), voice_faults=(Fault(do="error", text="quota_exceeded"),)) as (talk, listener):
        talk.connection.send(Begin())
        await listener.until(lambda: bool(listener.of(BridgeFault)))
    (fault,) = listener.of(BridgeFault)
    assert fault.verdict == "fall_over"
    assert "quota_exceeded" in fault.problem


async def test_a_recogniser_that_breaks_in_a_turn_hears_it_all_the_same() -> None:
    script = Script(faults=(Fault(do="drop"),), turns=(Turn(hears="is it open", says="Yes."),))
    async with call(script) as (talk, listener):
        talk.speak()
        await talk.listen(lambda: "Yes." in listener.said())
        await until(lambda: listener.heard() == ["is it open"])


@pytest.mark.parametrize("old", ["sonic-2", "turbo"])
async def test_a_model_of_old_is_replaced(old: str, caplog: pytest.LogCaptureFixture) -> None:
    async with call(Script(), model=old, stt_model="ink-whisper") as (talk, listener):
        talk.connection.send(Begin())
        await listener.until(lambda: listener.said() == ["Good morning."])
    assert f"'{old}' was ended by its vendor: 'sonic-3.5' is used instead" in caplog.text


BREAKS: tuple[FaultKind, ...] = ("close", "drop", "error", "garbage")


def once(moments: Sequence[FaultMoment], *oddities: FaultKind) -> list[Fault]:
    """Every way to break at each of these moments, and what is merely odd; each happens once."""
    breaks = [Fault(do=do, on=on, ms=20) for on in moments for do in BREAKS]
    refused = Fault(do="refuse", on="connect", code=503)
    return [*breaks, Fault(do="drop", on="connect"), refused, *(Fault(do=do) for do in oddities)]


def named(fault: Fault) -> str:
    return f"{fault.do} on {fault.on}"


@pytest.mark.parametrize(
    "fault", once(["turn", "audio", "after"], "unknown", "burst", "trickle", "late_audio"), ids=named
)
async def test_whatever_goes_wrong_once_with_the_voice_the_caller_is_answered(fault: Fault) -> None:
    script = Script(turns=(Turn(hears="is it open", says="Yes, until six."),))
    async with call(script, voice_faults=(fault,)) as (talk, listener):
        talk.speak()
        await talk.listen(lambda: "Yes, until six." in listener.said())
    assert verdicts(listener) <= {"retry"}


@pytest.mark.parametrize("fault", once(["setup", "turn"], "unknown", "duplicate"), ids=named)
async def test_whatever_goes_wrong_once_with_the_ear_the_caller_is_answered(fault: Fault) -> None:
    script = Script(turns=(Turn(hears="is it open", says="Yes, until six."),), faults=(fault,))
    async with call(script, model_script=Script(turns=script.turns)) as (talk, listener):
        talk.speak()
        await talk.listen(lambda: "Yes, until six." in listener.said())
        assert [text for role, text in talk.told_the_model() if role == "user"] == ["is it open"]
    assert listener.names()[0] == "Ready"
    assert verdicts(listener) <= {"retry"}


@pytest.mark.parametrize("part", ["voice", "ear"])
@pytest.mark.parametrize("do", BREAKS)
async def test_what_goes_wrong_again_and_again_falls_over(part: str, do: FaultKind) -> None:
    faults = (Fault(do=do, code=1011, times=100),)
    turns = (Turn(hears="is it open", says="Yes, until six."),)
    script = Script(turns=turns, faults=faults if part == "ear" else ())
    voice_faults = faults if part == "voice" else ()
    async with call(script, model_script=Script(turns=turns), voice_faults=voice_faults) as (talk, listener):
        talk.speak()
        await talk.listen(lambda: "fall_over" in verdicts(listener))
    assert listener.of(BridgeFault)[-1].verdict == "fall_over"


@pytest.mark.parametrize("part", ["voice", "ear"])
@pytest.mark.parametrize(("status", "code"), [(401, "unauthorized"), (402, "quota_exceeded")])
async def test_who_is_not_let_in_falls_over_at_once(part: str, status: int, code: str) -> None:
    faults = (Fault(do="refuse", on="connect", code=status, text=code),)
    script = Script(faults=faults if part == "ear" else ())
    with pytest.raises(BridgeError, match=code) as told:
        async with call(script, model_script=Script(), voice_faults=faults if part == "voice" else ()):
            pass
    assert told.value.verdict == "fall_over"


def test_the_page_shows_an_agent_that_works() -> None:
    page = Path(__file__).parents[3] / "docs" / "providers" / "cartesia.md"
    found = re.search(r"```json\n(.*?)```", page.read_text(), re.DOTALL)
    assert found is not None
    form = json.loads(found.group(1))
    keys = {name: ProviderAccess(api_key="k") for name in ("cartesia", "openai", "deepgram")}
    agent = Agent(agent_id=form["id"], provider=form["provider"], options=form["options"])
    cartesia(Outside(http=ProviderHttp(), accesses=keys)).check(agent)

"""The scripted caller of ``offhook call``: when it speaks, what it reports, when it hangs up. 20 ms a frame."""

from __future__ import annotations

from offhook.audio.g711 import silence
from offhook.audio.tones import tone
from offhook.bridge.codec import BridgeEvent, BridgeRequest, ToolCall, TranscriptDelta
from offhook.cli.caller import NOTHING_HEARD_MS, QUIET_MS, CallerScript, Line, PressedDigits, SpokenLine
from offhook.model.audio import FRAME_MS, PCMU_8K, AudioFormat, Encoding
from offhook.model.records import Agent

SILENCE = silence(PCMU_8K)
SYLLABLE = tone(400, 160, -15, Encoding.PCMU)
GAP = tone(400, 40, -50, Encoding.PCMU)
"""Speech has gaps, which is how a detector tells it from noise."""

HELLO = SpokenLine(text="hello", audio=tone(600, 400, -15, Encoding.PCMU))


class Listener:
    def __init__(self) -> None:
        self.events: list[BridgeEvent] = []
        self.spoken: list[str] = []

    def audio_out(self, item: str, audio: bytes) -> None:
        self.spoken.append(item)

    def bridge_event(self, event: BridgeEvent) -> None:
        self.events.append(event)

    @property
    def tools(self) -> list[str]:
        return [event.name for event in self.events if isinstance(event, ToolCall)]


async def nothing_recognised(audio: bytes, audio_format: AudioFormat) -> str:
    return ""


async def caller(*lines: Line) -> tuple[CallerScript, Listener]:
    listener = Listener()
    agent = Agent(agent_id="caller", provider="caller")
    script = CallerScript(
        BridgeRequest(call_id="c", agent=agent, input_format=PCMU_8K, output_format=PCMU_8K, listener=listener),
        lines,
        nothing_recognised,
    )
    await script.open()
    return script, listener


def hears(script: CallerScript, frame: bytes, ms: int) -> None:
    for _ in range(ms // FRAME_MS):
        script.send_audio(frame)


def speaks_to(script: CallerScript, ms: int) -> None:
    sound = (SYLLABLE + GAP) * (ms // 200)
    for start in range(0, len(sound), 160):
        script.send_audio(sound[start : start + 160])


def greets(script: CallerScript) -> None:
    speaks_to(script, 1000)
    hears(script, SILENCE, QUIET_MS + 100)


async def test_it_waits_for_the_greeting_and_speaks_when_it_is_over() -> None:
    script, listener = await caller(HELLO)
    speaks_to(script, 1000)
    assert listener.spoken == []
    hears(script, SILENCE, QUIET_MS + 100)
    assert listener.spoken == ["line-1"]
    await script.close()


async def test_a_far_end_that_says_nothing_is_spoken_to_after_a_while() -> None:
    script, listener = await caller(HELLO)
    hears(script, SILENCE, NOTHING_HEARD_MS - 100)
    assert listener.spoken == []
    hears(script, SILENCE, 200)
    assert listener.spoken == ["line-1"]
    await script.close()


async def test_lines_take_turns_with_the_answers_and_then_it_hangs_up() -> None:
    script, listener = await caller(HELLO, PressedDigits(digits="12"), HELLO)
    for _ in range(3):
        greets(script)
        hears(script, SILENCE, 600)
    assert listener.spoken == ["line-1", "line-2"]
    assert listener.tools == ["send_dtmf"]
    greets(script)
    assert listener.tools == ["send_dtmf", "end_call"]
    await script.close()


async def test_its_own_words_are_in_the_transcript() -> None:
    script, listener = await caller(HELLO)
    greets(script)
    words = [event.text for event in listener.events if isinstance(event, TranscriptDelta)]
    assert words == ["hello"]
    await script.close()


async def test_a_caller_without_lines_only_listens() -> None:
    script, listener = await caller()
    greets(script)
    hears(script, SILENCE, 2 * NOTHING_HEARD_MS)
    assert (listener.spoken, listener.tools) == ([], [])
    await script.close()

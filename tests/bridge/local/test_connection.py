"""Who has the floor and what is answered, with an engine that knows the words beforehand."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import replace
from datetime import datetime

import pytest
from tests.bridge.recording_listener import RecordingListener, request_for

from offhook.audio.tones import tone
from offhook.bridge.codec import (
    AudioDone,
    BridgeEvent,
    BridgeFault,
    Digits,
    Interrupt,
    Interrupted,
    InterruptionJudged,
    Ready,
    ResponseDone,
    ResponseStarted,
    Say,
    SpeechStarted,
    SpeechStopped,
    TextInput,
    ToolCall,
    ToolResult,
    TranscriptDelta,
    UpdateAgent,
)
from offhook.bridge.local.connection import LocalConnection
from offhook.bridge.local.messages import Synthesised
from offhook.bridge.local.phrases import Vocabulary
from offhook.bridge.local.rules import ABILITIES, CANNOT_TRANSFER, DECIDE, DEFAULT_GREETING, GOODBYE
from offhook.bridge.local.worker_pool import WorkerError
from offhook.model.audio import AudioFormat, Encoding
from offhook.model.records import Agent, TransferDestination

QUIET = b"\xff" * 160
LOUD = tone(300, 20, -15.0, Encoding.PCMU)
WORD_MS = 400
NOON = datetime(2026, 11, 20, 12, 5)


class ToldEngine:
    """Hears what it was told, speaks each word for ``WORD_MS``."""

    def __init__(self) -> None:
        self.words: deque[str | WorkerError | None] = deque()
        self.heard: list[bytes] = []
        self.vocabulary: Vocabulary | None = None
        self.names: tuple[str, ...] = ()
        self.broken_voice = False

    async def understand(
        self, audio: bytes, audio_format: AudioFormat, vocabulary: Vocabulary, names: tuple[str, ...]
    ) -> str | None:
        self.heard.append(audio)
        self.vocabulary = vocabulary
        self.names = names
        words = self.words[0] if len(self.words) == 1 else self.words.popleft()
        if isinstance(words, WorkerError):
            raise words
        return words

    async def synthesise(self, text: str, audio_format: AudioFormat) -> Synthesised:
        if self.broken_voice:
            raise WorkerError("the voice died")
        count = len(text.split())
        positions = tuple(index * WORD_MS for index in range(count))
        return Synthesised(audio=b"\x01" * (8 * WORD_MS * count), word_ms=positions)


class Talk:
    """A conversation in virtual time: frames are the clock."""

    def __init__(self, greeting: str = "Hi.", destinations: tuple[str, ...] = (), *, briefs: bool = False) -> None:
        self.engine = ToldEngine()
        self.listener = RecordingListener()
        request = request_for(self.listener, provider="local", greeting=greeting)
        known = tuple(TransferDestination(name=name, target="200") for name in destinations)
        request = replace(request, agent=replace(request.agent, destinations=known, briefs=briefs))
        self.connection = LocalConnection(request, self.engine, lambda: NOON)

    async def open(self) -> None:
        await self.connection.open()
        await self.frames(QUIET, 2000)
        self.listener.events.clear()

    async def frames(self, frame: bytes, ms: int) -> None:
        for _ in range(ms // 20):
            self.connection.send_audio(frame)
            await settle()

    async def speak(self, *words: str | WorkerError | None, ms: int = 600) -> None:
        """The caller says ``words`` (what each recognition will find) for ``ms``, then is silent."""
        self.engine.words = deque(words)
        await self.frames(LOUD, ms)
        await self.frames(QUIET, 800)

    def events(self) -> list[BridgeEvent]:
        """What came since last asked, without the agent's single words."""
        found = [e for e in self.listener.events if not (isinstance(e, TranscriptDelta) and not e.final)]
        self.listener.events.clear()
        return found

    def names(self) -> list[str]:
        return [type(event).__name__ for event in self.events()]


async def settle() -> None:
    """Let tasks that wait for nothing run to their end."""
    for _ in range(4):
        await asyncio.sleep(0)


@pytest.fixture
async def talk() -> Talk:
    conversation = Talk()
    await conversation.open()
    return conversation


ANSWER = ["ResponseStarted", "TranscriptDelta", "AudioDone", "ResponseDone"]


async def test_greets_with_the_agents_greeting() -> None:
    talk = Talk(greeting="Welcome to Berlin.")
    await talk.connection.open()
    await settle()
    assert talk.listener.events[:2] == [Ready(), ResponseStarted()]
    assert talk.listener.said() == ["Welcome to Berlin."]
    assert len(talk.listener.audio["agent-1"]) == 3 * WORD_MS * 8


async def test_greets_by_itself_without_a_greeting() -> None:
    talk = Talk(greeting="")
    await talk.connection.open()
    await settle()
    assert talk.listener.said() == [DEFAULT_GREETING]


async def test_words_carry_their_places_and_join_to_the_text(talk: Talk) -> None:
    talk.connection.send(Say(text="one two three"))
    await settle()
    deltas = [d for d in talk.listener.of(TranscriptDelta) if not d.final]
    assert [d.at_ms for d in deltas] == [0, 400, 800]
    assert "".join(d.text for d in deltas) == "one two three"


async def test_answers_a_question_in_the_order_the_call_needs(talk: Talk) -> None:
    await talk.speak("what time is it")
    assert talk.names() == [
        "SpeechStarted", "SpeechStopped", "InterruptionJudged", "TranscriptDelta", *ANSWER,
    ]  # fmt: skip
    assert talk.listener.said() == []  # events() took them
    await talk.speak("what day is it")
    assert talk.listener.heard() == ["what day is it"]
    assert talk.listener.said() == ["Today is Friday, November 20, 2026."]


async def test_a_command_is_answered_in_the_pause_free_speech_at_the_end_of_the_turn(talk: Talk) -> None:
    talk.engine.words = deque(["what time is it"])
    await talk.frames(LOUD, 600)
    await talk.frames(QUIET, 200)
    assert talk.listener.said() == ["It is 12:05 PM."]
    await talk.frames(QUIET, 4000)
    talk.engine.words = deque(["my name is john"])
    await talk.frames(LOUD, 600)
    await talk.frames(QUIET, 400)
    assert len(talk.listener.said()) == 1
    await talk.frames(QUIET, 200)
    assert talk.listener.said()[1:] == ["You said: my name is john."]


async def test_speech_after_a_pause_is_one_turn(talk: Talk) -> None:
    talk.engine.words = deque(["my name", "my name is john"])
    await talk.frames(LOUD, 400)
    await talk.frames(QUIET, 300)
    await talk.frames(LOUD, 400)
    await talk.frames(QUIET, 800)
    assert talk.listener.heard() == ["my name is john"]
    assert len(talk.listener.of(SpeechStarted)) == len(talk.listener.of(SpeechStopped)) == 1
    assert len(talk.engine.heard[1]) > len(talk.engine.heard[0]) + 400 * 8


async def test_goodbye_is_said_then_the_call_ends_once(talk: Talk) -> None:
    await talk.speak("goodbye")
    await talk.speak("goodbye")
    talk.connection.send(Say(text="too late"))
    await settle()
    assert talk.listener.said() == [GOODBYE]
    assert talk.listener.of(ToolCall) == [ToolCall(tool_call_id="goodbye", name="end_call", arguments="{}")]
    done = talk.listener.events.index(ResponseDone())
    assert isinstance(talk.listener.events[done + 1], ToolCall)


@pytest.mark.parametrize("noise", [None, "uh", "its"])
async def test_noise_is_not_answered(talk: Talk, noise: str | None) -> None:
    await talk.speak(noise, ms=200)
    events = talk.events()
    assert InterruptionJudged(genuine=False) in events
    assert ResponseStarted() not in events


async def test_a_recogniser_that_dies_is_speech_not_understood(talk: Talk) -> None:
    await talk.speak(WorkerError("died"), ms=1000)
    assert talk.listener.heard() == []
    assert talk.listener.said() == ["Sorry, I did not understand that. Please say it again, or say help."]


async def test_a_voice_that_dies_is_reported_and_the_next_answer_is_spoken(talk: Talk) -> None:
    talk.engine.broken_voice = True
    await talk.speak("what time is it")
    assert talk.listener.of(BridgeFault) == [BridgeFault(problem="the voice died", verdict="retry")]
    assert talk.listener.of(ResponseDone) == [ResponseDone()]
    talk.engine.broken_voice = False
    await talk.speak("what time is it")
    assert talk.listener.said() == ["It is 12:05 PM."]


# ── barge-in ─────────────────────────────────────────────────────────────────────────────────────────────


async def speak_long(talk: Talk) -> str:
    """The agent begins a sentence of eight seconds; returns the item."""
    talk.connection.send(Say(text=" ".join(["word"] * 20)))
    await settle()
    await talk.frames(QUIET, 1000)
    talk.listener.events.clear()
    return list(talk.listener.audio)[-1]


@pytest.mark.parametrize("words", ["mm-hm", "okay", "yes", None, ""])
async def test_a_backchannel_over_the_agent_is_no_turn(talk: Talk, words: str | None) -> None:
    await speak_long(talk)
    await talk.speak(words, ms=400)
    events = talk.events()
    assert [e for e in events if isinstance(e, InterruptionJudged)] == [InterruptionJudged(genuine=False)]
    assert "ResponseStarted" not in [type(e).__name__ for e in events]


async def test_the_judgement_does_not_wait_for_the_end_of_the_turn(talk: Talk) -> None:
    await speak_long(talk)
    talk.engine.words = deque(["mm-hm"])
    await talk.frames(LOUD, 400)
    await talk.frames(QUIET, 200)
    assert talk.names() == ["SpeechStarted", "SpeechStopped", "InterruptionJudged", "TranscriptDelta"]


async def test_stop_silences_the_agent_and_nothing_is_said(talk: Talk) -> None:
    await speak_long(talk)
    await talk.speak("stop", ms=300)
    assert [e for e in talk.events() if not isinstance(e, SpeechStarted | SpeechStopped)] == [
        InterruptionJudged(genuine=True),
        TranscriptDelta(speaker="caller", item="caller-3", text="stop", final=True),
    ]


async def test_a_question_over_the_agent_is_answered(talk: Talk) -> None:
    await speak_long(talk)
    await talk.speak("what time is it")
    assert InterruptionJudged(genuine=True) in talk.listener.events
    assert talk.listener.said() == ["It is 12:05 PM."]


async def test_long_speech_over_the_agent_is_a_turn_before_it_ends(talk: Talk) -> None:
    await speak_long(talk)
    talk.engine.words = deque(["i would like a pizza"])
    await talk.frames(LOUD, 1400)
    assert talk.names() == ["SpeechStarted"]
    await talk.frames(LOUD, 200)
    assert talk.events() == [InterruptionJudged(genuine=True)]
    await talk.frames(QUIET, 800)
    assert talk.listener.of(InterruptionJudged) == []
    assert talk.listener.said() == ["You said: i would like a pizza."]


async def test_a_second_backchannel_right_after_the_first_is_judged_too(talk: Talk) -> None:
    await speak_long(talk)
    talk.engine.words = deque(["mm-hm"])
    for _ in range(2):
        await talk.frames(LOUD, 300)
        await talk.frames(QUIET, 240)
    assert talk.listener.of(InterruptionJudged) == [InterruptionJudged(genuine=False)] * 2
    assert len(talk.listener.of(SpeechStarted)) == len(talk.listener.of(SpeechStopped)) == 2


async def test_after_the_agents_audio_is_over_yes_is_an_answer(talk: Talk) -> None:
    await speak_long(talk)
    await talk.frames(QUIET, 8000)
    await talk.speak("yes", ms=300)
    assert talk.listener.said() == ["Good. Ask me for the time or the date, or say help."]


async def test_an_agent_that_may_not_be_interrupted_is_not(talk: Talk) -> None:
    talk.connection.send(UpdateAgent(agent=Agent(agent_id="a1", provider="local", interruptible=False)))
    await speak_long(talk)
    await talk.speak("what time is it", ms=2000)
    assert talk.listener.of(InterruptionJudged) == [InterruptionJudged(genuine=False)]
    assert talk.listener.said() == []


async def test_only_what_was_heard_is_remembered(talk: Talk) -> None:
    talk.connection.send(Say(text="one two three four"))
    await settle()
    item = list(talk.listener.audio)[-1]
    talk.connection.send(Interrupt(item=item, played_ms=900))
    talk.listener.events.clear()
    talk.connection.send(TextInput(role="user", text="repeat that", respond=True))
    await settle()
    assert talk.listener.said() == ["one two three"]


async def test_an_interrupt_of_another_item_changes_nothing(talk: Talk) -> None:
    talk.connection.send(Say(text="one two three four"))
    await settle()
    talk.connection.send(Interrupt(item="agent-1", played_ms=0))
    talk.listener.events.clear()
    talk.connection.send(TextInput(role="user", text="repeat that", respond=True))
    await settle()
    assert talk.listener.said() == ["one two three four"]


# ── keys, texts, the end ─────────────────────────────────────────────────────────────────────────────────


async def test_keys_pressed_together_are_read_back_together(talk: Talk) -> None:
    talk.connection.send(Digits(digits="1"))
    await talk.frames(QUIET, 600)
    talk.connection.send(Digits(digits="2"))
    await talk.frames(QUIET, 1000)
    assert talk.listener.said() == []
    await talk.frames(QUIET, 400)
    assert talk.listener.said() == ["You pressed 1 2."]


async def test_pound_ends_the_number_at_once(talk: Talk) -> None:
    for digit in "42#":
        talk.connection.send(Digits(digits=digit))
    await settle()
    assert talk.listener.said() == ["You pressed 4 2 pound."]


async def test_a_key_silences_the_agent(talk: Talk) -> None:
    item = await speak_long(talk)
    talk.connection.send(Digits(digits="5"))
    assert talk.events() == [Interrupted(item=item)]
    await talk.frames(QUIET, 1400)
    assert talk.listener.said() == ["You pressed 5."]


async def test_the_sound_of_a_key_is_no_speech(talk: Talk) -> None:
    talk.engine.words = deque(["stop"])
    await talk.frames(LOUD, 100)
    talk.connection.send(Digits(digits="5"))
    await talk.frames(QUIET, 1400)
    assert talk.listener.heard() == []
    assert talk.listener.of(InterruptionJudged) == [InterruptionJudged(genuine=False)]
    assert talk.listener.said() == ["You pressed 5."]


async def test_more_keys_than_anyone_presses_are_not_kept(talk: Talk) -> None:
    talk.connection.send(Digits(digits="1" * 1000))
    await talk.frames(QUIET, 1400)
    assert talk.listener.said() == ["You pressed " + " ".join("1" * 32) + "."]


async def test_text_is_context_unless_an_answer_is_asked_for(talk: Talk) -> None:
    talk.connection.send(TextInput(role="system", text="be kind"))
    await settle()
    assert talk.listener.said() == []
    talk.connection.send(TextInput(role="user", text="help", respond=True))
    await settle()
    assert talk.listener.said() == [ABILITIES]


async def test_nothing_comes_after_close(talk: Talk) -> None:
    talk.connection.send(Say(text="hello"))
    await talk.connection.close()
    await talk.connection.close()
    talk.connection.send(Say(text="hello"))
    await talk.speak("what time is it")
    assert talk.events() == [ResponseStarted()]
    assert asyncio.all_tasks() == {asyncio.current_task()}


# ── handing the caller over ──────────────────────────────────────────────────────────────────────────────

TO_SALES = ToolCall(tool_call_id="transfer-1", name="transfer_call", arguments='{"destination":"sales"}')
BUSY = "transfer to sales: the line is busy (486 Busy Here)"


async def transferring(*destinations: str) -> Talk:
    """A caller with an agent that has ``destinations``, after its greeting."""
    conversation = Talk(destinations=destinations)
    await conversation.open()
    return conversation


async def test_the_recogniser_listens_for_the_destinations() -> None:
    talk = await transferring("sales", "support")
    await talk.speak("hello")
    assert (talk.engine.vocabulary, talk.engine.names) == (Vocabulary.ASKING, ("sales", "support"))


async def test_without_destinations_it_listens_for_what_every_agent_knows(talk: Talk) -> None:
    await talk.speak("hello")
    assert (talk.engine.vocabulary, talk.engine.names) == (Vocabulary.COMMON, ())


async def test_says_whom_it_connects_to_before_it_does() -> None:
    talk = await transferring("sales")
    await talk.speak("transfer me please")
    assert talk.listener.said() == ["One moment, I connect you to sales."]
    done = talk.listener.events.index(ResponseDone())
    assert talk.listener.events[done + 1 :] == [TO_SALES]


async def test_without_a_voice_it_connects_all_the_same() -> None:
    talk = await transferring("sales")
    talk.engine.broken_voice = True
    await talk.speak("operator")
    assert talk.listener.of(ToolCall) == [TO_SALES]


async def test_asks_which_one_and_takes_the_name_even_while_it_lists_them() -> None:
    talk = await transferring("sales", "technical support")
    await talk.speak("i want to speak to a human")
    assert talk.events()[-2:] == [AudioDone(item="agent-3"), ResponseDone()]
    await talk.speak("support", ms=300)
    assert InterruptionJudged(genuine=True) in talk.listener.events
    assert talk.listener.said() == ["One moment, I connect you to technical support."]
    assert [call.arguments for call in talk.listener.of(ToolCall)] == ['{"destination":"technical support"}']


async def test_a_transfer_that_failed_is_told_and_the_conversation_goes_on() -> None:
    talk = await transferring("sales")
    await talk.speak("transfer me")
    talk.events()
    talk.connection.send(ToolResult(tool_call_id="transfer-1", output=BUSY, is_error=True))
    await settle()
    assert talk.listener.said() == [
        "Sorry, I could not connect you to sales: the line is busy. What else can I do for you?"
    ]
    await talk.frames(QUIET, 8000)
    await talk.speak("transfer me")
    assert [call.tool_call_id for call in talk.listener.of(ToolCall)] == ["transfer-2"]


async def test_says_nothing_while_the_caller_is_connected() -> None:
    talk = await transferring("sales")
    await talk.speak("transfer me")
    talk.events()
    await talk.speak("goodbye")
    talk.connection.send(ToolResult(tool_call_id="transfer-1", output="transfer to sales: the caller is connected"))
    await talk.speak("what time is it")
    talk.connection.send(Digits(digits="5#"))
    await talk.frames(QUIET, 1400)
    assert talk.listener.said() == []
    assert talk.listener.of(ToolCall) == []


async def test_speaks_again_when_the_operator_has_left() -> None:
    talk = await transferring("sales")
    await talk.speak("transfer me")
    talk.connection.send(ToolResult(tool_call_id="transfer-1", output="transfer to sales: the caller is connected"))
    talk.events()
    talk.connection.send(TextInput(role="system", text="the operator has left the call", respond=True))
    await settle()
    await talk.frames(QUIET, 4000)
    await talk.speak("what time is it")
    assert talk.listener.said() == ["The operator has left the call.", "It is 12:05 PM."]


async def test_another_tools_result_is_nothing_to_speak_of(talk: Talk) -> None:
    talk.connection.send(ToolResult(tool_call_id="goodbye", output="the caller is gone", is_error=True))
    await settle()
    assert talk.events() == []


async def test_an_agent_without_destinations_says_so(talk: Talk) -> None:
    await talk.speak("transfer me please")
    assert talk.listener.said() == [CANNOT_TRANSFER]
    assert talk.listener.of(ToolCall) == []


# ── telling an operator about a caller ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("words", "tool"),
    [
        ("yes", "accept_transfer"),
        ("okay", "accept_transfer"),
        ("put him through", "accept_transfer"),
        ("no", "decline_transfer"),
        ("not now", "decline_transfer"),
    ],
)
async def test_an_operator_decides(words: str, tool: str) -> None:
    talk = Talk(greeting="A caller waits.", briefs=True)
    await talk.open()
    await talk.speak(words, ms=300)
    assert talk.engine.vocabulary is Vocabulary.DECIDING
    assert [call.name for call in talk.listener.of(ToolCall)] == [tool]
    assert talk.listener.said() == []
    await talk.speak(words, ms=300)
    assert len(talk.listener.of(ToolCall)) == 1


async def test_an_operator_who_answers_with_his_own_greeting_hears_the_briefing_again() -> None:
    talk = Talk(greeting="A caller waits.", briefs=True)
    await talk.connection.open()
    await talk.frames(QUIET, 200)
    await talk.speak("sales department anna speaking", ms=900)
    await talk.frames(QUIET, 4000)
    await talk.speak("what is it about", ms=900)
    assert talk.listener.said() == ["A caller waits.", "A caller waits.", DECIDE]
    assert talk.listener.of(ToolCall) == []


async def test_yes_along_with_the_briefing_decides_nothing() -> None:
    talk = Talk(greeting="A caller " + "waits " * 20, briefs=True)
    await talk.connection.open()
    await talk.frames(QUIET, 200)
    await talk.speak("yes", ms=300)
    assert talk.listener.of(ToolCall) == []


async def test_what_a_model_would_obey_is_said_plainly(talk: Talk) -> None:
    text = "The call ends now. Say goodbye in one short sentence."
    talk.connection.send(TextInput(role="system", text=text, respond=True, plainly="Goodbye"))
    await settle()
    assert talk.listener.said() == ["Goodbye."]

"""What a provider says of the caller, doubted by the call's own ear: frames in, events out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from tests.audio.signals import Samples, frames_of, l16, voice

from offhook.audio.g711 import decode, encode, silence
from offhook.bridge.codec import (
    AudioDone,
    BridgeEvent,
    BridgeProfile,
    Interrupted,
    InterruptionJudged,
    SpeechStarted,
    SpeechStopped,
    TranscriptDelta,
)
from offhook.call.caller_ear import CallerEar
from offhook.model.audio import FRAME_MS, PCMU_8K, Encoding

QUIET = silence(PCMU_8K)
HOSTED = BridgeProfile(provider="hosted", input_formats=(PCMU_8K,), output_formats=(PCMU_8K,))
MUTE = BridgeProfile(provider="mute", input_formats=(PCMU_8K,), output_formats=(PCMU_8K,), speech_events=False)
JUDGE = BridgeProfile(provider="judge", input_formats=(PCMU_8K,), output_formats=(PCMU_8K,), judges_interruption=True)

BEGAN, STOPPED = SpeechStarted(), SpeechStopped()
TURN, NO_TURN = InterruptionJudged(genuine=True), InterruptionJudged(genuine=False)
GAVE_UP, GOES_ON = Interrupted(item="a"), AudioDone(item="a")


@dataclass
class Talk:
    """A line on which the agent speaks, and who interrupts it. ``told``: what the call got to know."""

    profile: BridgeProfile = HOSTED
    recognises: bool | None = None
    audible: bool = True
    interruptible: bool = True
    told: list[BridgeEvent] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.floor = self
        self.ear = CallerEar(self.profile, PCMU_8K, self, self._answer if self.recognises is not None else None)
        self._agent = frames_of(coded(np.tile(voice(1, 4000), 5)))
        self._echo: list[bytes] = []
        self.heard: list[bytes] = []

    def emit(self, event: BridgeEvent) -> None:
        """The call falls silent while it is judged, and for good when it was a turn."""
        self.told.append(event)
        if event == TURN:
            self.audible = False

    def _answer(self, audio: bytes, speech_ms: int, tell: Callable[[bool | None], None]) -> None:
        self.asked.append(len(audio) // 8)
        tell(self.recognises)

    @property
    def _paused(self) -> bool:
        last = next((event for event in reversed(self.told) if event in (BEGAN, TURN, NO_TURN)), NO_TURN)
        return last == BEGAN and self.interruptible

    def line(self, samples: Samples, *, echo_db: float | None = None) -> None:
        """The caller sends this; the agent speaks unless it is paused."""
        for frame in frames_of(l16(samples), 320):
            sent = next(self._agent) if self.audible and not self._paused else QUIET
            self._echo.append(sent)
            heard = np.frombuffer(frame, "<i2").astype(np.float64)
            if echo_db is not None and len(self._echo) > 6:
                heard = heard + decoded(self._echo[-6]) * 10 ** (echo_db / 20)
            self.heard.append(self.ear.hear(coded(heard)))
            self.ear.sent(sent)

    def says(self, ms: int, *, level_dbm0: float = -20.0) -> None:
        self.line(voice(4, 4000, level_dbm0)[1000 : 1000 + 8 * ms])

    def quiet(self, ms: int) -> None:
        self.line(np.zeros(8 * ms))

    def hears(self, text: str, *, final: bool = True, item: str = "1") -> None:
        self.ear.observe(TranscriptDelta(speaker="caller", item=item, text=text, final=final))

    @property
    def events(self) -> list[BridgeEvent]:
        """Without words."""
        return [event for event in self.told if not isinstance(event, TranscriptDelta)]


def coded(samples: Samples) -> bytes:
    return encode(Encoding.PCMU, l16(samples))


def decoded(frame: bytes) -> Samples:
    return np.frombuffer(decode(Encoding.PCMU, frame), "<i2").astype(np.float64)


def test_an_mm_hm_is_judged_by_the_providers_words() -> None:
    talk = Talk()
    talk.quiet(500)
    talk.says(300)
    talk.ear.observe(SpeechStarted())
    talk.says(200)
    talk.quiet(500)
    talk.ear.observe(SpeechStopped())
    talk.hears("Mm-hm.")
    assert talk.events == [BEGAN, STOPPED, NO_TURN]


def test_wait_stop_is_a_turn_as_soon_as_its_words_are_known() -> None:
    talk = Talk()
    talk.says(300)
    talk.ear.observe(SpeechStarted())
    talk.hears("Wait,", final=False)
    assert talk.events == [BEGAN]
    talk.hears(" stop", final=False)
    assert talk.events == [BEGAN, TURN]


@pytest.mark.parametrize("genuine", [True, False])
def test_the_recogniser_is_asked_when_the_caller_pauses(genuine: bool) -> None:
    talk = Talk(recognises=genuine)
    talk.quiet(500)
    talk.says(400)
    talk.ear.observe(SpeechStarted())
    talk.quiet(400)
    assert talk.events == [BEGAN, InterruptionJudged(genuine=genuine)]
    assert len(talk.asked) == 1
    assert 500 <= talk.asked[0] <= 1000  # of the line; with what was said before it was noticed


def test_an_echo_is_no_caller_and_no_provider_hears_it() -> None:
    talk = Talk()
    talk.line(np.zeros(32000), echo_db=-12)
    talk.ear.observe(SpeechStarted())
    talk.ear.observe(Interrupted(item="a"))
    talk.ear.observe(SpeechStopped())
    assert talk.events == [GOES_ON]
    assert sum(frame != QUIET and loud(frame) for frame in talk.heard) < 20


def loud(frame: bytes) -> bool:
    return float(np.sqrt(np.mean(decoded(frame) ** 2))) > 300


def test_a_judge_of_its_own_hears_no_echo_either_and_is_believed() -> None:
    talk = Talk(JUDGE)
    talk.line(np.zeros(32000), echo_db=-12)
    for event in (BEGAN, TURN, GAVE_UP):
        talk.ear.observe(event)
    assert talk.told == [BEGAN, TURN, GAVE_UP]
    assert sum(frame != QUIET and loud(frame) for frame in talk.heard) < 20


def test_who_speaks_into_the_echo_stops_the_agent() -> None:
    talk = Talk()
    talk.line(np.zeros(16000), echo_db=-16)
    talk.line(voice(4)[1000:6000], echo_db=-16)
    talk.ear.observe(SpeechStarted())
    assert talk.events == [BEGAN]


def test_a_provider_that_gives_up_for_an_mm_hm_is_heard_to_the_end_of_what_there_is() -> None:
    talk = Talk()
    talk.says(300)
    talk.ear.observe(GAVE_UP)
    talk.quiet(600)
    talk.hears("Okay.")
    assert talk.events == [BEGAN, NO_TURN, GOES_ON]


def test_a_provider_that_gives_up_for_a_turn_is_cut() -> None:
    talk = Talk()
    talk.says(300)
    talk.ear.observe(GAVE_UP)
    talk.hears("Stop.")
    assert talk.events == [BEGAN, TURN]


def test_what_the_line_knows_nothing_of_is_believed() -> None:
    """A key was pressed, somebody wrote to the agent, or the provider hears what we do not."""
    talk = Talk()
    talk.quiet(1500)
    talk.ear.observe(GAVE_UP)
    talk.ear.observe(SpeechStarted())
    assert talk.events == [GAVE_UP, BEGAN, TURN]


def test_what_was_said_before_the_agent_spoke_is_not_said_over_it() -> None:
    talk = Talk(audible=False)
    talk.says(600)
    talk.quiet(240)
    talk.audible = True
    talk.quiet(300)
    talk.ear.observe(BEGAN)
    assert talk.told == [BEGAN, TURN]


def test_an_agent_that_may_not_be_interrupted_is_not() -> None:
    talk = Talk(interruptible=False)
    talk.says(300)
    talk.ear.observe(SpeechStarted())
    talk.ear.observe(GAVE_UP)
    talk.says(1500)
    assert talk.events == [BEGAN, GOES_ON]


def test_a_silent_agent_is_not_interrupted() -> None:
    talk = Talk(audible=False)
    talk.says(600)
    for event in (BEGAN, GAVE_UP, STOPPED):
        talk.ear.observe(event)
    talk.hears("What is the weather?")
    assert talk.events == [BEGAN, GAVE_UP, STOPPED]


def test_where_the_provider_tells_nothing_of_the_caller_the_ear_does() -> None:
    talk = Talk(MUTE)
    talk.quiet(200)
    talk.says(500)
    assert talk.events == [BEGAN]
    talk.quiet(800)
    talk.hears("yes")
    assert talk.events == [BEGAN, STOPPED, NO_TURN]


def test_what_was_judged_is_not_judged_again_when_the_provider_notices_at_last() -> None:
    talk = Talk(MUTE, recognises=False)
    talk.quiet(200)
    talk.says(300)
    talk.quiet(500)
    talk.ear.observe(GAVE_UP)
    talk.quiet(500)
    assert talk.events == [BEGAN, NO_TURN, GOES_ON, STOPPED]


def test_words_that_come_after_the_agent_went_on_still_stop_it() -> None:
    talk = Talk()
    talk.says(400)
    talk.ear.observe(SpeechStarted())
    talk.quiet(3000)
    assert talk.events == [BEGAN, NO_TURN]
    talk.hears("Stop!")
    assert talk.events == [BEGAN, NO_TURN, TURN]


def test_words_of_the_turn_before_do_not_stop_the_answer() -> None:
    talk = Talk(audible=False)
    talk.says(600)
    talk.ear.observe(SpeechStarted())
    talk.quiet(500)
    talk.ear.observe(SpeechStopped())
    talk.audible = True
    talk.quiet(1200)
    talk.says(300)
    talk.ear.observe(SpeechStarted())
    talk.hears("What is the weather in Ulm?", item="before")
    talk.quiet(600)
    talk.hears("mm-hm", item="this")
    assert talk.events == [BEGAN, STOPPED, BEGAN, NO_TURN]


def test_who_goes_on_after_an_mm_hm_is_judged_anew() -> None:
    talk = Talk(recognises=False)
    talk.says(300)
    talk.ear.observe(SpeechStarted())
    talk.quiet(240)
    assert talk.events == [BEGAN, NO_TURN]
    talk.recognises = True
    talk.says(500)
    talk.quiet(300)
    assert talk.events == [BEGAN, NO_TURN, BEGAN, TURN]


def test_long_speech_is_a_turn_though_nobody_knows_a_word() -> None:
    talk = Talk(MUTE)
    talk.says(2400)
    assert talk.events == [BEGAN, TURN]
    assert len(talk.heard) * FRAME_MS >= 1500

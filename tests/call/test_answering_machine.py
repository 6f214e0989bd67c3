"""Who picked up: the table, and what voices, tones, words and time make of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from offhook.audio.detect import Sound, SoundKind
from offhook.call.answering_machine import (
    CORRECTION_MS,
    GREETING_LIMIT_MS,
    LIMIT_MS,
    PICKUP,
    Pickup,
    Step,
)
from offhook.model.call_events import AnswerJudged


class Line:
    """Feeds a ``Pickup`` frame by frame, and keeps its steps."""

    def __init__(self, *, understands: bool = True, early: bool = False) -> None:
        self.pickup = Pickup(understands=understands)
        self.now = 0
        self.steps: list[Step] = []
        if not early:
            self.answered()

    def answered(self) -> None:
        self._keep(self.pickup.answered())

    def says(self, ms: int) -> None:
        self._pass(ms, speaking=True)

    def silent(self, ms: int) -> None:
        self._pass(ms, speaking=False)

    def sounds(self, kind: SoundKind, hz: float = 1000.0, ms: int = 300) -> None:
        """A tone, which is known when it is over."""
        self.silent(ms)
        self._keep(self.pickup.take(Sound(kind, hz, self.now - ms, self.now)))

    def words(self, *phrases: str) -> None:
        self._keep(self.pickup.understand(phrases))

    def _pass(self, ms: int, *, speaking: bool) -> None:
        for _ in range(0, ms, 20):
            self.now += 20
            self._keep(self.pickup.hear(self.now, speaking=speaking))

    def _keep(self, step: Step | None) -> None:
        self.steps += [step] if step is not None else []

    @property
    def state(self) -> str:
        return self.pickup.state

    @property
    def judged(self) -> list[AnswerJudged]:
        return [step.judged for step in self.steps if step.judged is not None]

    @property
    def verdicts(self) -> list[str]:
        return [judged.by for judged in self.judged]


# ── the table ────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_state_but_the_last_ones_can_be_left() -> None:
    left = {state for state, _ in PICKUP}
    assert set(PICKUP.values()) - left == {"recording", "refused", "settled"}


def test_tones_that_nobody_can_mistake_count_wherever_somebody_is_awaited() -> None:
    waiting = {state for state, given in PICKUP if given in ("pause", "beep", "voicemail_words", "nobody", "person")}
    assert {state for state, given in PICKUP if given == "fax"} >= waiting
    assert {state for state, given in PICKUP if given == "sit"} >= waiting


# ── people ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("spoken_ms", "pause_ms"), [(300, 700), (1900, 700), (3000, 1000), (6000, 1500)])
def test_somebody_who_says_something_and_waits_is_a_person(spoken_ms: int, pause_ms: int) -> None:
    line = Line()
    line.silent(400)
    line.says(spoken_ms)
    line.silent(pause_ms - 40)
    assert line.state == "listening"
    line.silent(60)
    assert line.verdicts == ["human"]
    assert "of speech, then silence" in line.judged[0].evidence
    assert abs(line.judged[0].after_ms - spoken_ms - pause_ms) <= 60


def test_somebody_who_says_nothing_is_a_person() -> None:
    line = Line()
    line.silent(2480)
    assert line.verdicts == []
    line.silent(20)
    assert line.verdicts == ["human"]
    assert line.judged[0].evidence == "nobody spoke for 2.5 s"


def test_a_click_is_nobody() -> None:
    line = Line()
    line.silent(200)
    line.says(40)
    line.silent(1000)
    assert line.state == "waiting"


def test_pauses_within_a_sentence_do_not_end_it() -> None:
    line = Line()
    for _ in range(4):
        line.says(500)
        line.silent(400)
    assert line.state == "listening"


def test_who_is_understood_may_talk_for_long() -> None:
    line = Line()
    line.says(3000)
    line.words("how may i help")
    line.says(9000)
    assert line.state == "listening"
    line.silent(1500)
    assert line.verdicts == ["human"]


def test_somebody_who_never_stops_is_a_person_in_the_end() -> None:
    line = Line()
    line.words("how may i help")
    line.says(LIMIT_MS + 20)
    assert line.verdicts == ["human"]


# ── voicemail ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_beep_after_speech_is_voicemail() -> None:
    line = Line()
    line.says(3000)
    line.silent(300)
    line.sounds("beep", 850)
    assert (line.verdicts, line.state) == (["voicemail"], "recording")
    assert line.judged[0].evidence == "beep of 850 Hz after 3.0 s of speech"


def test_words_say_it_sooner_and_the_beep_is_waited_for() -> None:
    line = Line()
    line.says(2000)
    line.words("leave a message")
    assert (line.verdicts, line.state) == (["voicemail"], "greeting")
    assert line.judged[0].evidence == "the words “leave a message”"
    line.says(3000)
    line.sounds("beep")
    assert (line.verdicts, line.state) == (["voicemail"], "recording")


def test_a_greeting_without_a_beep_is_over_when_it_is_silent() -> None:
    line = Line()
    line.says(2000)
    line.words("leave a message")
    line.silent(2400)
    assert line.state == "greeting"
    line.silent(200)
    assert line.state == "recording"


def test_a_greeting_that_never_ends_is_waited_for_so_long_only() -> None:
    line = Line()
    line.words("voice mail")
    line.says(GREETING_LIMIT_MS + 20)
    assert line.state == "recording"


@pytest.mark.parametrize(("understands", "ms"), [(True, 8500), (False, 6500)])
def test_who_does_not_stop_is_a_machine(understands: bool, ms: int) -> None:
    line = Line(understands=understands)
    line.says(ms - 100)
    assert line.verdicts == []
    line.says(200)
    assert line.verdicts == ["voicemail"]
    assert "without a pause" in line.judged[0].evidence


def beep(line: Line) -> None:
    line.sounds("beep")


def words(line: Line) -> None:
    line.words("leave a message")


@pytest.mark.parametrize("correct", [beep, words])
def test_a_person_turns_out_to_be_voicemail_by_a_beep_or_by_words(correct: Callable[[Line], None]) -> None:
    line = Line()
    line.says(800)
    line.silent(800)
    assert line.verdicts == ["human"]
    line.says(4000)
    correct(line)
    assert line.verdicts == ["human", "voicemail"]


def test_after_a_while_a_person_stays_one() -> None:
    line = Line()
    line.says(800)
    line.silent(700 + CORRECTION_MS)
    line.says(1000)
    line.sounds("beep")
    assert (line.verdicts, line.state) == (["human"], "settled")


def test_a_beep_that_nobody_spoke_before_counts_when_silence_follows() -> None:
    line = Line()
    line.silent(300)
    line.sounds("beep")
    line.silent(1000)
    assert line.verdicts == []
    line.silent(600)
    assert (line.verdicts, line.state) == (["voicemail"], "recording")


def test_and_does_not_when_somebody_says_hello() -> None:
    line = Line()
    line.sounds("beep")
    line.silent(200)
    line.says(500)
    line.silent(800)
    assert line.verdicts == ["human"]


# ── screening ────────────────────────────────────────────────────────────────────────────────────────────────


def asked() -> Line:
    line = Line()
    line.says(3000)
    line.words("state your name")
    line.says(2000)
    line.silent(900)
    return line


def test_a_screener_is_heard_out_before_it_is_answered() -> None:
    line = asked()
    assert line.verdicts == ["screening"]
    assert [step.state for step in line.steps] == ["screened", "asked"]


def test_a_person_may_follow() -> None:
    line = asked()
    line.silent(5000)
    line.says(600)
    line.silent(800)
    assert (line.verdicts, line.state) == (["screening", "human"], "human")


def test_the_screener_that_says_hold_on_is_none() -> None:
    line = asked()
    line.silent(5000)
    line.says(1500)
    line.silent(300)
    line.words("stay on the line")
    line.silent(3000)
    assert line.verdicts == ["screening"]
    line.says(600)
    line.silent(800)
    assert line.verdicts == ["screening", "human"]


def test_or_voicemail() -> None:
    line = asked()
    line.silent(5000)
    line.says(3000)
    line.words("not available", "leave a message")
    assert line.verdicts == ["screening", "voicemail"]


def test_or_nobody() -> None:
    line = asked()
    line.silent(LIMIT_MS)
    assert line.state == "settled"


# ── tones ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["sit", "fax"])
@pytest.mark.parametrize(("spoken_ms", "silent_ms"), [(0, 0), (1000, 0), (1000, 900), (0, 3000)])
def test_information_tones_and_fax_are_believed_at_any_time(kind: SoundKind, spoken_ms: int, silent_ms: int) -> None:
    line = Line()
    line.says(spoken_ms)
    line.silent(silent_ms)
    line.sounds(kind)
    assert (line.verdicts[-1], line.state) == (kind, "refused")


def test_one_burst_of_a_calling_fax_is_one_where_nobody_spoke_and_else_a_beep() -> None:
    line = Line()
    line.silent(500)
    line.sounds("calling_fax", 1100, 500)
    assert line.verdicts == ["fax"]
    line = Line()
    line.says(2000)
    line.sounds("calling_fax", 1100, 500)
    assert line.verdicts == ["voicemail"]


# ── before the answer ────────────────────────────────────────────────────────────────────────────────────────


def test_before_the_answer_nobody_is_a_person() -> None:
    line = Line(early=True)
    line.says(1000)
    line.silent(5000)
    line.says(12_000)
    assert line.verdicts == []


@pytest.mark.parametrize("kind", ["sit", "fax"])
def test_tones_are_believed_before_the_answer(kind: SoundKind) -> None:
    line = Line(early=True)
    line.sounds(kind)
    assert [(judged.by, judged.early) for judged in line.judged] == [(kind, True)]


@pytest.mark.parametrize("decide", [beep, words])
def test_a_greeting_before_the_answer_is_voicemail_by_its_words_or_its_beep(decide: Callable[[Line], None]) -> None:
    line = Line(early=True)
    line.says(3000)
    decide(line)
    assert [(judged.by, judged.early) for judged in line.judged] == [("voicemail", True)]


def test_what_rang_before_the_answer_is_no_beep() -> None:
    line = Line(early=True)
    line.sounds("beep", 600)
    line.answered()
    line.silent(2500)
    assert line.verdicts == ["human"]


def test_a_greeting_that_goes_on_over_the_answer_stays_one() -> None:
    line = Line(early=True)
    line.says(3000)
    line.words("leave a message")
    line.answered()
    line.says(1000)
    line.sounds("beep")
    assert (line.verdicts, line.state) == (["voicemail"], "recording")


def test_after_a_greeting_before_the_answer_silence_is_voicemail_and_hello_a_person() -> None:
    line = Line(early=True)
    line.says(5000)
    line.silent(2000)
    line.answered()
    line.silent(2500)
    assert (line.verdicts, line.state) == (["voicemail"], "recording")
    assert line.judged[0].evidence == "5.0 s of speech before the answer, then silence"
    line = Line(early=True)
    line.says(5000)
    line.silent(2000)
    line.answered()
    line.silent(500)
    line.says(500)
    line.silent(800)
    assert line.verdicts == ["human"]


def test_nothing_raises_whatever_comes_in_whatever_order() -> None:
    kinds: Iterable[SoundKind] = ("beep", "sit", "fax", "calling_fax")
    for seed in range(60):
        line = Line(early=seed % 3 == 0)
        for step in range(12):
            match (seed * 7 + step * 5) % 6:
                case 0:
                    line.says(40 + 300 * step)
                case 1:
                    line.silent(200 * step)
                case 2:
                    line.sounds(tuple(kinds)[(seed + step) % 4])
                case 3:
                    line.words(("leave a message", "state your name", "how may i help")[(seed + step) % 3])
                case _:
                    line.answered()
        assert len(line.judged) <= 6

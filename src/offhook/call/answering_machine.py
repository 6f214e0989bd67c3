"""Who picked up? The decision, pure: what is heard goes in with its time, a state and a verdict come out.

A person says something short and waits. A greeting of voicemail goes on, says so, and ends with a beep. A screener asks
for a name. Networks send three rising tones, a fax one long one. Before the answer (early media) nobody is a person:
what is said there is played. Times are milliseconds of the stream that is heard.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, assert_never

from offhook.audio.detect import Sound
from offhook.bridge.local.answer_phrases import STILL_SCREENING, who_says
from offhook.call.states import Machine
from offhook.model.audio import FRAME_MS
from offhook.model.call_events import AnsweredBy, AnswerJudged

PickupState = Literal[
    "waiting",  # nobody has spoken since the answer, or at all
    "listening",  # somebody speaks, or has spoken
    "human",  # and yet a beep or words may say otherwise
    "greeting",  # of voicemail; it waits for the beep
    "recording",  # voicemail listens
    "screened",  # an assistant asks who calls
    "asked",  # it has asked, and waits for the answer; a person may follow
    "refused",  # information tones, or a fax
    "settled",  # nothing more is listened for
]

PickupInput = Literal[
    "answered",
    "speech",
    "pause",  # longer than those within what was said
    "nobody",  # has spoken for a while
    "announced",  # the same, but something long was played before the answer
    "long_speech",
    "voicemail_words",
    "screening_words",
    "prompt_over",  # the screener's
    "person",  # somebody short after it
    "beep",
    "sit",
    "fax",
    "greeting_over",
    "time_up",
]

PICKUP: Mapping[tuple[PickupState, PickupInput], PickupState] = {
    ("waiting", "answered"): "waiting",
    ("waiting", "speech"): "listening",
    ("waiting", "nobody"): "human",
    ("waiting", "announced"): "recording",
    ("waiting", "voicemail_words"): "greeting",
    ("waiting", "screening_words"): "screened",
    ("waiting", "beep"): "recording",
    ("waiting", "sit"): "refused",
    ("waiting", "fax"): "refused",
    ("listening", "answered"): "waiting",
    ("listening", "pause"): "human",
    ("listening", "long_speech"): "greeting",
    ("listening", "voicemail_words"): "greeting",
    ("listening", "screening_words"): "screened",
    ("listening", "beep"): "recording",
    ("listening", "sit"): "refused",
    ("listening", "fax"): "refused",
    ("listening", "time_up"): "human",
    ("human", "voicemail_words"): "greeting",
    ("human", "screening_words"): "screened",
    ("human", "beep"): "recording",
    ("human", "sit"): "refused",
    ("human", "fax"): "refused",
    ("human", "time_up"): "settled",
    ("greeting", "answered"): "waiting",
    ("greeting", "screening_words"): "screened",
    ("greeting", "beep"): "recording",
    ("greeting", "greeting_over"): "recording",
    ("greeting", "sit"): "refused",
    ("greeting", "fax"): "refused",
    ("screened", "answered"): "waiting",
    ("screened", "prompt_over"): "asked",
    ("screened", "voicemail_words"): "greeting",
    ("screened", "sit"): "refused",
    ("screened", "fax"): "refused",
    ("asked", "person"): "human",
    ("asked", "voicemail_words"): "greeting",
    ("asked", "sit"): "refused",
    ("asked", "fax"): "refused",
    ("asked", "time_up"): "settled",
}

SHORT_MS = 2000
"""A person's "Hello?" or "This is Peter Smith speaking."."""
LONG_MS = 4000

SHORT_PAUSE_MS, PAUSE_MS, LONG_PAUSE_MS = 700, 1000, 1500
"""After something short, middling and long: voicemail, too, pauses between its sentences, for half a second mostly."""

TOO_LONG_MS = 6500
TOO_LONG_IF_UNDERSTOOD_MS = 8500
"""So long no person speaks who picks up; who says whole sentences and is understood is given longer."""

NOBODY_MS = 2500
"""Some people wait to be spoken to."""

ANNOUNCED_MS = 4000
"""Of speech before the answer, and within ``ANNOUNCED_BEFORE_MS`` of it: a greeting that was played there."""
ANNOUNCED_BEFORE_MS = 6000

SPOKEN_MS = 600
"""Of speech, and a beep ends it; after less it may be the line's."""
LONE_BEEP_MS = 1500
"""Silence after a beep that nothing was said before: the machine listens."""

GREETING_OVER_MS = 2500
"""Silence after a greeting: it has no beep, or we missed it."""
GREETING_LIMIT_MS = 45_000

CORRECTION_MS = 12_000
"""After somebody short was taken for a person: a greeting that began with "Hi." is over by then. Later beeps are a
person's kitchen."""

PROMPT_PAUSE_MS = 900
"""Silence after what a screener says: it waits for the answer."""

PERSON_AFTER_MS = 3000
"""After a screener's question somebody has to answer it first."""

LIMIT_MS = 60_000
"""After the answer nothing is listened for any more."""

LEAST_SPEECH_MS = 60
"""On end; less is a click, or the begin of a tone before it is known as one."""

UTTERANCE_GAP_MS = 1500
"""Silence that parts what is said from what was said."""

_VERDICTS: Mapping[PickupState, AnsweredBy] = {
    "human": "human",
    "greeting": "voicemail",
    "recording": "voicemail",
    "screened": "screening",
    "asked": "screening",
}
"""``refused`` depends on what was heard."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """Something changed. ``judged``: the verdict, where that did. ``early``: nobody has answered yet."""

    state: PickupState
    judged: AnswerJudged | None
    early: bool


class Pickup:
    """One outbound call, from the first sound on. ``understands``: words will come, where there are any."""

    def __init__(self, *, understands: bool) -> None:
        self._understands = understands
        self._machine: Machine[PickupState, PickupInput] = Machine("pickup", PICKUP, "waiting")
        self._verdict: AnsweredBy | None = None
        self._early = True
        self._now = 0
        self._since = 0  # the state began
        self._answered_at = 0
        self._first_sound: int | None = None
        self._began: int | None = None  # what is being said, or was said last
        self._last = -UTTERANCE_GAP_MS  # frame with speech
        self._on_end = 0  # of speech
        self._early_speech = 0
        self._lone_beep: Sound | None = None
        self._phrases: set[str] = set()
        self._talks_like_a_person = False

    @property
    def state(self) -> PickupState:
        return self._machine.state

    @property
    def spoken_ms(self) -> int:
        """How long what is being said, or was said last, has lasted."""
        return 0 if self._began is None else self._last - self._began

    @property
    def quiet_ms(self) -> int:
        """Since somebody spoke."""
        return self._now - self._last

    # ── what is heard ────────────────────────────────────────────────────────────────────────────────────

    def answered(self) -> Step | None:
        """The 2xx came. A greeting that goes on just then stays one; else who speaks now is another."""
        self._early = False
        self._answered_at = self._since = self._now
        if self.state == "greeting" and self.quiet_ms < SHORT_PAUSE_MS:
            return None
        if self.quiet_ms < ANNOUNCED_BEFORE_MS:
            self._early_speech = max(self._early_speech, self.spoken_ms)
        self._began = None
        self._phrases.clear()
        return self._give("answered", "")

    def hear(self, now_ms: int, *, speaking: bool) -> Step | None:
        """A frame: whether a voice is in it."""
        self._now = now_ms
        self._on_end = self._on_end + FRAME_MS if speaking else 0
        if self._on_end and (self._on_end >= LEAST_SPEECH_MS or self._is_speaking):
            self._speak()
        return self._time_passes()

    @property
    def _is_speaking(self) -> bool:
        return self._began is not None and self.quiet_ms < SHORT_PAUSE_MS

    def take(self, sound: Sound) -> Step | None:
        """A tone that means something."""
        if self._first_sound is None:
            self._first_sound = sound.began_ms
        match sound.kind:
            case "sit":
                return self._give("sit", f"information tones that end at {sound.hz:.0f} Hz")
            case "fax":
                return self._give("fax", f"the tone of a fax, {sound.hz:.0f} Hz")
            case "calling_fax" if self._first_sound == sound.began_ms:
                return self._give("fax", f"the calling tone of a fax, {sound.hz:.0f} Hz")
            case "beep" | "calling_fax":
                return self._beep(sound)
            case _:
                assert_never(sound.kind)

    def understand(self, phrases: Iterable[str]) -> Step | None:
        """Phrases that were heard lately."""
        phrases = frozenset(phrases)
        if self.state == "asked" and phrases & STILL_SCREENING.keys():
            self._began = None
        self._phrases.update(phrases)
        found = who_says(self._phrases)
        if found is None:
            return None
        says, phrase = found
        evidence = f"the words “{phrase}”"
        match says:
            case "voicemail":
                return self._give("voicemail_words", evidence)
            case "screening":
                return self._give("screening_words", evidence)
            case "human":
                self._talks_like_a_person = True
                return None
            case _:
                assert_never(says)

    # ── what it means ────────────────────────────────────────────────────────────────────────────────────

    def _speak(self) -> None:
        began = self._now - self._on_end
        if self._first_sound is None:
            self._first_sound = began
        if self._began is None or self.quiet_ms >= UTTERANCE_GAP_MS:
            self._keep_early()
            self._began = began
        self._last = self._now
        if self.state == "waiting":
            self._machine.observe("speech")
            self._since = self._now

    def _keep_early(self) -> None:
        if self._early and self.quiet_ms < ANNOUNCED_BEFORE_MS:
            self._early_speech = max(self._early_speech, self.spoken_ms)

    def _beep(self, sound: Sound) -> Step | None:
        tone = f"beep of {sound.hz:.0f} Hz"
        if self.state == "waiting":
            self._lone_beep = None if self._early else sound
            return None
        if self.spoken_ms < SPOKEN_MS and self.state != "greeting":
            return None
        return self._give("beep", f"{tone} after {_seconds(self.spoken_ms)} of speech")

    def _time_passes(self) -> Step | None:
        if self._early:
            return None
        match self.state:
            case "waiting":
                return self._nobody_speaks()
            case "listening":
                return self._somebody_speaks()
            case "greeting":
                return self._greeting_goes_on()
            case "human" if self._now - self._since >= CORRECTION_MS:
                return self._give("time_up", "")
            case "screened" if self.quiet_ms >= PROMPT_PAUSE_MS:
                return self._give("prompt_over", "")
            case "asked":
                return self._somebody_follows()
            case _:
                return None

    def _nobody_speaks(self) -> Step | None:
        beep, waited = self._lone_beep, self._now - self._answered_at
        if beep is not None and self._now - beep.ended_ms >= LONE_BEEP_MS:
            return self._give("beep", f"beep of {beep.hz:.0f} Hz, then silence")
        if waited < NOBODY_MS:
            return None
        if self._verdict == "voicemail" or self._early_speech >= ANNOUNCED_MS:
            before = f"{_seconds(self._early_speech)} of speech before the answer"
            return self._give("announced", f"{before}, then silence")
        return self._give("nobody", f"nobody spoke for {_seconds(waited)}")

    def _somebody_speaks(self) -> Step | None:
        spoken, quiet = self.spoken_ms, self.quiet_ms
        if quiet >= _pause_after(spoken):
            return self._give("pause", f"{_seconds(spoken)} of speech, then silence")
        too_long = TOO_LONG_IF_UNDERSTOOD_MS if self._understands else TOO_LONG_MS
        if spoken >= too_long and not self._talks_like_a_person:
            return self._give("long_speech", f"{_seconds(spoken)} of speech without a pause")
        if self._now - self._answered_at >= LIMIT_MS:
            return self._give("time_up", f"{_seconds(LIMIT_MS)} of speech that sounds like a person's")
        return None

    def _greeting_goes_on(self) -> Step | None:
        quiet = min(self.quiet_ms, self._now - self._answered_at)
        if quiet >= GREETING_OVER_MS or self._now - self._since >= GREETING_LIMIT_MS:
            return self._give("greeting_over", "")
        return None

    def _somebody_follows(self) -> Step | None:
        if self._now - self._answered_at >= LIMIT_MS:
            return self._give("time_up", "")
        after = self._began is not None and self._began - self._since >= PERSON_AFTER_MS
        if after and self.spoken_ms <= LONG_MS and self.quiet_ms >= _pause_after(self.spoken_ms):
            return self._give("person", f"{_seconds(self.spoken_ms)} of speech after the screening")
        return None

    def _give(self, given: PickupInput, evidence: str) -> Step | None:
        """Feed the table; a step where it has a row and the state is another one by it."""
        before = self.state
        if not self._machine.observe(given) or self.state == before:
            return None
        self._since = self._now
        if self.state in ("screened", "asked"):  # what is said next is said by another
            self._phrases.clear()
        verdict: AnsweredBy | None = _VERDICTS.get(self.state)
        if self.state == "refused":
            verdict = "sit" if given == "sit" else "fax"
        judged = None
        if verdict is not None and verdict != self._verdict:
            self._verdict = verdict
            judged = AnswerJudged(by=verdict, evidence=evidence, after_ms=self._after_ms(), early=self._early)
        return Step(state=self.state, judged=judged, early=self._early)

    def _after_ms(self) -> int:
        return self._now - (self._answered_at if self._first_sound is None else self._first_sound)


def _pause_after(spoken_ms: int) -> int:
    """How long a silence after so much speech says that an answer is awaited."""
    if spoken_ms <= SHORT_MS:
        return SHORT_PAUSE_MS
    return PAUSE_MS if spoken_ms <= LONG_MS else LONG_PAUSE_MS


def _seconds(ms: int) -> str:
    return f"{ms / 1000:.1f} s"

"""The call's own ear at a provider's mouth: makes one that judges interruptions of any that does not.

Between the leg and the provider: what is only the echo of the agent's voice the provider hears as silence.
Between the provider and the call: that it heard somebody, or gave up what it was saying, is told as an interruption
that is being judged, and later how it was judged; what the line does not confirm is not told. A provider that tells
nothing of the caller's voice has it told by the ear.

The caller's frames are its clock, 20 ms each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from offhook.audio.echo import EchoDetector, Heard
from offhook.audio.g711 import silence
from offhook.audio.vad import VoiceActivityDetector
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
from offhook.call.interjection import Interjection
from offhook.model.audio import FRAME_MS, AudioFormat

PREROLL_FRAMES = 300 // FRAME_MS
"""Recognised with what was said: the soft begin of a word."""

MOST_FRAMES = 4000 // FRAME_MS
"""Of an interjection are recognised; a longer one is a turn without it."""

GAP_FRAMES = 200 // FRAME_MS
"""Silence within what was said before it was noticed."""

FEW_FRAMES = 3
"""60 ms of sound; less is a click, or the first of an echo before it is known as one."""

SURE_FRAMES = 60 // FRAME_MS
"""So much longer our own detector waits while the agent speaks: until then an echo is known as one."""

MOST_FALSE_ALARMS = 6
"""It waits longer with each on end, half a second at most: a line that sounds like somebody, but is nobody."""

AFRESH_FRAMES = 160 // FRAME_MS
"""Of sound, and the caller speaks though no beginning was told: the agent began to speak over him, he goes on after an
"mm-hm", or what began was an echo."""

WORDS_FRAMES = 5000 // FRAME_MS
"""Words come so late at most; then they are somebody else's."""

SETTLED_FRAMES = 1500 // FRAME_MS
"""A provider may notice so late what was judged already."""

NOTICED_FRAMES = 200 // FRAME_MS
"""So much later than it began a provider tells of a voice, as a rule."""

Ask = Callable[[bytes, int, Callable[[bool | None], None]], None]
"""(what the caller said, its length in ms, whom to tell): was it a turn? None: nobody knows."""


class Floor(Protocol):
    """Who may speak now. ``audible``: the agent has something to say to the caller, or is saying it."""

    @property
    def audible(self) -> bool: ...

    @property
    def interruptible(self) -> bool: ...


class NobodySpeaks(Floor):
    """As long as the talk has not begun."""

    audible = False
    interruptible = False


class Ears(Protocol):
    """Whose ear it is. ``emit`` gets what the call is to know, in order."""

    @property
    def floor(self) -> Floor: ...

    def emit(self, event: BridgeEvent) -> None: ...


class CallerEar:
    """One for each connection. ``hearing``: the format of what the provider hears. ``ask`` None: no recogniser."""

    def __init__(self, profile: BridgeProfile, hearing: AudioFormat, whose: Ears, ask: Ask | None = None) -> None:
        self._only_screens = profile.judges_interruption
        self._words_come = profile.hears_over_itself and "transcripts" not in profile.cannot
        self._whose = whose
        self._emit = whose.emit
        self._ask = ask
        self._detector = EchoDetector(hearing)
        self._silence = silence(hearing)
        own = not profile.speech_events and not self._only_screens
        self._vad = VoiceActivityDetector(self._detector.encoding) if own else None
        self._frames: deque[bytes] = deque(maxlen=MOST_FRAMES)
        self._began_at: int | None = None  # as the detector has it, and nobody was told yet
        self._now = 0
        self._silent_at = 0  # the agent had nothing to say, last
        self._sounds = 0  # frames with sound, less those without
        self._is_nothing = False  # what is said to have begun is none of the caller's, or was judged
        self._words_due = 0  # of an utterance that was not over the agent: until then
        self._interjection: Interjection | None = None
        self._began = 0
        self._given_up: list[str] = []
        self._questions = 0
        self._false_alarms = 0  # on end: nobody knew a word of what was heard
        self._settled: Interjection | None = None
        self._settled_at = -SETTLED_FRAMES

    # ── the leg ──────────────────────────────────────────────────────────────────────────────────────────

    def sends_in(self, audio_format: AudioFormat) -> None:
        """What the leg sends is in this format, from here on."""
        self._detector.sends_in(audio_format)

    def sent(self, frame: bytes) -> None:
        """What left on the leg in this tick, after ``hear``."""
        self._detector.sent(frame)

    def hear(self, frame: bytes) -> bytes:
        """A frame of the caller, as the provider is to hear it."""
        heard = self._detector.heard(frame)
        if heard is Heard.ECHO:
            frame = self._silence
        if self._only_screens:
            return frame
        self._now += 1
        if not self._whose.floor.audible:
            self._silent_at = self._now
        self._frames.append(frame)
        sounds = heard is Heard.SOUND
        self._sounds += 1 if sounds else -(self._sounds > 0)
        if self._vad is not None:
            self._follow(self._vad)
        if self._interjection is not None:
            self._listen(self._interjection, heard)
        elif sounds and self._sounds >= AFRESH_FRAMES:
            self._notice_afresh()
        return frame

    def _follow(self, vad: VoiceActivityDetector) -> None:
        change = vad.feed(self._detector.newest)
        if change == "started":
            self._began_at = self._now
        elif change == "stopped" and self._began_at is None:
            self._voice_ended()
        elif change == "stopped":
            self._began_at = None
        sure_frames = SURE_FRAMES * (1 + min(self._false_alarms, MOST_FALSE_ALARMS)) if self._whose.floor.audible else 0
        if self._began_at is not None and self._now >= self._began_at + sure_frames:
            self._began_at = None
            self._voice_began()

    # ── the provider ─────────────────────────────────────────────────────────────────────────────────────

    def observe(self, event: BridgeEvent) -> None:
        """Something the provider tells; what the call is to know of it is told on."""
        match event:
            case _ if self._only_screens:
                self._emit(event)
            case SpeechStarted():
                if self._vad is None:
                    self._voice_began()
            case SpeechStopped():
                if self._vad is None:
                    self._voice_ended()
            case TranscriptDelta(speaker="caller"):
                self._read(event)
            case Interrupted(item=item):
                self._on_given_up(item)
            case _:
                self._emit(event)

    def _voice_began(self) -> None:
        """The caller's, as the provider or our own detector has it."""
        self._is_nothing = False
        if not self._may_be_interrupted:
            self._words_due = self._now + WORDS_FRAMES
            self._emit(SpeechStarted())
            return
        if self._interjection is not None:
            return
        lately = self._over_agent()
        if lately is Heard.ECHO or self._is_settled:
            self._is_nothing = True
            return
        self._emit(SpeechStarted())
        if lately is Heard.SOUND:
            self._begin()
        else:  # the provider knows better than a line on which nothing is to be heard
            self._emit(InterruptionJudged(genuine=True))

    def _voice_ended(self) -> None:
        if self._is_nothing:
            self._is_nothing = False
            return
        if self._words_due > self._now:
            self._words_due = self._now + WORDS_FRAMES
        self._emit(SpeechStopped())

    def _on_given_up(self, item: str) -> None:
        """The provider will say no more of ``item``; whether what there is of it is said is our decision."""
        if not self._whose.floor.audible:
            self._emit(Interrupted(item=item))
        elif not self._whose.floor.interruptible or self._is_settled:
            self._emit(AudioDone(item=item))
        elif self._interjection is not None:
            self._given_up.append(item)
        else:
            self._doubt(item)

    def _doubt(self, item: str) -> None:
        match self._over_agent():
            case Heard.NOTHING:
                self._emit(Interrupted(item=item))
            case Heard.ECHO:
                self._emit(AudioDone(item=item))
            case Heard.SOUND:
                self._emit(SpeechStarted())
                self._begin()
                self._given_up.append(item)

    def _read(self, delta: TranscriptDelta) -> None:
        if self._now >= self._settled_at + WORDS_FRAMES:
            self._settled = None
        over = self._interjection or self._settled
        if over is not None:
            over.read(delta.item, delta.text, final=delta.final)
        if delta.final:
            self._words_due = 0
        self._emit(delta)
        if self._interjection is not None:
            self._judge(self._interjection)
        elif self._settled is not None and self._settled.by_words:
            self._settled = None
            if self._may_be_interrupted:
                self._emit(InterruptionJudged(genuine=True))

    # ── what is said over the agent ──────────────────────────────────────────────────────────────────────

    def _over_agent(self) -> Heard:
        """What was on the line since the agent spoke, and a little before: a provider notices a voice late."""
        return self._detector.lately(self._now - self._silent_at + NOTICED_FRAMES)

    @property
    def _may_be_interrupted(self) -> bool:
        return self._whose.floor.audible and self._whose.floor.interruptible

    @property
    def _is_settled(self) -> bool:
        """What is heard was judged before: it was nothing, and nothing came after it."""
        since = self._now - self._settled_at
        if self._settled is None or since >= SETTLED_FRAMES:
            return False
        return since == 0 or self._detector.recent[-since:].count(Heard.SOUND) < FEW_FRAMES

    def _notice_afresh(self) -> None:
        """Somebody speaks over the agent, and nobody told that he began."""
        self._sounds = 0
        lately_settled = self._settled is not None and self._now - self._settled_at < SETTLED_FRAMES
        speaking = self._vad is not None and self._vad.speaking
        if (speaking or lately_settled or self._is_nothing) and self._may_be_interrupted:
            self._is_nothing = False
            self._emit(SpeechStarted())
            self._begin()

    def _begin(self) -> None:
        """The call was told that the caller speaks, and has paused the agent."""
        sounded = self._sounded_frames()
        self._began = self._now - sounded
        self._interjection = Interjection(
            sounded_ms=sounded * FRAME_MS,
            words_come=self._words_come,
            recogniser=self._ask is not None,
            foreign=self._words_due > self._now,
        )
        self._settled = None
        self._given_up = []

    def _sounded_frames(self) -> int:
        """Since when the caller has been heard, up to a second ago."""
        quiet = 0
        recent = self._detector.recent
        first = len(recent)
        for index in range(len(recent) - 1, -1, -1):
            quiet = 0 if recent[index] is Heard.SOUND else quiet + 1
            if not quiet:
                first = index
            elif quiet > GAP_FRAMES and first < len(recent):
                break
        return len(recent) - first

    def _listen(self, interjection: Interjection, heard: Heard) -> None:
        if heard is Heard.ECHO and self._was_echo():
            self._settle(interjection, genuine=False)
            return
        if interjection.hear(sounds=heard is Heard.SOUND):
            if self._detector.lately() is Heard.ECHO:  # it ended as the agent fell silent, and is told from its whole
                self._settle(interjection, genuine=False)
                return
            if self._ask is not None:
                self._recognise(interjection, self._ask)
        self._judge(interjection)

    def _was_echo(self) -> bool:
        """All that was taken for the caller turned out to be none."""
        recent = self._detector.recent
        since = min(len(recent), self._now - self._began + 1)
        return recent[-since:].count(Heard.SOUND) < FEW_FRAMES and since < len(recent)

    def _recognise(self, interjection: Interjection, ask: Ask) -> None:
        self._questions += 1
        question = self._questions
        count = min(len(self._frames), self._now - self._began + PREROLL_FRAMES)
        audio = b"".join(list(self._frames)[-count:])

        def answered(genuine: bool | None) -> None:
            if self._interjection is interjection and question == self._questions:
                interjection.recognise(genuine)
                self._judge(interjection)

        interjection.await_recogniser()
        ask(audio, interjection.speech_ms, answered)

    def _judge(self, interjection: Interjection) -> None:
        genuine = interjection.verdict()
        if genuine is not None and self._interjection is interjection:
            self._settle(interjection, genuine=genuine)

    def _settle(self, interjection: Interjection, *, genuine: bool) -> None:
        given_up, self._given_up = self._given_up, []
        self._false_alarms = 0 if genuine or interjection.by_words is not None else self._false_alarms + 1
        self._interjection = None
        self._settled = None if genuine else interjection
        self._settled_at = self._now
        self._emit(InterruptionJudged(genuine=genuine))
        if not genuine:
            for item in given_up:
                self._emit(AudioDone(item=item))

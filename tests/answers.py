"""Forty answers to a call of ours, made: people, voicemail, call screeners, the network's tones, fax; and who is who.

Speech comes from whoever speaks it (``Speak``), everything else is computed. Samples are L16 at 8 kHz.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offhook.model.call_events import AnsweredBy

Samples = NDArray[np.float64]
Speak = Callable[[str, str], Samples]
"""(voice, text): spoken at some telephone level, without silence around it."""

RATE = 8  # samples in a millisecond
NOISE_RMS = 12.0
"""Of the line: some -60 dBm0."""
PICKS_UP_MS = 400
"""From the answer to the first sound."""
TAIL_MS = 5000
"""After the last sound."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """``early``: what is heard before the 200; None: nothing. ``decided_ms``: the end of the sound that decides, in the
    stream of both."""

    name: str
    truth: AnsweredBy
    answered: Samples
    decided_ms: int
    early: Samples | None = None

    @property
    def early_ms(self) -> int:
        return 0 if self.early is None else self.early.size // RATE


def silence(ms: float) -> Samples:
    return np.zeros(round(ms * RATE))


def tone(ms: float, *tones_hz: float, amplitude: float = 5000.0) -> Samples:
    times = np.arange(round(ms * RATE)) / 8000
    return np.asarray(sum(amplitude / len(tones_hz) * np.sin(2 * np.pi * hz * times) for hz in tones_hz))


def information_tones(
    hz: tuple[float, float, float] = (950, 1400, 1800), ms: float = 330, gap_ms: float = 30
) -> Samples:
    """E.180 §6, or with other figures what North America sends."""
    return np.concatenate([part for one in hz for part in (tone(ms, one), silence(gap_ms))])


def fax_tone(ms: float = 3000, *, reversals: bool = False) -> Samples:
    """CED; with phase reversals every 450 ms and its level swinging at 15 Hz, ANSam (V.8 §7.2)."""
    times = np.arange(round(ms * RATE)) / 8000
    carrier = 5000 * np.sin(2 * np.pi * 2100 * times)
    if not reversals:
        return carrier
    phase = np.where((times // 0.45) % 2 == 0, 1.0, -1.0)
    return carrier * phase * (1 + 0.2 * np.sin(2 * np.pi * 15 * times))


def ringback(*, american: bool) -> Samples:
    return np.concatenate([tone(2000, 440, 480), silence(2000)] if american else [tone(1000, 425), silence(2000)])


def on_the_line(samples: Samples, seed: int) -> Samples:
    """With the line's noise, as 16-bit samples."""
    return np.clip(np.rint(samples + np.random.default_rng(seed).normal(0, NOISE_RMS, samples.size)), -32768, 32767)


class Answers:
    """The forty. ``speak`` is asked for the voices ``slt``, ``rms``, ``awb`` and ``kal``."""

    def __init__(self, speak: Speak) -> None:
        self._speak = speak

    def __iter__(self) -> Iterator[Answer]:
        for maker in (self._short, self._long, self._voicemail, self._screening, self._network, self._early):
            yield from maker()

    # ── people ───────────────────────────────────────────────────────────────────────────────────────────

    def _short(self) -> Iterator[Answer]:
        for voice, text in (
            ("slt", "Hello?"),
            ("rms", "Hello?"),
            ("awb", "Yes?"),
            ("kal", "Hello, who is this?"),
            ("slt", "Hello, this is Jane Miller speaking."),
            ("rms", "Hi there, who am I talking to?"),
            ("awb", "Peter Smith."),
        ):
            yield self._said("human", "short", voice, text)
        early = ringback(american=True)
        nobody = silence(TAIL_MS)
        yield Answer(name="nobody speaks", truth="human", answered=nobody, early=early, decided_ms=early.size // RATE)

    def _long(self) -> Iterator[Answer]:
        for voice, text in (
            ("slt", "Good morning, thank you for calling Miller and sons, this is Karen, how may I help you today?"),
            ("rms", "Good afternoon, Doctor Brown's office, how can I help you?"),
            ("awb", "Yes, hi, I was just on the other line, who is this please? I cannot hear you very well."),
            ("kal", "Thank you for calling city hardware, we are open until nine tonight, what are you looking for?"),
            ("slt", "Oh hello, I just came in through the door, give me a second to sit down."),
            ("rms", "Smith residence, this is Mary, hold on, let me turn down the television."),
        ):
            yield self._said("human", "long", voice, text)

    # ── machines that speak ──────────────────────────────────────────────────────────────────────────────

    def _voicemail(self) -> Iterator[Answer]:
        name = "You have reached the voicemail of John Miller. Please leave a message after the tone."
        forwarded = "Your call has been forwarded to an automatic voice message system. Please leave a message."
        reach = "The person you are trying to reach is not available. Please leave your message after the beep."
        short = "Hey, it's Anna, you know what to do."
        closed = "Sorry we missed your call. Our office is closed, and we will get back to you."
        for voice, text, hz, ms in (
            ("slt", name, 440.0, 500.0),
            ("rms", name, 850.0, 300.0),
            ("awb", forwarded, 1000.0, 250.0),
            ("kal", forwarded, 1400.0, 800.0),
            ("rms", reach, 1000.0, 1000.0),
            ("slt", reach, 1400.0, 200.0),
            ("awb", short, 850.0, 400.0),
            ("rms", closed, 440.0, 350.0),
        ):
            yield self._greeting(f"{voice}, {hz:.0f} Hz", self._speak(voice, text), tone(ms, hz))
        parts = [self._speak("slt", "Hi."), silence(900), self._speak("slt", name)]
        yield self._greeting("a pause after Hi", np.concatenate(parts), tone(400, 1000))
        yield self._greeting("no beep", self._speak("rms", reach), silence(0))

    def _greeting(self, name: str, speech: Samples, beep: Samples) -> Answer:
        heard = np.concatenate([silence(PICKS_UP_MS), speech, silence(500 if beep.size else 0), beep])
        return _after("voicemail", f"voicemail, {name}", heard)

    def _screening(self) -> Iterator[Answer]:
        apple = "Hi. If you record your name and reason for calling, I'll see if this person is available."
        google = (
            "Hi, the person you're calling is using a screening service from Google, and will get a copy of this "
            "conversation. Go ahead and say your name, and why you're calling."
        )
        for voice, text in (
            ("rms", apple),
            ("kal", apple),
            ("slt", google),
            ("awb", google),
            ("rms", "Please state your name and why you are calling."),
            ("awb", "Please say your name and the reason for your call, and I will try to connect you."),
        ):
            yield self._said("screening", "screening", voice, text)

    # ── tones ────────────────────────────────────────────────────────────────────────────────────────────

    def _network(self) -> Iterator[Answer]:
        announcement = self._speak("slt", "We are sorry. The number you have dialed is not in service.")
        yield _after("sit", "information tones", np.concatenate([silence(PICKS_UP_MS), information_tones()]))
        american = information_tones((985, 1429, 1777), ms=276, gap_ms=0)
        yield _after("sit", "information tones, then words", np.concatenate([silence(200), american]), announcement)
        for name, samples in (
            ("fax CED", fax_tone()),
            ("fax ANSam", fax_tone(reversals=True)),
            ("fax CED late", np.concatenate([silence(1200), fax_tone()])),
            ("fax CNG", np.concatenate([tone(500, 1100), silence(3000), tone(500, 1100)])),
        ):
            yield _after("fax", name, np.concatenate([silence(PICKS_UP_MS), samples]))

    # ── before the answer only ───────────────────────────────────────────────────────────────────────────

    def _early(self) -> Iterator[Answer]:
        for name, truth, played in (
            ("with words", "voicemail", self._speak("rms", "The person you are trying to reach is not available.")),
            ("and a beep", "voicemail", self._played_with_beep()),
            ("information tones", "sit", information_tones((914, 1371, 1777), ms=380, gap_ms=0)),
            ("ringing first", "voicemail", self._played_after_ringing()),
        ):
            early = np.concatenate([silence(300), played, silence(3000)])
            decided_ms = (early.size // RATE) - 3000
            yield Answer(
                name=f"early media, {name}",
                truth=truth,  # type: ignore[arg-type]  # the literals above
                early=early,
                answered=silence(0),
                decided_ms=decided_ms,
            )

    def _played_with_beep(self) -> Samples:
        return np.concatenate(
            [self._speak("awb", "Hello, this is Susan, sorry, but I am out."), silence(400), tone(500, 1000)]
        )

    def _played_after_ringing(self) -> Samples:
        text = "Hello, this is Susan. I can't come to the phone right now. Leave your name and number."
        return np.concatenate([ringback(american=False), self._speak("rms", text)])

    def _said(self, truth: AnsweredBy, kind: str, voice: str, text: str) -> Answer:
        return _after(
            truth, f"{kind}, {voice}: {text[:24]}", np.concatenate([silence(PICKS_UP_MS), self._speak(voice, text)])
        )


def _after(truth: AnsweredBy, name: str, heard: Samples, more: Samples | None = None) -> Answer:
    """Heard after the answer; ``more`` comes once it is decided."""
    tail = [silence(TAIL_MS)] if more is None else [more, silence(TAIL_MS)]
    decided_ms = round(np.flatnonzero(heard)[-1] / RATE)
    return Answer(name=name, truth=truth, answered=np.concatenate([heard, *tail]), decided_ms=decided_ms)

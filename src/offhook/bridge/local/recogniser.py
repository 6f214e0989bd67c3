"""Speech to text with pocketsphinx. Runs only in a recogniser process: one call takes a fifth of the speech.

Two searches over one acoustic model. Free speech is decoded with the n-gram model of the wheel, to which every
phrase we listen for was added as one long word (``phrases.compounds``). Short utterances, in which free speech is
often wrong on a telephone line, are also held against a grammar of the phrases alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import count, islice, product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pocketsphinx import Config, Decoder, NGramModel, get_model_path

from offhook.audio.resample import Resampler
from offhook.bridge.local.phrases import HUMMED, Intent, compounds, is_filler, meaning, single_words

MODEL_HZ = 16000
PHONE_HZ = 8000

PADDING_MS = 300
"""Silence around an utterance; without it the first and last sounds are lost (measured)."""
_MARGIN_MS = 100
"""Kept of the line before the first and after the last sound."""

_FREE, _PHRASE = "free", "phrase"

PHRASE_WEIGHT = 30_000.0
"""How much likelier than an even share a phrase is. At 10,000 some phrases are heard as free speech, at 300,000
free speech is heard as phrases. With the handicaps below, over 228 commands and 210 sentences that are none (three
voices, some quiet or with line noise): 3 commands missed, 3 sentences taken for one, 30 for a backchannel."""

HUM_WEIGHT = 100.0
"""A hum fits almost any voiced sound; likelier, it trails behind sentences."""

LOOKAHEAD_FRAMES = 5
"""Phone lookahead (``pl_window``): the same words as without it in 40 % less time."""

MAX_PRONUNCIATIONS = 6
WORD_MS = 700
PHRASE_MS = 1000
"""The grammar has a say up to WORD_MS for a single word and up to PHRASE_MS for a phrase or a hum."""
_BACKCHANNEL_HANDICAP = 1.4
_HUM_HANDICAP = 0.3
_WORD_HANDICAP = 0.6
_PHRASE_HANDICAP = -0.3
_GOODBYE_HANDICAP = 0.0
"""By how much per frame (natural logarithm) a result of the grammar may fit worse than free speech and still
win. A backchannel taken for one costs nothing, a "why" taken for "bye" costs the call."""

_FRAME = PHONE_HZ * 20 // 1000
_AUDIBLE = 0.06
"""Of the loudest frame's RMS, -24 dB: above it a frame belongs to the utterance."""
_VOICED_CORRELATION = 0.6
_PITCH_LAGS = (PHONE_HZ // 400, PHONE_HZ // 70)
_LEAST_VOICED_MS = 60
"""Speech has at least a short vowel; a cough, a click or line noise has none."""


class Recogniser:
    """Loads the model (0.7 s) when made."""

    def __init__(self) -> None:
        model = Path(get_model_path("en-us"))
        dictionary = str(model / "cmudict-en-us.dict")
        config = Config(
            hmm=str(model / "en-us"),
            dict=dictionary,
            pl_window=LOOKAHEAD_FRAMES,
            bestpath=False,  # rescoring the word lattice loses short words (14 of 228 commands missed)
            loglevel="FATAL",
        )
        self._decoder = Decoder(config)
        _teach(self._decoder, str(model / "en-us.lm.bin"))

    def recognise(self, l16_8k: bytes) -> str | None:
        """The words of one utterance (16-bit, 8 kHz), lower case; "" for speech without known words, None
        when it is no speech at all."""
        samples = _trimmed(np.frombuffer(l16_8k[: len(l16_8k) & ~1], dtype="<i2"))
        if _voiced_ms(samples) < _LEAST_VOICED_MS:
            return None
        audio = _for_model(samples)
        free, free_score = _decode(self._decoder, _FREE, audio)
        spoken_ms = len(samples) * 1000 // PHONE_HZ
        understood = meaning(free) is not None and not is_filler(free)
        if understood or spoken_ms > PHRASE_MS:
            return free
        phrase, score = _decode(self._decoder, _PHRASE, audio)
        return phrase if score - free_score > -_handicap(phrase, spoken_ms) else free


def _handicap(phrase: str, spoken_ms: int) -> float:
    """How much worse than free speech ``phrase`` may fit; a negative one must fit better."""
    found = meaning(phrase)
    if found is Intent.BACKCHANNEL:
        return _HUM_HANDICAP if phrase in HUMMED else _BACKCHANNEL_HANDICAP
    if found is None or (" " not in phrase and spoken_ms > WORD_MS):
        return -math.inf
    if found is Intent.GOODBYE:
        return _GOODBYE_HANDICAP
    return _PHRASE_HANDICAP if " " in phrase else _WORD_HANDICAP


def _teach(decoder: Decoder, language: str) -> None:
    """Both searches: each phrase is as likely in the language model as its weight says."""
    words = {phrase.replace(" ", "_"): _pronunciations(decoder, phrase) for phrase in compounds()}
    words.update(HUMMED)
    for word, pronunciations in words.items():
        _add_word(decoder, word, pronunciations)
    model = NGramModel(decoder.config, decoder.logmath, language)
    for word in words:
        model.add_word(word, HUM_WEIGHT if word in HUMMED else PHRASE_WEIGHT)
    decoder.add_lm(_FREE, model)
    choices = " | ".join(phrase.replace(" ", "_") for phrase in (*compounds(), *single_words()))
    decoder.add_jsgf_string(_PHRASE, f"#JSGF V1.0; grammar phrases; public <utterance> = {choices};")


def _add_word(decoder: Decoder, word: str, pronunciations: tuple[str, ...]) -> None:
    for number, phones in enumerate(pronunciations, start=1):
        decoder.add_word(word if number == 1 else f"{word}({number})", phones, False)


def _pronunciations(decoder: Decoder, phrase: str) -> tuple[str, ...]:
    """How the whole phrase may sound: the combinations of its words' entries in the dictionary."""
    each = [list(_entries(decoder, word)) for word in phrase.split()]
    return tuple(" ".join(parts) for parts in islice(product(*each), MAX_PRONUNCIATIONS))


def _entries(decoder: Decoder, word: str) -> Iterator[str]:
    for number in count(1):
        phones = decoder.lookup_word(word if number == 1 else f"{word}({number})")
        if phones is None:
            return
        yield phones


def _decode(decoder: Decoder, search: str, audio: bytes) -> tuple[str, float]:
    """The words, and how well they fit: natural logarithm of the acoustic score, per frame."""
    decoder.activate_search(search)
    decoder.start_utt()
    decoder.process_raw(audio, full_utt=True)
    decoder.end_utt()
    hypothesis = decoder.hyp()
    if hypothesis is None:
        return "", -math.inf
    fit = sum(math.log(segment.ascore) for segment in decoder.seg() if segment.ascore > 0)
    words = hypothesis.hypstr.replace("_", " ").replace("good bye", "goodbye")
    return words, fit / max(1, decoder.n_frames())


# ── the utterance before it is decoded ───────────────────────────────────────────────────────────────────


def _trimmed(samples: NDArray[np.int16]) -> NDArray[np.int16]:
    """From shortly before the first sound to shortly after the last."""
    count_of_frames = samples.size // _FRAME
    if count_of_frames == 0:
        return samples
    frames = samples[: count_of_frames * _FRAME].astype(np.float32).reshape(-1, _FRAME)
    loudness = np.sqrt((frames**2).mean(axis=1))
    audible = np.flatnonzero(loudness > loudness.max() * _AUDIBLE)
    if not audible.size:
        return samples[:0]
    margin = _MARGIN_MS * PHONE_HZ // 1000
    first, last = int(audible[0]) * _FRAME - margin, (int(audible[-1]) + 1) * _FRAME + margin
    return samples[max(0, first) : last]


def _voiced_ms(samples: NDArray[np.int16]) -> int:
    """How long the voice had a pitch: frames that resemble themselves one period later."""
    return 20 * sum(_is_voiced(samples[at : at + 2 * _FRAME]) for at in range(0, samples.size - _FRAME, _FRAME))


def _is_voiced(piece: NDArray[np.int16]) -> bool:
    window = piece.astype(np.float32)
    window -= window.mean()
    energy = float(window @ window)
    if energy < window.size * 100.0:  # an RMS of 10, -66 dBm0: nothing is there
        return False
    spectrum = np.fft.rfft(window, 4 * _FRAME)
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)
    lags = np.arange(*_PITCH_LAGS)
    # A lag leaves less of the window to compare; without the correction low voices would never count.
    corrected = correlation[lags] / (1 - lags / window.size)
    return bool(corrected.max() > _VOICED_CORRELATION * energy)


def _for_model(samples: NDArray[np.int16]) -> bytes:
    silence = bytes(2 * PADDING_MS * PHONE_HZ // 1000)
    return Resampler(PHONE_HZ, MODEL_HZ)(silence + samples.tobytes() + silence)

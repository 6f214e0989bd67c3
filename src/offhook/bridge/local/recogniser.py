"""Speech to text with pocketsphinx. Runs only in a recogniser process: it computes for a third of the speech's length.

Two searches for each vocabulary, over one acoustic model. A grammar of the phrases we listen for takes 25 ms and
is believed at once when it fits well. Else free speech is decoded with the n-gram model of the wheel, to which the
phrases of several words were added as one long word each, so that they compete with free speech inside one search.
Short words, which free speech gets wrong on a telephone line, are left to the grammar where it fits hardly worse.

Measured with the common vocabulary over 320 commands and 250 sentences that are none (three voices, one of them also
20 dB quieter, one with line noise 20 dB below it): 32 commands missed, 23 of them in the noise; 8 sentences taken for
a command, all in the noise, and none for a backchannel. The grammar alone understands 2 of 3 commands.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count, islice, product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pocketsphinx import Config, Decoder, NGramModel, Segment, get_model_path

from offhook.audio.resample import Resampler
from offhook.bridge.local.name_grammar import NameGrammars
from offhook.bridge.local.phrases import (
    HUMMED,
    Intent,
    Vocabulary,
    compounds,
    grammar_phrases,
    is_understood,
    meaning,
)
from offhook.bridge.local.spotting import Spotter

MODEL_HZ = 16000
PHONE_HZ = 8000

PADDING_MS = 300
"""Silence around an utterance; without it the first and last sounds are lost (measured)."""
_MARGIN_MS = 100
"""Kept of the line before the first and after the last sound."""

PHRASE_WEIGHT = 30_000.0
"""How much likelier than an even share a phrase is. At 10,000 some phrases are heard as free speech, at 300,000
free speech is heard as phrases."""

HUM_WEIGHT = 100.0
"""A hum fits almost any voiced sound; likelier, it trails behind sentences."""

LOOKAHEAD_FRAMES = 5
"""Phone lookahead (``pl_window``): the same words as without it in 40 % less time."""

MAX_PRONUNCIATIONS = 6
SURE_FIT = -2.9
SURE_COVER = 0.8
"""A phrase whose words fit at least so well per frame (log-likelihood) and cover so much of the utterance was said."""

SURE_NAME_FIT = -2.0
"""The same of a sentence with a name: nobody else's name fitted so well, the right one often does."""
NAME_FIT = -2.6
NAME_ADVANTAGE = 0.3
"""A name that fits the whole utterance so well, and so much better than free speech, was said, however free speech
spells it. Most other names stay below one or the other."""

WORD_MS = 700
WORD_HANDICAP = 0.6
"""Up to this length a single word of the grammar wins over free speech that fits up to so much better per frame."""

_SCORE_SHIFT = 1 << 10
"""pocketsphinx keeps acoustic scores divided by this (``SENSCR_SHIFT`` of its ``hmm.h``)."""

_MODEL_FRAME_MS = 10
_FRAME = PHONE_HZ * 20 // 1000
_AUDIBLE = 0.06
"""Of the loudest frame's RMS, -24 dB: above it a frame belongs to the utterance."""
_VOICED_CORRELATION = 0.6
_PITCH_LAGS = (PHONE_HZ // 400, PHONE_HZ // 70)
_LEAST_VOICED_MS = 60
"""Speech has at least a short vowel; a cough, a click or line noise has none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Searches:
    """What the decoder knows a vocabulary's searches by."""

    phrase: str
    free: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Heard:
    """``fit``: log-likelihood per frame of the whole, ``words_fit`` of the words alone, which last ``words_ms``."""

    words: str = ""
    fit: float = -math.inf
    words_fit: float = -math.inf
    words_ms: int = 0


class Recogniser:
    """Loads the model (0.3 s) when made; each vocabulary but the common one when it is first needed (0.2 s, 70 MB)."""

    def __init__(self) -> None:
        model = Path(get_model_path("en-us"))
        dictionary = str(model / "cmudict-en-us.dict")
        config = Config(
            hmm=str(model / "en-us"),
            dict=dictionary,
            pl_window=LOOKAHEAD_FRAMES,
            lm=None,  # else the library loads a language model that nobody asks: 65 MB, 0.2 s
            bestpath=False,  # rescoring the word lattice loses short words
            loglevel="FATAL",
        )
        self._decoder = Decoder(config)
        self._language = str(model / "en-us.lm.bin")
        _teach(self._decoder)
        self._searches = {Vocabulary.COMMON: self._add_searches(Vocabulary.COMMON)}
        self._grammars = NameGrammars(self._decoder)
        self._spotter: Spotter | None = None

    def spot(self, l16_8k: bytes) -> tuple[str, ...]:
        """Of the phrases that are said when a call of ours is answered, those heard in it (16-bit, 8 kHz)."""
        if self._spotter is None:
            self._spotter = Spotter(self._decoder)
        samples = _trimmed(np.frombuffer(l16_8k[: len(l16_8k) & ~1], dtype="<i2"))
        return self._spotter.spot(_for_model(samples))

    def recognise(
        self, l16_8k: bytes, vocabulary: Vocabulary = Vocabulary.COMMON, names: tuple[str, ...] = ()
    ) -> str | None:
        """The words of one utterance (16-bit, 8 kHz), lower case; "" for speech without known words, None
        when it is no speech at all. ``names``: listened for, alone and after the words that ask for somebody."""
        samples = _trimmed(np.frombuffer(l16_8k[: len(l16_8k) & ~1], dtype="<i2"))
        if _voiced_ms(samples) < _LEAST_VOICED_MS:
            return None
        audio = _for_model(samples)
        spoken_ms = max(20, len(samples) * 1000 // PHONE_HZ - 2 * _MARGIN_MS)
        searches = self._searches_for(vocabulary)
        phrase = _decode(self._decoder, searches.phrase, audio)
        by_name = self._by_name(names, audio)
        if _is_sure(phrase, spoken_ms) and phrase.fit >= by_name.fit:
            return phrase.words
        covers = _covers(by_name, spoken_ms)
        if covers and by_name.words_fit > SURE_NAME_FIT:
            return by_name.words
        free = _decode(self._decoder, searches.free, audio)
        if covers and by_name.fit > max(NAME_FIT, free.fit + NAME_ADVANTAGE):
            return by_name.words
        understood = is_understood(free.words, vocabulary)
        return phrase.words if not understood and _is_short_word(phrase, free, spoken_ms) else free.words

    def _searches_for(self, vocabulary: Vocabulary) -> _Searches:
        if vocabulary not in self._searches:
            self._searches[vocabulary] = self._add_searches(vocabulary)
        return self._searches[vocabulary]

    def _add_searches(self, vocabulary: Vocabulary) -> _Searches:
        """Each phrase is as likely in free speech as its weight says."""
        searches = _Searches(phrase=f"phrase-{vocabulary.value}", free=f"free-{vocabulary.value}")
        choices = " | ".join(phrase.replace(" ", "_") for phrase in grammar_phrases(vocabulary))
        grammar = f"#JSGF V1.0; grammar phrases; public <utterance> = {choices};"
        self._decoder.add_jsgf_string(searches.phrase, grammar)
        model = NGramModel(self._decoder.config, self._decoder.logmath, self._language)
        for phrase in compounds(vocabulary):
            model.add_word(phrase.replace(" ", "_"), PHRASE_WEIGHT)
        for hum in HUMMED:
            model.add_word(hum, HUM_WEIGHT)
        self._decoder.add_lm(searches.free, model)
        return searches

    def _by_name(self, names: tuple[str, ...], audio: bytes) -> _Heard:
        """The best of what asks for one of ``names``."""
        search = self._grammars.search_for(names) if names else None
        return _Heard() if search is None else _decode(self._decoder, search, audio)


def _is_sure(phrase: _Heard, spoken_ms: int) -> bool:
    return phrase.words_fit > SURE_FIT and _covers(phrase, spoken_ms) and meaning(phrase.words) is not None


def _covers(heard: _Heard, spoken_ms: int) -> bool:
    return heard.words_ms >= SURE_COVER * spoken_ms


def _is_short_word(phrase: _Heard, free: _Heard, spoken_ms: int) -> bool:
    found = meaning(phrase.words)
    # "Why" sounds like "bye", and ends no call; a hum fits whatever has a voice.
    if found in (None, Intent.GOODBYE) or phrase.words in HUMMED:
        return False
    single = " " not in phrase.words or found is Intent.BACKCHANNEL
    return single and spoken_ms <= WORD_MS and phrase.fit > free.fit - WORD_HANDICAP


def _teach(decoder: Decoder) -> None:
    """Every phrase as a word; it is none in the search of a language model that lacks it."""
    phrases = dict.fromkeys(phrase for vocabulary in Vocabulary for phrase in compounds(vocabulary))
    for phrase in phrases:
        _add_word(decoder, phrase.replace(" ", "_"), _pronunciations(decoder, phrase))
    for hum, pronunciations in HUMMED.items():
        _add_word(decoder, hum, pronunciations)


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


def _decode(decoder: Decoder, search: str, audio: bytes) -> _Heard:
    decoder.activate_search(search)
    decoder.start_utt()
    decoder.process_raw(audio, full_utt=True)
    decoder.end_utt()
    hypothesis = decoder.hyp()
    if hypothesis is None:
        return _Heard()
    segments = [segment for segment in decoder.seg() if segment.ascore > 0]
    words = [segment for segment in segments if segment.word[0] not in "<("]
    frames = max(1, sum(segment.end_frame - segment.start_frame + 1 for segment in words))
    return _Heard(
        words=hypothesis.hypstr.replace("_", " ").replace("good bye", "goodbye"),
        fit=_likelihood(segments) / max(1, decoder.n_frames()),
        words_fit=_likelihood(words) / frames,
        words_ms=frames * _MODEL_FRAME_MS,
    )


def _likelihood(segments: Iterable[Segment]) -> float:
    """Natural logarithm."""
    return _SCORE_SHIFT * sum(math.log(segment.ascore) for segment in segments)


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

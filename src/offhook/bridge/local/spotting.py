"""Listens for a few phrases in whatever is said: a keyword search of pocketsphinx, in 3 % of the speech's length.

Runs only in a recogniser process, over the model that the recogniser has loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from pocketsphinx import Decoder

from offhook.bridge.local.answer_phrases import THRESHOLDS

_SEARCH = "answers"


class Spotter:
    """A search of ``decoder`` beside its others."""

    def __init__(self, decoder: Decoder, thresholds: Mapping[str, float] = THRESHOLDS) -> None:
        self._decoder = decoder
        with TemporaryDirectory(prefix="offhook-") as folder:
            phrases = Path(folder) / "phrases"  # the library takes them from a file only
            phrases.write_text("".join(f"{phrase} /{least:g}/\n" for phrase, least in thresholds.items()))
            decoder.add_kws(_SEARCH, str(phrases))

    def spot(self, audio: bytes) -> tuple[str, ...]:
        """The phrases that are in ``audio`` (16-bit, the model's rate), each once, in their order."""
        decoder = self._decoder
        decoder.activate_search(_SEARCH)
        decoder.start_utt()
        decoder.process_raw(audio, full_utt=True)
        decoder.end_utt()
        if decoder.hyp() is None:
            return ()
        return tuple(dict.fromkeys(segment.word.strip() for segment in decoder.seg()))

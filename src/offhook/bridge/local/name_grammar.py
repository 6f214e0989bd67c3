"""Grammars of the sentences that ask for somebody by name: one for each list of names that calls come with."""

from __future__ import annotations

from itertools import count

from pocketsphinx import Decoder

from offhook.bridge.local.phrases import TRANSFER_OPENINGS, normalised, transfer_phrases

MAX_NAMES = 50
"""Of one agent's; nobody remembers more, and each makes the search longer."""

MAX_GRAMMARS = 16
"""Kept at a time, the latest used. One is made in a millisecond and takes some 100 kB."""


class NameGrammars:
    """Searches of ``decoder``, whose dictionary knows the openings as one word each."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._numbers = count(1)
        self._searches: dict[tuple[str, ...], str | None] = {}

    def search_for(self, names: tuple[str, ...]) -> str | None:
        """Made where there is none yet; None without any name that has only words that the
        dictionary knows."""
        search = self._searches.pop(names) if names in self._searches else self._make(names)
        self._searches[names] = search
        if len(self._searches) > MAX_GRAMMARS:
            self._forget(next(iter(self._searches)))
        return search

    def _make(self, names: tuple[str, ...]) -> str | None:
        known = [name for name in map(normalised, names[:MAX_NAMES]) if name and self._is_known(name)]
        if not known:
            return None
        search = f"names-{next(self._numbers)}"
        self._decoder.add_jsgf_string(search, _grammar(known))
        return search

    def _is_known(self, name: str) -> bool:
        return all(self._decoder.lookup_word(word) is not None for word in name.split())

    def _forget(self, names: tuple[str, ...]) -> None:
        search = self._searches.pop(names)
        if search is not None:
            self._decoder.remove_search(search)


def _grammar(names: list[str]) -> str:
    openings = " | ".join(opening.replace(" ", "_") for opening in TRANSFER_OPENINGS)
    anybody = " | ".join(phrase.replace(" ", "_") for phrase in transfer_phrases())
    return (
        "#JSGF V1.0; grammar names;"
        f"<opening> = {openings};"
        f"<name> = {' | '.join(names)};"
        "<by_name> = [please | could you | can you] [<opening> [the]] <name> [department] [please];"
        f"public <utterance> = <by_name> | {anybody};"
    )

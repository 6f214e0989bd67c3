"""Which lists of names have a grammar: one each, the latest used; the decoder keeps no other."""

from __future__ import annotations

from offhook.bridge.local.name_grammar import MAX_GRAMMARS, NameGrammars


class Decoder:
    """Knows every word, and which searches it holds."""

    def __init__(self) -> None:
        self.searches: list[str] = []

    def lookup_word(self, word: str) -> str:
        return word

    def add_jsgf_string(self, search: str, _: str) -> None:
        self.searches.append(search)

    def remove_search(self, search: str) -> None:
        self.searches.remove(search)


def test_more_lists_of_names_than_are_kept() -> None:
    decoder = Decoder()
    grammars = NameGrammars(decoder)
    lists = [(f"{word} sales", word) for word in map(str, range(MAX_GRAMMARS + 2))]
    made = [grammars.search_for(names) for names in lists]
    assert decoder.searches == made[2:]
    assert grammars.search_for(lists[2]) == made[2]
    again = grammars.search_for(lists[0])
    assert again not in made
    assert decoder.searches == [made[2], *made[4:], again], "the list used longest ago went"

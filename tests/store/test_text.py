"""Text that can be written to any file."""

from __future__ import annotations

from offhook.store.text import printable, printable_document


def test_octets_that_are_no_utf_8_are_written_out_and_the_rest_stays() -> None:
    assert printable("grün \udcff") == "grün \\udcff"
    assert printable(printable("\udcff")) == printable("\udcff")


def test_every_string_of_a_document_is_printable() -> None:
    document = {"a": "\udc80", "b": [1, None, {"c": ("\udcff", 2.5)}]}
    assert printable_document(document) == {"a": "\\udc80", "b": [1, None, {"c": ["\\udcff", 2.5]}]}

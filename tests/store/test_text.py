"""Text that can be written to any file."""

from __future__ import annotations

from offhook.model.call_events import DigitReceived
from offhook.store.text import json_text, json_values, printable, printable_document


def test_octets_that_are_no_utf_8_are_written_out_and_the_rest_stays() -> None:
    assert printable("grün \udcff") == "grün \\udcff"
    assert printable(printable("\udcff")) == printable("\udcff")


def test_every_string_of_a_document_is_printable() -> None:
    document = {"a": "\udc80", "b": [1, None, {"c": ("\udcff", 2.5)}]}
    assert printable_document(document) == {"a": "\\udc80", "b": [1, None, {"c": ["\\udcff", 2.5]}]}


def test_nul_is_written_out_for_postgresql_keeps_none() -> None:
    assert printable("a\0b") == "a\\x00b"


def test_json_of_a_database_holds_neither_nul_nor_surrogates() -> None:
    turn = DigitReceived(digit="\0\udcff", duration_ms=1)
    assert json_values(json_text({"turn": turn})) == {"turn": {"digit": "\\x00\\udcff", "duration_ms": 1}}


def test_what_only_looks_like_nul_stays_as_it_is() -> None:
    assert json_values(json_text(["\\u0000"])) == ["\\u0000"]

"""What peers send need not be UTF-8: the parser keeps such octets as surrogates (PEP 383), files hold text."""

from __future__ import annotations

from typing import Any


def printable(text: str) -> str:
    """``text`` with surrogates written out: the octet FF as ``\\udcff``."""
    return text.encode("utf-8", "backslashreplace").decode()


def printable_document(value: Any) -> Any:
    """The same for every string in JSON-able values."""
    match value:
        case str():
            return printable(value)
        case dict():
            return {key: printable_document(each) for key, each in value.items()}
        case list() | tuple():
            return [printable_document(each) for each in value]
        case _:
            return value

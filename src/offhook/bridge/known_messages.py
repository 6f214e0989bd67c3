"""Reads a provider's messages, of which some kinds are for us. Pure."""

from __future__ import annotations

from typing import Any, Generic, TypeVar, get_args

import msgspec

K = TypeVar("K")


class _Head(msgspec.Struct, frozen=True):
    type: str


_head = msgspec.json.Decoder(_Head)


class KnownMessages(Generic[K]):
    """``kinds``: a union of tagged structs; the tag stands in ``type``."""

    def __init__(self, kinds: Any) -> None:
        self._known: msgspec.json.Decoder[K] = msgspec.json.Decoder(kinds, strict=False)
        self._types = frozenset(kind.__struct_config__.tag for kind in get_args(kinds))

    def read(self, message: bytes) -> K | str:
        """Of another kind: its type. Raises ``ValueError`` for no JSON, and for a known kind of unknown shape."""
        try:
            return self._known.decode(message)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            pass
        try:
            kind = _head.decode(message).type
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            kind = ""
        if not kind or kind in self._types:
            raise ValueError("sent a message that cannot be read")
        return kind

"""Messages of which some kinds are for us."""

from __future__ import annotations

import msgspec
import pytest

from offhook.bridge.known_messages import KnownMessages


class Word(msgspec.Struct, tag_field="type", tag="word"):
    text: str


class Sound(msgspec.Struct, tag_field="type", tag="sound"):
    audio: bytes


MESSAGES = KnownMessages[Word | Sound](Word | Sound)


def test_what_is_known_is_read() -> None:
    assert MESSAGES.read(b'{"type":"word","text":"yes","new":1}') == Word(text="yes")


def test_of_what_is_not_known_the_kind_is_told() -> None:
    assert MESSAGES.read(b'{"type":"weather","text":[]}') == "weather"


@pytest.mark.parametrize("message", [b"", b"\xff", b"[]", b"{}", b'{"type":"word"}', b'{"type":1}', b"[" * 100_000])
def test_what_is_broken_is_refused(message: bytes) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        MESSAGES.read(message)

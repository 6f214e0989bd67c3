"""What a model is told in words, where a provider has no message for it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from offhook.bridge.codec import Utterance

MAX_UTTERANCES = 200
"""Of what was said, told to a new session: half an hour of talk."""

MAX_CHARACTERS = 50_000
"""Of all of it."""


def pressed(digits: str) -> str:
    """Stands where the caller's words stand; brackets set apart what he did not say."""
    return f"[The caller pressed {digits}]"


def wrote(text: str) -> str:
    return f"The caller wrote: {text}"


def instruction(text: str) -> str:
    """In the caller's place, but not his; ElevenLabs' and Ultravox' models know the tag."""
    return f"<instruction>{text}</instruction>"


def from_now_on(instructions: str) -> str:
    return f"From now on: {instructions}"


def newest(history: Sequence[Utterance]) -> Sequence[Utterance]:
    """As much of ``history`` as may be told, whole utterances, in their order."""
    room = MAX_CHARACTERS
    told: list[Utterance] = []
    for utterance in reversed(history[-MAX_UTTERANCES:]):
        room -= len(utterance.text)
        if room < 0:
            break
        told.append(utterance)
    return told[::-1]

"""What every part of config.json is."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

import msgspec


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of config.json: unknown keys are errors."""


def instead_of(key: str, known: Sequence[str]) -> str:
    """The fix for a key that nobody knows: the one that was probably meant, else all there are."""
    near = get_close_matches(key, known, 1)
    return f"Remove it, or use {near[0]}" if near else f"Remove it, or use one of: {', '.join(known)}"

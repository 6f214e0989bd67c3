"""Facts of calls as JSON and back: the name of their class, and their fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast, get_args

import msgspec

from offhook.model.call_events import CallEvent, CallFact, TurnSpoken
from offhook.store.text import json_text, printable_document

_DECODERS = {fact.__name__: msgspec.json.Decoder(fact) for fact in get_args(CallFact)}


def fact_json(fact: CallFact) -> str:
    """Raises ``TypeError`` where a field is not what its class says."""
    return json_text(fact)


def fact_json_without_speech(fact: CallFact) -> str:
    """What was said is kept among the turns alone, so that it can be deleted and the rest stays."""
    return json_text(replace(fact, text="") if isinstance(fact, TurnSpoken) else fact)


def fact_of(type_name: str, text: str | bytes) -> CallFact:
    """Raises ``ValueError`` for what is no fact: another version of offhook wrote it."""
    decoder = _DECODERS.get(type_name)
    if decoder is None:
        raise ValueError(f"{type_name!r} is no fact")
    return cast(CallFact, decoder.decode(text))


def event_document(event: CallEvent) -> Mapping[str, Any]:
    """An event as JSON-able values: the envelope, ``type`` and the fact's own fields; text is printable."""
    fields = printable_document(msgspec.to_builtins(event.fact))
    return {
        "seq": event.seq,
        "at": event.at,
        "leg_id": event.leg_id,
        "type": type(event.fact).__name__,
        **fields,
    }

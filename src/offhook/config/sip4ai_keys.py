"""The sections of config.json that SIP4AI's users know: one for each provider, and one for calls of ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from offhook.config.section import Section
from offhook.store.form_parts import SECRET_OPTIONS

Mode = Literal["inbound", "outbound"]

WORDS: Mapping[str, tuple[str, ...]] = {
    "greeting": ("first_message", "greeting"),
    "instructions": ("system_prompt", "instructions"),
    "voice": ("voice_id", "voice"),
}
"""What an agent has, and how a provider's section may call it: the first one there counts."""

ALL_WORDS = tuple(word for words in WORDS.values() for word in words)

_SCHEMA = {
    "properties": {word: {"type": "string"} for word in ALL_WORDS},
    "additionalProperties": True,
    "x-write-only-names": SECRET_OPTIONS,
}

ProviderSection = Annotated[dict[str, Any], msgspec.Meta(extra_json_schema=_SCHEMA)]
"""``WORDS``, and any option that the provider of that name has; the provider checks those."""


class OutboundSettings(Section, frozen=True):
    """The call that ``mode`` outbound makes at the start.

    ``target_number``: a number (`+49301234567`) or a SIP URI. ``caller_id``: the number that is shown there; calls by
    the trunk of SIP_USERNAME may show it. ``task_description``: what the agent is to do. ``result_webhook``: the URL
    that is told how it went. ``hangup_on_task_complete``: whether a call ends when the agent says that it is done; it
    counts for all calls of the agent of `provider`.
    """

    target_number: str = ""
    caller_id: str = ""
    task_description: Annotated[str, msgspec.Meta(max_length=20_000)] = ""
    result_webhook: str = ""
    hangup_on_task_complete: bool = True

"""What a reload does not make true, by its keys."""

from __future__ import annotations

import msgspec

from offhook.config import Settings, waits_for_restart


def settings(**document: object) -> Settings:
    return msgspec.convert(document, Settings)


def test_forms_are_taken_at_once_and_sections_at_the_next_start() -> None:
    before = settings(agents=[{"id": "a"}], sip={"port": 5060}, max_calls=5)
    after = settings(agents=[{"id": "b"}], sip={"port": 5070, "trace": False}, max_calls=7, webhooks=[])
    assert waits_for_restart(before, after) == ("sip.port", "sip.trace", "max_calls")
    assert waits_for_restart(before, before) == ()

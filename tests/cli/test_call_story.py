"""One call told to a person: each thing once, in words."""

from __future__ import annotations

import click

from offhook.cli.call_story import story
from offhook.model.call_events import CallEvent, ProviderUsage, UsageAmount
from offhook.model.records import CallRecord

USED = ProviderUsage(
    provider="openai",
    amounts=(UsageAmount(units="input_tokens", amount=14), UsageAmount(units="seconds", amount=2.5)),
)


def told(*, reason: str, fault: str | None) -> str:
    record = CallRecord(
        call_id="c1",
        account_id="default",
        node_id="n1",
        direction="inbound",
        phase="ended",
        from_uri="sip:a@example.com",
        to_uri="sip:b@example.com",
        sip_call_id="x",
        remote_address="192.0.2.1:5060",
        ended_at=2.0,
        ended_by="system",
        cause="provider_failed",
        reason=reason,
        provider_fault=fault,
    )
    event = CallEvent(call_id="c1", leg_id="leg-1", seq=1, at=1.0, fact=USED)
    return click.unstyle("\n".join(story(record, [event], [])))


def test_what_was_used_of_a_provider_is_told_in_words() -> None:
    assert "openai used 14 input tokens, 2.5 seconds" in told(reason="", fault=None)


def test_why_a_call_ended_is_told_once() -> None:
    assert told(reason="the key is wrong", fault="the key is wrong").count("the key is wrong") == 1
    assert "(no answer), HTTP 500" in told(reason="no answer", fault="HTTP 500")

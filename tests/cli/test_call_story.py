"""One call told to a person: each thing once, in words."""

from __future__ import annotations

from dataclasses import replace

import click

from offhook.cli.call_story import story
from offhook.model.call_events import (
    CallEvent,
    CallFact,
    ProviderUsage,
    TaskCompleted,
    ToolCalled,
    ToolReturned,
    TurnSpoken,
    UsageAmount,
)
from offhook.model.records import CallRecord

USED = ProviderUsage(
    provider="openai",
    amounts=(UsageAmount(units="input_tokens", amount=14), UsageAmount(units="seconds", amount=2.5)),
)


RECORD = CallRecord(
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
)


def lines(record: CallRecord, *facts: CallFact) -> str:
    events = [CallEvent(call_id="c1", leg_id="leg-1", seq=n, at=1.0, fact=fact) for n, fact in enumerate(facts)]
    return click.unstyle("\n".join(story(record, events, [])))


def told(*, reason: str, fault: str | None) -> str:
    return lines(replace(RECORD, reason=reason, provider_fault=fault), USED)


def test_what_was_used_of_a_provider_is_told_in_words() -> None:
    assert "openai used 14 input tokens, 2.5 seconds" in told(reason="", fault=None)


def test_why_a_call_ended_is_told_once() -> None:
    assert told(reason="the key is wrong", fault="the key is wrong").count("the key is wrong") == 1
    assert "(no answer), HTTP 500" in told(reason="no answer", fault="HTTP 500")


def test_who_was_reached_and_what_came_of_the_task_stand_at_the_top() -> None:
    record = replace(
        RECORD, answered_by="human", task=TaskCompleted(outcome="confirmed", summary="Tuesday at two suits her")
    )
    head = lines(record).split("what happened")[0]
    assert "reached    human" in head
    assert "task       confirmed: Tuesday at two suits her" in head


def test_what_was_said_stands_in_the_order_in_which_it_began() -> None:
    """A turn that is cut is recorded after the words that cut it."""
    caller = TurnSpoken(speaker="caller", text="Stop", started_ms=4000, ended_ms=4400)
    agent = TurnSpoken(speaker="agent", text="I am", started_ms=3000, ended_ms=4500, interrupted=True)
    said = lines(replace(RECORD, transcript=(caller, agent)))
    assert said.index("I am") < said.index("Stop")


def test_a_tool_is_told_with_what_it_was_asked_and_what_it_said() -> None:
    called = ToolCalled(tool="book", arguments='{"day": 1}', tool_call_id="call_1", own=True)
    returned = ToolReturned(tool="book", output='{"done":\n true}', took_ms=12, tool_call_id="call_1")
    said = lines(RECORD, called, returned)
    assert 'tool book called with {"day": 1}' in said
    assert 'tool book answered after 12 ms: {"done": true}' in said
    assert "own" not in said

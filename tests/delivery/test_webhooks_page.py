"""docs/WEBHOOKS.md says what the code does."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.cli.typed import typed
from tests.store.stories import ARRIVED, JOINED, RINGING

from offhook.call import tool_runs
from offhook.call.asking import WHO_ANSWERS_S
from offhook.call.hold_audio import MAX_FETCHED_S
from offhook.call.ports import AgentForCall, CallDeclined, ToolUse
from offhook.delivery import (
    audience,
    fetched_audio,
    questions_wire,
    sip4ai_signing,
    sip4ai_wire,
    webhook_outcomes,
    webhooks,
)
from offhook.delivery.audience import TEST_EVENT, body_of, sip4ai_body_of
from offhook.delivery.event_documents import EVENT_NAMES
from offhook.delivery.outbound_http import OutboundResponse
from offhook.delivery.questions_wire import AgentById, AgentDescribed, read_call, render_call, render_tool
from offhook.delivery.signing import new_secret, sign
from offhook.delivery.sip4ai_events import SIP4AI_EVENTS, render
from offhook.model.call_events import (
    CallAnswered,
    CallEnded,
    CallEvent,
    CallFact,
    ToolCalled,
    ToolReturned,
    TurnSpoken,
)
from offhook.model.records import TOOL_TIMEOUT_S, CallRecord
from offhook.store import projection
from offhook.store.forms import NumberForm, ToolForm, WebhookForm, tool_record
from offhook.store.function_forms import FunctionForm, function_tools
from offhook.store.outbox import delivery_id
from offhook.store.projection import begin, project

PAGE = (Path(__file__).parents[2] / "docs" / "WEBHOOKS.md").read_text()
TEXT = " ".join(PAGE.split())
NATIVE_PART, SIP4AI_PART = PAGE.split("## In SIP4AI's words")
DOCUMENTS: list[dict[str, Any]] = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE, re.S)]

BEGAN = 1795261919.0
CALL_ID = "9f0c1de24b7a"
CALLED = replace(
    ARRIVED,
    from_uri="sip:+4917012345@carrier.example.com",
    to_uri="sip:+493012345@192.0.2.1",
    sip_call_id="a84b4c76e66710",
    remote_address="198.51.100.7:5060",
    trunk_id="office",
    headers=(("X-Ticket", "7"),),
)
STORY: tuple[tuple[float, CallFact], ...] = (
    (0.0, CALLED),
    (0.12, RINGING),
    (1.34, CallAnswered(codec="PCMA", setup_ms=1220)),
    (1.34, replace(JOINED, agent_id="reception")),
    (3.1, TurnSpoken(speaker="caller", text="What time is it?", started_ms=1760, ended_ms=2900)),
    (43.8, CallEnded(by="caller", phase="up", cause="hangup", duration_ms=42460)),
)


def shown(*keys: str) -> dict[str, Any]:
    """The one object of the page that has just these keys."""
    (found,) = [one for one in DOCUMENTS if set(one) == set(keys)]
    return found


def shown_event(name: str) -> dict[str, Any]:
    (found,) = [one for one in DOCUMENTS if one.get("event") == name]
    return found


def message(name: str) -> dict[str, Any]:
    """What a receiver gets in ``STORY``."""
    first = CallEvent(call_id=CALL_ID, leg_id="leg-1", seq=1, at=BEGAN, fact=CALLED)
    record: CallRecord = begin(first, CALLED, node_id="node-1")
    for seq, (at, fact) in enumerate(STORY[1:], 2):
        event = CallEvent(call_id=CALL_ID, leg_id="leg-1", seq=seq, at=BEGAN + at, fact=fact)
        record = project(record, event)
        if EVENT_NAMES[type(fact)] == name:
            body = body_of(event, record, delivery_id("crm", CALL_ID, seq, name))
            document: dict[str, Any] = msgspec.json.decode(body)
            return document
    raise AssertionError(name)


def test_every_event_is_in_the_table() -> None:
    names = r"^\| `([a-z_]+\.[a-z_]+)` \|"
    assert re.findall(names, NATIVE_PART, re.M) == [*EVENT_NAMES.values(), TEST_EVENT]
    assert re.findall(names, SIP4AI_PART, re.M) == list(SIP4AI_EVENTS)


@pytest.mark.parametrize("name", ["call.answered", "call.ended"])
def test_messages_are_those_of_the_page(name: str) -> None:
    assert shown_event(name) == message(name)


def test_a_completed_call_is_told_to_sip4ais_users_as_the_page_has_it() -> None:
    called = ToolCalled(
        tool="book_appointment", arguments='{"date": "2024-01-16", "time": "14:00"}', tool_call_id="1", own=True
    )
    returned = ToolReturned(tool="book_appointment", output='{"success": true}', tool_call_id="1")
    facts = (*STORY[:-1], (9.0, called), (9.5, returned), STORY[-1])
    record = begin(CallEvent(call_id=CALL_ID, leg_id="leg-1", seq=1, at=BEGAN, fact=CALLED), CALLED, node_id="node-1")
    found: dict[str, Any] = {}
    for seq, (at, fact) in enumerate(facts[1:], 2):
        event = CallEvent(call_id=CALL_ID, leg_id="leg-1", seq=seq, at=BEGAN + at, fact=fact)
        record = project(record, event)
        if document := render(event, record):
            found[document["event"]] = msgspec.json.decode(sip4ai_body_of(document))
    assert shown_event("call.completed") == found["call.completed"]
    for name, document in found.items():
        (said,) = re.findall(rf"^\| `{re.escape(name)}` \| (.*?)(?:;.*)? \|$", SIP4AI_PART, re.M)
        assert list(document["data"])[: said.count("`") // 2] == re.findall(r"`(\w+)`", said)


def test_a_function_is_asked_as_the_page_says() -> None:
    asked = shown("call_id", "function", "arguments")
    ((tool,), _) = function_tools((FunctionForm(name=asked["function"], webhook="https://app.example.com/book"),))
    use = ToolUse(
        account_id="default",
        call_id=asked["call_id"],
        agent_id="main",
        tool=tool,
        tool_call_id="1",
        arguments=json.dumps(asked["arguments"]),
    )
    assert json.loads(sip4ai_wire.render_tool(use).body) == asked


def test_a_receiver_of_sip4ais_dialect_may_verify_by_hand() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", SIP4AI_PART, re.S)
    defined: dict[str, Callable[[Mapping[str, str], bytes, str], bool]] = {}
    exec(block, defined)
    signed = sip4ai_signing.sign(message_id="m", at=1, body=b"{}", secrets=("secret",))
    assert all(f"`{name}`" in SIP4AI_PART for name in signed)
    headers = {name.lower(): value for name, value in signed.items()}
    assert defined["verified"](headers, b"{}", "secret")
    assert not defined["verified"](headers, b"{ }", "secret")
    assert not defined["verified"](headers, b"{}", "other")


def test_records_can_be_made_as_they_are_shown() -> None:
    msgspec.convert(shown("id", "url", "events"), WebhookForm)
    msgspec.convert(shown("user", "ask_url", "ask_secret", "agent"), NumberForm)
    msgspec.convert(tool_shown(), ToolForm)


def tool_shown() -> dict[str, Any]:
    return shown("id", "name", "description", "url", "parameters", "headers", "secret", "timeout_s")


def test_a_receiver_may_verify_by_hand() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", NATIVE_PART, re.S)
    defined: dict[str, Callable[[Mapping[str, str], bytes, str], bool]] = {}
    exec(block, defined)
    verified, secret, other, now = defined["verified"], new_secret(), new_secret(), int(time.time())
    for secrets in ((secret,), (other, secret)):
        assert verified(sign(message_id="m", at=now, body=b"{}", secrets=secrets), b"{}", secret)
    headers = sign(message_id="m", at=now, body=b"{}", secrets=(secret,))
    assert not verified(headers, b"{ }", secret)
    assert not verified(headers, b"{}", other)
    assert not verified({**headers, "webhook-id": "n"}, b"{}", secret)
    assert not verified(sign(message_id="m", at=now - 400, body=b"{}", secrets=(secret,)), b"{}", secret)


def test_a_question_and_its_answers_are_those_of_the_page() -> None:
    question = AgentForCall(account_id="default", call_id=CALL_ID, url="https://crm.example.com/who", arrived=CALLED)
    asked = shown("type", "call_id", "from", "to", "trunk_id", "remote_address", "headers")
    assert json.loads(render_call(question).body) == asked
    answers = [
        read_call(OutboundResponse(status=200, headers={}, body=json.dumps(shown(key)).encode()))
        for key in ("agent_id", "agent", "decline")
    ]
    assert isinstance(answers[0], AgentById)
    assert isinstance(answers[1], AgentDescribed)
    assert answers[2] == CallDeclined(status=486, reason="closed today")


def test_a_tool_is_asked_as_the_page_says() -> None:
    use = shown("call_id", "agent_id", "tool", "tool_call_id", "arguments")
    tool = tool_record(msgspec.convert(tool_shown(), ToolForm))
    question = ToolUse(
        account_id="default",
        call_id=use["call_id"],
        agent_id=use["agent_id"],
        tool=tool,
        tool_call_id=use["tool_call_id"],
        arguments=json.dumps(use["arguments"]),
    )
    assert json.loads(render_tool(question).body) == use
    assert render_tool(replace(question, tool=replace(tool, method="GET"))).url == f"{tool.url}?city=Ulm"
    assert "`?city=Ulm`" in TEXT


@pytest.mark.parametrize(
    ("said", "is_so"),
    [
        ("answer within 15 seconds", webhooks.DEADLINE_S == 15.0),
        ("tried ten times", len(webhook_outcomes.SCHEDULE_S) + 1 == 10),
        ("each up to a fifth longer", webhook_outcomes.JITTER == 0.2),
        ("(at most a day)", webhook_outcomes.RETRY_AFTER_MOST_S == 86400),
        ("at most 20 KB, `call.ended` 200 KB", (audience.MAX_BODY_BYTES, audience.MAX_CALL_BYTES) == (20_000, 200_000)),
        ("Within 3 seconds", WHO_ANSWERS_S == 3.0),
        ("more than 32,000 characters are cut", tool_runs.MOST_OUTPUT == 32_000),
        ("the first 500 characters", questions_wire.MAX_PROBLEM == 500),
        ("(20 s unless it says otherwise)", TOOL_TIMEOUT_S == 20.0),
        ("Up to 8 tools of an agent", tool_runs.MOST_AT_ONCE == 8),
        ("its first 100 functions", projection.MOST_FUNCTIONS == 100),
        ("and result 4,000 characters", projection.MOST_FUNCTION_CHARS == 4_000),
        ("at most 5 MB, of which two minutes", (fetched_audio.MAX_BYTES, MAX_FETCHED_S) == (5 << 20, 120)),
        ("again after an hour", fetched_audio.FRESH_S == 3600),
        ("begins with `call-webhook-`", audience.CALL_WEBHOOK == "call-webhook-"),
        ("the file `webhook-secret` of the data folder", sip4ai_signing.SECRET_FILE == "webhook-secret"),
    ],
)
def test_figures_are_those_of_the_code(said: str, is_so: bool) -> None:
    assert said in TEXT
    assert is_so


def test_the_waits_are_those_of_the_schedule() -> None:
    listed = re.search(r"after (5 s, .*?), each up to", TEXT)
    assert listed is not None
    units = {"s": 1, "min": 60, "h": 3600}
    waits = re.findall(r"(\d+) (s|min|h)", listed[1])
    assert [float(number) * units[unit] for number, unit in waits] == list(webhook_outcomes.SCHEDULE_S)


def test_every_command_of_the_page_is_one() -> None:
    commands = re.findall(r"^(offhook [^\n]+)$|`(offhook [^`]+)`", PAGE, re.M)
    assert len(commands) == 11
    for words in (shlex.split(block or inline)[1:] for block, inline in commands):
        command = words[:2]
        helped = typed(*command, "--help").stdout
        assert all(word in helped for word in words if word.startswith("--"))

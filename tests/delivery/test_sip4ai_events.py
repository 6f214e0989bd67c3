"""What SIP4AI's users are told of a call, and in what words."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, get_args

import msgspec
import pytest
from tests.store.stories import ANSWERED, ARRIVED, JOINED, RINGING, TURN, WHOLE, story

from offhook.delivery.audience import MAX_BODY_BYTES, MAX_CALL_BYTES, sip4ai_body_of
from offhook.delivery.sip4ai_events import ENDS, FAILURES, SIP4AI_EVENTS, render
from offhook.model.call_events import (
    AnswerJudged,
    CallEnded,
    CallFact,
    EndCause,
    TaskCompleted,
    ToolCalled,
    ToolReturned,
    TransferEnded,
    TurnSpoken,
)
from offhook.store.calls import status_of
from offhook.store.projection import begin, project

DIALLED = replace(ARRIVED, direction="outbound", to_uri="sip:+61400000000@carrier.example", from_uri="sip:us@a.example")
HELLO = TurnSpoken(speaker="agent", text="Hello, this is calling about Tuesday", started_ms=500, ended_ms=2000)
BOOK = ToolCalled(
    tool="book_appointment", arguments='{"date": "2024-01-16", "time": "14:00"}', tool_call_id="1", own=True
)
BOOKED = ToolReturned(tool="book_appointment", output='{"success": true}', tool_call_id="1")
HUNG_UP = CallEnded(by="agent", phase="up", cause="hangup", duration_ms=127_400)


def told(*facts: CallFact) -> list[dict[str, Any]]:
    """What a receiver reads of a call, message by message."""
    first, *others = story(*facts)
    record = begin(first, facts[0], node_id="n1")  # type: ignore[arg-type]  # it arrived
    documents = [render(first, record)]
    for one in others:
        record = project(record, one)
        documents.append(render(one, record))
    return [msgspec.json.decode(sip4ai_body_of(each)) for each in documents if each is not None]


def names(*facts: CallFact) -> list[str]:
    return [each["event"] for each in told(*facts)]


def last(*facts: CallFact) -> dict[str, Any]:
    data: dict[str, Any] = told(*facts)[-1]["data"]
    return data


def ended(cause: EndCause, sip_code: int | None = None, **more: Any) -> CallEnded:
    return CallEnded(by="system", phase="ringing", cause=cause, sip_code=sip_code, **more)


def test_a_call_is_told_as_the_document_has_it() -> None:
    messages = told(DIALLED, RINGING, ANSWERED, JOINED, HELLO, BOOK, BOOKED, HUNG_UP)
    assert [each["event"] for each in messages] == [
        "call.initiated",
        "call.ringing",
        "call.answered",
        "transcript.update",
        "function.called",
        "call.completed",
    ]
    assert all(list(each) == ["event", "call_id", "timestamp", "data"] for each in messages)
    assert messages[0] == {
        "event": "call.initiated",
        "call_id": "c1",
        "timestamp": "1970-01-01T00:16:41Z",
        "data": {"target": "+61400000000", "direction": "outbound"},
    }
    assert messages[1]["data"] == messages[2]["data"] == messages[0]["data"]
    assert messages[3]["data"] == {"speaker": "ai", "text": HELLO.text, "timestamp": 0.5}
    booked = {
        "name": "book_appointment",
        "arguments": {"date": "2024-01-16", "time": "14:00"},
        "result": {"success": True},
    }
    assert messages[4]["data"] == booked
    data = messages[5]["data"]
    assert list(data)[:4] == ["duration", "end_reason", "transcript", "functions_called"]
    assert (data["duration"], data["end_reason"]) == (127, "completed")
    assert data["transcript"] == [messages[3]["data"]]
    assert data["functions_called"] == [booked]
    assert data["cause"] == "hangup"


def test_the_target_of_a_call_that_came_in_is_its_caller() -> None:
    messages = told(*WHOLE)
    assert names(*WHOLE)[0] == "call.initiated"
    assert messages[0]["data"] == {"target": "alice", "direction": "inbound"}
    assert messages[3]["data"] == {"speaker": "user", "text": TURN.text, "timestamp": 0.1}


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (ended("refused", 486, reason="Busy Here"), "busy"),
        (ended("refused", 600), "busy"),
        (ended("refused", 603, reason="Decline"), "error"),
        (ended("refused", 404), "error"),
        (ended("refused", 480), "no_answer"),
        (ended("no_answer", 487), "no_answer"),
        (ended("cancelled"), "no_answer"),
        (ended("unreachable", 503), "error"),
    ],
)
def test_why_nobody_spoke_is_said_in_the_documents_words(end: CallEnded, reason: str) -> None:
    data = last(DIALLED, RINGING, end)
    assert names(DIALLED, RINGING, end)[-1] == "call.failed"
    assert list(data)[:3] == ["end_reason", "sip_code", "reason"]
    assert (data["end_reason"], data["sip_code"], data["reason"]) == (reason, end.sip_code, end.reason)
    assert (data["cause"], data["transcript"]) == (end.cause, [])


@pytest.mark.parametrize("cause", get_args(EndCause))
@pytest.mark.parametrize("answered", [True, False])
def test_every_call_ends_with_one_message_that_fits_its_status(cause: EndCause, answered: bool) -> None:
    facts = (DIALLED, RINGING, *((ANSWERED,) if answered else ()), ended(cause))
    first, *others = story(*facts)
    record = begin(first, DIALLED, node_id="n1")
    for one in others:
        record = project(record, one)
    found = names(*facts)
    assert [name for name in found if name in ENDS] == [f"call.{status_of(record)}"] == found[-1:]
    assert (last(*facts)["end_reason"] == "completed") == (status_of(record) == "completed")
    assert cause in FAILURES


def test_a_function_is_told_once_with_whatever_came_of_it() -> None:
    transfer = ToolCalled(tool="transfer_call", arguments="", tool_call_id="2", own=True)
    builtin = ToolCalled(tool="transfer_call", arguments="{}", tool_call_id="3")
    messages = told(
        DIALLED,
        ANSWERED,
        BOOK,
        replace(BOOKED, output="no such day", is_error=True),
        replace(BOOK, tool_call_id="4", arguments="[1]"),
        replace(BOOKED, output="sunny", tool_call_id="4"),
        transfer,
        TransferEnded(mode="blind", target="+61400000001", outcome="busy", tool_call_id="2"),
        builtin,
        TransferEnded(mode="blind", target="+61400000001", outcome="connected", tool_call_id="3"),
        replace(BOOK, tool_call_id="5"),
        HUNG_UP,
    )
    functions = [each["data"] for each in messages if each["event"] == "function.called"]
    assert [each["result"] for each in functions] == [
        {"error": "no such day"},
        {"result": "sunny"},
        {"outcome": "busy"},
    ]
    assert functions[1]["arguments"] == {"result": [1]}
    assert functions[2] == {"name": "transfer_call", "arguments": {}, "result": {"outcome": "busy"}}
    assert messages[-1]["data"]["functions_called"] == [*functions, {**functions[0], "result": None}]


def test_who_picked_up_and_what_came_of_the_task_is_added() -> None:
    judged = AnswerJudged(by="voicemail", evidence="a beep", after_ms=3000, early=True)
    done = TaskCompleted(outcome="booked", summary="Tuesday")
    messages = told(DIALLED, judged, ANSWERED, done, HUNG_UP)
    assert messages[1]["data"]["answered_by"] == "voicemail"
    assert messages[-1]["data"]["answered_by"] == "voicemail"
    assert messages[-1]["data"]["task"] == {"outcome": "booked", "summary": "Tuesday"}


def test_what_is_too_large_is_cut_and_says_so() -> None:
    large = replace(BOOKED, output=json.dumps({f"key {number}": "ü" * 20 for number in range(900)}))
    (function,) = (each for each in told(DIALLED, BOOK, large) if each["event"] == "function.called")
    assert function["truncated"]
    assert function["data"]["result"]["truncated"].startswith('{"key 0"')
    assert function["data"]["arguments"] == {"date": "2024-01-16", "time": "14:00"}
    assert len(msgspec.json.encode(function)) < MAX_BODY_BYTES
    turns = [replace(HELLO, text="x" * 900, started_ms=number) for number in range(400)]
    end = told(DIALLED, ANSWERED, BOOK, large, *turns, HUNG_UP)[-1]
    assert end["truncated"]
    assert MAX_CALL_BYTES - 2000 < len(msgspec.json.encode(end)) <= MAX_CALL_BYTES
    assert (end["data"]["end_reason"], end["data"]["duration"]) == ("completed", 127)
    assert len(end["data"]["functions_called"]) == 1
    assert [turn["timestamp"] for turn in end["data"]["transcript"][:2]] == [0.0, 0.001]


def test_octets_that_are_no_text_can_be_told() -> None:
    odd = replace(DIALLED, to_uri="sip:\udcff@carrier.example")
    assert told(odd)[0]["data"]["target"] == "\\udcff"


def test_there_are_the_events_of_the_document() -> None:
    assert len(SIP4AI_EVENTS) == 7
    assert set(names(DIALLED, RINGING, ANSWERED, HELLO, BOOK, BOOKED, HUNG_UP)) | {"call.failed"} == set(SIP4AI_EVENTS)

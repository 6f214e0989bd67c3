"""Calls are listed, read and followed; each account sees its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.api.served import Served, of_account
from tests.store.stories import ANSWERED, ARRIVED, ENDED, JOINED, RECORDED, RINGING, TURN, WHOLE, happened, story

from offhook.delivery.call_document import function_document, json_or_text, number_in
from offhook.model.call_events import (
    CallAnswered,
    ProviderReplaced,
    ProviderUsage,
    TaskCompleted,
    TransferEnded,
    UsageAmount,
)
from offhook.model.records import FunctionCalled
from offhook.signaling.trace import TraceRecord
from offhook.sip.events import Address, Flow
from offhook.store.traces import TraceStore

AGENT_TURN = replace(TURN, speaker="agent", text="It is noon.", started_ms=1500, ended_ms=2500, latency_ms=600)


async def test_a_whole_call_is_told_in_the_words_of_the_api(served: Served) -> None:
    ended = TransferEnded(mode="warm", target="tel:+49301", outcome="busy", sip_code=486, reason="Busy Here")
    happened(served.database, *WHOLE[:5], AGENT_TURN, ended, *WHOLE[5:])

    call = (await served.get("/api/calls/c1")).json

    transcript, transfers = call.pop("transcript"), call.pop("transfers")
    assert call == {
        "id": "c1",
        "status": "completed",
        "direction": "inbound",
        "target": "alice",
        "provider": "local",
        "duration": 4,
        "created_at": "1970-01-01T00:16:41Z",
        "answered_at": "1970-01-01T00:16:43Z",
        "answered_by": None,
        "ended_at": "1970-01-01T00:16:51Z",
        "agent_id": "demo",
        "trunk_id": "",
        "from_uri": "sip:alice@example.com",
        "to_uri": "sip:demo@example.com",
        "sip_call_id": "abc@example.com",
        "remote_address": "192.0.2.1:5060",
        "codec": "PCMU",
        "srtp": "",
        "duration_ms": 4000,
        "ended_by": "caller",
        "cause": "hangup",
        "sip_code": None,
        "reason": "",
        "provider_fault": None,
        "spend": 0.5,
        "digits": "5#",
        "usage": [],
        "task": None,
        "recording": "/api/calls/c1/recording",
        "node_id": "n1",
        "scheduled_at": None,
        "functions_called": [],
    }
    assert transfers == [
        {"mode": "warm", "target": "tel:+49301", "outcome": "busy", "sip_code": 486, "reason": "Busy Here"}
    ]
    assert [(turn["speaker"], turn["text"], turn["timestamp"], turn["latency_ms"]) for turn in transcript] == [
        ("user", "what time is it", 0.1, None),
        ("ai", "It is noon.", 1.5, 600),
    ]


async def test_a_call_tells_who_spoke_last_what_was_used_and_what_came_of_its_task(served: Served) -> None:
    used = ProviderUsage(provider="local", amounts=(UsageAmount(units="seconds", amount=4.5),))
    replaced = ProviderReplaced(failed="local", by="scripted", problem="it died")
    task = TaskCompleted(outcome="booked", summary="Tuesday at nine")
    happened(served.database, *WHOLE[:5], used, replaced, replace(used, provider="scripted"), task, *WHOLE[5:])

    call = (await served.get("/api/calls/c1")).json

    assert call["provider"] == "scripted"
    assert [(one["provider"], one["amounts"]) for one in call["usage"]] == [
        ("local", [{"units": "seconds", "amount": 4.5}]),
        ("scripted", [{"units": "seconds", "amount": 4.5}]),
    ]
    assert call["task"] == {"outcome": "booked", "summary": "Tuesday at nine"}


def test_a_function_is_told_as_json_where_it_is_json() -> None:
    called = FunctionCalled(tool_call_id="1", name="book", arguments='{"time": "14:00"}', result='{"success": true}')
    asked = replace(called, arguments="{}", result=None)

    told = [function_document(one) for one in (called, asked, replace(asked, result="all [taken"))]

    assert told == [
        {"name": "book", "arguments": {"time": "14:00"}, "result": {"success": True}},
        {"name": "book", "arguments": {}, "result": None},
        {"name": "book", "arguments": {}, "result": "all [taken"},
    ]


@pytest.mark.parametrize("text", ["", "nonsense", "[" * 40 + "]" * 40, "[" * 5000, '"\\ud800', "1e999"])
def test_what_is_no_json_is_text(text: str) -> None:
    assert json_or_text(text) == text


async def test_the_target_is_the_other_side(served: Served) -> None:
    happened(served.database, replace(ARRIVED, from_uri="sip:anonymous@anonymous.invalid"), call_id="in")
    outbound = replace(ARRIVED, direction="outbound", from_uri="offhook", to_uri="sip:+61400000000@example.com")
    happened(served.database, outbound, call_id="out")
    assert (await served.get("/api/calls/in")).json["target"] == "anonymous"
    assert (await served.get("/api/calls/out")).json["target"] == "+61400000000"


async def test_a_call_that_runs_has_no_end(served: Served) -> None:
    happened(served.database, ARRIVED, RINGING)
    ringing = (await served.get("/api/calls/c1")).json

    assert (ringing["status"], ringing["duration"], ringing["ended_at"]) == ("ringing", None, None)
    assert (ringing["recording"], ringing["transcript"]) == (None, [])


async def test_calls_are_filtered(served: Served) -> None:
    happened(served.database, *WHOLE, call_id="done", at=1000)
    happened(served.database, ARRIVED, RINGING, ANSWERED, JOINED, call_id="talks", at=2000)
    refused = replace(ENDED, phase="ringing", cause="refused", sip_code=486)
    happened(
        served.database, replace(ARRIVED, direction="outbound", trunk_id="office"), refused, call_id="busy", at=3000
    )

    async def ids(query: str) -> list[str]:
        said = await served.get(f"/api/calls?{query}")
        assert said.status == 200, said.data
        return [call["id"] for call in said.json["calls"]]

    assert await ids("") == ["busy", "talks", "done"]
    assert await ids("limit=1&offset=1") == ["talks"]
    assert await ids("status=completed") == ["done"]
    assert await ids("status=in_progress") == ["talks"]
    assert await ids("status=failed") == ["busy"]
    assert await ids("direction=outbound") == ["busy"]
    assert await ids("trunk_id=office") == ["busy"]
    assert await ids("agent_id=demo") == ["talks", "done"]
    assert await ids("cause=hangup") == ["done"]
    assert await ids("sip_code=486") == ["busy"]
    assert await ids("created_after=1970-01-01T00:20:00Z&created_before=1970-01-01T00:40:00Z") == ["talks"]
    assert await ids("created_after=1970-01-01T01:20:00+01:00") == ["busy", "talks"]
    assert await ids("q=ALICE@") == ["busy", "talks", "done"]
    assert await ids("q=bob") == []


@pytest.mark.parametrize("query", ["", "?status=completed", "?limit=1"])
async def test_a_list_has_calls_as_they_are_read_one_by_one(served: Served, query: str) -> None:
    happened(served.database, *WHOLE)
    listed = (await served.get(f"/api/calls{query}")).json
    assert listed == {
        "calls": [(await served.get("/api/calls/c1")).json],
        "total": 1,
        "limit": 1 if "limit" in query else 20,
        "offset": 0,
    }
    assert listed["calls"][0]["transcript"]


async def test_sip4ai_s_keys_come_first(served: Served) -> None:
    happened(served.database, *WHOLE)
    keys = list((await served.get("/api/calls/c1")).json)
    first = ["id", "status", "direction", "target", "provider", "duration", "transcript", "created_at", "ended_at"]
    assert keys[: len(first)] == first


@pytest.mark.parametrize("limit", ["0", "101", "x", "-1", ""])
async def test_a_page_has_one_to_a_hundred_calls(served: Served, limit: str) -> None:
    said = await served.get(f"/api/calls?limit={limit}")
    assert (said.status, said.code, said.json["field"]) == (400, "BAD_REQUEST", "limit")


async def test_the_words_that_a_parameter_takes_are_told(served: Served) -> None:
    said = await served.get("/api/calls?status=over")
    assert said.json["hint"] == "Use one of: initiating, ringing, in_progress, completed, failed"


@pytest.mark.parametrize(
    "query",
    ["status=over", "direction=up", "cause=x", "sip_code=99", "sip_code=x", "created_after=1970-01-01", "page=2"],
)
async def test_a_filter_that_means_nothing_is_refused(served: Served, query: str) -> None:
    said = await served.get(f"/api/calls?{query}")

    assert (said.status, said.json["field"]) == (400, query.partition("=")[0])


async def test_the_history_is_read_page_by_page(served: Served) -> None:
    happened(served.database, *WHOLE)

    first = (await served.get("/api/calls/c1/events?limit=4")).json
    second = (await served.get(f"/api/calls/c1/events?limit=5&after={first['next_after']}")).json

    assert [event["seq"] for event in first["events"] + second["events"]] == list(range(1, 10))
    assert (first["next_after"], second["next_after"]) == (4, None)
    assert first["events"][2] == {
        "event": "call.answered",
        "call_id": "c1",
        "leg_id": "leg-1",
        "seq": 3,
        "timestamp": "1970-01-01T00:16:43Z",
        "data": {"codec": "PCMU", "setup_ms": 20, "srtp": ""},
    }


async def test_the_calls_of_another_account_do_not_exist(served: Served) -> None:
    mine, theirs = await served.key(), await served.account("other")
    happened(served.database, of_account("other"), *WHOLE[1:])
    (served.data_dir / "recordings").mkdir()
    (served.data_dir / "recordings" / "c1.wav").write_bytes(b"RIFF")

    for rest in ("", "/events", "/recording", "/trace"):
        assert (await served.get(f"/api/calls/c1{rest}", headers=mine)).status == 404
        assert (await served.get(f"/api/calls/c1{rest}", headers=theirs)).status == 200
    stream = await served.get("/api/calls/c1/events", headers={**mine, "Accept": "text/event-stream"})
    assert stream.status == 404
    assert (await served.get("/api/calls", headers=mine)).json["total"] == 0


# ── recordings ──


@pytest.fixture
def recording(served: Served) -> bytes:
    """A call with a recording of 100 octets."""
    happened(served.database, *WHOLE)
    folder = served.data_dir / "recordings"
    folder.mkdir()
    data = b"RIFF" + bytes(range(96))
    (folder / "c1.wav").write_bytes(data)
    return data


async def test_a_recording_comes_whole_or_in_part(served: Served, recording: bytes) -> None:
    whole = await served.get("/api/calls/c1/recording")
    part = await served.get("/api/calls/c1/recording", headers={"Range": "bytes=4-9"})
    end = await served.get("/api/calls/c1/recording", headers={"Range": "bytes=-6"})
    beyond = await served.get("/api/calls/c1/recording", headers={"Range": "bytes=100-"})
    head = await served.ask("HEAD", "/api/calls/c1/recording")

    assert (whole.status, whole.headers["Content-Type"], whole.data) == (200, "audio/wav", recording)
    assert (part.status, part.data) == (206, recording[4:10])
    assert part.headers["Content-Range"] == "bytes 4-9/100"
    assert (end.status, end.data) == (206, recording[-6:])
    assert (beyond.status, beyond.code) == (416, "RANGE_NOT_SATISFIABLE")
    assert beyond.headers["Content-Range"] == "bytes */100"
    assert (head.status, head.headers["Content-Length"], head.data) == (200, "100", b"")


async def test_a_recording_that_is_gone_or_lies_elsewhere_is_not_found(served: Served, tmp_path: Path) -> None:
    (tmp_path / "secret.wav").write_bytes(b"RIFF")
    happened(served.database, *WHOLE)
    happened(served.database, ARRIVED, replace(RECORDED, path="../secret.wav"), call_id="c2")
    happened(served.database, ARRIVED, replace(RECORDED, path=str(tmp_path / "secret.wav")), call_id="c3")
    happened(served.database, ARRIVED, call_id="c4")

    for call_id in ("c1", "c2", "c3", "c4"):
        assert (await served.get(f"/api/calls/{call_id}/recording")).code == "NOT_FOUND"


# ── traces ──


@pytest.fixture
def traced(served: Served) -> None:
    """A call of which three messages were kept: one of them is no UTF-8, one has a secret."""
    flow = Flow(transport="UDP", local=Address("127.0.0.1", 5060), remote=Address("192.0.2.1", 5060))
    invite = b"INVITE sip:demo@x SIP/2.0\r\nCall-ID: abc@example.com\r\nAuthorization: Basic planted\r\n\r\n"
    store = TraceStore(served.data_dir)
    for at, data in enumerate(
        (invite, b"SIP/2.0 200 OK\r\nCall-ID: abc@example.com\r\n\r\n", invite[:-2] + b"X: \xff\r\n\r\n")
    ):
        store.record(TraceRecord(at=1000.0 + at, direction="received", flow=flow, data=data))
    for event in story(*WHOLE):
        store.note(event)
    store.close()
    happened(served.database, *WHOLE)


async def test_a_trace_comes_as_messages_or_as_a_ladder(served: Served, traced: None) -> None:
    messages = (await served.get("/api/calls/c1/trace")).json["messages"]
    ladder = await served.get("/api/calls/c1/trace", headers={"Accept": "text/plain"})

    assert [(one["direction"], one["remote"], one["text"] is None) for one in messages] == [
        ("received", "192.0.2.1:5060", False),
        ("received", "192.0.2.1:5060", False),
        ("received", "192.0.2.1:5060", True),
    ]
    assert messages[1]["text"].startswith("SIP/2.0 200 OK")
    assert ladder.headers["Content-Type"] == "text/plain; charset=utf-8"
    text = ladder.data.decode()
    assert "◀─" in text
    assert "call.answered: codec PCMU, setup_ms 20" in text
    assert "planted" not in text + repr(messages)


async def test_a_call_without_a_trace_has_no_messages(served: Served) -> None:
    happened(served.database, ARRIVED, CallAnswered(codec="PCMU", setup_ms=1))

    assert (await served.get("/api/calls/c1/trace")).json == {"messages": []}


@pytest.mark.parametrize(
    ("uri", "target"),
    [
        ("sip:+4930@example.com;user=phone", "+4930"),
        ("tel:+4930;phone-context=x", "+4930"),
        ("sip:example.com", "sip:example.com"),
        ("nonsense", "nonsense"),
        ("sip:anonymous@anonymous.invalid", "anonymous"),
    ],
)
def test_a_target_is_the_number_or_name_in_its_uri(uri: str, target: str) -> None:
    assert number_in(uri) == target

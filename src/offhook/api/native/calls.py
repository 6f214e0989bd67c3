"""Calls, running and over: lists, records, events as history and as they happen, recordings, SIP messages.

What can be asked of a running one is in ``call_commands``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import sqlalchemy as sa
from aiohttp import web

from offhook.api.endpoints import EVENT_STREAM, Answer, Asked, Endpoint, Form, Page, Query
from offhook.api.native.fields import FREE_TEXT, PAGING, Time
from offhook.api.native.waiting_calls import KnownCall, find_call, list_known
from offhook.api.problems import ApiError
from offhook.api.streams import follow_account, follow_call
from offhook.delivery.call_document import call_document
from offhook.delivery.event_documents import EVENT_NAMES, event_document
from offhook.model.call_events import (
    AnsweredBy,
    CallEvent,
    Direction,
    EndCause,
    EndedBy,
    TransferMode,
    TransferOutcome,
)
from offhook.model.records import CallRecord
from offhook.store import calls as kept
from offhook.store.calls import CallFilter, CallStatus

READ = "calls:read"

EVENTS_LIMIT = 1_000
"""Events of a page: what an hour of talk has."""


class TranscriptTurn(msgspec.Struct, frozen=True, kw_only=True):
    """One utterance, as it was heard. ``timestamp``: seconds since the answer, as ``started_ms`` and ``ended_ms`` are
    milliseconds; ``latency_ms``: how long the caller waited.
    """

    speaker: Literal["ai", "user", "operator"]
    text: str
    timestamp: float
    started_ms: int
    ended_ms: int
    interrupted: bool
    latency_ms: int | None


class TransferAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a transfer."""

    mode: TransferMode
    target: str
    outcome: TransferOutcome
    sip_code: int | None
    reason: str


class UsageAmount(msgspec.Struct, frozen=True, kw_only=True):
    """``units`` as the provider names them: ``input_tokens``, ``seconds`` …"""

    units: str
    amount: float


class UsageAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider said was used of it in the call."""

    provider: str
    amounts: tuple[UsageAmount, ...]


class TaskAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What came of the agent's task, in its own words."""

    outcome: str
    summary: str


class CalledFunction(msgspec.Struct, frozen=True, kw_only=True):
    """A function of the agent's own that it called; both values are JSON, or text that is none. ``result`` null: none
    came.
    """

    name: str
    arguments: Any
    result: Any


class CallAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A call: first what SIP4AI's calls have, then what is ours.

    ``target``: who was dialled, or has called us; ``duration``: whole seconds, and ``cause``: why, once it is over;
    ``answered_by``: who or what picked up, where it was listened for; ``recording``: where it is fetched;
    ``scheduled_at``: when it is to be placed, as long as it waits.
    """

    id: str
    status: CallStatus
    direction: Direction
    target: str
    provider: str
    duration: int | None
    transcript: tuple[TranscriptTurn, ...]
    created_at: Time
    ended_at: Time | None
    answered_at: Time | None
    answered_by: AnsweredBy | None
    agent_id: str
    trunk_id: str
    from_uri: str
    to_uri: str
    sip_call_id: str
    remote_address: str
    codec: str
    srtp: str
    duration_ms: int
    ended_by: EndedBy | None
    cause: EndCause | None
    sip_code: int | None
    reason: str
    provider_fault: str | None
    spend: float
    digits: str
    transfers: tuple[TransferAnswer, ...]
    usage: tuple[UsageAnswer, ...]
    task: TaskAnswer | None
    recording: str | None
    node_id: str
    scheduled_at: Time | None
    functions_called: tuple[CalledFunction, ...]


EventName = Annotated[str, msgspec.Meta(extra_json_schema={"enum": sorted(EVENT_NAMES.values())})]


class EventAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One fact of a call. ``seq`` rises by one from 1; ``data`` has the fields of its kind."""

    event: EventName
    call_id: str
    leg_id: str
    seq: int
    timestamp: Time
    data: dict[str, Any]


class EventPage(msgspec.Struct, frozen=True, kw_only=True):
    """``next_after``: give it as ``after`` to read on; null where this is all there is by now."""

    events: tuple[EventAnswer, ...]
    next_after: int | None


# ── what is asked ────────────────────────────────────────────────────────────────────────────────────────


async def list_calls(asked: Asked) -> Answer:
    query = asked.query
    wanted = CallFilter(
        status=query["status"],
        direction=query["direction"],
        agent_id=query["agent_id"],
        trunk_id=query["trunk_id"],
        cause=query["cause"],
        sip_code=query["sip_code"],
        created_after=_seconds(query["created_after"]),
        created_before=_seconds(query["created_before"]),
        text=query["q"],
    )
    page = {"limit": query["limit"], "offset": query["offset"]}
    calls, total = await asked.parts.database.look(_listed, asked.account_id, wanted, **page)
    return Answer(body={"calls": calls, "total": total, **page})


def _listed(
    connection: sa.Connection, account_id: str, wanted: CallFilter, *, limit: int, offset: int
) -> tuple[list[msgspec.Raw], int]:
    """As JSON, in the database's thread: a page of long calls has thousands of turns, too many for the event loop."""
    found, total = list_known(connection, account_id, wanted, limit=limit, offset=offset)
    whole = kept.transcripts(connection, [record for record, _ in found])
    answers = [_answer(KnownCall(record, waiting)) for record, (_, waiting) in zip(whole, found, strict=True)]
    return [msgspec.Raw(msgspec.json.encode(answer)) for answer in answers], total


def _answer(found: KnownCall) -> CallAnswer:
    return CallAnswer(**call_document(found.record), scheduled_at=found.scheduled_at)


def _seconds(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()


async def get_call(asked: Asked) -> Answer:
    return Answer(body=_answer(await known_call(asked)))


async def known_call(asked: Asked) -> KnownCall:
    """The call of the path, or one that waits. Raises ``ApiError``: there is none, or it is another account's."""
    found = await asked.parts.database.look(find_call, asked.account_id, asked.path["id"])
    if found is None:
        raise _no_call(asked)
    return found


async def call_record(asked: Asked) -> CallRecord:
    """The call of the path. Raises ``ApiError``: there is none, or it is another account's."""
    record = await asked.parts.database.look(kept.get_call, asked.account_id, asked.path["id"])
    if record is None:
        raise _no_call(asked)
    return record


def _no_call(asked: Asked) -> ApiError:
    hint = f"No call has the id {asked.path['id']!r}; GET /api/calls lists them"
    return ApiError("NOT_FOUND", "call not found", hint=hint)


async def get_events(asked: Asked) -> Answer | web.StreamResponse:
    """As history, or, to who accepts server-sent events, as they happen."""
    if asked.request.method == "GET" and EVENT_STREAM in asked.request.headers.get("Accept", ""):
        return await _stream_call(asked)
    await known_call(asked)
    limit = asked.query["limit"]
    events = await _read_events(asked, asked.query["after"], limit + 1)
    more = len(events) > limit
    page = events[:limit]
    return Answer(body={"events": list(map(event_document, page)), "next_after": page[-1].seq if more else None})


async def _read_events(asked: Asked, after: int, limit: int) -> Sequence[CallEvent]:
    look = asked.parts.database.look
    return await look(kept.call_events_of, asked.account_id, asked.path["id"], after_seq=after, limit=limit)


async def _stream_call(asked: Asked) -> web.StreamResponse:
    after = _last_event_id(asked.request) or asked.query["after"]
    call_id = asked.path["id"]
    with asked.parts.feed.follow(
        asked.account_id, call_id=call_id, signals=asked.query["signals"], on_overflow=_cutting(asked.request)
    ) as following:
        record, _ = await known_call(asked)
        ended = record.ended_at is not None
        if ended and not await _read_events(asked, after, 1):
            return web.Response(status=204)  # a browser that had all of it would come again and again
        return await follow_call(asked, following, lambda *page: _read_events(asked, *page), after=after, ended=ended)


async def _stream_account(asked: Asked) -> web.StreamResponse:
    with asked.parts.feed.follow(
        asked.account_id, signals=asked.query["signals"], on_overflow=_cutting(asked.request)
    ) as following:
        return await follow_account(asked, following)


def _cutting(request: web.Request) -> Any:
    transport = request.transport
    return (lambda: None) if transport is None else transport.abort


def _last_event_id(request: web.Request) -> int:
    given = request.headers.get("Last-Event-ID", "")
    if given and not (given.isascii() and given.isdigit() and len(given) < 10):
        raise ApiError("BAD_REQUEST", "Last-Event-ID is no number of an event", field="Last-Event-ID")
    return int(given or 0)


async def get_recording(asked: Asked) -> web.StreamResponse:
    record = await call_record(asked)
    file = await asyncio.to_thread(_file, asked.parts.data_dir, record.recording or "")
    if file is None:
        raise ApiError("NOT_FOUND", f"There is no recording of the call {record.call_id!r}")
    path, size = file
    _check_range(asked.request, size)
    return web.FileResponse(path, headers={"Content-Type": "audio/wav", "Cache-Control": "private, no-store"})


def _file(data_dir: Path, recording: str) -> tuple[Path, int] | None:
    """A file of the recordings' folder, and its size; None where it is no longer there."""
    path = data_dir / "recordings" / Path(recording).name
    return (path, path.stat().st_size) if recording and path.is_file() else None


def _check_range(request: web.Request, size: int) -> None:
    """RFC 9110 §14.2: what lies behind the end, or is no range of bytes, is refused in our own words."""
    if "If-Range" in request.headers:
        return
    try:
        beyond = (request.http_range.start or 0) >= size > 0
    except ValueError:
        beyond = True
    if beyond:
        raise ApiError(
            "RANGE_NOT_SATISFIABLE",
            f"The recording has {size} octets",
            field="Range",
            headers={"Content-Range": f"bytes */{size}"},
        )


_TURN = {
    "speaker": "user",
    "text": "What time is it?",
    "timestamp": 1.76,
    "started_ms": 1760,
    "ended_ms": 2900,
    "interrupted": False,
    "latency_ms": None,
}

_FUNCTION = {
    "name": "book_appointment",
    "arguments": {"date": "2026-11-24", "time": "14:00"},
    "result": {"success": True},
}

_EXAMPLE: dict[str, Any] = {
    "id": "9f0c1de24b7a",
    "status": "completed",
    "direction": "inbound",
    "target": "+4917012345",
    "provider": "local",
    "duration": 42,
    "transcript": [_TURN],
    "created_at": "2026-11-21T11:52:00.120Z",
    "ended_at": "2026-11-21T11:52:43.800Z",
    "answered_at": "2026-11-21T11:52:01.340Z",
    "answered_by": None,
    "agent_id": "demo",
    "trunk_id": "office",
    "from_uri": "sip:+4917012345@example.com",
    "to_uri": "sip:+493012345@example.com",
    "sip_call_id": "a84b4c76e66710",
    "remote_address": "192.0.2.10:5060",
    "codec": "PCMA",
    "srtp": "",
    "duration_ms": 42460,
    "ended_by": "caller",
    "cause": "hangup",
    "sip_code": None,
    "reason": "",
    "provider_fault": None,
    "spend": 0.0071,
    "digits": "",
    "transfers": [],
    "usage": [{"provider": "openai", "amounts": [{"units": "input_tokens", "amount": 812}]}],
    "task": None,
    "recording": "/api/calls/9f0c1de24b7a/recording",
    "node_id": "node-1",
    "scheduled_at": None,
    "functions_called": [_FUNCTION],
}

_EVENT = {
    "event": "call.answered",
    "call_id": "9f0c1de24b7a",
    "leg_id": "leg-1",
    "seq": 4,
    "timestamp": "2026-11-21T11:52:01.340Z",
    "data": {"codec": "PCMA", "setup_ms": 1220, "srtp": ""},
}

_STREAMED = (
    'id: 4\nevent: call.answered\ndata: {"event":"call.answered","call_id":"9f0c1de24b7a","leg_id":"leg-1","seq":4,'
    '"timestamp":"2026-11-21T11:52:01.340Z","data":{"codec":"PCMA","setup_ms":1220,"srtp":""}}\n\n'
)

_SIGNALS = Query(
    name="signals", type=bool, default=False, summary="true: live signals too (interim transcript, who speaks)"
)

ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/api/calls",
        operation="listCalls",
        tag="calls",
        summary="Calls, newest first",
        handler=list_calls,
        scope=READ,
        query=(
            *PAGING,
            Query(name="status", type=CallStatus, summary="How far it came"),
            Query(name="direction", type=Direction, summary="inbound or outbound"),
            Query(name="agent_id", type=str, default="", summary="The agent that answered"),
            Query(name="trunk_id", type=str, default="", summary="The trunk it came or went by"),
            Query(name="cause", type=EndCause, summary="Why it ended"),
            Query(
                name="sip_code",
                type=Annotated[int, msgspec.Meta(ge=100, le=699)],
                summary="The SIP status it ended with, 100 to 699",
            ),
            Query(name="created_after", type=Time, summary="ISO 8601 with a time zone: 2026-11-21T00:00:00Z"),
            Query(name="created_before", type=Time, summary="ISO 8601 with a time zone: 2026-11-22T00:00:00Z"),
            Query(
                name="q",
                type=FREE_TEXT,
                default="",
                summary="Text in the From or To URI, at most 200 characters",
            ),
        ),
        answers=(
            Form(
                type=Page(key="calls", of=CallAnswer),
                example={"calls": [_EXAMPLE], "total": 1, "limit": 20, "offset": 0},
            ),
        ),
    ),
    Endpoint(
        method="GET",
        path="/api/calls/{id}",
        operation="getCall",
        tag="calls",
        summary="A call, running or over, with its transcript",
        handler=get_call,
        scope=READ,
        answers=(Form(type=CallAnswer, example=_EXAMPLE),),
    ),
    Endpoint(
        method="GET",
        path="/api/calls/{id}/events",
        operation="getCallEvents",
        tag="calls",
        summary="What happened in a call; with Accept: text/event-stream also what happens, until its end",
        handler=get_events,
        scope=READ,
        query=(
            Query(
                name="after",
                type=Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)],
                default=0,
                summary="Only events with a higher seq",
            ),
            Query(
                name="limit",
                type=Annotated[int, msgspec.Meta(ge=1, le=EVENTS_LIMIT)],
                default=100,
                summary=f"At most so many, 1 to {EVENTS_LIMIT}; a stream has no limit",
            ),
            _SIGNALS,
        ),
        headers={"Last-Event-ID": "Of a stream: the seq of the last event that arrived; goes before `after`"},
        answers=(
            Form(type=EventPage, example={"events": [_EVENT], "next_after": None}),
            Form(media=EVENT_STREAM, example=_STREAMED, summary="Each event as a server-sent event, its seq as id"),
        ),
        other_statuses={204: "Of a stream: the call is over, and every event arrived"},
    ),
    Endpoint(
        method="GET",
        path="/api/events",
        operation="streamEvents",
        tag="calls",
        summary="What happens from now on in all calls, as server-sent events; a call's history tells what was missed",
        handler=_stream_account,
        scope=READ,
        query=(_SIGNALS,),
        answers=(Form(media=EVENT_STREAM, example=_STREAMED, summary="Each event once it is stored"),),
        stream=True,
    ),
    Endpoint(
        method="GET",
        path="/api/calls/{id}/recording",
        operation="getRecording",
        tag="calls",
        summary="The recording, as a stereo WAV file; caller left, agent right",
        handler=get_recording,
        scope=READ,
        headers={"Range": "A part of the file (RFC 9110 §14.2)"},
        answers=(Form(media="audio/wav", summary="The file"),),
        other_statuses={206: "The part that was asked for", 304: "It has not changed"},
        errors=("RANGE_NOT_SATISFIABLE",),
    ),
)

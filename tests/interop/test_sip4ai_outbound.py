"""Calls of ours, placed by ``POST /api/calls`` and answered by SIPp in every way: status, reason, events, one record.

Which of S1 to S51 a test proves stands in its first line; docs/SIP4AI.md has the table.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.interop.callees import DIGITS_BEFORE_THEM, Callee, header
from tests.interop.cells import Cell
from tests.interop.offhook_server import events, scripted
from tests.interop.program import POLL_S
from tests.interop.rtp_phone import RtpPhone
from tests.interop.shapes import ISO_UTC, UUID, in_their_words
from tests.interop.sip4ai_server import Sip4ai
from tests.interop.speech import RATE_HZ, tone_db
from tests.interop.transfers import HEARD_DB, NOBODYS_PORT, loudest_db
from tests.interop.trunks import Start
from tests.interop.your_app import SECRET, YourApp

TALKS_HZ, GOODBYE_HZ = 500, 440
"""``scripted`` says whatever it is asked to say at 440 Hz."""

TALKS = scripted("talks", greeting_tone_hz=TALKS_HZ, greeting_ms=400, greeting_text="Good morning.")
FINISHES = scripted(
    "finishes",
    steps=[
        {"on": "ready", "do": [{"do": "speak", "tone_hz": TALKS_HZ, "ms": 300, "text": "Is Tuesday good?"}]},
        {"on": "ready", "after_ms": 800, "do": [{"do": "hear", "text": "Yes, it is."}]},
        {
            "on": "ready",
            "after_ms": 1200,
            "do": [
                {
                    "do": "use_tool",
                    "name": "complete_task",
                    "arguments": {"outcome": "confirmed", "summary": "Tuesday it is."},
                }
            ],
        },
    ],
)
LOOPBACK = {"allowed_targets": ["127.0.0.0/8"], "allow_http": True}
FREE = {"max_calls": 100, "calls_per_min": 0}


def config(*trunks: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "agents": [TALKS, FINISHES],
        "trunks": list(trunks),
        "security": LOOPBACK,
        "webhook_secret": SECRET,
        "dialling": FREE,
        **more,
    }


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What is asked for beside target and task, and what has to come of it.

    ``wire``: what SIPp saw of the call, ``>`` received and ``<`` sent. ``reason``: in the last event; ``code``: its
    ``sip_code``. ``deleted``: DELETE is sent while it has this status.
    """

    number: str
    wire: str
    status: str
    reason: str
    cause: str
    events: str
    code: int | None = None
    asked: Mapping[str, Any] | None = None
    deleted: str = ""


ANSWERED = "> INVITE < 180 < 200 > ACK"
UP = "call.initiated call.ringing call.answered"
OUTCOMES = {
    "the callee hangs up": Outcome(
        number="+49301100201",
        wire=f"{ANSWERED} < BYE > 200",
        status="completed",
        reason="completed",
        cause="hangup",
        events=f"{UP} call.completed",
    ),
    "busy": Outcome(
        number="+49301100486",
        wire="> INVITE < 180 < 486 > ACK",
        status="failed",
        reason="busy",
        cause="refused",
        events="call.initiated call.ringing call.failed",
        code=486,
    ),
    "no answer": Outcome(
        number="+49301100199",
        wire="> INVITE < 180 > CANCEL < 200 < 487 > ACK",
        status="failed",
        reason="no_answer",
        cause="no_answer",
        events="call.initiated call.ringing call.failed",
        asked={"ring_timeout_seconds": 5},
    ),
    "declined": Outcome(
        number="+49301100603",
        wire="> INVITE < 180 < 603 > ACK",
        status="failed",
        reason="error",
        cause="refused",
        events="call.initiated call.ringing call.failed",
        code=603,
    ),
    "no such number": Outcome(
        number="+49301100404",
        wire="> INVITE < 180 < 404 > ACK",
        status="failed",
        reason="error",
        cause="refused",
        events="call.initiated call.ringing call.failed",
        code=404,
    ),
    "cancelled while it rings": Outcome(
        number="+49301101199",
        wire="> INVITE < 180 > CANCEL < 200 < 487 > ACK",
        status="failed",
        reason="no_answer",
        cause="cancelled",
        events="call.initiated call.ringing call.failed",
        deleted="ringing",
    ),
    "cancelled before it rings": Outcome(
        number="+49301101198",
        wire="> INVITE < 180 > CANCEL < 200 < 487 > ACK",
        status="failed",
        reason="no_answer",
        cause="cancelled",
        events="call.initiated call.failed",
        deleted="initiating",
    ),
    "too long": Outcome(
        number="+49301101200",
        wire=f"{ANSWERED} > BYE < 200",
        status="completed",
        reason="completed",
        cause="duration_limit",
        events=f"{UP} call.completed",
        asked={"max_duration_seconds": 2},
    ),
    "task complete": Outcome(
        number="+49301102200",
        wire=f"{ANSWERED} > BYE < 200",
        status="completed",
        reason="completed",
        cause="hangup",
        events=f"{UP} call.completed",
        asked={"agent_id": "finishes"},
    ),
    "nobody there": Outcome(
        number="+49301104200",
        wire="",
        status="failed",
        reason="error",
        cause="unreachable",
        events="call.initiated call.failed",
        asked={"trunk_id": "nobody"},
    ),
    "the second way": Outcome(
        number="+49301503201",
        wire=f"{ANSWERED} < BYE > 200",
        status="completed",
        reason="completed",
        cause="hangup",
        events=f"{UP} call.completed",
        asked={"trunk_id": "two-ways"},
    ),
}


async def test_every_outcome_of_a_call_is_told_and_kept(
    sip4ai: Start, callee: Start, your_app: YourApp, cell: Cell
) -> None:
    """S37 to S40, S43, S47, S48: side by side, as calls come in life."""
    cell.fills("SIPp", "outbound call", "CANCEL", "refusal explained")
    cell.note("UDP", "IPv4")
    line: Callee = await callee()
    broken: Callee = await callee(number=DIGITS_BEFORE_THEM)
    two_ways = {**line.gateway("two-ways"), "targets": [broken.uri, line.uri]}
    nobody = {**line.gateway("nobody"), "targets": [f"sip:127.0.0.1:{NOBODYS_PORT};transport=tcp"]}
    server: Sip4ai = await sip4ai(config(line.gateway(), two_ways, nobody))
    begun = time.monotonic()
    found = await asyncio.gather(
        *(_played(server, line, your_app, one) for one in OUTCOMES.values()), return_exceptions=True
    )
    problems = {name: str(one) for name, one in zip(OUTCOMES, found, strict=True) if isinstance(one, BaseException)}
    assert not problems, "\n\n".join(f"{name}: {problem}" for name, problem in problems.items())
    assert time.monotonic() - begun < 45
    assert [message.start_line.split()[1] for message in broken.got("INVITE")] == [
        f"sip:{OUTCOMES['the second way'].number}@127.0.0.1:{broken.port}"
    ]
    assert len(server.records()) == len(OUTCOMES)
    await server.interrupted()


async def _played(server: Sip4ai, line: Callee, app: YourApp, wanted: Outcome) -> None:
    asked = {"agent_id": "talks", "trunk_id": "line", "event_webhook": app.url("/webhook"), **(wanted.asked or {})}
    call_id = await server.places(wanted.number, **asked)
    assert UUID.match(call_id), call_id
    if wanted.deleted:
        await app.told(call_id, f"call.{wanted.deleted.replace('initiating', 'initiated')}")
        assert (await server.call(call_id))["status"] == wanted.deleted
        ended = await server.ask("DELETE", f"/api/calls/{call_id}")
        assert (ended.status, ended.document) == (
            200,
            {"success": True, "call_id": call_id, "status": "ending"},
        )
    call = await server.over(call_id, timeout_s=30)
    last = await app.told_the_end_of(call_id)
    await asyncio.sleep(0.5)  # whatever else might come
    _assert_kept(server, call, wanted)
    _assert_told(app, call, last, wanted)
    await _assert_on_the_wire(line, wanted)


async def _assert_on_the_wire(line: Callee, wanted: Outcome) -> None:
    """One dialog, which goes just so; a CANCEL may have to wait until it rings, after all was told."""
    seen: list[str] = []
    for _ in range(100):
        seen = [" ".join(_spaced(one) for one in dialog) for dialog in line.dialogs(wanted.number).values()]
        if seen == list(filter(None, [wanted.wire])):
            return
        await asyncio.sleep(POLL_S)
    raise AssertionError(f"{wanted.wire!r} was to be seen: {seen}")


def _spaced(message: str) -> str:
    return f"{message[0]} {message[1:]}"


def _assert_kept(server: Sip4ai, call: Mapping[str, Any], wanted: Outcome) -> None:
    """S38, S39, S40: in the answer of GET, and in the one record."""
    assert call["status"] == wanted.status, call
    assert call["direction"] == "outbound"
    assert call["target"] == wanted.number
    assert isinstance(call["duration"], int)
    assert ISO_UTC.match(call["created_at"]), call
    assert ISO_UTC.match(call["ended_at"]), call
    [record] = [one for one in server.records() if one["call_id"] == call["id"]]
    assert record["cause"] == wanted.cause, record
    assert len(events(record, "CallEnded")) == 1
    if wanted.code is not None:
        assert record["sip_code"] == wanted.code
        (refused,) = events(record, "CallRefused")
        assert refused["status"] == wanted.code


def _assert_told(app: YourApp, call: Mapping[str, Any], last: Mapping[str, Any], wanted: Outcome) -> None:
    """S47, S48: every event once, in order, signed."""
    assert app.names_of(call["id"]) == wanted.events.split()
    assert [one["event"] for one in app.told_of(call["id"])][-1] == last["event"]
    told = app.told_of(call["id"])
    assert [one["timestamp"] for one in told] == sorted(one["timestamp"] for one in told)
    for one in told:
        assert one.keys() == {"event", "call_id", "timestamp", "data"}, one
        assert ISO_UTC.match(one["timestamp"]), one
    initiated = told[0]["data"]
    assert (initiated["target"], initiated["direction"]) == (wanted.number, "outbound")
    data = last["data"]
    assert data["end_reason"] == wanted.reason, data
    if last["event"] == "call.failed":
        assert data["sip_code"] == wanted.code, data
    else:
        assert data["duration"] == call["duration"]
        assert data["transcript"] == in_their_words(call["transcript"])
        assert isinstance(data["functions_called"], list)


async def test_a_transcript_is_told_as_it_grows(sip4ai: Start, callee: Start, your_app: YourApp) -> None:
    """S38, S47, S48: each part of it once, in the order in which it was spoken, and whole at the end."""
    line: Callee = await callee()
    server: Sip4ai = await sip4ai(config(line.gateway()))
    call_id = await server.places("+4930200200", agent_id="finishes", event_webhook=your_app.url("/webhook"))
    last = await your_app.told_the_end_of(call_id)
    parts = [one["data"] for one in your_app.told_of(call_id) if one["event"] == "transcript.update"]
    assert [(part["speaker"], part["text"]) for part in parts] == [("ai", "Is Tuesday good?"), ("user", "Yes, it is.")]
    assert 0 <= parts[0]["timestamp"] < parts[1]["timestamp"] < 10
    kept = (await server.call(call_id))["transcript"]
    assert parts == last["data"]["transcript"] == in_their_words(kept)
    assert server.record(call_id)["task"]["outcome"] == "confirmed"


async def test_one_key_twenty_times_is_one_call(sip4ai: Start, callee: Start) -> None:
    """Idempotency-Key: one INVITE; and the key with another body is a mistake."""
    line: Callee = await callee()
    server: Sip4ai = await sip4ai(config(line.gateway()))
    headers = {"Idempotency-Key": "order-4711"}
    body = {"target": "+4930300200", "task": "Ask.", "agent_id": "talks"}
    replies = await asyncio.gather(*(server.ask("POST", "/api/calls", body, headers=headers) for _ in range(20)))
    assert {reply.status for reply in replies} == {201}, Counter(reply.status for reply in replies)
    [call_id] = {reply.document["call_id"] for reply in replies}
    await server.has_status(call_id, "in_progress")
    later = await server.ask("POST", "/api/calls", body, headers=headers)
    assert (later.status, later.document["call_id"]) == (201, call_id)
    other = await server.ask("POST", "/api/calls", body | {"target": "+4930300201"}, headers=headers)
    assert other.status == 422, other
    assert {"error", "code", "hint"} <= other.document.keys(), other
    await server.ask("DELETE", f"/api/calls/{call_id}")
    await server.over(call_id)
    assert len(line.got("INVITE")) == 1
    assert len(server.records()) == 1


async def test_a_server_that_dies_leaves_no_call_and_no_question_open(
    sip4ai: Start, callee: Start, your_app: YourApp
) -> None:
    """S47: the next one ends what it left, tells of it once, and knows the Idempotency-Key: no second call."""
    line: Callee = await callee()
    settings = config(line.gateway())
    server: Sip4ai = await sip4ai(settings)
    body = {"target": "+4930350200", "task": "Ask.", "agent_id": "talks", "event_webhook": your_app.url("/webhook")}
    headers = {"Idempotency-Key": "order-4712"}
    reply = await server.ask("POST", "/api/calls", body, headers=headers)
    call_id = reply.document["call_id"]
    await your_app.told(call_id, "call.answered")
    await asyncio.sleep(1.0)  # it is noted that this was told: what is in doubt is told again, 45 s later
    await server.program.kill()
    heir = await Sip4ai.start(server.where, settings)
    try:
        again = await heir.ask("POST", "/api/calls", body, headers=headers)
        assert (again.status, again.document) == (201, reply.document), again
        last = await your_app.told_the_end_of(call_id)
        call = await heir.over(call_id)
        await line.gets("BYE")
        assert your_app.names_of(call_id) == [*UP.split(), last["event"]]
        assert call["status"] == {"call.failed": "failed", "call.completed": "completed"}[last["event"]]
        assert last["data"]["cause"] == "server_lost"
        assert len(line.got("INVITE")) == len(heir.records()) == 1
    finally:
        await heir.close()


async def test_more_calls_than_may_be_at_once_are_not_placed(sip4ai: Start, callee: Start) -> None:
    """Toll fraud, and S44: ten of twenty; when one is over there is room for one."""
    line: Callee = await callee()
    server: Sip4ai = await sip4ai(config(line.gateway(), dialling={"calls_per_min": 0}))
    body = {"target": "+4930400200", "task": "Ask.", "agent_id": "talks"}
    replies = await asyncio.gather(*(server.ask("POST", "/api/calls", body) for _ in range(20)))
    assert Counter(reply.status for reply in replies) == {201: 10, 429: 10}
    for reply in replies:
        if reply.status == 429:
            assert {"error", "code", "hint"} <= reply.document.keys(), reply
    placed = [reply.document["call_id"] for reply in replies if reply.status == 201]
    await asyncio.gather(*(server.has_status(one, "in_progress") for one in placed))
    assert (await server.ask("POST", "/api/calls", body)).status == 429
    assert len(line.got("INVITE")) == 10
    await server.ask("DELETE", f"/api/calls/{placed[0]}")
    await server.over(placed[0])
    again = await server.ask("POST", "/api/calls", body)
    assert again.status == 201, again
    await line.gets("INVITE", count=11)


async def test_more_calls_a_minute_than_may_be_are_not_placed(sip4ai: Start, callee: Start) -> None:
    """Toll fraud: a rate, whatever becomes of the calls."""
    line: Callee = await callee()
    server: Sip4ai = await sip4ai(config(line.gateway(), dialling={"calls_per_min": 3}))
    body = {"target": "+4930500486", "task": "Ask.", "agent_id": "talks"}
    statuses = [(await server.ask("POST", "/api/calls", body)).status for _ in range(5)]
    assert statuses == [201, 201, 201, 429, 429]
    await line.gets("INVITE", count=3)
    await asyncio.sleep(0.5)
    assert len(line.got("INVITE")) == 3


async def test_delete_lets_the_agent_say_goodbye(
    sip4ai: Start, callee: Start, rtp_phone: Callable[..., RtpPhone]
) -> None:
    """S43: it is heard, and the line is free within three seconds."""
    phone = rtp_phone()
    line: Callee = await callee(audio_port=phone.port)
    polite = scripted(
        "polite",
        greeting_tone_hz=TALKS_HZ,
        greeting_ms=300,
        steps=[{"on": "text", "do": [{"do": "speak", "tone_hz": GOODBYE_HZ, "ms": 900, "text": "Goodbye."}]}],
    )
    endless = scripted("endless", steps=[{"on": "text", "do": [{"do": "speak", "tone_hz": GOODBYE_HZ, "ms": 60_000}]}])
    server: Sip4ai = await sip4ai(config(line.gateway(), agents=[polite, endless]))
    call_id = await server.places("+4930600200", agent_id="polite", machines={"detect": False})
    await phone.hears_ms(1500)
    before = len(phone.heard())
    took_s = await _deleted(server, line, call_id, 1)
    goodbye = phone.heard()[before:]
    assert loudest_db(goodbye, GOODBYE_HZ) > HEARD_DB, "nobody said goodbye"
    assert _sounds_ms(goodbye) > 500, "it was cut off"
    assert took_s < 3.0
    (call,) = [await server.call(call_id)]
    assert call["status"] == "completed"
    over = await server.ask("DELETE", f"/api/calls/{call_id}")
    assert (over.status, set(over.document) >= {"error", "code"}) == (400, True), over

    other = await server.places("+4930600200", agent_id="endless", machines={"detect": False})
    await server.has_status(other, "in_progress")
    await asyncio.sleep(0.5)
    assert 2.0 < await _deleted(server, line, other, 2) < 4.0  # 3 s, and what the machine takes


async def _deleted(server: Sip4ai, line: Callee, call_id: str, number: int) -> float:
    """From the answer of DELETE to BYE on the wire."""
    reply = await server.ask("DELETE", f"/api/calls/{call_id}")
    at = time.time()
    assert (reply.status, reply.document["status"]) == (200, "ending"), reply
    bye = await line.gets("BYE", count=number)
    await server.over(call_id)
    return bye.at - at


def _sounds_ms(heard: Any) -> float:
    frames = [heard[at : at + RATE_HZ // 50] for at in range(0, len(heard) - RATE_HZ // 50, RATE_HZ // 50)]
    return 20.0 * sum(tone_db(frame, GOODBYE_HZ) > HEARD_DB for frame in frames)


async def test_a_call_waits_for_its_time(sip4ai: Start, callee: Start) -> None:
    """A schedule: nothing is dialled before it, and what waits can be read, listed and cancelled."""
    line: Callee = await callee(hesitates_ms=20)
    server: Sip4ai = await sip4ai(config(line.gateway()))
    due = time.time() + 3.0
    times = {"earliest_at": datetime.fromtimestamp(due, UTC).isoformat()}
    waits = await server.places("+4930700486", agent_id="talks", schedule=times)
    cancelled = await server.places("+4930700404", agent_id="talks", schedule=times)
    for call_id in (waits, cancelled):
        assert (await server.call(call_id))["status"] == "initiating"
    assert {one["id"] for one in (await server.get("/api/calls?status=initiating"))["calls"]} == {waits, cancelled}
    ended = await server.ask("DELETE", f"/api/calls/{cancelled}")
    assert ended.status == 200, ended
    invite = await line.gets("INVITE", "+4930700486")
    assert -0.1 < invite.at - due < 2.0
    assert (await server.over(waits))["status"] == "failed"
    assert (await server.over(cancelled))["status"] == "failed"
    assert len(line.got("INVITE")) == 1


async def test_who_may_be_shown_as_the_caller(sip4ai: Start, callee: Start) -> None:
    """S37: a number of the trunk's list, its first where none is asked for, and no other."""
    line: Callee = await callee()
    server: Sip4ai = await sip4ai(config(line.gateway(caller_ids=["+49301", "+49302"])))
    shown = {}
    for asked in ("", "+49302", "+49 30-2"):
        wish: dict[str, Any] = {"caller_id": asked} if asked else {}
        call_id = await server.places("+4930700486", agent_id="talks", **wish)
        await server.over(call_id)
        shown[asked] = header(line.got("INVITE")[-1], "From")
    assert "+49301@" in shown[""], shown
    assert "+49302@" in shown["+49302"], shown
    assert "+49302@" in shown["+49 30-2"], shown
    refused = await server.ask(
        "POST", "/api/calls", {"target": "+4930700486", "task": "Ask.", "agent_id": "talks", "caller_id": "+49309"}
    )
    assert (refused.status, refused.document["field"]) == (400, "caller_id"), refused
    assert len(line.got("INVITE")) == 3


WRITINGS = {
    "+49 (30) 800-404": "+4930800404",
    "004930800404": "+4930800404",
    "030 800404": "+4930800404",
    "tel:+49-30-800404": "+4930800404",
    "tel:030800404;phone-context=+49": "+4930800404",
    "+61400000404": "+61400000404",
    "\uff0b49\uff13\uff10800404": "+4930800404",
}


async def test_numbers_are_dialled_as_e164_however_they_are_written(line_and_server: tuple[Callee, Sip4ai]) -> None:
    """S37, S40: normalised, never refused for not being assigned."""
    line, server = line_and_server
    for number, (written, dialled) in enumerate(WRITINGS.items(), 1):
        call_id = await server.places(written, agent_id="talks")
        invite = await line.gets("INVITE", count=number)
        assert invite.start_line.split()[1].startswith(f"sip:{dialled}@"), (written, invite.start_line)
        assert (await server.over(call_id))["target"] == dialled, written


@pytest.fixture
async def line_and_server(sip4ai: Start, callee: Start) -> tuple[Callee, Sip4ai]:
    line: Callee = await callee(hesitates_ms=20)
    server: Sip4ai = await sip4ai(config(line.gateway(region="DE")))
    return line, server


async def test_sip_targets_and_requests_that_cannot_be(line_and_server: tuple[Callee, Sip4ai]) -> None:
    """S35, S37, S44: a ``sip:`` URI is dialled, and each mistake is one sentence with the field and the fix."""
    line, server = line_and_server
    call_id = await server.places(f"sip:desk404@127.0.0.1:{line.port}", agent_id="talks")
    assert "sip:desk404@" in (await line.gets("INVITE")).start_line
    assert (await server.over(call_id))["status"] == "failed"
    good = {"target": "+4930800404", "task": "Ask.", "agent_id": "talks"}
    for field, change in (
        ("target", {"target": None}),
        ("target", {"target": "nobody at all"}),
        ("target", {"target": "+"}),
        ("task", {"task": None}),
        ("agent_id", {"agent_id": "stranger"}),
        ("provider", {"provider": "hal9000"}),
        ("max_duration_seconds", {"max_duration_seconds": 0}),
        ("event_webhook", {"event_webhook": "ftp://example.com/"}),
        ("functions", {"functions": [{"name": "no webhook"}]}),
        ("surprise", {"surprise": 1}),
    ):
        body = {name: value for name, value in {**good, **change}.items() if value is not None}
        refused = await server.ask("POST", "/api/calls", body)
        assert refused.status == 400, (change, refused)
        assert refused.document["code"] == "BAD_REQUEST", refused
        assert field in str(refused.document.get("field", "")) + refused.document["error"], (change, refused)
    assert len(line.got("INVITE")) == 1
    by_its_other_name = await server.ask(
        "POST", "/call", {"target_number": "+4930800404", "task_description": "Ask.", "agent_id": "talks"}
    )
    assert by_its_other_name.status == 201, by_its_other_name
    await line.gets("INVITE", count=2)

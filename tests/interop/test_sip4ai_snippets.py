"""The snippets that the document SIP4AI prints, typed as they are, with a telephone at the other end.

Only the base URL, the shortened call id and the shortened key are exchanged.

Which of S1 to S51 a test proves stands in its first line; docs/SIP4AI.md has the table.
"""

from __future__ import annotations

import asyncio
from typing import Any, get_args

import pytest
from tests.interop.callees import Callee
from tests.interop.cells import Cell
from tests.interop.seed_snippets import Language, Seed, run_snippet, seed
from tests.interop.shapes import assert_same_shape, printed_by
from tests.interop.sip4ai_line import Line
from tests.interop.sip4ai_server import Sip4ai
from tests.interop.trunks import Start

from offhook.simulators.stage import Simulator


class Reader:
    """Types the snippets of one language, one after the other."""

    def __init__(self, document: Seed, language: Language, server: Sip4ai) -> None:
        self._document = document
        self._language = language
        self._server = server

    async def types(self, endpoint: str, call_id: str = "") -> Any:
        snippet = self._document.snippet(endpoint, self._language)
        text = snippet.pointed_at(self._server.base, call_id=call_id, key=self._server.key)
        return printed_by(self._language, await run_snippet(self._language, text))


@pytest.mark.parametrize("language", get_args(Language))
async def test_the_printed_snippets_do_what_they_say(
    *, sip4ai: Start, line: Line, openai: Start, cell: Cell, language: Language
) -> None:
    """S7 to S10, S14, S26, S33, S34, S37 to S44, S49: a call from its creation to its end, by what is printed."""
    cell.fills("Kamailio", "registers us with digest", "outbound call", "it challenges, we prove ourselves")
    cell.note("UDP", "IPv4")
    document = seed()
    simulator, variables = await openai(turns=[{"hears": "Yes, that's correct.", "says": "Thank you."}])
    server: Sip4ai = await sip4ai(document.source("OpenAI configuration"), **line.variables, **variables)
    await server.program.says("trunk .*online")
    reader = Reader(document, language, server)

    assert await reader.types("GET /health") == document.response("GET /health")
    status = await reader.types("GET /status")
    assert_same_shape(document.response("GET /status"), status)
    assert (status["sip_registered"], status["active_calls"], status["calls"]) == (True, 0, [])

    await server.with_key()
    created = await reader.types("POST /api/calls")
    assert_same_shape(document.response("POST /api/calls"), created, no_more=True)
    call_id = created["call_id"]
    assert created["status"] == "initiating"
    invite = await line.callee.gets("INVITE", "+61400000000")
    assert invite.start_line.startswith("INVITE sip:+61400000000@")
    assert (await server.ask("GET", "/status", headers={"Authorization": ""})).status == 401
    await server.has_status(call_id, "in_progress")

    running = await reader.types("GET /api/calls/{call_id}", call_id)
    assert_same_shape(document.document("The Call object", 1), running)
    assert (running["id"], running["status"], running["duration"]) == (call_id, "in_progress", None)
    assert (running["direction"], running["target"], running["provider"]) == ("outbound", "+61400000000", "openai")
    status = await server.get("/status")
    assert_same_shape(document.response("GET /status"), status)
    assert (status["active_calls"], [one["id"] for one in status["calls"]]) == (1, [call_id])

    await line.says_something()
    injected = await reader.types("POST /api/calls/{call_id}/inject", call_id)
    assert injected == {"success": True, "call_id": call_id}
    await _told(simulator, "VIP status")
    await line.agent_has_spoken()

    ended = await reader.types("DELETE /api/calls/{call_id}", call_id)
    assert_same_shape(document.response("DELETE /api/calls/{call_id}"), ended, no_more=True)
    assert ended == {"success": True, "call_id": call_id, "status": "ending"}
    await line.callee.gets("BYE", timeout_s=4.0)
    await server.over(call_id)

    kept = await reader.types("GET /api/calls/{call_id}", call_id)
    assert_same_shape(document.response("GET /api/calls/{call_id}"), kept)
    assert (kept["status"], kept["duration"] >= 1) == ("completed", True)
    assert {one["speaker"] for one in kept["transcript"]} == {"ai", "user"}, kept["transcript"]
    listed = await reader.types("GET /api/calls")
    assert (listed["total"], listed["limit"], listed["offset"]) == (1, 20, 0)
    assert [one["id"] for one in listed["calls"]] == [call_id]
    assert_same_shape(document.response("GET /api/calls/{call_id}"), listed["calls"][0])

    missing = await server.ask("GET", "/api/calls/550e8400-e29b-41d4-a716-446655440000")
    assert missing.status == 404
    printed = document.document("404 Response")
    assert missing.document | printed == missing.document, missing.document
    assert not simulator.journal.problems
    assert len(line.callee.got("INVITE")) == 1
    assert len(server.records()) == 1


async def _told(simulator: Simulator, needle: str) -> None:
    for _ in range(200):
        if any(needle in str(message.data) for message in simulator.journal.received):
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"the model was not told {needle!r}")


async def test_lists_are_newest_first_and_paged(sip4ai: Start, callee: Start) -> None:
    """S41: limit, offset, status; values that cannot be are 400."""
    answering: Callee = await callee(hesitates_ms=20)
    trunk = answering.gateway()
    server: Sip4ai = await sip4ai({"trunks": [trunk], "agents": [{"id": "desk", "provider": "scripted"}]})
    made = []
    for _ in range(3):
        made.append(await server.places("+4930100486", agent_id="desk"))
        await server.over(made[-1])
    newest = made[::-1]
    assert [one["id"] for one in (await server.get("/api/calls"))["calls"]] == newest
    page = await server.get("/api/calls?limit=1&offset=1&status=failed")
    assert [one["id"] for one in page["calls"]] == newest[1:2]
    assert {name: page[name] for name in ("total", "limit", "offset")} == {"total": 3, "limit": 1, "offset": 1}
    assert (await server.get("/api/calls?status=completed"))["calls"] == []
    for query in ("limit=0", "limit=101", "offset=-1", "status=ended"):
        refused = await server.ask("GET", f"/api/calls?{query}")
        assert (refused.status, refused.document["code"]) == (400, "BAD_REQUEST"), (query, refused)


async def test_inject_by_its_older_path(sip4ai: Start, line: Line, openai: Start) -> None:
    """S35, S36, S42, S44: ``POST /call`` and ``POST /calls/{id}/inject``; a call that is over is 400."""
    simulator, variables = await openai()
    server: Sip4ai = await sip4ai({"provider": "openai"}, **line.variables, **variables)
    await server.program.says("trunk .*online")
    reply = await server.ask("POST", "/call", {"number": "+61400000000", "task_description": "Ask."})
    assert reply.status == 201, reply
    call_id = reply.document["call_id"]
    await server.has_status(call_id, "in_progress")
    await asyncio.sleep(0.5)
    told = await server.ask("POST", f"/calls/{call_id}/inject", {"prompt": "They paid by cheque."})
    assert (told.status, told.document) == (200, {"success": True, "call_id": call_id}), told
    await _told(simulator, "They paid by cheque.")
    asked = await server.ask("POST", f"/api/calls/{call_id}/inject", {"message": "Where are you?", "role": "user"})
    assert asked.status == 200, asked
    await _told(simulator, "Where are you?")
    for body in ({}, {"message": "", "role": "system"}, {"message": "Hello.", "role": "king"}):
        refused = await server.ask("POST", f"/api/calls/{call_id}/inject", body)
        assert (refused.status, refused.document["code"]) == (400, "BAD_REQUEST"), (body, refused)
    await server.ask("DELETE", f"/api/calls/{call_id}")
    await server.over(call_id)
    for path in (f"/calls/{call_id}/inject", f"/api/calls/{call_id}/inject"):
        late = await server.ask("POST", path, {"message": "Hello."})
        assert late.status == 400, late
    unknown = await server.ask("POST", "/calls/nobody/inject", {"prompt": "Hello."})
    assert (unknown.status, unknown.document["code"]) == (404, "NOT_FOUND"), unknown

"""The server of somebody who uses the SIP4AI API: is told of calls, runs functions, has hold music.

It judges signatures by code of its own, from what docs/SIP4AI.md says of them: an HMAC-SHA256 of the body as it came.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from tests.interop.program import POLL_S
from tests.interop.tools import free_port

SECRET = "the secret of this installation"
FRESH_S = 60
LAST_EVENTS = frozenset({"call.completed", "call.failed"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One request. ``problem``: what is wrong with its signature. ``at``: Unix seconds."""

    at: float
    method: str
    query: Mapping[str, str]
    body: bytes
    problem: str

    @property
    def document(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    status: int = 200
    body: str = "{}"
    after_s: float = 0.0


def problem_of(headers: Mapping[str, str], body: bytes, secret: str) -> str:
    """Why somebody who knows the secret would not believe it; "" if he would."""
    expected = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    stamp = headers.get("X-SIP4AI-Timestamp", "")
    if not stamp.isdecimal() or abs(time.time() - int(stamp)) > FRESH_S:
        return f"X-SIP4AI-Timestamp is {stamp!r}"
    if not hmac.compare_digest(headers.get("X-SIP4AI-Signature", "").encode(), expected.encode()):
        return f"X-SIP4AI-Signature is {headers.get('X-SIP4AI-Signature')!r}, not {expected!r}"
    return ""


@dataclass(slots=True)
class YourApp:
    """``/webhook`` and ``/result`` take events, ``/api/NAME`` is a function, ``/audio/hold.wav`` is ``hold_audio``."""

    secret: str = SECRET
    events: list[Asked] = field(default_factory=list)
    results: list[Asked] = field(default_factory=list)
    functions: dict[str, list[Asked]] = field(default_factory=dict)
    answers: dict[str, Answer] = field(default_factory=dict)
    hold_audio: Path | None = None
    hold_audio_fetched: int = 0
    port: int = 0
    _runner: web.AppRunner | None = None

    async def start(self) -> YourApp:
        app = web.Application()
        app.router.add_post("/webhook", self._take_event)
        app.router.add_post("/result", self._take_result)
        app.router.add_route("*", "/api/{name}", self._run_function)
        app.router.add_get("/audio/hold.wav", self._send_audio)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        self.port = free_port("tcp")
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        return self

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def told_of(self, call_id: str) -> list[Mapping[str, Any]]:
        """The events of a call, in the order in which they came; each once, each with a good signature."""
        found = [one for one in self.events if one.document["call_id"] == call_id]
        assert not [one.problem for one in found if one.problem], [one.problem for one in found]
        return [one.document for one in found]

    def names_of(self, call_id: str) -> list[str]:
        """Of its events, without those that come any number of times."""
        return [one["event"] for one in self.told_of(call_id) if one["event"] != "transcript.update"]

    async def told_the_end_of(self, call_id: str, timeout_s: float = 15.0) -> Mapping[str, Any]:
        """Wait for the one event that is a call's last."""
        for _ in range(round(timeout_s / POLL_S)):
            if last := [one for one in self.told_of(call_id) if one["event"] in LAST_EVENTS]:
                return last[0]
            await asyncio.sleep(POLL_S)
        raise AssertionError(f"{call_id} did not end in {timeout_s:g} s: {self.names_of(call_id)}")

    async def told(self, call_id: str, event: str, timeout_s: float = 10.0) -> Mapping[str, Any]:
        """Wait for the first event of this name."""
        for _ in range(round(timeout_s / POLL_S)):
            if found := [one for one in self.told_of(call_id) if one["event"] == event]:
                return found[0]
            await asyncio.sleep(POLL_S)
        raise AssertionError(f"no {event} of {call_id} in {timeout_s:g} s: {self.names_of(call_id)}")

    async def asked(self, name: str, timeout_s: float = 10.0) -> Asked:
        """Wait for the first request to a function."""
        for _ in range(round(timeout_s / POLL_S)):
            if self.functions.get(name):
                return self.functions[name][0]
            await asyncio.sleep(POLL_S)
        raise AssertionError(f"function {name} was not run in {timeout_s:g} s")

    async def _take_event(self, request: web.Request) -> web.Response:
        self.events.append(await self._asked(request))
        return web.Response(status=204)

    async def _take_result(self, request: web.Request) -> web.Response:
        self.results.append(await self._asked(request))
        return web.Response(status=204)

    async def _run_function(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        self.functions.setdefault(name, []).append(await self._asked(request))
        answer = self.answers.get(name, Answer())
        await asyncio.sleep(answer.after_s)
        return web.Response(status=answer.status, text=answer.body, content_type="application/json")

    async def _send_audio(self, _request: web.Request) -> web.Response:
        self.hold_audio_fetched += 1
        assert self.hold_audio is not None
        return web.Response(body=self.hold_audio.read_bytes(), content_type="audio/wav")

    async def _asked(self, request: web.Request) -> Asked:
        body = await request.read()
        return Asked(
            at=time.time(),
            method=request.method,
            query=dict(request.query),
            body=body,
            problem=problem_of(request.headers, body, self.secret),
        )

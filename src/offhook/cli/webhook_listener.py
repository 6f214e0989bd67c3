"""A receiver of webhooks for developing: it shows what comes, says whether the signature holds, and answers as told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import click
import msgspec
from aiohttp import web

from offhook.delivery import sip4ai_signing
from offhook.delivery.signing import SECRET_PREFIX, verify
from offhook.model.errors import ListenError, SignatureError
from offhook.observability.logs import SHORT_ID

MAX_BODY_BYTES = 1 << 20
"""Five times the largest that offhook sends."""

IDS_KEPT = 10_000
"""Of messages, to tell which came before."""

SHOWN_CHARACTERS = 160
"""Of a message's data, on its line."""

Verdict = Literal["signed", "unsigned", "wrong", "unchecked"]
"""``unchecked``: it is signed, and no secret was given to check it with."""

_MARKS: Mapping[Verdict, tuple[str, str]] = {
    "signed": ("✓", "green"),
    "unsigned": ("✗", "red"),
    "wrong": ("✗", "red"),
    "unchecked": ("?", "yellow"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Received:
    """One message. ``problem``: what is wrong with its signature. ``document``: its JSON; None where it has none."""

    at: float
    message_id: str
    verdict: Verdict
    problem: str
    repeated: bool
    document: Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """What every message is answered, after ``delay_s``. ``body``: JSON, such as a question's answer."""

    status: int = 204
    delay_s: float = 0.0
    body: str = ""


@dataclass(kw_only=True)
class Listener:
    """``show`` is called for each message before it is answered."""

    secrets: Sequence[str]
    reply: Reply
    show: Callable[[Received], None]
    now: Callable[[], float] = time.time
    counts: dict[Verdict, int] = field(default_factory=dict)
    _seen: dict[str, None] = field(default_factory=dict)

    async def receive(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        received = self._judged(request.headers, body)
        self.counts[received.verdict] = self.counts.get(received.verdict, 0) + 1
        self.show(received)
        await asyncio.sleep(self.reply.delay_s)
        content_type = "application/json" if self.reply.body else None
        return web.Response(status=self.reply.status, text=self.reply.body or None, content_type=content_type)

    def _judged(self, headers: Mapping[str, str], body: bytes) -> Received:
        verdict, problem = self._verdict(headers, body)
        message_id = headers.get("webhook-id", "") or headers.get(sip4ai_signing.DELIVERY, "")
        repeated = message_id in self._seen
        if message_id:
            self._seen[message_id] = None
        if len(self._seen) > IDS_KEPT:
            del self._seen[next(iter(self._seen))]
        return Received(
            at=self.now(),
            message_id=message_id,
            verdict=verdict,
            problem=problem,
            repeated=repeated,
            document=_document(body),
        )

    def _verdict(self, headers: Mapping[str, str], body: bytes) -> tuple[Verdict, str]:
        sip4ai = sip4ai_signing.SIGNATURE in headers
        if "webhook-signature" not in headers and not sip4ai:
            return "unsigned", "the request has no webhook-signature header, so nobody signed it"
        if not self.secrets:
            return "unchecked", "give --secret to check signatures"
        try:
            if sip4ai:
                sip4ai_signing.verify(headers=headers, body=body, secrets=self.secrets)
            else:
                known = [secret for secret in self.secrets if secret.startswith(SECRET_PREFIX)]
                verify(headers=headers, body=body, secrets=known, now=self.now())
        except SignatureError as error:
            return "wrong", str(error)
        return "signed", ""


async def listening(listener: Listener, host: str, port: int, announce: Callable[[str], None]) -> web.AppRunner:
    """A server that runs until its ``cleanup``; ``announce`` is given its URL. Raises ``ListenError``."""
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.router.add_route("*", "/{path:.*}", listener.receive)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        await runner.cleanup()
        where = f"{host}:{port}"
        raise ListenError(where, error.strerror or "not possible", "Choose another --port, or 0 for any") from None
    bound = runner.addresses[0][1]
    announce(f"http://{f'[{host}]' if ':' in host else host}:{bound}/")
    return runner


def line_of(received: Received) -> str:
    """For a person: when, whether it is signed, what happened in which call."""
    mark, colour = _MARKS[received.verdict]
    clock = time.strftime("%H:%M:%S", time.localtime(received.at))
    document = received.document if isinstance(received.document, dict) else {}
    name = (
        document.get("event")
        or document.get("type")
        or document.get("tool")
        or document.get("function")
        or "no event of offhook's"
    )
    parts = [f"{clock}  {click.style(mark, fg=colour)} {click.style(plain(str(name)), bold=True)}"]
    if document.get("call_id"):
        parts.append(
            click.style(f"{plain(str(document['call_id']))[:SHORT_ID]} {document.get('seq', '')}".strip(), dim=True)
        )
    parts.append(_shown(document.get("data", document)))
    if received.repeated:
        parts.append(click.style(f"again: {plain(received.message_id)}", fg="yellow"))
    if received.problem:
        parts.append(click.style(received.problem, fg=colour))
    return "  ".join(part for part in parts if part)


def json_of(received: Received) -> dict[str, Any]:
    """For a program: a line."""
    return {
        "at": received.at,
        "id": received.message_id,
        "signature": received.verdict,
        "problem": received.problem,
        "repeated": received.repeated,
        "body": received.document,
    }


def plain(text: str) -> str:
    """Without what would command a terminal: anybody may send."""
    return "".join(each if each.isprintable() else "·" for each in text)


def _shown(data: Any) -> str:
    text = plain(msgspec.json.encode(data).decode()) if data else ""
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def _document(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None

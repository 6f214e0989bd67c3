"""The SIP messages of a call, secrets crossed out: as JSON, or as the ladder that ``offhook trace`` shows."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Literal

import msgspec
from aiohttp import web

from offhook.api.endpoints import JSON, Asked, Endpoint, Form
from offhook.api.native.calls import READ
from offhook.api.native.fields import Time
from offhook.api.problems import ApiError, not_found
from offhook.delivery.call_trace import CallTrace, call_trace, message_document
from offhook.signaling.ladder import ladder
from offhook.store.traces import read_trace

TEXT = "text/plain"

RETRY_DISK_S = 10
"""What keeps a file from being read is seldom over sooner."""


class SipMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One message on the wire. ``local`` and ``remote`` are ``host:port``; ``base64`` where it is no UTF-8."""

    timestamp: Time
    direction: Literal["received", "sent"]
    transport: Literal["UDP", "TCP", "TLS"]
    local: str
    remote: str
    text: str | None
    base64: str | None


class TraceAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """In the order of time. Empty where ``sip.trace`` is off, or the messages are too old to be kept."""

    messages: tuple[SipMessage, ...]


async def get_trace(asked: Asked) -> web.StreamResponse:
    call_id = asked.path["id"]
    found = await asked.parts.database.look(call_trace, asked.account_id, call_id)
    if found is None:
        raise not_found("call", call_id)
    as_text = _prefers_text(asked.request.headers.get("Accept", ""))
    try:
        body = await asyncio.to_thread(_shown, asked.parts.data_dir, found, as_text=as_text)
    except OSError as error:
        raise ApiError(
            "UNAVAILABLE",
            f"The traces cannot be read ({error.strerror})",
            headers={"Retry-After": str(RETRY_DISK_S)},
        ) from error
    return web.Response(body=body, content_type=TEXT if as_text else JSON, charset="utf-8" if as_text else None)


def _prefers_text(accept: str) -> bool:
    return TEXT in accept and JSON not in accept


def _shown(data_dir: Path, found: CallTrace, *, as_text: bool) -> bytes:
    """Reads and writes up to some megabytes: for a thread. Raises ``OSError``."""
    records = read_trace(data_dir, found.sip_call_ids)
    if as_text:
        return ladder(records, found.notes).encode()
    return msgspec.json.encode({"messages": [message_document(record) for record in records]})


_EXAMPLE = {
    "messages": [
        {
            "timestamp": "2026-11-21T11:52:00.120Z",
            "direction": "received",
            "transport": "UDP",
            "local": "192.0.2.1:5060",
            "remote": "192.0.2.10:5060",
            "text": "BYE sip:demo@192.0.2.1 SIP/2.0\r\nCall-ID: a84b4c76e66710\r\n\r\n",
            "base64": None,
        }
    ]
}

ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/api/calls/{id}/trace",
        operation="getTrace",
        tag="calls",
        summary="Every SIP message of a call, secrets crossed out; with Accept: text/plain as a ladder",
        handler=get_trace,
        scope=READ,
        answers=(
            Form(type=TraceAnswer, example=_EXAMPLE),
            Form(media=TEXT, summary="A ladder of arrows, then every message"),
        ),
    ),
)

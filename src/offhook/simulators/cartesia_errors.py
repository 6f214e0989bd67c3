"""Errors as Cartesia writes them, since API version 2026-03-01 (docs.cartesia.ai/use-the-api/api-errors)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web

STATUS_OF: Mapping[str, int] = {
    "unauthorized": 401,
    "quota_exceeded": 402,
    "voice_not_found": 404,
    "model_not_found": 404,
    "concurrency_limited": 429,
    "internal_server_error": 500,
}
"""A script's error has its code as ``text``; one that is not here is a 400, none at all a 500."""

REQUEST_ID = "00000000-0000-4000-8000-000000000000"

_SUPPORT = "https://docs.cartesia.ai/use-the-api/api-errors"


class CartesiaRefusalError(Exception):
    """What the service refuses: an HTTP error before a websocket is open, an error event after."""

    def __init__(self, problem: str, code: str | None = None, status: int = 400) -> None:
        super().__init__(problem)
        self.problem = problem
        self.code = code
        self.status = status

    @classmethod
    def scripted(cls, code: str) -> CartesiaRefusalError:
        """Of a fault of the script."""
        return cls("It was scripted", code or "internal_server_error", STATUS_OF.get(code, 400 if code else 500))


def error_event(refusal: CartesiaRefusalError, context_id: str | None = None) -> dict[str, Any]:
    """``context_id`` None: of no context in particular."""
    event = {"type": "error", "done": True, "status_code": refusal.status, **_described(refusal)}
    return event if context_id is None else {**event, "context_id": context_id}


def error_answer(refusal: CartesiaRefusalError) -> web.Response:
    body = msgspec.json.encode(_described(refusal))
    return web.Response(status=refusal.status, body=body, content_type="application/json")


def _described(refusal: CartesiaRefusalError) -> dict[str, Any]:
    return {
        "error_code": refusal.code,
        "title": (refusal.code or "bad_request").replace("_", " ").capitalize(),
        "message": refusal.problem,
        "request_id": REQUEST_ID,
        "doc_url": _SUPPORT,
    }

"""What machines ask of the server itself: whether it lives and is ready, its figures, and this API's document."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import msgspec
from aiohttp import web

from offhook import __version__
from offhook.api.endpoints import OPEN, Answer, Asked, Endpoint, Form
from offhook.api.openapi import openapi
from offhook.api.problems import ApiError
from offhook.model.call_events import DEFAULT_ACCOUNT

METRICS = "text/plain"


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """The process serves."""

    status: Literal["ok"]


class PartAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One part: whether it is ready, and what is wrong or how much there is."""

    ready: bool
    detail: str


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """Whether new calls should be sent here."""

    status: Literal["ready", "not_ready"]
    parts: dict[str, PartAnswer]


async def health(_: Asked) -> Answer:
    return Answer(body=Health(status="ok"))


async def ready(asked: Asked) -> Answer:
    parts = asked.parts.readiness()
    all_ready = all(part.ready for part in parts)
    body = Ready(
        status="ready" if all_ready else "not_ready",
        parts={part.name: PartAnswer(ready=part.ready, detail=part.detail) for part in parts},
    )
    return Answer(body=body, status=200 if all_ready else 503)


async def metrics(asked: Asked) -> web.Response:
    """Prometheus' text format 0.0.4. They name the trunks of all accounts."""
    if asked.client.key_id and asked.account_id != DEFAULT_ACCOUNT:
        hint = f"Use a key of the account {DEFAULT_ACCOUNT!r}"
        raise ApiError("FORBIDDEN", "The figures are of the whole server, and the operator's", hint=hint)
    return web.Response(
        body=await asked.parts.metrics(), headers={"Content-Type": f"{METRICS}; version=0.0.4; charset=utf-8"}
    )


def document_endpoint(others: Sequence[Endpoint]) -> Endpoint:
    """``/api/openapi.json``: of the other endpoints and itself."""

    @lru_cache(maxsize=1)
    def document() -> bytes:
        return msgspec.json.encode(openapi((*others, endpoint), __version__))

    async def get_document(_: Asked) -> web.Response:
        return web.Response(body=document(), content_type="application/json")

    endpoint = Endpoint(
        method="GET",
        path="/api/openapi.json",
        operation="getOpenApi",
        tag="service",
        summary="This document",
        handler=get_document,
        scope=OPEN,
        answers=(Form(type=dict[str, Any]),),
    )
    return endpoint


_PARTS = {"sip": {"ready": True, "detail": ""}, "store": {"ready": True, "detail": ""}}

ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/health",
        operation="getHealth",
        tag="service",
        summary="Whether the process serves",
        handler=health,
        scope=OPEN,
        answers=(Form(type=Health, example={"status": "ok"}),),
    ),
    Endpoint(
        method="GET",
        path="/ready",
        operation="getReady",
        tag="service",
        summary="Whether calls should be sent here, part by part",
        handler=ready,
        scope=OPEN,
        answers=(Form(type=Ready, example={"status": "ready", "parts": _PARTS}),),
        other_statuses={503: "Not ready: some part is not"},
    ),
    Endpoint(
        method="GET",
        path="/metrics",
        operation="getMetrics",
        tag="service",
        summary="Figures in Prometheus' text format; without a key from this machine",
        handler=metrics,
        scope="metrics:read",
        free_on_loopback=True,
        answers=(Form(media=METRICS, summary="Figures"),),
    ),
)

"""Spans: what a real OTLP/HTTP receiver gets of a call, and what it never gets."""

from __future__ import annotations

import asyncio
import builtins
import sys
import threading
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage
from tests.observability.calls import SECRETS, STARTED, arrived, event, refused_call, spoken_call

from offhook.model.call_events import CallEnded, CallEvent
from offhook.model.errors import ConfigError
from offhook.observability import spans
from offhook.observability.otlp import traces_url
from offhook.observability.spans import CallSpans, open_spans


class Collector:
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.url = ""
        self.bodies: list[bytes] = []
        self.resources: list[dict[str, str]] = []

    @property
    def spans(self) -> list[SpanMessage]:
        found = []
        for body in self.bodies:
            request = ExportTraceServiceRequest.FromString(body)
            for resource in request.resource_spans:
                self.resources.append({one.key: one.value.string_value for one in resource.resource.attributes})
                found += [span for scope in resource.scope_spans for span in scope.spans]
        return found

    def named(self, name: str) -> SpanMessage:
        (found,) = (span for span in self.spans if span.name == name)
        return found

    async def receive(self, request: web.Request) -> web.Response:
        assert request.path == "/v1/traces"
        self.bodies.append(await request.read())
        return web.Response(content_type="application/x-protobuf")


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    collector = Collector()
    application = web.Application()
    application.router.add_post("/{path:.*}", collector.receive)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield collector
    finally:
        await runner.cleanup()


async def sent(collector: Collector, *events: CallEvent) -> None:
    made = open_spans(collector.url, "offhook-test")
    for one in events:
        made.watch(one)
    await asyncio.to_thread(made.close)


def values(span: SpanMessage) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value") or "") for one in span.attributes}


async def test_a_call_becomes_a_span_with_children_for_turns_tools_and_transfers() -> None:
    call_id = str(uuid.uuid4())
    async with collecting() as collector:
        await sent(collector, *spoken_call(call_id))
        call = collector.named("call inbound")
        assert call.trace_id == uuid.UUID(call_id).bytes
        assert (call.start_time_unix_nano, call.end_time_unix_nano) == (
            int((STARTED + 1) * 1e9),
            int((STARTED + 16) * 1e9),
        )
        assert {"offhook.call_id": call_id, "offhook.trunk_id": "pbx", "offhook.cause": "hangup"}.items() <= values(
            call
        ).items()
        assert values(call)["offhook.provider"] == "scripted"
        children = {span.name: span for span in collector.spans if span.parent_span_id == call.span_id}
        assert set(children) == {"turn caller", "turn agent", "tool", "transfer"}
        assert {span.trace_id for span in collector.spans} == {call.trace_id}
        agent = children["turn agent"]
        assert agent.start_time_unix_nano == int((STARTED + 3 + 3.1) * 1e9)
        assert values(agent) == {"offhook.speaker": "agent", "offhook.interrupted": True, "offhook.latency_ms": 600}
        assert children["tool"].end_time_unix_nano - children["tool"].start_time_unix_nano == 800_000_000
        assert values(children["transfer"])["offhook.transfer.outcome"] == "busy"
        assert collector.resources[0]["service.name"] == "offhook-test"


async def test_nothing_that_was_said_pressed_or_dialled_is_sent() -> None:
    async with collecting() as collector:
        await sent(collector, *spoken_call(), *refused_call())
        everything = b"".join(collector.bodies)
    assert b"offhook.call_id" in everything
    assert [secret for secret in SECRETS if secret.encode() in everything] == []


async def test_a_call_that_failed_is_an_error() -> None:
    async with collecting() as collector:
        ended = CallEnded(by="system", phase="up", cause="provider_failed")
        await sent(collector, event("x", 1, arrived("outbound")), event("x", 2, ended))
        call = collector.named("call outbound")
    assert (call.status.code, call.kind) == (call.status.STATUS_CODE_ERROR, SpanMessage.SPAN_KIND_CLIENT)


async def test_a_fact_of_a_call_that_began_before_is_left_out() -> None:
    async with collecting() as collector:
        _, *rest = spoken_call()
        await sent(collector, *rest)
        assert collector.bodies == []


class Slow:
    """A tracer that waits to be let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.taken = 0

    def take(self, told: CallEvent) -> None:
        self.go.wait()
        self.taken += 1

    def close(self) -> None: ...


def test_the_hand_over_is_bounded_and_what_is_too_much_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans, "MAX_WAITING", 10)
    tracer = Slow()
    made = CallSpans(tracer)
    for seq in range(50):
        made.watch(event("x", seq, arrived()))
    assert made.dropped >= 39
    tracer.go.set()
    made.close()
    assert tracer.taken == 50 - made.dropped


def test_without_the_extra_the_setting_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "offhook.observability.otlp", raising=False)
    monkeypatch.setattr(builtins, "__import__", _without("opentelemetry", builtins.__import__))
    with pytest.raises(ConfigError) as caught:
        open_spans("http://127.0.0.1:4318", "offhook")
    assert caught.value.key == "telemetry.otlp_endpoint"
    assert "pip install 'offhook[otel]'" in caught.value.fix


def _without(package: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def imported(name: str, *arguments: Any, **options: Any) -> Any:
        if name.startswith(package):
            raise ImportError(name)
        return real(name, *arguments, **options)

    return imported


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://collector:4318", "http://collector:4318/v1/traces"),
        ("http://collector:4318/", "http://collector:4318/v1/traces"),
        ("https://x.example/otlp/v1/traces", "https://x.example/otlp/v1/traces"),
    ],
)
def test_an_endpoint_may_be_given_without_its_path(endpoint: str, url: str) -> None:
    assert traces_url(endpoint) == url

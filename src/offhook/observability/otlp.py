"""Calls as OpenTelemetry spans: one for a call, children for each turn, tool and transfer. Needs the extra ``otel``.

The trace id of a call is its call_id without hyphens: who has the one finds the other. No attribute holds what was
said, a digit, or a number: callers are told from each other by the call.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit
from uuid import UUID

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.util.types import AttributeValue

from offhook import __version__
from offhook.model.call_events import (
    AgentJoined,
    CallAnswered,
    CallArrived,
    CallEnded,
    CallEvent,
    CallRefused,
    CallRinging,
    EndCause,
    HoldChanged,
    InterruptionResumed,
    ProviderFailed,
    ToolCalled,
    ToolReturned,
    TransferEnded,
    TransferStarted,
    TurnSpoken,
)

TRACES_PATH = "/v1/traces"
"""OTLP/HTTP: the path of an endpoint that is given as host and port alone."""

EXPORT_S = 10.0
"""For one batch. A collector that is away costs spans, never a call."""

MAX_RUNNING = 20_000
"""Calls with an open span: twice what one server can carry; older ones are those whose end was dropped."""

FAILURES: frozenset[EndCause] = frozenset(
    {"provider_failed", "internal_error", "server_lost", "media_timeout", "ack_missing", "unreachable"}
)


class _CallIds(RandomIdGenerator):
    """Trace ids that are those of calls; ``next`` is set just before a call's span begins."""

    next = 0

    def generate_trace_id(self) -> int:
        return self.next or super().generate_trace_id()


@dataclass(slots=True)
class _RunningCall:
    span: Span
    answered_at: float = 0.0
    transfers: list[Span] = field(default_factory=list)


class CallTracer:
    """Makes spans of facts, in one thread; they are sent by a thread of the SDK."""

    def __init__(self, endpoint: str, service_name: str) -> None:
        self._ids = _CallIds()
        resource = Resource.create({"service.name": service_name, "service.version": __version__})
        self._provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=traces_url(endpoint), timeout=EXPORT_S)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("offhook", __version__)
        self._running: OrderedDict[str, _RunningCall] = OrderedDict()

    def take(self, event: CallEvent) -> None:
        """The next fact of a call."""
        if isinstance(event.fact, CallArrived):
            self._begin(event, event.fact)
            return
        call = self._running.get(event.call_id)
        if call is None:
            return
        if isinstance(event.fact, CallEnded):
            self._end(event, event.fact, call)
        elif not self._take_work(event, call):
            _take_set_up(event, call)

    def close(self) -> None:
        """Send what is left, for ``EXPORT_S`` at most; calls that are not over are lost to the trace. Blocks."""
        self._provider.shutdown()

    def _begin(self, event: CallEvent, arrived: CallArrived) -> None:
        self._ids.next = _trace_id(event.call_id)
        span = self._tracer.start_span(
            f"call {arrived.direction}",
            kind=SpanKind.SERVER if arrived.direction == "inbound" else SpanKind.CLIENT,
            start_time=_ns(event.at),
            attributes={
                "offhook.call_id": event.call_id,
                "offhook.direction": arrived.direction,
                "offhook.account_id": arrived.account_id,
                "offhook.trunk_id": arrived.trunk_id,
                "offhook.transport": arrived.transport,
            },
        )
        self._running[event.call_id] = _RunningCall(span)
        if len(self._running) > MAX_RUNNING:
            self._running.popitem(last=False)

    def _end(self, event: CallEvent, ended: CallEnded, call: _RunningCall) -> None:
        del self._running[event.call_id]
        for transfer in call.transfers:
            transfer.end(_ns(event.at))
        span = call.span
        span.set_attribute("offhook.cause", ended.cause)
        span.set_attribute("offhook.ended_by", ended.by)
        span.set_attribute("offhook.duration_ms", ended.duration_ms)
        if ended.sip_code is not None:
            span.set_attribute("sip.status_code", ended.sip_code)
        if ended.cause in FAILURES:
            span.set_status(Status(StatusCode.ERROR, ended.cause))
        span.end(_ns(event.at))

    def _take_work(self, event: CallEvent, call: _RunningCall) -> bool:
        """What takes time becomes a child; False where the fact is something else."""
        match event.fact:
            case TurnSpoken() as turn:
                self._turn(turn, call)
            case ToolReturned() as returned:
                attributes = {"offhook.tool": returned.tool, "offhook.tool_call_id": returned.tool_call_id}
                span = self._child(call, "tool", event.at - returned.took_ms / 1000, attributes)
                if returned.is_error:
                    span.set_status(Status(StatusCode.ERROR))
                span.end(_ns(event.at))
            case TransferStarted(mode=mode, destination=destination):
                attributes = {"offhook.transfer.mode": mode, "offhook.transfer.destination": destination}
                call.transfers.append(self._child(call, "transfer", event.at, attributes))
            case TransferEnded() as ended if call.transfers:
                span = call.transfers.pop(0)
                span.set_attribute("offhook.transfer.outcome", ended.outcome)
                if ended.sip_code is not None:
                    span.set_attribute("sip.status_code", ended.sip_code)
                span.end(_ns(event.at))
            case _:
                return False
        return True

    def _turn(self, turn: TurnSpoken, call: _RunningCall) -> None:
        """Its times are counted from the answer."""
        attributes: dict[str, AttributeValue] = {
            "offhook.speaker": turn.speaker,
            "offhook.interrupted": turn.interrupted,
        }
        if turn.latency_ms is not None:
            attributes["offhook.latency_ms"] = turn.latency_ms
        span = self._child(call, f"turn {turn.speaker}", call.answered_at + turn.started_ms / 1000, attributes)
        span.end(_ns(call.answered_at + turn.ended_ms / 1000))

    def _child(self, call: _RunningCall, name: str, at: float, attributes: Mapping[str, AttributeValue]) -> Span:
        above = set_span_in_context(call.span)
        return self._tracer.start_span(name, context=above, start_time=_ns(at), attributes=attributes)


def _take_set_up(event: CallEvent, call: _RunningCall) -> None:
    """What takes no time of its own: attributes and events of the call's span."""
    span, at = call.span, _ns(event.at)
    match event.fact:
        case CallRinging(status=status):
            span.add_event("ringing", {"sip.status_code": status}, at)
        case CallAnswered(codec=codec, setup_ms=setup_ms):
            call.answered_at = event.at
            span.set_attribute("offhook.codec", codec)
            span.add_event("answered", {"offhook.setup_ms": setup_ms}, at)
        case CallRefused(status=status, rule=rule):
            span.add_event("refused", {"sip.status_code": status, "offhook.rule": rule}, at)
        case AgentJoined(agent_id=agent_id, provider=provider):
            span.set_attribute("offhook.agent_id", agent_id)
            span.set_attribute("offhook.provider", provider)
        case ToolCalled(tool=tool):
            span.add_event("tool called", {"offhook.tool": tool}, at)
        case InterruptionResumed(paused_ms=paused_ms):
            span.add_event("interruption resumed", {"offhook.paused_ms": paused_ms}, at)
        case HoldChanged(held=held):
            span.add_event("held" if held else "taken back", None, at)
        case ProviderFailed(provider=provider, verdict=verdict):
            span.add_event("provider failed", {"offhook.provider": provider, "offhook.verdict": verdict}, at)
        case _:
            pass


def traces_url(endpoint: str) -> str:
    """``http://collector:4318`` with the path that OTLP has; an endpoint with a path is taken as it is."""
    return endpoint if urlsplit(endpoint).path.strip("/") else endpoint.rstrip("/") + TRACES_PATH


def _trace_id(call_id: str) -> int:
    """0, which is no trace id, where a call's id is no UUID."""
    try:
        return UUID(call_id).int
    except ValueError:
        return 0


def _ns(at: float) -> int:
    return round(at * 1_000_000_000)

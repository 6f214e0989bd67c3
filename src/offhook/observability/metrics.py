"""The figures of a server for Prometheus: counted as facts come by, and read from it at each scrape.

Every label is bounded: no caller, no call id; what a peer or a model could invent is summed up as ``other``. The names
are documented in docs/OPERATIONS.md.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import get_args

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from offhook import __version__
from offhook.model.call_events import (
    AgentJoined,
    CallAnswered,
    CallArrived,
    CallEnded,
    CallEvent,
    CallRefused,
    Direction,
    InterruptionResumed,
    MediaReported,
    ProviderFailed,
    ProviderReplaced,
    ToolReturned,
    TransferEnded,
    TurnSpoken,
)
from offhook.model.trunks import TrunkPhase
from offhook.sip.events import MessageRejected

CONTENT_TYPE = CONTENT_TYPE_LATEST

MAX_VALUES = 64
"""Values of one label that are told apart: the rules of SIP and the routes of the API are fewer."""

OTHER = "other"

PHASES: tuple[str, ...] = get_args(TrunkPhase)
DIRECTIONS: tuple[str, ...] = get_args(Direction)
METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})

SETUP_S = (0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5, 10, 20, 40, 60)
"""From an agent that picks up at once to a person who lets it ring."""
LATENCY_S = (0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 1, 1.25, 1.5, 2, 3, 5)
"""Between people a pause is 0.2 s; above 1 s callers ask whether anybody is there."""
DURATION_S = (5, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600)
LAG_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1)
LOSS_RATIO = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Above 1 % it is heard, above 5 % words are lost."""
JITTER_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
BATCH_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
REQUEST_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
DELIVERY_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerFigures:
    """What is read at each scrape. ``trunks``: phase of each registration; ``loop_lag_s``: worst since the last scrape.

    ``late_ticks`` and ``skipped_ticks`` are those of the media clock; ``journal_depth`` the events not yet committed;
    ``spooled`` those that wait in the local spool for PostgreSQL.
    """

    taking_calls: bool = True
    draining: bool = False
    trunks: Mapping[str, TrunkPhase] = field(default_factory=dict)
    loop_lag_s: float = 0.0
    loop_stalls: int = 0
    late_ticks: int = 0
    skipped_ticks: int = 0
    journal_depth: int = 0
    spooled: int = 0
    outbox_pending: int = 0
    outbox_dead: int = 0


class Metrics:
    """One set of figures with a registry of its own. ``watch`` is a watcher of the bus."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, that says when it began
        self.registry = CollectorRegistry()
        self._reading = threading.Lock()
        self._figures = _FiguresCollector()
        self._bounded: dict[str, set[str]] = {}
        self._running: dict[str, Direction] = {}
        self._providers: dict[str, str] = {}
        self._make_call_metrics()
        self._make_media_metrics()
        self._make_server_metrics()
        self.registry.register(self._figures)
        ProcessCollector(registry=self.registry)

    def render(self, figures: ServerFigures) -> bytes:
        """The text of a scrape (``CONTENT_TYPE``). Reads /proc and takes milliseconds: not for the event loop."""
        with self._reading:
            self._figures.take(figures, self._running.copy().values())
            return generate_latest(self.registry)

    # ── told by others ───────────────────────────────────────────────────────────────────────────────────

    def rejected(self, rejected: MessageRejected) -> None:
        """A SIP message was refused or discarded before any call was made of it."""
        status = "none" if rejected.status is None else _status(rejected.status)
        self._refused.labels(self._bound("rule", rejected.rule), status).inc()

    def lagged(self, lag_s: float) -> None:
        self._lag.observe(lag_s)

    def committed(self, events: int, seconds: float) -> None:
        """The journal wrote a batch."""
        self._batch.observe(seconds)
        self._batch_events.inc(events)

    def delivered(self, result: str, seconds: float) -> None:
        """A webhook was tried: ``delivered``, ``retried``, ``dead`` or ``disabled``."""
        self._deliveries.labels(self._bound("result", result)).inc()
        self._delivery.observe(seconds)

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """An HTTP request was answered; ``route`` is the pattern of its path (``/api/calls/{id}``)."""
        known = self._bound("route", route)
        self._requests.labels(known, method if method in METHODS else OTHER, str(status)).inc()
        self._request.labels(known).observe(seconds)

    def watch(self, event: CallEvent) -> None:
        """Every fact of every call."""
        match event.fact:
            case CallArrived(direction=direction):
                self._running[event.call_id] = direction
            case CallEnded():
                self._ended(event.call_id, event.fact)
            case CallAnswered(setup_ms=setup_ms):
                self._setup.labels(self._direction(event)).observe(setup_ms / 1000)
            case CallRefused(status=status, rule=rule):
                self._refused.labels(self._bound("rule", rule), _status(status)).inc()
            case AgentJoined(provider=provider) | ProviderReplaced(by=provider):
                self._providers[event.call_id] = self._bound("provider", provider)
            case TurnSpoken():
                self._spoken(event.call_id, event.fact)
            case InterruptionResumed():
                self._resumed.inc()
            case MediaReported():
                self._reported(event.fact)
            case _:
                self._watch_work(event)

    def _watch_work(self, event: CallEvent) -> None:
        """What is done for a caller beside talking."""
        match event.fact:
            case TransferEnded(mode=mode, outcome=outcome):
                self._transfers.labels(mode, outcome).inc()
            case ToolReturned(is_error=is_error, took_ms=took_ms):
                self._tools.labels("error" if is_error else "ok").observe(took_ms / 1000)
            case ProviderFailed(provider=provider, verdict=verdict):
                self._faults.labels(self._bound("provider", provider), self._bound("verdict", verdict)).inc()
            case _:
                pass

    def _ended(self, call_id: str, ended: CallEnded) -> None:
        direction = self._running.pop(call_id, "inbound")
        self._providers.pop(call_id, None)
        status = "none" if ended.sip_code is None else _status(ended.sip_code)
        self._calls.labels(direction, ended.cause, status).inc()
        self._duration.labels(direction).observe(ended.duration_ms / 1000)

    def _spoken(self, call_id: str, turn: TurnSpoken) -> None:
        self._turns.labels(turn.speaker).inc()
        if turn.interrupted:
            self._interrupted.inc()
        if turn.latency_ms is not None:
            self._latency.labels(self._providers.get(call_id, OTHER)).observe(turn.latency_ms / 1000)

    def _reported(self, media: MediaReported) -> None:
        self._packets.labels("sent").inc(media.packets_sent)
        self._packets.labels("received").inc(media.packets_received)
        self._packets.labels("lost").inc(max(0, media.packets_lost))
        self._packets.labels("concealed").inc(media.concealed_frames)
        self._loss.labels("received").observe(media.loss_percent / 100)
        if media.remote_loss_percent is not None:
            self._loss.labels("sent").observe(media.remote_loss_percent / 100)
        self._jitter.observe(media.jitter_ms / 1000)

    def _direction(self, event: CallEvent) -> Direction:
        return self._running.get(event.call_id, "inbound")

    def _bound(self, label: str, value: str) -> str:
        """``value``, or ``other`` where the label has as many values as it may have."""
        values = self._bounded.setdefault(label, set())
        if value not in values and len(values) >= MAX_VALUES:
            return OTHER
        values.add(value)
        return value

    # ── what there is ────────────────────────────────────────────────────────────────────────────────────

    def _make_call_metrics(self) -> None:
        count, spread = self._counter, self._histogram
        self._calls = count("calls", "Calls that are over.", "direction", "cause", "status")
        self._setup = spread("call_setup_seconds", "From INVITE to answer.", SETUP_S, "direction")
        self._duration = spread("call_duration_seconds", "From answer to end; 0 without one.", DURATION_S, "direction")
        self._refused = count("sip_refused", "SIP requests refused, messages discarded.", "rule", "status")
        self._turns = count("turns", "Utterances.", "speaker")
        self._latency = spread("turn_latency_seconds", "Caller's end to agent's start.", LATENCY_S, "provider")
        self._interrupted = count("turns_interrupted", "Turns of agents that callers cut.")
        self._resumed = count("interruptions_resumed", "Pauses of agents for what was no interruption.")
        self._transfers = count("transfers", "Transfers that are over.", "mode", "outcome")
        self._tools = spread("tool_seconds", "Calls of tools.", DELIVERY_S, "result")
        self._faults = count("provider_faults", "Faults of AI providers.", "provider", "verdict")

    def _make_media_metrics(self) -> None:
        self._packets = self._counter("rtp_packets", "RTP packets of legs that are over.", "way")
        self._loss = self._histogram("rtp_loss_ratio", "Lost share of a leg's packets.", LOSS_RATIO, "way")
        self._jitter = self._histogram("rtp_jitter_seconds", "Jitter of a leg (RFC 3550).", JITTER_S)
        self._lag = self._histogram("loop_lag_seconds", "How late the event loop woke.", LAG_S)

    def _make_server_metrics(self) -> None:
        count, spread = self._counter, self._histogram
        self._batch = spread("journal_batch_seconds", "Transactions of the journal.", BATCH_S)
        self._batch_events = count("journal_events", "Events and states of legs committed.")
        self._deliveries = count("webhook_attempts", "Attempts to deliver a webhook.", "result")
        self._delivery = spread("webhook_attempt_seconds", "Attempts to deliver a webhook.", DELIVERY_S)
        self._requests = count("http_requests", "HTTP requests answered.", "route", "method", "status")
        self._request = spread("http_request_seconds", "HTTP requests answered.", REQUEST_S, "route")

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"offhook_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Iterable[float], *labels: str) -> Histogram:
        return Histogram(f"offhook_{name}", text, labels, registry=self.registry, buckets=tuple(buckets))


class _FiguresCollector(Collector):
    """What is read at a scrape, as gauges."""

    def __init__(self) -> None:
        self.take(ServerFigures(), ())

    def take(self, figures: ServerFigures, running: Iterable[Direction]) -> None:
        self._figures = figures
        self._running = tuple(running)

    def collect(self) -> Iterator[Metric]:
        figures = self._figures
        running: list[str] = list(self._running)
        phases: list[str] = list(figures.trunks.values())
        yield _gauges("info", "The version that runs.", "version", {__version__: 1})
        ways = {way: running.count(way) for way in DIRECTIONS}
        yield _gauges("calls_live", "Calls that are not over.", "direction", ways)
        yield _gauge("taking_calls", "1 while new calls are taken.", figures.taking_calls)
        yield _gauge("draining", "1 while the server waits for its calls to end.", figures.draining)
        states = {phase: phases.count(phase) for phase in PHASES}
        yield _gauges("trunks", "Registrations by state.", "state", states)
        online = {trunk_id: phase == "online" for trunk_id, phase in figures.trunks.items()}
        yield _gauges("trunk_online", "1 while the trunk is registered.", "trunk", online)
        yield _gauge("loop_lag_worst_seconds", "Worst since the last scrape.", figures.loop_lag_s)
        yield _count("loop_stalls", "Times the event loop stood for 50 ms.", figures.loop_stalls)
        yield _count("media_late_ticks", "Media frames sent late.", figures.late_ticks)
        yield _count("media_skipped_ticks", "Media frames never sent.", figures.skipped_ticks)
        yield _gauge("journal_depth", "Events not yet committed.", figures.journal_depth)
        yield _gauge("journal_spooled", "Events that wait for PostgreSQL on disk.", figures.spooled)
        waiting = {"pending": figures.outbox_pending, "dead": figures.outbox_dead}
        yield _gauges("webhook_deliveries", "Webhooks not delivered.", "state", waiting)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"offhook_{name}", text, value=value)


def _gauges(name: str, text: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"offhook_{name}", text, labels=(label,))
    for label_value, value in values.items():
        family.add_metric((label_value,), value)
    return family


def _count(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(f"offhook_{name}", text, value=value)


def _status(code: int) -> str:
    """A SIP status that standards know, else its class: peers may send any number."""
    return str(code) if code in SIP_STATUSES else f"{code // 100}xx"


SIP_STATUSES = frozenset(
    {200, 202, 204, 300, 301, 302, 305, 380, 400, 401, 402, 403, 404, 405, 406, 407, 408, 410, 412, 413, 414, 415, 416}
    | {417, 420, 421, 422, 423, 424, 425, 428, 429, 430, 433, 436, 437, 438, 439, 440, 469, 470, 480, 481, 482, 483}
    | {484, 485, 486, 487, 488, 489, 491, 493, 494, 500, 501, 502, 503, 504, 505, 513, 555, 580}
    | {600, 603, 604, 606, 607, 608}
)
"""IANA's registry of SIP response codes, from 200."""

"""Hands the facts of calls to a thread that makes OpenTelemetry spans of them: the event loop waits for nothing."""

from __future__ import annotations

import importlib
import logging
import queue
import threading
from typing import Protocol

from offhook.model.call_events import CallEvent, DigitReceived, SipMessageReceived
from offhook.model.errors import ConfigError

MAX_WAITING = 10_000
"""Facts handed over and not yet taken: what a hundred calls tell in a minute. More are dropped and counted."""

_log = logging.getLogger("offhook.spans")


class Tracer(Protocol):
    """Makes spans; ``otlp.CallTracer``."""

    def take(self, event: CallEvent) -> None: ...

    def close(self) -> None: ...


class CallSpans:
    """``watch`` is a watcher of the bus."""

    def __init__(self, tracer: Tracer) -> None:
        self.dropped = 0
        self._tracer = tracer
        self._waiting: queue.Queue[CallEvent | None] = queue.Queue(MAX_WAITING)
        self._thread = threading.Thread(target=self._take_on, name="offhook-spans", daemon=True)
        self._thread.start()

    def watch(self, event: CallEvent) -> None:
        """A microsecond on the event loop. What is private by nature is not even handed over."""
        if isinstance(event.fact, DigitReceived | SipMessageReceived):
            return
        try:
            self._waiting.put_nowait(event)
        except queue.Full:
            self.dropped += 1
            if self.dropped == 1:
                _log.warning("calls tell more than spans can be made of: some are incomplete")

    def close(self) -> None:
        """Make and send what is left. Blocks for seconds where the collector is away."""
        self._waiting.put(None)
        self._thread.join()
        self._tracer.close()

    def _take_on(self) -> None:
        while (event := self._waiting.get()) is not None:
            try:
                self._tracer.take(event)
            except Exception:  # a fault in a span costs that span
                _log.exception("no span could be made of a fact")


def open_spans(endpoint: str, service_name: str) -> CallSpans:
    """Raises ``ConfigError`` where the extra is not installed."""
    try:
        otlp = importlib.import_module("offhook.observability.otlp")
    except ImportError:
        fix = "Install the extra: pip install 'offhook[otel]', or empty telemetry.otlp_endpoint"
        raise ConfigError("telemetry.otlp_endpoint", "needs OpenTelemetry, which is not installed", fix) from None
    return CallSpans(otlp.CallTracer(endpoint, service_name))

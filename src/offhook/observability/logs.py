"""Logs: lines for people, or one JSON object a line for machines; both know which call and which trunk it is about.

Call and trunk come from the task that logs (``about_call``), or from ``extra={"call_id": …, "trunk_id": …}``.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

import msgspec

LogFormat = Literal["text", "json"]

SHORT_ID = 8
"""Characters of the call_id shown to people: enough to tell calls apart, and `offhook calls show` takes them."""

LIBRARY_LEVEL = logging.WARNING
"""Of what is not ours: at "info" an HTTP server tells every request, and SQL its statements."""

LIBRARIES = ("aiohttp", "sqlalchemy", "alembic", "opentelemetry", "asyncio", "urllib3", "picows")

_FACTS = ("call_id", "trunk_id", "event")
"""What a record may have beside its message."""

_call_id: ContextVar[str] = ContextVar("call_id", default="")


class _Output(logging.StreamHandler[TextIO]):
    """Ours among the handlers of the root logger."""


def configure_logging(level: str, log_format: LogFormat = "text", stream: TextIO | None = None) -> None:
    """Log to stderr (or ``stream``), one line a record. Called again it replaces what it did before."""
    root = logging.getLogger()
    for earlier in [one for one in root.handlers if isinstance(one, _Output)]:
        root.removeHandler(earlier)
    told = _Output(stream or sys.stderr)
    told.setFormatter(JsonLines() if log_format == "json" else TextLines())
    told.addFilter(_add_call)
    root.addHandler(told)
    root.setLevel(level.upper())
    for name in LIBRARIES:
        logging.getLogger(name).setLevel(max(LIBRARY_LEVEL, root.level))


@contextmanager
def about_call(call_id: str) -> Iterator[None]:
    """What is logged inside, and in every task begun inside, is about this call."""
    token = _call_id.set(call_id)
    try:
        yield
    finally:
        _call_id.reset(token)


def _add_call(record: logging.LogRecord) -> bool:
    if not hasattr(record, "call_id") and (call_id := _call_id.get()):
        record.call_id = call_id
    return True


class TextLines(logging.Formatter):
    """``11:59:02 WARNING offhook.calls [1f0c33aa]: …``"""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s%(about)s: %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        call_id, trunk_id = getattr(record, "call_id", ""), getattr(record, "trunk_id", "")
        about = [call_id[:SHORT_ID]] if call_id else []
        about += [f"trunk {trunk_id}"] if trunk_id else []
        record.about = f" [{' '.join(about)}]" if about else ""
        return super().format(record)


class JsonLines(logging.Formatter):
    """One JSON object a line: time (ISO 8601 in UTC), level, logger, message; call_id, trunk_id, event where known."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line: dict[str, Any] = {"time": at, "level": record.levelname.lower(), "logger": record.name}
        line |= {name: getattr(record, name) for name in _FACTS if getattr(record, name, "")}
        line["message"] = record.getMessage()
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()

"""One JSON file per call in the data folder: ``calls/<call_id>.json``, the record and its events.

Files are written by one thread, so that no disk stalls the loop; each is replaced whole (temporary file,
rename), so that a reader never sees half a record. A database takes this place in a later issue.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import msgspec

from offhook.model.call_events import CallAnswered, CallArrived, CallEnded, CallEvent
from offhook.model.records import CallRecord
from offhook.store.projection import begin, project

_log = logging.getLogger("offhook.store")
_encoder = msgspec.json.Encoder()


@dataclass(slots=True)
class _OpenCall:
    record: CallRecord
    events: list[CallEvent] = field(default_factory=list)


class CallStore:
    """Takes every fact in order; keeps running calls in memory and every call on disk."""

    def __init__(self, folder: Path, *, node_id: str) -> None:
        """Raises ``OSError`` when the folder cannot be made."""
        self._folder = folder / "calls"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._node_id = node_id
        self._open: dict[str, _OpenCall] = {}
        self._writes: SimpleQueue[tuple[Path, bytes] | None] = SimpleQueue()
        self._writer = threading.Thread(target=self._write_files, name="offhook-call-store", daemon=True)
        self._writer.start()
        self.failed_writes = 0

    @property
    def open_calls(self) -> int:
        """Calls that have not ended."""
        return len(self._open)

    def append(self, event: CallEvent) -> None:
        """One more fact; the file is written when the call arrives, is answered and ends."""
        if isinstance(event.fact, CallArrived):
            self._open[event.call_id] = _OpenCall(record=begin(event, event.fact, node_id=self._node_id))
        call = self._open.get(event.call_id)
        if call is None:
            _log.error("event %s of an unknown call %s is not kept", type(event.fact).__name__, event.call_id)
            return
        call.record = project(call.record, event)
        call.events.append(event)
        if isinstance(event.fact, CallArrived | CallAnswered | CallEnded):
            self._writes.put((self._folder / f"{event.call_id}.json", encode(call.record, call.events)))
        if isinstance(event.fact, CallEnded):
            del self._open[event.call_id]

    def close(self) -> None:
        """Write what is pending, then stop. Blocks until the last file is on disk."""
        self._writes.put(None)
        self._writer.join()

    def _write_files(self) -> None:
        while (write := self._writes.get()) is not None:
            path, document = write
            try:
                temporary = path.with_suffix(".tmp")
                temporary.write_bytes(document)
                temporary.replace(path)
            except OSError as error:
                self.failed_writes += 1
                _log.error("call record %s was not written: %s", path.name, error)


def encode(record: CallRecord, events: list[CallEvent]) -> bytes:
    """The file's JSON: the record's fields, and ``events`` with their kind as ``type``."""
    document: dict[str, Any] = msgspec.to_builtins(record)
    document["events"] = [event_document(event) for event in events]
    return msgspec.json.format(_encoder.encode(document), indent=1)


def event_document(event: CallEvent) -> Mapping[str, Any]:
    """An event as JSON-able values: the envelope, ``type`` and the fact's own fields."""
    return {
        "seq": event.seq,
        "at": event.at,
        "leg_id": event.leg_id,
        "type": type(event.fact).__name__,
        **msgspec.to_builtins(event.fact),
    }

"""One JSON file per call in the data folder: ``calls/<call_id>.json``, the record and its events.

Files are encoded and written by one thread, so that no disk stalls the loop; each is replaced whole (temporary
file, rename), so that a reader never sees half a record. A database takes this place in a later issue.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from offhook.model.call_events import CallAnswered, CallArrived, CallEnded, CallEvent, TransferEnded, WayTaken
from offhook.model.records import CallRecord
from offhook.store.facts import event_document
from offhook.store.projection import begin, project
from offhook.store.text import printable_document

_log = logging.getLogger("offhook.store")
_encoder = msgspec.json.Encoder()

GATHER_S = 0.1
"""Facts of a call this close together become one write: of the 0.2 ms of CPU that arrival, answer and end of a
call take each, a third or more is spared. What a process that is killed did not write is no more than this.
"""

_Snapshot = tuple[CallRecord, tuple[CallEvent, ...]]


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
        self._unwritten: dict[str, _Snapshot] = {}  # the latest of each call; the writer takes them out
        self._closing = threading.Event()
        self._writer = threading.Thread(target=self._write_files, name="offhook-call-store", daemon=True)
        self._writer.start()
        self.failed_writes = 0

    @property
    def open_calls(self) -> int:
        """Calls that have not ended."""
        return len(self._open)

    def append(self, event: CallEvent) -> None:
        """One more fact; the file is written within ``GATHER_S`` when the call arrives, goes out, is answered, ends."""
        if isinstance(event.fact, CallArrived):
            self._open[event.call_id] = _OpenCall(record=begin(event, event.fact, node_id=self._node_id))
        call = self._open.get(event.call_id)
        if call is None:
            _log.error("event %s of an unknown call %s is not kept", type(event.fact).__name__, event.call_id)
            return
        call.record = project(call.record, event)
        call.events.append(event)
        if isinstance(event.fact, CallArrived | WayTaken | CallAnswered | TransferEnded | CallEnded):
            self._unwritten[event.call_id] = (call.record, tuple(call.events))
        if isinstance(event.fact, CallEnded):
            del self._open[event.call_id]

    async def kept(self, event: CallEvent) -> None:
        """At once: files are replaced whole within ``GATHER_S``."""

    def save_leg(self, call_id: str, leg_id: str, saved: bytes | None) -> None:
        """Not kept in files."""

    def close(self) -> None:
        """Write what is pending, then stop. Blocks until the last file is on disk."""
        self._closing.set()
        self._writer.join()

    def _write_files(self) -> None:
        while not self._closing.wait(GATHER_S):
            self._write_latest()
        self._write_latest()

    def _write_latest(self) -> None:
        while self._unwritten:
            call_id, (record, events) = self._unwritten.popitem()
            path = self._folder / f"{call_id}.json"
            try:
                _replace(path, encode(record, events))
            except Exception as error:  # a record that cannot be encoded or written is no reason to stop writing
                self.failed_writes += 1
                _log.error("call record %s was not written: %s", path.name, error)


def _replace(path: Path, document: bytes) -> None:
    """Raises ``OSError``."""
    temporary = path.with_suffix(".tmp")
    with open(temporary, "wb", buffering=0) as file:  # one write: a fifth less than Path.write_bytes takes
        file.write(document)
    os.replace(temporary, path)


def encode(record: CallRecord, events: Iterable[CallEvent]) -> bytes:
    """The file's JSON: the record's fields, and ``events`` with their kind as ``type``."""
    document: dict[str, Any] = msgspec.to_builtins(record)
    document["events"] = [event_document(event) for event in events]
    try:
        encoded = _encoder.encode(document)
    except UnicodeEncodeError:  # octets of a peer that are no UTF-8
        encoded = _encoder.encode(printable_document(document))
    return msgspec.json.format(encoded, indent=1)

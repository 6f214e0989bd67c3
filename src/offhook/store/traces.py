"""SIP messages of each call: ``traces/<digest of the Call-ID>.jsonl``, one line a message, appended as they come.

The loop only puts messages in line; a thread redacts and writes them. What belongs to no call (scanners, keep-alives,
registrations) is remembered for a while, in case a call comes of it, and then dropped.
"""

from __future__ import annotations

import base64
import binascii
import logging
import os
import threading
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Literal

import msgspec

from offhook.model.call_events import CallArrived, CallEnded, CallEvent, WayTaken
from offhook.signaling.trace import TraceRecord, redacted, sip_call_id_of
from offhook.sip.events import Address, Flow, Transport
from offhook.store.text import printable

GATHER_S = 0.25
"""Messages this close together become one write: the five of a call's set-up do."""

UNCLAIMED_IDS = 500
UNCLAIMED_MESSAGES = 8
"""Of each Call-ID that no call has claimed yet: an INVITE is claimed within the same turn of the loop."""

UNCLAIMED_BYTES = 2_000_000
"""Of all of them: 500 INVITEs of 1.3 KB, each with a challenge and its ACK."""

ENDED_IDS = 5_000
"""Of calls that are over, for their last answers, which come within 32 s (RFC 3261 §17.1.1.2): 150 calls a second."""

WAITING_BYTES = 16_000_000
"""For the thread to write; beyond, the disk is too slow and messages are dropped and counted."""

TRACE_BYTES = 2_000_000
"""Of one Call-ID on disk: a re-INVITE every few seconds for an hour. The first are kept: they say why."""

FILES = 20_000
FOLDER_BYTES = 500_000_000
"""Kept, by whichever is reached first; those that were not written to for the longest time go. An ordinary call takes
10 KB."""

_log = logging.getLogger("offhook.store")


class _Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message in the file. ``text`` where it is UTF-8, else ``base64``."""

    at: float
    direction: Literal["received", "sent"]
    transport: Transport
    local: tuple[str, int]
    remote: tuple[str, int]
    text: str = ""
    base64: str = ""
    interface: str = ""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_Line)


class TraceStore:
    """``record`` is the endpoint's ``Trace``; ``note`` watches the bus."""

    def __init__(self, folder: Path) -> None:
        """Raises ``OSError`` when the folder cannot be made."""
        self._unclaimed = _Unclaimed()
        self._calls: dict[str, list[str]] = {}  # running ones, with their Call-IDs
        self._running: dict[str, int] = {}  # Call-IDs, with how many calls have them: one to ourselves is two
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._waiting: deque[tuple[str, TraceRecord]] = deque()
        self._put_bytes = 0  # counted by the loop alone
        self._taken_bytes = 0  # counted by the thread alone
        self._folder = _TraceFolder(folder / "traces")
        self._closing = threading.Event()
        self._complained = False
        self.dropped = 0
        self._writer = threading.Thread(target=self._write_files, name="offhook-trace-store", daemon=True)
        self._writer.start()

    def record(self, record: TraceRecord) -> None:
        """One message; a few microseconds on the event loop."""
        call_id = sip_call_id_of(record.data)
        if call_id in self._running or call_id in self._ended:
            self._put(call_id, record)
        else:
            self._unclaimed.add(call_id, record)

    def note(self, event: CallEvent) -> None:
        """A call that begins claims its messages; one that has ended lets go of them, in a while."""
        match event.fact:
            case CallArrived(sip_call_id=call_id) | WayTaken(sip_call_id=call_id):
                if call_id:
                    self._claim(event.call_id, call_id)
            case CallEnded():
                for call_id in self._calls.pop(event.call_id, ()):
                    self._release(call_id)
            case _:
                pass

    def close(self) -> None:
        """Write what is pending, then stop. Blocks until it is on disk."""
        self._closing.set()
        self._writer.join()

    def _claim(self, our_call_id: str, call_id: str) -> None:
        claimed = self._calls.setdefault(our_call_id, [])
        if call_id in claimed:
            return
        claimed.append(call_id)
        self._ended.pop(call_id, None)
        self._running[call_id] = self._running.get(call_id, 0) + 1
        for record in self._unclaimed.take(call_id):
            self._put(call_id, record)

    def _release(self, call_id: str) -> None:
        others = self._running.pop(call_id) - 1
        if others:
            self._running[call_id] = others
            return
        self._ended[call_id] = None
        while len(self._ended) > ENDED_IDS:
            self._ended.popitem(last=False)

    def _put(self, call_id: str, record: TraceRecord) -> None:
        if self._put_bytes - self._taken_bytes + len(record.data) > WAITING_BYTES:
            self.dropped += 1
            return
        self._put_bytes += len(record.data)
        self._waiting.append((call_id, record))

    # ── on the thread ──

    def _write_files(self) -> None:
        self._guarded(self._folder.look)
        while not self._closing.wait(GATHER_S):
            self._write_waiting()
        self._write_waiting()

    def _write_waiting(self) -> None:
        calls: defaultdict[str, list[TraceRecord]] = defaultdict(list)
        for _ in range(len(self._waiting)):
            call_id, record = self._waiting.popleft()
            self._taken_bytes += len(record.data)
            calls[call_id].append(record)
        for call_id, records in calls.items():
            self._guarded(self._folder.append, file_name(call_id), records)

    def _guarded(self, write: Callable[..., None], *arguments: object) -> None:
        """What cannot be written costs the trace alone, and is told once."""
        try:
            write(*arguments)
        except Exception as error:  # of whatever kind: the thread goes on with the next call
            if not self._complained:
                self._complained = True
                _log.error("SIP traces are not written: %s", error)


class _Unclaimed:
    """The latest messages of no call, by Call-ID; the oldest ids go first."""

    def __init__(self) -> None:
        self._by_id: OrderedDict[str, list[TraceRecord]] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._by_id)

    def add(self, call_id: str, record: TraceRecord) -> None:
        known = self._by_id.setdefault(call_id, [])
        if len(known) >= UNCLAIMED_MESSAGES:
            return
        known.append(record)
        self._bytes += len(record.data)
        while len(self._by_id) > UNCLAIMED_IDS or self._bytes > UNCLAIMED_BYTES:
            self.take(next(iter(self._by_id)))

    def take(self, call_id: str) -> list[TraceRecord]:
        """No longer kept here."""
        records = self._by_id.pop(call_id, [])
        self._bytes -= sum(len(record.data) for record in records)
        return records


class _TraceFolder:
    """The files and their sizes, those written last at the end; for one thread. Each method raises ``OSError``."""

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._bytes = 0

    def look(self) -> None:
        """What an earlier process left here."""
        with os.scandir(self._path) as found:
            files = sorted((file.stat().st_mtime, file.name, file.stat().st_size) for file in found)
        for _, name, size in files:
            self._note(name, size)

    def append(self, name: str, records: Iterable[TraceRecord]) -> None:
        size = self._sizes.get(name, 0)
        lines = []
        for record in records:
            if size >= TRACE_BYTES:
                break
            lines.append(_encoded(record))
            size += len(lines[-1])
        if lines:
            with open(self._path / name, "ab", buffering=0) as file:
                file.write(b"".join(lines))
            self._note(name, size)
            self._prune()

    def _note(self, name: str, size: int) -> None:
        self._bytes += size - self._sizes.get(name, 0)
        self._sizes[name] = size
        self._sizes.move_to_end(name)

    def _prune(self) -> None:
        while len(self._sizes) > FILES or self._bytes > FOLDER_BYTES:
            name, size = self._sizes.popitem(last=False)
            self._bytes -= size
            (self._path / name).unlink(missing_ok=True)


def read_trace(folder: Path, sip_call_ids: Iterable[str]) -> list[TraceRecord]:
    """The messages kept under a data folder for these Call-IDs, in the order of time. Raises ``OSError``."""
    records: list[TraceRecord] = []
    for call_id in sip_call_ids:
        file = folder / "traces" / file_name(call_id)
        if file.exists():
            records += _decoded(file.read_bytes())
    return sorted(records, key=lambda record: record.at)


def file_name(sip_call_id: str) -> str:
    """A peer chooses its Call-IDs: as a file name it would lead anywhere."""
    digest = blake2b(printable(sip_call_id).encode(), digest_size=12).hexdigest()
    return f"{digest}.jsonl"


def _encoded(record: TraceRecord) -> bytes:
    data = redacted(record.data)
    flow = record.flow
    try:
        text, raw = data.decode(), ""
    except UnicodeDecodeError:
        text, raw = "", base64.b64encode(data).decode()
    line = _Line(
        at=record.at,
        direction=record.direction,
        transport=flow.transport,
        local=(flow.local.host, flow.local.port),
        remote=(flow.remote.host, flow.remote.port),
        text=text,
        base64=raw,
        interface=flow.interface,
    )
    return _encoder.encode(line) + b"\n"


def _decoded(data: bytes) -> Iterator[TraceRecord]:
    """A line that is not whole, of a process that was killed or a disk that was full, is left out."""
    for raw in data.split(b"\n"):
        try:
            line = _decoder.decode(raw)
            message = line.text.encode() if line.text else base64.b64decode(line.base64)
        except (msgspec.MsgspecError, binascii.Error):
            continue
        flow = Flow(
            transport=line.transport,
            local=Address(*line.local),
            remote=Address(*line.remote),
            interface=line.interface,
        )
        yield TraceRecord(at=line.at, direction=line.direction, flow=flow, data=message)

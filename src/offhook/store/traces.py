"""SIP messages of each call: ``traces/<digest of the Call-ID>.jsonl``, one line a message, appended as they come.

The loop only puts messages in line; a thread redacts and writes them. What belongs to no call (scanners, keep-alives,
registrations) is remembered for a while, in case a call comes of it, and then dropped.
"""

from __future__ import annotations

import base64
import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Literal

import msgspec

from offhook.model.call_events import CallArrived, CallEvent, WayTaken
from offhook.signaling.trace import TraceRecord, redacted, sip_call_id_of
from offhook.sip.events import Address, Flow, Transport

GATHER_S = 0.25
"""Messages this close together become one write: the five of a call's set-up do."""

UNCLAIMED_IDS = 500
UNCLAIMED_MESSAGES = 8
"""Of each Call-ID that no call has claimed yet: an INVITE is claimed within the same turn of the loop."""

CLAIMED_IDS = 20_000
"""Calls whose messages go to their file; one that is over stays for its last answers, until so many others came."""

WAITING_MESSAGES = 20_000
"""For the thread to write; beyond, the disk is too slow and messages are dropped and counted."""

MESSAGES_PER_CALL = 2_000
"""Of one call on disk: re-INVITEs every few seconds for an hour; a peer that floods fills no disk."""

FILES = 20_000
"""Kept; the oldest go. About 200 MB."""

PRUNE_EVERY = 200
"""Writes between two looks at the number of files."""

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
        self._folder = folder / "traces"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._unclaimed: OrderedDict[str, list[TraceRecord]] = OrderedDict()
        self._claimed: OrderedDict[str, int] = OrderedDict()
        self._waiting: deque[tuple[str, TraceRecord]] = deque()
        self._closing = threading.Event()
        self._complained = False
        self._writes = 0
        self.dropped = 0
        self._writer = threading.Thread(target=self._write_files, name="offhook-trace-store", daemon=True)
        self._writer.start()

    def record(self, record: TraceRecord) -> None:
        """One message; a few microseconds on the event loop."""
        call_id = sip_call_id_of(record.data)
        count = self._claimed.get(call_id)
        if count is None:
            self._remember(call_id, record)
        elif count < MESSAGES_PER_CALL:
            self._claimed[call_id] = count + 1
            self._put(call_id, record)

    def note(self, event: CallEvent) -> None:
        """A call that begins claims its messages."""
        fact = event.fact
        if isinstance(fact, CallArrived | WayTaken) and fact.sip_call_id:
            self._claim(fact.sip_call_id)

    def close(self) -> None:
        """Write what is pending, then stop. Blocks until it is on disk."""
        self._closing.set()
        self._writer.join()

    def _claim(self, call_id: str) -> None:
        while len(self._claimed) >= CLAIMED_IDS:
            self._claimed.popitem(last=False)
        early = self._unclaimed.pop(call_id, [])
        self._claimed[call_id] = len(early)
        for record in early:
            self._put(call_id, record)

    def _remember(self, call_id: str, record: TraceRecord) -> None:
        known = self._unclaimed.get(call_id)
        if known is None:
            while len(self._unclaimed) >= UNCLAIMED_IDS:
                self._unclaimed.popitem(last=False)
            self._unclaimed[call_id] = [record]
        elif len(known) < UNCLAIMED_MESSAGES:
            known.append(record)

    def _put(self, call_id: str, record: TraceRecord) -> None:
        if len(self._waiting) < WAITING_MESSAGES:
            self._waiting.append((call_id, record))
        else:
            self.dropped += 1

    # ── on the thread ──

    def _write_files(self) -> None:
        while not self._closing.wait(GATHER_S):
            self._write_waiting()
        self._write_waiting()

    def _write_waiting(self) -> None:
        lines: dict[str, list[bytes]] = {}
        while self._waiting:
            call_id, record = self._waiting.popleft()
            lines.setdefault(call_id, []).append(_encoded(record))
        for call_id, messages in lines.items():
            try:
                with (self._folder / file_name(call_id)).open("ab") as file:
                    file.write(b"".join(messages))
            except OSError as error:
                self._complain(error)
        self._prune(len(lines))

    def _prune(self, written: int) -> None:
        self._writes += written
        if self._writes < PRUNE_EVERY:
            return
        self._writes = 0
        files = list(self._folder.glob("*.jsonl"))
        if len(files) > FILES:
            try:
                files.sort(key=lambda file: file.stat().st_mtime)
                for file in files[: len(files) - FILES]:
                    file.unlink()
            except OSError as error:
                self._complain(error)

    def _complain(self, error: OSError) -> None:
        if not self._complained:
            self._complained = True
            _log.error("SIP traces are not written: %s", error)


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
    digest = blake2b(sip_call_id.encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()
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
    """A last line that is not whole, of a process that was killed, is left out."""
    for raw in data.splitlines():
        try:
            line = _decoder.decode(raw)
        except msgspec.MsgspecError:
            continue
        flow = Flow(
            transport=line.transport,
            local=Address(*line.local),
            remote=Address(*line.remote),
            interface=line.interface,
        )
        data = line.text.encode() if line.text else base64.b64decode(line.base64)
        yield TraceRecord(at=line.at, direction=line.direction, flow=flow, data=data)

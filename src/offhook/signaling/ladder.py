"""A trace as a person reads it: a ladder of arrows between the parties, and the messages below."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence

from offhook.signaling.trace import TraceRecord
from offhook.sip.grammar import format_host

COLUMN_CHARS = 44
"""Between two parties' lines: the longest start line of a usual call fits on an arrow."""

_CONNECTION = re.compile(rb"^c=IN IP[46] (\S+)", re.M)
_AUDIO = re.compile(rb"^m=audio (\d+) \S+ ([^\r\n]*)", re.M)
_CSEQ = re.compile(rb"\ncseq[ \t]*:[ \t]*([^\r\n]*)", re.I)

Note = tuple[float, str]
"""(Unix time, what the call said then), shown between the arrows."""


def ladder(records: Sequence[TraceRecord], notes: Iterable[Note] = ()) -> str:
    """Arrows in the order of time, then every message in full. Times are seconds after the first message."""
    if not records:
        return "nothing was traced\n"
    ordered = sorted(records, key=lambda record: record.at)
    began = ordered[0].at
    peers = list(dict.fromkeys(_peer(record) for record in ordered))
    lines = [time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(began)), "", _heading(peers)]
    rows = [(record.at, _arrow(record, peers)) for record in ordered]
    rows += [(at, f"  ── {text}") for at, text in notes]
    lines += [f"{at - began:9.3f}  {text}" for at, text in sorted(rows, key=lambda row: row[0])]
    for number, record in enumerate(ordered, 1):
        lines += ["", _title(number, record, began), record.data.decode("utf-8", "backslashreplace").rstrip()]
    return "\n".join(line.rstrip().replace("\r", "") for line in lines) + "\n"


def _heading(peers: Sequence[str]) -> str:
    return " " * 11 + "offhook".ljust(COLUMN_CHARS) + "".join(peer.ljust(COLUMN_CHARS) for peer in peers)


def _arrow(record: TraceRecord, peers: Sequence[str]) -> str:
    """An arrow from our line, across those of other peers, to that peer's."""
    width = COLUMN_CHARS * (peers.index(_peer(record)) + 1) - 4
    label = f" {_label(record.data)} "[: width - 2]
    line = label.center(width, "─")
    return f"│{line}▶│" if record.direction == "sent" else f"│◀{line}│"


def _label(data: bytes) -> str:
    """The method, or the status with the method it answers; and where a session description sends audio."""
    start = data.lstrip().split(b"\r\n", 1)[0].decode("utf-8", "backslashreplace")
    if start.startswith("SIP/2.0 "):
        cseq = _CSEQ.search(data)
        method = "" if cseq is None else f" ({cseq[1].decode('ascii', 'replace').split()[-1:] or ['?']})"
        text = start[8:40] + method.replace("['", "").replace("']", "")
    else:
        text = start.partition(" ")[0]
    audio, host = _AUDIO.search(data), _CONNECTION.search(data)
    if audio is None or host is None:
        return text
    return f"{text} audio {host[1].decode('ascii', 'replace')}:{audio[1].decode()}"


def _title(number: int, record: TraceRecord, began: float) -> str:
    flow = record.flow
    where = f"{_peer(record)}, our end {format_host(flow.interface or flow.local.host, flow.local.port)}"
    preposition = "to" if record.direction == "sent" else "from"
    return f"── {number}: {record.at - began:.3f} s, {record.direction} by {flow.transport} {preposition} {where} ──"


def _peer(record: TraceRecord) -> str:
    return format_host(*record.flow.remote)

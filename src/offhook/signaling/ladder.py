"""A trace as a person reads it: a ladder of arrows between us and each peer, and the messages below."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence

from offhook.model.errors import SdpError
from offhook.sdp.description import MediaDescription, SessionDescription, parse
from offhook.sdp.rtp_formats import TELEPHONE_EVENT, direction_of, media_address, payload_formats
from offhook.signaling.trace import TraceRecord
from offhook.sip.grammar import format_host

COLUMN_CHARS = 56
"""Between two parties' lines: the answer to an INVITE, with where it wants its audio, fits on an arrow."""

SHOWN_CODECS = 3
"""Of an offer; softphones list a dozen."""

_STATUS = re.compile(rb"SIP/2\.0 (\d{3}[^\r\n]*)", re.I)
_CSEQ = re.compile(rb"\ncseq[ \t]*:[ \t]*\d+[ \t]+([^\s]+)", re.I)

Note = tuple[float, str]
"""(Unix time, what the call said then), shown between the arrows."""


def ladder(records: Sequence[TraceRecord], notes: Iterable[Note] = ()) -> str:
    """Arrows in the order of time, then every message in full. Times are seconds after the first message.

    What peers send is shown on a terminal: what could steer one is written out as ``\\x1b``.
    """
    if not records:
        return "nothing was traced\n"
    ordered = sorted(records, key=lambda record: record.at)
    began = ordered[0].at
    peers = list(dict.fromkeys(_peer(record) for record in ordered))
    rows = [(record.at, _arrow(record, peers)) for record in ordered]
    rows += [(at, _lifelines(peers) + f" ── {text}") for at, text in notes]
    lines = [time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(began)), "", _heading(peers)]
    lines += [f"{at - began:9.3f}  {_on_a_line(text)}" for at, text in sorted(rows, key=lambda row: row[0])]
    for number, record in enumerate(ordered, 1):
        lines += ["", _title(number, record, began), _shown(record.data).rstrip()]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _heading(peers: Sequence[str]) -> str:
    return " " * 11 + "".join(each.ljust(COLUMN_CHARS) for each in ("offhook", *peers))


def _lifelines(peers: Sequence[str]) -> str:
    return ("│".ljust(COLUMN_CHARS) * len(peers)) + "│"


def _arrow(record: TraceRecord, peers: Sequence[str]) -> str:
    """An arrow from our line, across those of other peers, to that peer's."""
    end = COLUMN_CHARS * (peers.index(_peer(record)) + 1)
    width = end - 3
    label = _label(record.data)
    label = label if len(label) <= width - 4 else label[: width - 5] + "…"
    shaft = f" {label} ".center(width, "─")
    arrow = f"│{shaft}─▶" if record.direction == "sent" else f"│◀─{shaft}"
    return arrow + _lifelines(peers)[end:]


def _label(data: bytes) -> str:
    """The method, or the status with the method it answers; and what a session description says of the audio."""
    status, cseq = _STATUS.match(data.lstrip()), _CSEQ.search(data)
    if status is None:
        start = _text(data.lstrip().split(b" ", 1)[0].split(b"\r\n", 1)[0])
    else:
        start = _text(status[1]) + ("" if cseq is None else f" ({_text(cseq[1])})")
    audio = _audio(data.partition(b"\r\n\r\n")[2])
    return f"{start} {audio}" if audio else start


def _audio(body: bytes) -> str:
    """Where it wants audio, in which codecs, and whether it is held; "" for no session description."""
    try:
        session = parse(body)
    except SdpError:
        return ""
    return next((_stream(session, media) for media in session.media if media.kind == "audio"), "")


def _stream(session: SessionDescription, media: MediaDescription) -> str:
    host, port = media_address(session, media) or ("?", media.port)
    codecs = [each.name for each in payload_formats(media).values() if each.name.lower() != TELEPHONE_EVENT]
    listed = ",".join(codecs[:SHOWN_CODECS]) + (",…" if len(codecs) > SHOWN_CODECS else "")
    direction = direction_of(session, media)
    return f"audio {format_host(host, port)} {listed}" + ("" if direction == "sendrecv" else f" {direction}")


def _title(number: int, record: TraceRecord, began: float) -> str:
    flow = record.flow
    where = f"{_peer(record)}, our end {format_host(flow.bind_host, flow.local.port)}"
    preposition = "to" if record.direction == "sent" else "from"
    return f"── {number}: {record.at - began:.3f} s, {record.direction} by {flow.transport} {preposition} {where} ──"


def _peer(record: TraceRecord) -> str:
    return format_host(*record.flow.remote)


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "backslashreplace")


def _shown(data: bytes) -> str:
    return "\n".join(_on_a_line(line) for line in _text(data).replace("\r\n", "\n").split("\n"))


def _on_a_line(text: str) -> str:
    """Without what moves a cursor, turns the direction of writing, or ends the line."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one == "\t" else ascii(one)[1:-1] for one in text)

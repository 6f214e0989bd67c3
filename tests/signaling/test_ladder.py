"""A trace as text: arrows, notes, messages."""

from __future__ import annotations

import pytest
from tests.signaling.wire import request

from offhook.signaling.ladder import COLUMN_CHARS, ladder
from offhook.signaling.trace import TraceRecord
from offhook.sip.events import Address, Flow

FLOW = Flow(transport="UDP", local=Address("10.0.0.1", 5060), remote=Address("10.0.0.2", 5070))
SDP = b"v=0\r\no=- 1 1 IN IP4 h\r\ns=-\r\nc=IN IP4 192.0.2.5\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0 101\r\n"
EVENTS = b"a=rtpmap:101 telephone-event/8000\r\n"
OK = b"SIP/2.0 200 OK\r\nCSeq: 1 INVITE\r\n\r\n"
TIME_CHARS = 11
HEADING_LINES = 3


def record(at: float, data: bytes, *, sent: bool = False, remote: str = "10.0.0.2") -> TraceRecord:
    flow = Flow(transport="UDP", local=FLOW.local, remote=Address(remote, 5070))
    return TraceRecord(at=at, direction="sent" if sent else "received", flow=flow, data=data)


def arrow(data: bytes) -> str:
    """The label on the only arrow."""
    return ladder([record(1.0, data)]).splitlines()[HEADING_LINES][TIME_CHARS:].strip("│◀─▶ ")


def test_messages_are_arrows_in_the_order_of_time() -> None:
    text = ladder([record(100.5, OK, sent=True), record(100.0, request("INVITE", body=SDP))], [(100.25, "told")])
    first, note, second = text.splitlines()[3:6]
    assert text.startswith("1970-01-01 00:01:40 UTC\n")
    assert first.startswith("    0.000  │◀─")
    assert " INVITE audio 192.0.2.5:4000 PCMU " in first
    assert note == "    0.250  " + "│".ljust(COLUMN_CHARS) + "│ ── told"
    assert second.startswith("    0.500  │──")
    assert " 200 OK (INVITE) " in second
    assert second.endswith("─▶│")


def test_each_peer_has_its_column_and_each_message_its_text() -> None:
    text = ladder([record(1.0, OK), record(2.0, OK, sent=True, remote="10.0.0.3")])
    heading, near, far = text.splitlines()[2:5]
    assert [heading.index(one) for one in ("offhook", "10.0.0.2:5070", "10.0.0.3:5070")] == [
        TIME_CHARS,
        TIME_CHARS + COLUMN_CHARS,
        TIME_CHARS + 2 * COLUMN_CHARS,
    ]
    assert [at for at, one in enumerate(near) if one == "│"] == [TIME_CHARS + n * COLUMN_CHARS for n in (0, 1, 2)]
    assert [at for at, one in enumerate(far) if one == "│"] == [TIME_CHARS + n * COLUMN_CHARS for n in (0, 2)]
    assert far[TIME_CHARS + 2 * COLUMN_CHARS - 1] == "▶"
    assert "── 2: 1.000 s, sent by UDP to 10.0.0.3:5070, our end 10.0.0.1:5060 ──\nSIP/2.0 200 OK" in text


@pytest.mark.parametrize(
    ("body", "label"),
    [
        (SDP + EVENTS, "INVITE audio 192.0.2.5:4000 PCMU"),
        (SDP + b"c=IN IP4 192.0.2.9\r\n", "INVITE audio 192.0.2.9:4000 PCMU"),
        (SDP + b"a=sendonly\r\n", "INVITE audio 192.0.2.5:4000 PCMU sendonly"),
        (SDP.replace(b"0 101", b"0 8 9 18"), "INVITE audio 192.0.2.5:4000 PCMU,PCMA,G722,…"),
        (SDP.replace(b"m=audio", b"m=video"), "INVITE"),
        (b"no session description", "INVITE"),
        (b"", "INVITE"),
    ],
)
def test_what_is_said_of_the_audio_stands_on_the_arrow(body: bytes, label: str) -> None:
    assert arrow(request("INVITE", body=body)) == label


def test_a_label_longer_than_its_arrow_is_cut() -> None:
    line = ladder([record(1.0, b"SIP/2.0 500 " + b"very " * 40 + b"bad\r\n\r\n")]).splitlines()[HEADING_LINES]
    assert len(line) == TIME_CHARS + COLUMN_CHARS + 1
    assert line[TIME_CHARS:].startswith("│◀── 500 very very")
    assert line.endswith("… ─│")


def test_what_is_no_sip_is_shown_all_the_same() -> None:
    assert "\\xff" in ladder([record(1.0, b"\xff\x00 rubbish")])
    assert arrow(b"") == ""
    assert ladder([]) == "nothing was traced\n"


@pytest.mark.parametrize("evil", ["\x1b[2J", "\r", "\x9b31m", "\u202e", "\x00", "\u2028"])
def test_no_peer_steers_the_reader_s_terminal(evil: str) -> None:
    data = f"SIP/2.0 200 O{evil}K\r\nX: {evil}\r\n\r\n{evil}".encode()
    text = ladder([record(1.0, data)], [(1.0, f"a{evil}b\nforged")])
    assert all(one.isprintable() or one == "\n" for one in text)
    escaped = ascii(evil[0])[1:-1]
    assert text.partition("── 1:")[2].count(escaped) == 3
    assert f"── a{escaped}" in text
    assert "\nforged" not in text

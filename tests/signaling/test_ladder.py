"""A trace as text: arrows, notes, messages."""

from __future__ import annotations

from tests.signaling.wire import request

from offhook.signaling.ladder import ladder
from offhook.signaling.trace import TraceRecord
from offhook.sip.events import Address, Flow

FLOW = Flow(transport="UDP", local=Address("10.0.0.1", 5060), remote=Address("10.0.0.2", 5070))
SDP = b"v=0\r\nc=IN IP4 192.0.2.5\r\nm=audio 4000 RTP/AVP 0\r\n"
OK = b"SIP/2.0 200 OK\r\nCSeq: 1 INVITE\r\n\r\n"


def record(at: float, data: bytes, *, sent: bool = False, remote: str = "10.0.0.2") -> TraceRecord:
    flow = Flow(transport="UDP", local=FLOW.local, remote=Address(remote, 5070))
    return TraceRecord(at=at, direction="sent" if sent else "received", flow=flow, data=data)


def test_messages_are_arrows_in_the_order_of_time() -> None:
    text = ladder([record(100.5, OK, sent=True), record(100.0, request("INVITE", body=SDP))], [(100.25, "told")])
    first, note, second = text.splitlines()[3:6]
    assert first.startswith("    0.000  │◀─")
    assert "INVITE audio 192.0.2.5:4000" in first
    assert note == "    0.250    ── told"
    assert second.startswith("    0.500  │──")
    assert "200 OK (INVITE)" in second
    assert second.endswith("▶│")


def test_each_peer_has_its_column_and_each_message_its_text() -> None:
    text = ladder([record(1.0, OK), record(2.0, OK, sent=True, remote="10.0.0.3")])
    heading, near, far = text.splitlines()[2:5]
    assert heading.split() == ["offhook", "10.0.0.2:5070", "10.0.0.3:5070"]
    assert len(far) > len(near)
    assert "── 2: 1.000 s, sent by UDP to 10.0.0.3:5070, our end 10.0.0.1:5060 ──\nSIP/2.0 200 OK" in text


def test_what_is_no_sip_is_shown_all_the_same() -> None:
    assert "\\xff" in ladder([record(1.0, b"\xff\x00 rubbish")])
    assert ladder([]) == "nothing was traced\n"

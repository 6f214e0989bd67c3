"""SIP messages on disk: those of calls, whole, without secrets, within bounds."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.signaling.wire import request

from offhook.model.call_events import CallArrived, CallEvent, WayTaken
from offhook.signaling.trace import TraceRecord
from offhook.sip.events import Address, Flow
from offhook.store import traces as module
from offhook.store.traces import TraceStore, read_trace

FLOW = Flow(
    transport="UDP", local=Address("203.0.113.7", 5060), remote=Address("192.0.2.1", 5070), interface="10.0.0.1"
)


def message(call_id: str, *, at: float = 1.0, data: bytes = b"") -> TraceRecord:
    return TraceRecord(at=at, direction="received", flow=FLOW, data=data or request("INVITE", call_id=call_id))


def arrived(call_id: str) -> CallEvent:
    fact = CallArrived(
        direction="inbound", from_uri="a", to_uri="b", sip_call_id=call_id, transport="UDP", remote_address="r"
    )
    return CallEvent(call_id="c", leg_id="l", seq=1, at=0.0, fact=fact)


def test_a_call_s_messages_are_kept_with_what_came_before_it_was_one(tmp_path: Path) -> None:
    store = TraceStore(tmp_path)
    first, second, other = message("mine"), message("mine", at=2.0), message("other")
    store.record(first)
    store.record(other)
    store.note(arrived("mine"))
    store.record(second)
    store.close()
    assert read_trace(tmp_path, ["mine"]) == [first, second]
    assert read_trace(tmp_path, ["other"]) == []


def test_every_way_of_an_outbound_call_is_claimed(tmp_path: Path) -> None:
    store = TraceStore(tmp_path)
    store.record(message("one", at=2.0))
    store.record(message("two", at=1.0))
    for call_id in ("one", "two"):
        fact = WayTaken(sip_call_id=call_id, server="s")
        store.note(CallEvent(call_id="c", leg_id="l", seq=1, at=0.0, fact=fact))
    store.close()
    assert [record.at for record in read_trace(tmp_path, ["one", "two"])] == [1.0, 2.0]


def test_secrets_do_not_reach_the_disk(tmp_path: Path) -> None:
    store = TraceStore(tmp_path)
    secret = request("INVITE", call_id="x").replace(
        b"\r\nContact", b'\r\nAuthorization: Digest response="s3cret"\r\nContact'
    )
    store.record(message("x", data=secret))
    store.note(arrived("x"))
    store.close()
    (file,) = (tmp_path / "traces").iterdir()
    assert b"s3cret" not in file.read_bytes()
    (record,) = read_trace(tmp_path, ["x"])
    assert len(record.data) == len(secret)


def test_octets_that_are_no_text_survive(tmp_path: Path) -> None:
    store = TraceStore(tmp_path)
    raw = message("raw", data=request("INVITE", call_id="raw", body=b"\xff\x00\xfe"))
    store.record(raw)
    store.note(arrived("raw"))
    store.close()
    assert read_trace(tmp_path, ["raw"]) == [raw]


def test_a_call_id_leads_to_no_other_folder(tmp_path: Path) -> None:
    store = TraceStore(tmp_path)
    evil = "../../../evil/\\0"
    store.note(arrived(evil))
    store.record(message(evil, data=b"BYE sip:a SIP/2.0\r\nCall-ID: " + evil.encode() + b"\r\n\r\n"))
    store.close()
    assert [file.parent for file in tmp_path.rglob("*.jsonl")] == [tmp_path / "traces"]
    assert len(read_trace(tmp_path, [evil])) == 1


def test_memory_and_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MESSAGES_PER_CALL", 3)
    monkeypatch.setattr(module, "FILES", 2)
    monkeypatch.setattr(module, "PRUNE_EVERY", 1)
    monkeypatch.setattr(module, "GATHER_S", 60.0)
    store = TraceStore(tmp_path)
    for number in range(module.UNCLAIMED_IDS + 100):
        store.record(message(f"scan{number}"))
    assert len(store._unclaimed) == module.UNCLAIMED_IDS
    for call_id in ("a", "b", "c"):
        store.note(arrived(call_id))
        for _ in range(5):
            store.record(message(call_id))
    store.close()
    assert len(list((tmp_path / "traces").iterdir())) == 2
    assert [len(read_trace(tmp_path, [call_id])) for call_id in ("a", "b", "c")] in ([0, 3, 3], [3, 0, 3], [3, 3, 0])


def test_half_a_line_of_a_killed_process_is_left_out(tmp_path: Path) -> None:
    store = TraceStore(tmp_path)
    store.record(message("x"))
    store.note(arrived("x"))
    store.close()
    (file,) = (tmp_path / "traces").iterdir()
    with file.open("ab") as end:
        end.write(b'{"at":1.0,"direction":"sen')
    assert len(read_trace(tmp_path, ["x"])) == 1


def test_a_disk_that_fails_costs_the_trace_alone_and_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = TraceStore(tmp_path)
    (tmp_path / "traces").rmdir()
    for call_id in ("a", "b"):
        store.note(arrived(call_id))
        store.record(message(call_id))
    store.close()
    assert len([one for one in caplog.records if "not written" in one.getMessage()]) == 1

"""SIP messages on disk: those of calls, whole, without secrets, within bounds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.signaling.wire import request

from offhook.model.call_events import CallArrived, CallEnded, CallEvent, WayTaken
from offhook.signaling.trace import TraceRecord
from offhook.sip.events import Address, Flow
from offhook.store import traces as module
from offhook.store.traces import TraceStore, read_trace

FLOW = Flow(
    transport="UDP", local=Address("203.0.113.7", 5060), remote=Address("192.0.2.1", 5070), interface="10.0.0.1"
)


def message(call_id: str, *, at: float = 1.0, data: bytes = b"") -> TraceRecord:
    return TraceRecord(at=at, direction="received", flow=FLOW, data=data or request("INVITE", call_id=call_id))


def arrived(call_id: str, *, call: str = "c") -> CallEvent:
    fact = CallArrived(
        direction="inbound", from_uri="a", to_uri="b", sip_call_id=call_id, transport="UDP", remote_address="r"
    )
    return CallEvent(call_id=call, leg_id="l", seq=1, at=0.0, fact=fact)


def ended(call: str) -> CallEvent:
    fact = CallEnded(by="caller", phase="up", cause="hangup")
    return CallEvent(call_id=call, leg_id="l", seq=2, at=0.0, fact=fact)


def keep_one(folder: Path, call_id: str) -> None:
    """A whole process' life: one message of one call."""
    store = TraceStore(folder)
    store.note(arrived(call_id))
    store.record(message(call_id))
    store.close()


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


def test_no_crowd_of_others_pushes_a_running_call_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ENDED_IDS", 3)
    store = TraceStore(tmp_path)
    store.note(arrived("long"))
    for number in range(10):
        store.note(arrived(f"short{number}", call=f"c{number}"))
        store.note(ended(f"c{number}"))
        store.record(message(f"short{number}"))
    for number in range(module.UNCLAIMED_IDS + 100):
        store.record(message(f"scan{number}"))
    store.record(message("long"))
    store.record(message("short0"))
    store.close()
    assert len(store._unclaimed) == module.UNCLAIMED_IDS
    assert len(read_trace(tmp_path, ["long"])) == 1
    assert [len(read_trace(tmp_path, [f"short{number}"])) for number in range(10)] == [1] * 10, "the BYE's answer"


def test_a_call_to_ourselves_is_kept_until_both_ends_of_it_are_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ENDED_IDS", 0)
    store = TraceStore(tmp_path)
    for call in ("caller", "callee"):
        store.note(arrived("same", call=call))
    store.note(ended("caller"))
    store.record(message("same", at=1.0))
    store.note(ended("callee"))
    store.record(message("same", at=2.0))
    store.close()
    assert [record.at for record in read_trace(tmp_path, ["same"])] == [1.0]


def test_what_belongs_to_no_call_is_bounded_in_octets(tmp_path: Path) -> None:
    store = TraceStore(tmp_path)
    kept = module.UNCLAIMED_BYTES // (5_000 * module.UNCLAIMED_MESSAGES)
    for number in range(kept + 5):
        for _ in range(module.UNCLAIMED_MESSAGES + 1):
            store.record(message("", data=b"x\r\nCall-ID: %d\r\n" % number + bytes(5_000)))
    for number in range(kept + 5):
        store.note(arrived(str(number)))
    store.close()
    assert read_trace(tmp_path, ["0"]) == []
    latest = [len(read_trace(tmp_path, [str(number)])) for number in range(kept + 5)]
    assert latest[-1] == module.UNCLAIMED_MESSAGES
    assert 0.9 * module.UNCLAIMED_BYTES < sum(latest) * 5_000 <= module.UNCLAIMED_BYTES


def test_a_disk_too_slow_costs_messages_and_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GATHER_S", 60.0)
    monkeypatch.setattr(module, "WAITING_BYTES", 3 * len(message("a").data))
    store = TraceStore(tmp_path)
    store.note(arrived("a"))
    for at in range(5):
        store.record(message("a", at=float(at)))
    store.close()
    assert store.dropped == 2
    assert [record.at for record in read_trace(tmp_path, ["a"])] == [0.0, 1.0, 2.0]


def test_one_call_fills_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TRACE_BYTES", 5_000)
    for run in range(2):
        store = TraceStore(tmp_path)
        store.note(arrived("a"))
        for number in range(50):
            store.record(message("a", at=100.0 * run + number, data=b"x\r\nCall-ID: a\r\n" + b"y" * 900))
        store.close()
    assert [record.at for record in read_trace(tmp_path, ["a"])] == [0.0, 1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize("limit", ["FILES", "FOLDER_BYTES"])
def test_the_oldest_traces_go_with_those_of_earlier_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    for call_id in ("a", "b", "c"):
        keep_one(tmp_path, call_id)
    size = (tmp_path / "traces" / module.file_name("a")).stat().st_size
    for age, call_id in enumerate(("b", "a", "c")):
        os.utime(tmp_path / "traces" / module.file_name(call_id), (1000 + age, 1000 + age))
    monkeypatch.setattr(module, limit, 3 if limit == "FILES" else 3 * size + 50)
    keep_one(tmp_path, "d")
    assert [len(read_trace(tmp_path, [call_id])) for call_id in ("a", "b", "c", "d")] == [1, 0, 1, 1]


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

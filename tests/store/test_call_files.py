"""A call's facts become its record, in memory and on disk."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from offhook.model.call_events import (
    AgentJoined,
    CallAnswered,
    CallArrived,
    CallEnded,
    CallEvent,
    CallFact,
    CallRinging,
    DigitReceived,
    RecordingWritten,
    TransferEnded,
    TransferStarted,
    TurnSpoken,
    WayTaken,
)
from offhook.store.call_files import GATHER_S, CallStore

ARRIVED = CallArrived(
    direction="inbound",
    from_uri="sip:alice@example.com",
    to_uri="sip:demo@example.com",
    sip_call_id="abc@example.com",
    transport="UDP",
    remote_address="192.0.2.1:5060",
)
ENDED = CallEnded(by="caller", phase="up", cause="hangup", duration_ms=4000)


def happened(store: CallStore, *facts: CallFact, call_id: str = "c1") -> None:
    for seq, fact in enumerate(facts, 1):
        store.append(CallEvent(call_id=call_id, leg_id="leg-1", seq=seq, at=1000.0 + seq, fact=fact))


def test_a_whole_call_is_one_file_with_its_record_and_events(tmp_path: Path) -> None:
    store = CallStore(tmp_path, node_id="n1")
    turn = TurnSpoken(speaker="caller", text="what time is it", started_ms=100, ended_ms=900)
    happened(
        store,
        ARRIVED,
        CallRinging(status=180),
        CallAnswered(codec="PCMU", setup_ms=20),
        AgentJoined(agent_id="demo", provider="local"),
        turn,
        DigitReceived(digit="5", duration_ms=100),
        DigitReceived(digit="#", duration_ms=100),
        RecordingWritten(path="recordings/c1.wav", duration_ms=4000),
        ENDED,
    )
    store.close()
    record = json.loads((tmp_path / "calls" / "c1.json").read_text())
    assert record["phase"] == "ended"
    assert (record["ended_by"], record["cause"], record["duration_ms"]) == ("caller", "hangup", 4000)
    assert (record["agent_id"], record["provider"], record["codec"]) == ("demo", "local", "PCMU")
    assert (record["digits"], record["recording"]) == ("5#", "recordings/c1.wav")
    assert [turn["text"] for turn in record["transcript"]] == ["what time is it"]
    assert [event["seq"] for event in record["events"]] == list(range(1, 10))
    assert record["events"][0]["type"] == "CallArrived"


def test_a_transfer_is_in_the_record_and_its_second_leg_changes_nothing_else(tmp_path: Path) -> None:
    store = CallStore(tmp_path, node_id="n1")
    ended = TransferEnded(mode="warm", target="tel:+4930", outcome="busy", sip_code=486, reason="Busy Here")
    happened(
        store,
        ARRIVED,
        CallAnswered(codec="PCMU", setup_ms=20, srtp="AEAD_AES_256_GCM"),
        AgentJoined(agent_id="demo", provider="local"),
        TransferStarted(mode="warm", target="tel:+4930", destination="sales"),
        WayTaken(sip_call_id="second", server="192.0.2.1:5060/UDP"),
        AgentJoined(agent_id="briefer", provider="scripted"),
        ended,
        ENDED,
    )
    store.close()
    record = json.loads((tmp_path / "calls" / "c1.json").read_text())
    assert (record["sip_call_id"], record["agent_id"]) == (ARRIVED.sip_call_id, "demo")
    assert record["srtp"] == "AEAD_AES_256_GCM"
    (transfer,) = record["transfers"]
    assert (transfer["outcome"], transfer["sip_code"], transfer["target"]) == ("busy", 486, "tel:+4930")


def test_an_outbound_call_s_id_is_on_disk_before_anyone_answers(tmp_path: Path) -> None:
    store = CallStore(tmp_path, node_id="n1")
    happened(store, replace(ARRIVED, direction="outbound", sip_call_id=""))
    store.append(CallEvent(call_id="c1", leg_id="", seq=2, at=1.0, fact=WayTaken(sip_call_id="out", server="s")))
    store.close()
    assert json.loads((tmp_path / "calls" / "c1.json").read_text())["sip_call_id"] == "out"


def test_a_peer_s_octets_that_are_no_text_keep_no_call_out_of_the_records(tmp_path: Path) -> None:
    store = CallStore(tmp_path, node_id="n1")
    happened(store, replace(ARRIVED, sip_call_id="\udcff", from_uri="sip:grün@h"), ENDED)
    store.close()
    record = json.loads((tmp_path / "calls" / "c1.json").read_text())
    assert (record["sip_call_id"], record["from_uri"], record["phase"]) == ("\\udcff", "sip:grün@h", "ended")
    assert store.failed_writes == 0


def test_a_running_call_is_on_disk_since_it_arrived(tmp_path: Path) -> None:
    store = CallStore(tmp_path, node_id="n1")
    happened(store, ARRIVED)
    store.close()
    assert json.loads((tmp_path / "calls" / "c1.json").read_text())["phase"] == "arrived"


def test_an_ended_call_is_not_kept_in_memory(tmp_path: Path) -> None:
    store = CallStore(tmp_path, node_id="n1")
    for number in range(10):
        happened(store, ARRIVED, ENDED, call_id=f"c{number}")
    assert store.open_calls == 0
    store.close()
    assert len(list((tmp_path / "calls").glob("*.json"))) == 10
    assert not list((tmp_path / "calls").glob("*.tmp"))


def test_a_fact_of_an_unknown_call_is_reported_and_harms_nothing(tmp_path: Path) -> None:
    store = CallStore(tmp_path, node_id="n1")
    happened(store, ENDED)
    happened(store, ARRIVED, ENDED, call_id="c2")
    store.close()
    assert [path.name for path in (tmp_path / "calls").iterdir()] == ["c2.json"]


def test_a_disk_that_refuses_is_counted_not_raised(tmp_path: Path) -> None:
    store = CallStore(tmp_path, node_id="n1")
    (tmp_path / "calls" / "c1.json").mkdir()
    happened(store, ARRIVED, ENDED)
    happened(store, ARRIVED, ENDED, call_id="c2")
    store.close()
    assert store.failed_writes == 1
    assert json.loads((tmp_path / "calls" / "c2.json").read_text())["phase"] == "ended"


def test_facts_close_together_are_written_once_and_the_last_of_them_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = list[Path]()
    really_replace = os.replace

    def note(temporary: Path, path: Path) -> None:
        really_replace(temporary, path)
        written.append(path)

    monkeypatch.setattr(os, "replace", note)
    store = CallStore(tmp_path, node_id="n1")
    began = time.monotonic()
    happened(store, ARRIVED, CallAnswered(codec="PCMU", setup_ms=20), ENDED)
    while not written:
        assert time.monotonic() < began + GATHER_S + 3
        time.sleep(0.01)
    store.close()
    assert [path.name for path in written] == ["c1.json"]
    assert json.loads(written[0].read_text())["phase"] == "ended"


def test_a_record_that_cannot_be_encoded_is_counted_and_the_next_is_written(tmp_path: Path) -> None:
    store = CallStore(tmp_path, node_id="n1")
    happened(store, ARRIVED, replace(ENDED, reason=object()))  # type: ignore[arg-type]  # a bug of ours
    deadline = time.monotonic() + 3
    while not store.failed_writes:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    happened(store, ARRIVED, ENDED, call_id="c2")
    store.close()
    assert store.failed_writes == 1
    assert [path.name for path in (tmp_path / "calls").iterdir()] == ["c2.json"]

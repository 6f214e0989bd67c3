"""Questions about calls, each answered for one account."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from tests.store.databases import read, write
from tests.store.stories import ANSWERED, ARRIVED, ENDED, JOINED, RECORDED, RINGING, TURN, WHOLE, happened, kept, story

from offhook.model.call_events import CallFact, WayTaken
from offhook.store import calls
from offhook.store.batches import SavedLeg
from offhook.store.calls import CALL_STATUSES, CallFilter, DeletedCall
from offhook.store.database import Database
from offhook.store.nodes import beat
from offhook.store.schema import metadata

EVERY = CallFilter()


def ids(
    database: Database, *, limit: int = 50, offset: int = 0, account_id: str = "default", **wanted: Any
) -> list[str]:
    records, total = read(database, calls.list_calls, account_id, CallFilter(**wanted), limit=limit, offset=offset)
    assert total >= len(records)
    return [record.call_id for record in records]


@pytest.fixture
def several(database: Database) -> Database:
    outbound = replace(ARRIVED, direction="outbound", to_uri="tel:+4930100%", trunk_id="t1", sip_call_id="")
    happened(database, outbound, call_id="c1", at=100)
    happened(database, ARRIVED, RINGING, call_id="c2", at=200)
    happened(database, ARRIVED, RINGING, ANSWERED, JOINED, call_id="c3", at=300)
    happened(database, *WHOLE, call_id="c4", at=400)
    happened(database, ARRIVED, replace(ENDED, cause="refused", sip_code=486), call_id="c5", at=500)
    happened(database, ARRIVED, ANSWERED, replace(ENDED, cause="server_lost"), call_id="c6", at=600)
    happened(database, replace(ARRIVED, account_id="other"), call_id="x1", at=700)
    return database


def test_calls_are_listed_newest_first_in_pages(several: Database) -> None:
    assert ids(several) == ["c6", "c5", "c4", "c3", "c2", "c1"]
    assert ids(several, limit=2, offset=2) == ["c4", "c3"]
    assert read(several, calls.list_calls, "default", EVERY, limit=1)[1] == 6


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"direction": "outbound"}, ["c1"]),
        ({"agent_id": "demo"}, ["c4", "c3"]),
        ({"trunk_id": "t1"}, ["c1"]),
        ({"cause": "refused"}, ["c5"]),
        ({"sip_code": 486}, ["c5"]),
        ({"created_after": 301.0, "created_before": 601.0}, ["c5", "c4"]),
        ({"text": "4930100%"}, ["c1"]),
        ({"text": "ALICE@", "direction": "outbound"}, ["c1"]),
        ({"text": "_"}, []),
    ],
)
def test_a_filter_leaves_only_what_it_names(several: Database, wanted: dict[str, Any], found: list[str]) -> None:
    assert ids(several, **wanted) == found


def test_each_call_has_one_status_and_the_database_agrees(several: Database) -> None:
    by_database = {status: ids(several, status=status) for status in CALL_STATUSES}
    assert by_database == {
        "initiating": ["c1"],
        "ringing": ["c2"],
        "in_progress": ["c3"],
        "completed": ["c4"],
        "failed": ["c6", "c5"],
    }
    records, _ = read(several, calls.list_calls, "default", EVERY, limit=50)
    for record in records:
        assert record.call_id in by_database[calls.status_of(record)]


def test_transcripts_are_added_to_a_list_where_they_are_wanted(several: Database) -> None:
    records, _ = read(several, calls.list_calls, "default", EVERY, limit=50)
    assert [record.transcript for record in records] == [()] * 6
    with_words = read(several, calls.transcripts, records)
    assert {record.call_id: record.transcript for record in with_words if record.transcript} == {"c4": (TURN,)}


def test_events_are_read_on_from_where_one_was(several: Database) -> None:
    events = read(several, calls.call_events_of, "default", "c4", after_seq=2, limit=3)
    assert [event.seq for event in events] == [3, 4, 5]
    assert events == tuple(story(*WHOLE, call_id="c4", at=400)[2:5])


def test_an_event_of_another_version_hides_no_other(several: Database, caplog: pytest.LogCaptureFixture) -> None:
    later = sa.text("UPDATE call_events SET type = 'CallBeamed' WHERE call_id = 'c4' AND seq = 2")
    write(several, lambda connection: connection.execute(later))
    events = read(several, calls.call_events_of, "default", "c4")
    assert [event.seq for event in events] == [1, 3, 4, 5, 6, 7, 8, 9]
    assert "CallBeamed" in caplog.text


@pytest.mark.parametrize("account_id", ["other", "", "%"])
def test_another_account_sees_nothing(several: Database, account_id: str) -> None:
    assert read(several, calls.get_call, account_id, "c4") is None
    assert read(several, calls.call_events_of, account_id, "c4") == ()
    assert read(several, calls.recording_path, account_id, "c4") is None
    assert read(several, calls.find_calls, account_id, "c4") == ()
    assert write(several, calls.delete_call, account_id, "c4") is None
    assert "c4" not in ids(several, account_id=account_id)


def test_a_recording_is_where_it_was_written(several: Database) -> None:
    assert read(several, calls.recording_path, "default", "c4") == RECORDED.path
    assert read(several, calls.recording_path, "default", "c3") is None


def way(sip_call_id: str) -> CallFact:
    return WayTaken(sip_call_id=sip_call_id, server="s")


def test_a_call_is_found_by_the_beginning_of_its_id_or_by_any_of_its_sip_ids(database: Database) -> None:
    outbound = replace(ARRIVED, direction="outbound", sip_call_id="")
    happened(database, replace(outbound), way('fi"rst%'), way("second"), call_id="4f2a-one", at=100)
    happened(database, ARRIVED, call_id="4f2b-two", at=200)
    happened(database, replace(ARRIVED, sip_call_id="\udcff"), call_id="4f2a", at=300)

    def found(told: str) -> list[str]:
        return list(read(database, calls.find_calls, "default", told))

    assert found("4f2b") == ["4f2b-two"]
    assert found("4f") == ["4f2a", "4f2b-two", "4f2a-one"]
    assert found("4f2a") == ["4f2a"], "the whole id means nobody else"
    assert found('fi"rst%') == found("second") == ["4f2a-one"]
    assert found("secon") == found("%") == found("") == []
    assert found(ARRIVED.sip_call_id) == ["4f2b-two"]
    assert found("\udcff") == ["4f2a"]


def test_what_a_process_left_is_its_calls_without_an_end_and_its_saved_legs(database: Database) -> None:
    def leg(call_id: str) -> SavedLeg:
        return SavedLeg(call_id=call_id, leg_id="leg-1", saved=call_id.encode())

    happened(database, ARRIVED, ENDED, call_id="over", at=100)
    kept(database, [*story(ARRIVED, RINGING, ANSWERED, call_id="up", at=200), leg("up")])
    happened(database, ARRIVED, call_id="new", at=300)
    kept(database, [*story(ARRIVED, ANSWERED, ENDED, call_id="no-bye", at=400), leg("no-bye")])
    up, new, without_bye = read(database, calls.unfinished_calls, "n1")
    assert (up.call_id, up.account_id, up.last_seq, up.last_at, up.phase, up.answered_at) == (
        *("up", "default", 3, 203.0, "up", 203.0),
    )
    assert up.legs == {"leg-1": b"up"}
    assert (new.call_id, new.phase, new.answered_at, dict(new.legs)) == ("new", "arrived", None, {})
    assert (without_bye.call_id, without_bye.phase) == ("no-bye", "ended")
    assert read(database, calls.unfinished_calls, "n2") == ()


def test_an_unfinished_call_was_up_as_long_as_its_process_lived(database: Database) -> None:
    happened(database, ARRIVED, RINGING, ANSWERED)
    for beat_at in (2000.0, 2005.0):
        write(database, beat, "n1", beat_at)
    (up,) = read(database, calls.unfinished_calls, "n1")
    assert (up.last_at, up.last_seq) == (2005.0, 3)


def test_a_deleted_call_leaves_no_row_in_any_table(several: Database) -> None:
    happened(several, ARRIVED, way("w1"), way("w2"), RECORDED, ENDED, call_id="gone", at=900)
    left = write(several, calls.delete_call, "default", "gone")
    assert left == DeletedCall(recordings=(RECORDED.path,), sip_call_ids=(ARRIVED.sip_call_id, "w1", "w2"))
    for table in metadata.tables.values():
        if "call_id" in table.c:
            with several.read() as connection:
                rest = connection.execute(table.select().where(table.c.call_id == "gone"))
                assert rest.all() == [], table.name
    assert ids(several) == ["c6", "c5", "c4", "c3", "c2", "c1"]


def test_a_running_call_is_not_deleted(several: Database) -> None:
    assert write(several, calls.delete_call, "default", "c3") is None
    assert read(several, calls.get_call, "default", "c3") is not None

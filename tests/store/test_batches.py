"""A batch of events becomes rows of every table, in one transaction, and once."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sqlalchemy as sa
from tests.store.databases import read
from tests.store.stories import ANSWERED, ARRIVED, DIGIT, ENDED, RECORDED, RINGING, TURN, WHOLE, event, kept, story

from offhook.model.call_events import AgentJoined, CallEvent, TransferEnded, TransferStarted, WayTaken
from offhook.model.records import CallRecord
from offhook.store import calls
from offhook.store.batches import EventRefusedError, SavedLeg
from offhook.store.database import Database
from offhook.store.outbox import DeliveryFilter, NewDelivery, delivery_id, list_deliveries
from offhook.store.schema import metadata


def record(database: Database, call_id: str = "c1") -> CallRecord:
    found = read(database, calls.get_call, "default", call_id)
    assert found is not None
    return found


def events(database: Database, call_id: str = "c1") -> list[CallEvent]:
    return list(read(database, calls.call_events_of, "default", call_id))


def rows(database: Database, table: str) -> int:
    count = sa.select(sa.func.count()).select_from(metadata.tables[table])
    return int(read(database, lambda connection: connection.scalar(count)) or 0)


def told(event: CallEvent, record: CallRecord) -> list[NewDelivery]:
    name = type(event.fact).__name__
    return [
        NewDelivery(
            delivery_id=delivery_id("w1", event.call_id, event.seq, name),
            account_id=record.account_id,
            webhook_id="w1",
            event=name,
            body=f"{record.phase} {record.digits}".encode(),
            created_at=event.at,
            call_id=event.call_id,
            seq=event.seq,
        )
    ]


def test_a_whole_call_in_one_batch_comes_back_as_it_was(database: Database) -> None:
    whole = story(*WHOLE)
    kept(database, whole)
    assert events(database) == whole
    found = record(database)
    assert (found.phase, found.ended_by, found.cause, found.duration_ms, found.spend) == (
        *("ended", "caller", "hangup", 4000, 0.5),
    )
    assert (found.agent_id, found.provider, found.codec, found.digits) == ("demo", "local", "PCMU", "5#")
    assert (found.transcript, found.recording, found.node_id) == ((TURN,), RECORDED.path, "n1")


def test_a_call_goes_on_from_what_the_database_has_of_it(database: Database) -> None:
    for one in story(*WHOLE):
        kept(database, [one])
    assert events(database) == story(*WHOLE)
    assert record(database).transcript == (TURN,)
    assert record(database).digits == "5#"


def test_many_calls_share_a_batch(database: Database) -> None:
    batch = [one for number in range(300) for one in story(ARRIVED, RINGING, ENDED, call_id=f"c{number}")]
    kept(database, batch)
    assert (rows(database, "calls"), rows(database, "call_events")) == (300, 900)
    assert record(database, "c299").phase == "ended"


def test_a_transfer_is_in_the_record_and_its_second_leg_changes_nothing_else(database: Database) -> None:
    ended = TransferEnded(mode="warm", target="tel:+4930", outcome="busy", sip_code=486, reason="Busy Here")
    kept(
        database,
        story(
            ARRIVED,
            replace(ANSWERED, srtp="AEAD_AES_256_GCM"),
            AgentJoined(agent_id="demo", provider="local"),
            TransferStarted(mode="warm", target="tel:+4930", destination="sales"),
            WayTaken(sip_call_id="second", server="192.0.2.1:5060/UDP"),
            AgentJoined(agent_id="briefer", provider="scripted"),
            ended,
        ),
    )
    found = record(database)
    assert (found.sip_call_id, found.agent_id, found.srtp) == (ARRIVED.sip_call_id, "demo", "AEAD_AES_256_GCM")
    assert found.transfers == (ended,)


def test_what_a_peer_sent_that_is_no_text_is_written_out(database: Database) -> None:
    strange = replace(ARRIVED, sip_call_id="\udcff", from_uri="sip:gr\0ün@h", headers=(("X-A", "\0\udc80"),))
    kept(database, story(strange, replace(TURN, text="nul \0")))
    assert (record(database).sip_call_id, record(database).from_uri) == ("\\udcff", "sip:gr\\x00ün@h")
    assert record(database).transcript[0].text == "nul \\x00"
    fact = events(database)[0].fact
    assert getattr(fact, "headers", None) == (("X-A", "\\x00\\udc80"),)


def test_speech_is_kept_among_the_turns_alone(database: Database) -> None:
    kept(database, story(ARRIVED, TURN))
    text = sa.text("SELECT CAST(fact AS TEXT) FROM call_events")
    facts = read(database, lambda connection: connection.scalars(text).all())
    assert TURN.text not in "".join(facts)
    assert events(database)[1].fact == TURN


def test_deliveries_are_written_with_the_event_they_tell_of(database: Database) -> None:
    kept(database, story(ARRIVED, ANSWERED, DIGIT), deliveries=told)
    deliveries, _ = read(database, list_deliveries, "default", DeliveryFilter(), limit=10)
    assert [(one.seq, one.body) for one in reversed(deliveries)] == [(1, b"arrived "), (2, b"up "), (3, b"up 5")]


def test_who_cannot_say_what_happened_keeps_nothing_from_being_kept(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(event: CallEvent, record: CallRecord) -> list[NewDelivery]:
        raise KeyError("a bug of a dialect")

    kept(database, story(ARRIVED, ENDED), deliveries=broken)
    assert record(database).phase == "ended"
    assert "nobody is told of CallEnded" in caplog.text


def test_legs_are_saved_replaced_and_taken_back_in_their_order(database: Database) -> None:
    def legs() -> dict[str, bytes]:
        (call,) = read(database, calls.unfinished_calls, "n1")
        return dict(call.legs)

    def saved(leg_id: str, saved: bytes | None) -> SavedLeg:
        return SavedLeg(call_id="c1", leg_id=leg_id, saved=saved)

    kept(
        database, [*story(ARRIVED), saved("a", b"1"), saved("b", b"\xff\x00"), saved("gone", b"1"), saved("gone", None)]
    )
    assert legs() == {"a": b"1", "b": b"\xff\x00"}
    kept(database, [saved("a", b"2"), saved("b", None)])
    assert legs() == {"a": b"2"}


def test_a_batch_written_twice_changes_nothing_the_second_time(database: Database) -> None:
    entries = story(*WHOLE[:-1])
    kept(database, entries, deliveries=told)
    before = (record(database), events(database), rows(database, "outbox"))
    again = kept(database, [*entries, event(ENDED, 9)], deliveries=told, repeated=True)
    assert [one.seq for one in again.new_deliveries] == [9]
    assert (record(database).digits, record(database).transcript) == (before[0].digits, (TURN,))
    assert record(database).phase == "ended"
    assert events(database) == story(*WHOLE)
    assert rows(database, "outbox") == before[2] + 1


def test_another_event_under_a_number_that_is_taken_is_refused(database: Database) -> None:
    kept(database, story(ARRIVED, RINGING))
    with pytest.raises(EventRefusedError, match="number 2 of call c1"):
        kept(database, [event(ENDED, 2)], repeated=True)
    with pytest.raises(EventRefusedError, match="came after 2"):
        kept(database, [event(ENDED, 2)])
    assert record(database).phase == "ringing"


def test_an_event_of_a_call_that_never_arrived_is_refused(database: Database) -> None:
    with pytest.raises(EventRefusedError, match="has not arrived"):
        kept(database, [*story(ARRIVED, call_id="c2"), event(ENDED, 1)])
    assert rows(database, "calls") == 0, "a batch is written whole, or not at all"


def test_a_batch_takes_a_handful_of_statements(database: Database) -> None:
    statements = list[str]()
    batch = [one for number in range(50) for one in story(*WHOLE, call_id=f"c{number}")]
    kept(database, story(ARRIVED, call_id="warm"))

    def note(*arguments: object) -> None:
        statements.append(str(arguments[2]))

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        kept(database, batch, deliveries=told)
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)
    assert len(statements) <= 6, statements

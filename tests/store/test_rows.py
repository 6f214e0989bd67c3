"""Many rows in one statement, with every type of column that we have."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from tests.store.databases import read, write

from offhook.store.database import Database
from offhook.store.rows import Rows
from offhook.store.schema import call_events, idempotency, outbox

DELIVERIES = Rows(
    outbox,
    ("delivery_id", "account_id", "webhook_id", "call_id", "seq", "event", "body", "state", "due_at", "created_at"),
)
ANSWERS = Rows(
    idempotency,
    ("account_id", "key", "request_digest", "status", "body", "created_at"),
    on_conflict="ON CONFLICT (account_id, key) DO UPDATE SET status = excluded.status",
)
EVENTS = Rows(call_events, ("call_id", "seq", "account_id", "leg_id", "at", "type", "fact"))


def test_every_value_comes_back_as_it_was(database: Database) -> None:
    bodies = [b"", b"\x00\xff", bytes(range(256)) * 40]
    moments = [0.0, 1763722335.123456, 1e-9]
    rows = [
        (f"d{number}", "grün", "", "'\"\\%s:x?", 2**31 - 1, "x", body, "pending", at, at)
        for number, (body, at) in enumerate(zip(bodies, moments, strict=True))
    ]
    write(database, DELIVERIES.insert, rows)
    with database.read() as connection:
        found = connection.execute(sa.select(outbox).order_by(outbox.c.delivery_id)).all()
    assert [bytes(row.body) for row in found] == bodies
    assert [row.due_at for row in found] == moments
    assert {(row.account_id, row.call_id, row.seq, row.attempt) for row in found} == {
        ("grün", "'\"\\%s:x?", 2**31 - 1, 0)
    }


def test_nothing_is_null_and_text_is_json(database: Database) -> None:
    write(database, ANSWERS.insert, [("a", "k", b"", None, None, 1.0)])
    write(database, EVENTS.insert, [("c", 1, "a", "", 1.5, "x", '{"said":"gr\\u00fcn \\"\\u2028","n":[1,null]}')])
    answer = read(database, lambda connection: connection.execute(sa.select(idempotency)).one())
    fact = read(database, lambda connection: connection.scalar(sa.select(call_events.c.fact)))
    assert (answer.status, answer.body) == (None, None)
    assert fact == {"said": 'grün "\u2028', "n": [1, None]}


def test_a_row_that_is_there_is_changed_as_the_clause_says(database: Database) -> None:
    write(database, ANSWERS.insert, [("a", "k", b"1", 100, b"", 1.0)])
    write(database, ANSWERS.insert, [("a", "k", b"2", 200, b"", 2.0), ("a", "other", b"3", 201, b"", 2.0)])
    query = sa.select(idempotency.c.key, idempotency.c.status, idempotency.c.created_at).order_by(idempotency.c.key)
    rows = read(database, lambda connection: connection.execute(query).all())
    assert [tuple(row) for row in rows] == [("k", 200, 1.0), ("other", 201, 2.0)]


def test_one_row_that_is_refused_keeps_all_of_them_out(database: Database) -> None:
    row = ("a", 1, "a", "", 1.0, "x", "{}")
    with pytest.raises(sa.exc.IntegrityError):
        write(database, EVENTS.insert, [("b", *row[1:]), row, row])
    assert read(database, lambda connection: connection.execute(sa.select(call_events)).all()) == []


def test_no_rows_are_no_statement(database: Database) -> None:
    write(database, EVENTS.insert, [])

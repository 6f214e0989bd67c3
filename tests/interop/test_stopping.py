"""A whole server that is told to stop with calls up: what happened to them is kept, and their webhooks are told of it.

``tests/cli/test_stopping.py`` has what the line sees of it.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from tests.cli.test_stopping import BYE_WITHIN_S, CALLS, DRAINING, Stopping
from tests.interop.api_server import ApiServer, api_server
from tests.interop.webhook_receiver import WebhookReceiver, receiving
from tests.kept_calls import kept_calls
from tests.probe.calls import answered, hung_up
from tests.probe.programs import scripted
from tests.probe.wire import Peer

from offhook.store import outbox
from offhook.store.database import Database

AGENTS = (scripted("demo"),)
TOLD_WITHIN_S = 20.0
LOOK_S = 0.1


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[WebhookReceiver]:
    with receiving(tmp_path / "received.jsonl") as one:
        yield one


@contextmanager
def calls_up(folder: Path, receiver: WebhookReceiver) -> Iterator[Stopping]:
    server = ApiServer(folder, agents=AGENTS, webhooks=[receiver.form])
    with ExitStack() as cleanup:
        cleanup.callback(lambda: server.kill() if server.running else None)
        peers = [cleanup.enter_context(closing(Peer())) for _ in range(CALLS)]
        yield Stopping(server, [(peer, answered(peer, server.address)) for peer in peers])


def check(folder: Path, receiver: WebhookReceiver, cause: str) -> None:
    """At its end every call has its end, and a row for its webhook; the next server sends what is left, once."""
    data_dir = folder / "data"
    records = kept_calls(data_dir)
    assert [record["cause"] for record in records] == [cause] * CALLS
    assert all([event["type"] for event in record["events"]].count("CallEnded") == 1 for record in records)
    with closing(Database.open("", data_dir=data_dir)) as database, database.read() as connection:
        rows, total = outbox.list_deliveries(connection, "default", outbox.DeliveryFilter(), limit=10_000)
    assert total == sum(len(record["events"]) for record in records)
    assert {row.state for row in rows} <= {"pending", "delivered"}
    print(f"at the end of the server: {dict(Counter(row.state for row in rows))}")
    with api_server(folder, agents=AGENTS, webhooks=[receiver.form]):
        ends_at = time.monotonic() + TOLD_WITHIN_S
        while (told := len({message.id for message in receiver.received})) < total:
            assert time.monotonic() < ends_at, f"{told} of {total}"
            time.sleep(LOOK_S)
    ids = Counter(message.id for message in receiver.received)
    assert ids.keys() == {row.delivery_id for row in rows}
    assert set(ids.values()) == {1}, "nobody crashed, so nothing is told twice"
    assert kept_calls(data_dir) == records, "the next server found nothing to end"


def test_calls_that_end_by_themselves_while_it_stops(tmp_path: Path, receiver: WebhookReceiver) -> None:
    with calls_up(tmp_path, receiver) as stopping:
        server = stopping.server
        assert isinstance(server, ApiServer)
        stopping.signal(signal.SIGTERM)
        server.says(DRAINING)
        assert [stopping.status(method) for method in ("INVITE", "OPTIONS")] == [503, 503]
        assert server.ask("GET", "/ready").status == 503
        assert server.get("/health") == {"status": "ok"}
        assert server.get("/api/calls?limit=100")["total"] == CALLS
        for peer, dialog in stopping.calls:
            hung_up(peer, server.address, dialog)
        assert server.ends() == 0
        assert "Traceback" not in server.output, server.output
    check(tmp_path, receiver, "hangup")


def test_calls_that_a_second_signal_ends(tmp_path: Path, receiver: WebhookReceiver) -> None:
    with calls_up(tmp_path, receiver) as stopping:
        stopping.signal(signal.SIGTERM)
        stopping.server.says(DRAINING)
        asked = stopping.signal(signal.SIGTERM)
        assert len(stopping.byes()) == CALLS
        assert time.monotonic() - asked < BYE_WITHIN_S
        assert stopping.server.ends() == 0
        assert "Traceback" not in stopping.server.output, stopping.server.output
    check(tmp_path, receiver, "shutdown")

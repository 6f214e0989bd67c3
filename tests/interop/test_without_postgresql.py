"""PostgreSQL is away for a while, under a whole server: calls go on and new ones come, and nothing of them is lost."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from tests.interop import postgres
from tests.interop.api_server import ApiServer, api_server
from tests.interop.test_postgres import go_away
from tests.interop.webhook_receiver import WebhookReceiver, receiving
from tests.kept_calls import kept_calls
from tests.probe.calls import answered, hung_up
from tests.probe.drafts import Dialog
from tests.probe.programs import scripted
from tests.probe.wire import Peer

AGENTS = (scripted("demo"),)
UP_BEFORE = 6
PACE_S = 0.5
SETTLED_WITHIN_S = 40.0
LOOK_S = 0.2

OFFHOOK_NOTICES_S = 8.0
"""A look at the database in 5 s, and what a database that hangs is waited for."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[postgres.Postgres]:
    with postgres.running() as one:
        yield one


class Calls:
    """Calls that are up, each with a peer of its own; and how many there were."""

    def __init__(self, server: ApiServer, cleanup: ExitStack) -> None:
        self._server = server
        self._cleanup = cleanup
        self._up: list[tuple[Peer, Dialog]] = []
        self.made = 0
        self.slowest_s = 0.0

    def one_more(self) -> None:
        """Answered, whatever the database does."""
        peer = self._cleanup.enter_context(closing(Peer()))
        began = time.monotonic()
        self._up.append((peer, answered(peer, self._server.address)))
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)
        self.made += 1

    def one_less(self) -> None:
        """It was still up: its BYE is answered 200, and none came before."""
        peer, dialog = self._up.pop(random.randrange(len(self._up)))
        hung_up(peer, self._server.address, dialog)

    def all_over(self) -> None:
        while self._up:
            self.one_less()


def be_away(server: ApiServer, calls: Calls, seconds: float) -> None:
    """Calls come and go meanwhile; the API and /ready tell what is."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        calls.one_more()
        calls.one_less()
        time.sleep(PACE_S)
    reply = server.ask("GET", "/api/calls")
    assert (reply.status, reply.document["code"]) == (503, "UNAVAILABLE"), reply
    assert int(reply.headers["retry-after"]) > 0
    assert server.ask("GET", "/health").document == {"status": "ok"}
    ready = server.ask("GET", "/ready")
    assert ready.status == 200, ready.body
    assert b"spool" in ready.body
    assert (server.data_dir / "spool.db").exists()


def stay_away(cluster: postgres.Postgres, folder: Path, how: str, seconds: float) -> None:
    url = f"{cluster.database()}?connect_timeout=2"
    with receiving(folder / "received.jsonl") as receiver, ExitStack() as cleanup:
        more = {"database": {"url": url}, "webhooks": [receiver.form]}
        server = cleanup.enter_context(api_server(folder, agents=AGENTS, **more))
        calls = Calls(server, cleanup)
        for _ in range(UP_BEFORE):
            calls.one_more()
        before_s = calls.slowest_s
        come_back = go_away(cluster, how)
        try:
            be_away(server, calls, seconds)
        finally:
            come_back()
        calls.one_more()
        calls.all_over()
        check(server, receiver, url, calls)
        print(f"{how}: {calls.made} calls, slowest answer {calls.slowest_s:.2f} s, {before_s:.2f} s before")
        assert server.ask("GET", "/ready").status == 200
    assert postgres.PASSWORD not in server.output


def check(server: ApiServer, receiver: WebhookReceiver, url: str, calls: Calls) -> None:
    """Every call is in the database with all its events in order, and was told of."""
    end = time.monotonic() + SETTLED_WITHIN_S
    while True:
        records = kept_calls(server.data_dir, url)
        told = {m.document["call_id"] for m in receiver.received if m.document["event"] == "call.ended"}
        ended = {record["call_id"] for record in records if record["phase"] == "ended"}
        if len(ended) == len(told) == calls.made:
            break
        assert time.monotonic() < end, (
            f"{len(ended)} ended, {len(told)} told, of {calls.made}:\n{server.output[-3000:]}"
        )
        time.sleep(LOOK_S)
    assert told == ended
    assert len(records) == calls.made
    assert {record["cause"] for record in records} == {"hangup"}
    for record in records:
        kinds = [event["type"] for event in record["events"]]
        assert [event["seq"] for event in record["events"]] == list(range(1, len(kinds) + 1))
        assert (kinds[0], kinds[-1]) == ("CallArrived", "CallEnded")
        assert [event["at"] for event in record["events"]] == sorted(event["at"] for event in record["events"])


@pytest.mark.parametrize("how", ["stops", "hangs"])
def test_postgresql_is_away_for_seconds(cluster: postgres.Postgres, tmp_path: Path, how: str) -> None:
    stay_away(cluster, tmp_path, how, OFFHOOK_NOTICES_S)


@pytest.mark.soak
@pytest.mark.parametrize("how", ["stops", "crashes", "hangs"])
def test_postgresql_is_away_for_half_a_minute(cluster: postgres.Postgres, tmp_path: Path, how: str) -> None:
    stay_away(cluster, tmp_path, how, 30)

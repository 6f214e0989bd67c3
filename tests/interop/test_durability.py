"""kill -9 of the process that writes, and of the database it writes to: what was acknowledged is there afterwards."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.interop import postgres
from tests.interop.test_postgres import go_away

from offhook.store.calls import get_call, unfinished_calls
from offhook.store.database import Database
from offhook.store.database_url import FILE
from offhook.store.journal_writer import PATIENCE_S
from offhook.store.schema import call_events, calls, outbox, turns
from offhook.store.spool import REFUSED_FILE

ROOT = Path(__file__).parents[2]
BUSY_S = 5.0
"""That a machine with other tests takes longer than it should."""

LIVES_S = (0.05, 0.6)
"""How long a writing process lives before it is killed, at random."""


class Writers:
    """Processes that write to one database, one after another; ``acknowledged`` is what all of them said was kept."""

    def __init__(self, url: str, data_dir: Path) -> None:
        self.url = url
        self.data_dir = data_dir
        self.acknowledged: set[tuple[str, int]] = set()
        self.longest_wait_s = 0.0
        self._number = 0

    def live(self, meanwhile: Callable[[], None], *, seconds: str = "inf") -> None:
        """One process from its first word on, until ``meanwhile`` is over; then it is killed."""
        self._number += 1
        command = [sys.executable, "-m", "tests.interop.event_writer", self.url, str(self.data_dir)]
        command += [f"p{self._number}", seconds]
        said = self.data_dir / "said"
        with said.open("wb") as out:  # a pipe that nobody reads would stop it
            process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=subprocess.PIPE)
        with process:
            assert process.stderr is not None
            while not said.stat().st_size:
                assert process.poll() is None, process.stderr.read().decode()
                time.sleep(0.005)
            meanwhile()
            if seconds == "inf":
                process.kill()
            problems = process.stderr.read().decode()
        if seconds == "inf":
            assert process.returncode == -9, problems
        else:
            assert process.returncode == 0, problems
            self.longest_wait_s = max(self.longest_wait_s, float(problems.split()[-1]))
        for line in said.read_text().splitlines(keepends=True):
            if line.endswith("\n"):  # else it was killed in the middle of a word
                call_id, seq = line.split()
                self.acknowledged.add((call_id, int(seq)))

    def settle(self) -> None:
        """A last process ends what the killed ones left, brings in what they spooled, and stops by itself."""
        self.live(lambda: None, seconds="0.5")

    def check(self) -> None:
        """Nothing acknowledged is lost, no event is missing or doubled, and everything follows from the events."""
        database = Database.open(self.url, data_dir=self.data_dir)
        with closing(database), database.read() as connection:
            rows = connection.execute(sa.select(call_events.c.call_id, call_events.c.seq, call_events.c.type)).all()
            kept = {(row.call_id, row.seq): row.type for row in rows}
            lost = self.acknowledged - kept.keys()
            assert not lost, f"{len(lost)} of {len(self.acknowledged)}: {sorted(lost)[:5]}"
            check_calls(connection, kept)
            left = unfinished_calls(connection, "n1")
            assert {call.call_id for call in left} == unended(kept)
        assert not (self.data_dir / REFUSED_FILE).exists(), (self.data_dir / REFUSED_FILE).read_text()


def check_calls(connection: sa.Connection, kept: dict[tuple[str, int], str]) -> None:
    """Numbers without holes; record, transcript and deliveries as the events have it."""
    of_call: dict[str, list[str]] = {}
    for (call_id, seq), kind in sorted(kept.items()):
        of_call.setdefault(call_id, []).append(kind)
        assert len(of_call[call_id]) == seq, f"number {len(of_call[call_id])} of call {call_id} is missing"
    last = {row[0]: row[1] for row in connection.execute(sa.select(calls.c.call_id, calls.c.last_seq))}
    assert last == {call_id: len(kinds) for call_id, kinds in of_call.items()}
    said = connection.execute(sa.select(turns.c.call_id, sa.func.count()).group_by(turns.c.call_id)).all()
    assert {row[0]: row[1] for row in said} == count(of_call, "TurnSpoken")
    told = connection.execute(sa.select(outbox.c.call_id, sa.func.count()).group_by(outbox.c.call_id)).all()
    assert {row[0]: row[1] for row in told} == count(of_call, "CallEnded")
    for call_id in random.sample(sorted(of_call), min(30, len(of_call))):
        record = get_call(connection, "default", call_id)
        assert record is not None
        assert len(record.digits) == of_call[call_id].count("DigitReceived")
        assert (record.phase == "ended") == ("CallEnded" in of_call[call_id])


def count(of_call: dict[str, list[str]], kind: str) -> dict[str, int]:
    return {call_id: kinds.count(kind) for call_id, kinds in of_call.items() if kind in kinds}


def unended(kept: dict[tuple[str, int], str]) -> set[str]:
    ended = {call_id for (call_id, _), kind in kept.items() if kind == "CallEnded"}
    return {call_id for call_id, _ in kept} - ended


def a_while() -> None:
    time.sleep(random.uniform(*LIVES_S))


def kill_writers_of_sqlite(data_dir: Path, times: int) -> None:
    writers = Writers("", data_dir)
    database = Database.open("", data_dir=data_dir)
    database.migrate()
    database.close()
    for number in range(times):
        writers.live(a_while)
        if number % 10 == 0 or number == times - 1:
            with closing(sqlite3.connect(data_dir / FILE)) as file:
                assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            writers.check()
    writers.settle()
    writers.check()
    print(f"{times} kills, {len(writers.acknowledged)} events acknowledged and all there")
    assert len(writers.acknowledged) > times * 20


def test_a_killed_writer_has_lost_nothing_of_sqlite(tmp_path: Path) -> None:
    kill_writers_of_sqlite(tmp_path, 20)


@pytest.mark.soak
def test_hundreds_of_killed_writers_have_lost_nothing_of_sqlite(tmp_path: Path) -> None:
    kill_writers_of_sqlite(tmp_path, 400)


@pytest.fixture(scope="module")
def durable_cluster() -> Iterator[postgres.Postgres]:
    with postgres.running(durable=True) as one:
        yield one


@pytest.fixture
def writers(durable_cluster: postgres.Postgres, tmp_path: Path) -> Writers:
    return Writers(f"{durable_cluster.database()}?connect_timeout=2", tmp_path)


def kill_one_of_both(cluster: postgres.Postgres, writers: Writers, times: int) -> None:
    """The writer in the end always; PostgreSQL before it half of the times, back again a quarter of the times."""

    for _ in range(times):
        kills, comes_back = random.random() < 0.5, random.random() < 0.5

        def something_happens(kills: bool = kills, comes_back: bool = comes_back) -> None:
            a_while()
            if kills:
                cluster.kill()
                a_while()
            if kills and comes_back:
                cluster.start()
                time.sleep(random.uniform(0, 2.5))  # some of the spool, all of it, or none

        writers.live(something_happens)
        if kills and not comes_back:
            cluster.start()
    writers.settle()
    writers.check()
    print(f"{times} kills, {len(writers.acknowledged)} events acknowledged and all there")


def test_a_killed_writer_and_a_killed_postgresql_have_lost_nothing(
    durable_cluster: postgres.Postgres, writers: Writers
) -> None:
    kill_one_of_both(durable_cluster, writers, 8)


@pytest.mark.soak
def test_hundreds_of_kills_beside_postgresql_have_lost_nothing(
    durable_cluster: postgres.Postgres, writers: Writers
) -> None:
    kill_one_of_both(durable_cluster, writers, 150)


def stay_away(cluster: postgres.Postgres, writers: Writers, how: str, seconds: float) -> None:
    """The writer goes on meanwhile, and its calls arrive all the time."""

    def goes_and_comes_back() -> None:
        time.sleep(0.5)
        come_back = go_away(cluster, how)
        time.sleep(seconds)
        come_back()

    writers.live(goes_and_comes_back, seconds=f"{seconds + 4:g}")
    writers.settle()
    writers.check()
    waited = f"waited {writers.longest_wait_s:.1f} s at the most"
    print(f"away for {seconds:g} s ({how}): {len(writers.acknowledged)} events kept, arrivals {waited}")
    assert writers.longest_wait_s < PATIENCE_S + BUSY_S, waited


@pytest.mark.parametrize("how", ["stops", "crashes", "hangs"])
def test_postgresql_may_be_away_for_seconds(durable_cluster: postgres.Postgres, writers: Writers, how: str) -> None:
    stay_away(durable_cluster, writers, how, 3)


@pytest.mark.soak
@pytest.mark.parametrize("how", ["stops", "crashes", "hangs"])
def test_postgresql_may_be_away_for_half_a_minute(
    durable_cluster: postgres.Postgres, writers: Writers, how: str
) -> None:
    stay_away(durable_cluster, writers, how, 30)

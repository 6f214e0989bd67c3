from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from offhook.bridge.local import worker_pool
from offhook.bridge.local.messages import Recognised, Synthesise
from offhook.bridge.local.worker_pool import MAX_WAITING, WorkerError, WorkerPool

ROOT = Path(__file__).resolve().parents[3]
TOY = "tests.bridge.local.toy_worker"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(ROOT / "src"), str(ROOT))))


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[WorkerPool]:
    workers = WorkerPool(TOY, 1)
    await workers.start()
    yield workers
    await workers.close()


async def ask(pool: WorkerPool, text: str) -> tuple[int, str]:
    """The pid that answered, and what it said."""
    answer = await pool.ask(Synthesise(text=text, encoding="PCMU", sample_rate_hz=8000))
    assert isinstance(answer, Recognised)
    assert answer.text is not None
    pid, _, said = answer.text.partition(" ")
    return int(pid), said


async def test_answers_each_request_in_order(pool: WorkerPool) -> None:
    answers = await asyncio.gather(*(ask(pool, str(number)) for number in range(20)))
    assert [said for _, said in answers] == [str(number) for number in range(20)]
    assert {pid for pid, _ in answers} == set(pool.pids)


async def test_several_workers_share_the_requests() -> None:
    pool = WorkerPool(TOY, 2)
    await pool.start()
    answers = await asyncio.gather(*(ask(pool, "x") for _ in range(50)))
    assert {pid for pid, _ in answers} == set(pool.pids)
    assert len(pool.pids) == 2
    await pool.close()


async def test_a_request_that_fails_harms_nobody_else(pool: WorkerPool) -> None:
    before = pool.pids
    with pytest.raises(WorkerError, match="ValueError: on purpose"):
        await ask(pool, "fail")
    assert await ask(pool, "next") == (before[0], "next")


async def test_a_worker_that_dies_fails_its_request_and_is_replaced(pool: WorkerPool) -> None:
    before = pool.pids
    outcomes = await asyncio.gather(ask(pool, "die"), ask(pool, "after"), return_exceptions=True)
    assert isinstance(outcomes[0], WorkerError)
    assert "died" in str(outcomes[0])
    assert isinstance(outcomes[1], tuple)
    assert outcomes[1][1] == "after"
    assert outcomes[1][0] not in before


async def test_an_idle_worker_that_was_killed_costs_one_request(pool: WorkerPool) -> None:
    os.kill(pool.pids[0], signal.SIGKILL)
    with pytest.raises(WorkerError):
        await ask(pool, "lost")
    assert (await ask(pool, "found"))[1] == "found"


async def test_a_worker_that_hangs_is_replaced(monkeypatch: pytest.MonkeyPatch, pool: WorkerPool) -> None:
    before = pool.pids
    monkeypatch.setattr(worker_pool, "REQUEST_DEADLINE_S", 0.3)
    with pytest.raises(WorkerError, match=r"no answer within 0\.3 s"):
        await ask(pool, "hang")
    monkeypatch.setattr(worker_pool, "REQUEST_DEADLINE_S", 20.0)
    pid, said = await ask(pool, "after")
    assert said == "after"
    assert pid not in before
    assert not psutil.pid_exists(before[0])


async def test_what_a_library_prints_does_not_disturb_the_answers(pool: WorkerPool) -> None:
    assert (await ask(pool, "print"))[1] == "print"
    assert (await ask(pool, "next"))[1] == "next"


async def test_a_full_queue_refuses(pool: WorkerPool) -> None:
    asked = [asyncio.create_task(ask(pool, str(number))) for number in range(MAX_WAITING + 5)]
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, WorkerError)]
    assert len(refused) == 5
    assert all("64 requests are waiting" in str(error) for error in refused)


async def test_a_cancelled_request_is_not_begun(pool: WorkerPool) -> None:
    first = asyncio.create_task(ask(pool, "first"))
    second = asyncio.create_task(ask(pool, "die"))
    await asyncio.sleep(0)
    second.cancel()
    before = pool.pids
    assert (await first)[1] == "first"
    assert await ask(pool, "third") == (before[0], "third")


async def test_workers_ignore_ctrl_c(pool: WorkerPool) -> None:
    os.kill(pool.pids[0], signal.SIGINT)
    assert await ask(pool, "still here") == (pool.pids[0], "still here")


async def test_a_worker_that_cannot_start_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_WORKER_BROKEN", "1")
    pool = WorkerPool(TOY, 2)
    with pytest.raises(WorkerError, match="died"):
        await pool.start()
    assert pool.pids == ()


async def test_closing_leaves_no_process_and_no_descriptor() -> None:
    await _started_and_closed()  # what the loop keeps for itself is there from now on
    before = psutil.Process().num_fds()
    pids = await _started_and_closed()
    assert not [pid for pid in pids if psutil.pid_exists(pid)]
    assert psutil.Process().num_fds() == before


async def test_requests_fail_at_close_and_after() -> None:
    pool = WorkerPool(TOY, 1)
    await pool.start()
    waiting = [asyncio.create_task(ask(pool, text)) for text in ("hang", "behind")]
    await asyncio.sleep(0.05)
    await pool.close()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == [f"{TOY} is closed"] * 2
    with pytest.raises(WorkerError, match="is closed"):
        await ask(pool, "late")


async def _started_and_closed() -> tuple[int, ...]:
    pool = WorkerPool(TOY, 2)
    await pool.start()
    pids = pool.pids
    assert len(pids) == 2
    await pool.close()
    await pool.close()
    await asyncio.sleep(0)  # transports close on the loop's next turn
    return pids

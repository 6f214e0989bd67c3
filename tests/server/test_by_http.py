"""A whole server, asked by HTTP: what it does on the wire, and what it tells of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.call.phones import SILENT, TestPhone, phone
from tests.server.asking import Asking, serving, wanted

from offhook.model.call_events import CallAnswered, CallArrived, CallEnded, HoldChanged
from offhook.server import scheduler


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "SETTLE_S", 0.0)


@pytest.fixture
async def asking(tmp_path: Path) -> AsyncIterator[Asking]:
    async with serving(tmp_path) as one:
        yield one


@pytest.fixture
async def callee() -> AsyncIterator[TestPhone]:
    async with phone(SILENT) as one:
        yield one


def soon(**later: float) -> str:
    return (datetime.now(UTC) + timedelta(**later)).isoformat()


async def test_the_same_key_twenty_times_at_once_is_one_call(tmp_path: Path, callee: TestPhone) -> None:
    async with serving(tmp_path) as asking:
        placing = [asking.ask("POST", "/api/calls", wanted(callee), Idempotency_Key="k1") for _ in range(20)]
        answers = await asyncio.gather(*placing)
        assert {said.status for said in answers} == {201}
        assert len({said.data for said in answers}) == 1
        assert sum("Idempotency-Replayed" in said.headers for said in answers) == 19
        call_id = answers[0].json["call_id"]
        await asking.until(call_id, "in_progress")
        other = await asking.ask("POST", "/api/calls", wanted(callee, task="Say goodbye"), Idempotency_Key="k1")
        assert (other.status, other.code) == (422, "INVALID")
    async with serving(tmp_path) as restarted:
        again = await restarted.ask("POST", "/api/calls", wanted(callee), Idempotency_Key="k1")
        assert (again.status, again.data) == (201, answers[0].data)
        assert (await restarted.get("/api/calls"))["total"] == 1
    assert len(callee.facts.of(CallArrived)) == 1


async def test_a_call_is_placed_when_it_was_asked_for(asking: Asking, callee: TestPhone) -> None:
    later = wanted(callee, schedule={"earliest_at": soon(seconds=0.4)})
    said = await asking.ask("POST", "/api/calls", later)
    assert (said.status, said.json["status"]) == (201, "initiating")
    call_id = said.json["call_id"]
    waiting = await asking.get(f"/api/calls/{call_id}")
    assert waiting["status"] == "initiating"
    assert waiting["scheduled_at"] is not None
    assert [one["id"] for one in (await asking.get("/api/calls?status=initiating"))["calls"]] == [call_id]
    assert callee.facts.events == []
    await callee.facts.until(CallAnswered)
    call = await asking.until(call_id, "in_progress")
    assert call["scheduled_at"] is None
    assert len(callee.facts.of(CallArrived)) == 1


async def test_a_call_that_was_asked_for_survives_a_restart_and_one_that_is_cancelled_is_not_dialled(
    tmp_path: Path, callee: TestPhone
) -> None:
    async with serving(tmp_path) as before:
        ids = []
        for _ in range(2):
            later = wanted(callee, schedule={"earliest_at": soon(seconds=0.5)})
            ids.append((await before.ask("POST", "/api/calls", later)).json["call_id"])
        said = await before.ask("DELETE", f"/api/calls/{ids[0]}")
        assert (said.status, said.json["status"]) == (200, "ending")
        cancelled = await before.get(f"/api/calls/{ids[0]}")
        assert (cancelled["status"], cancelled["cause"]) == ("failed", "cancelled")
        assert await before.events(ids[0]) == ["call.arrived", "call.ended"]
    async with serving(tmp_path) as after:
        await after.until(ids[1], "in_progress")
        assert len(callee.facts.of(CallArrived)) == 1


async def test_what_nobody_may_call_is_refused_when_it_is_asked_for(asking: Asking) -> None:
    later = {"target": "sip:+881612345678@192.0.2.1", "task": "x", "schedule": {"earliest_at": soon(days=1)}}
    said = await asking.ask("POST", "/api/calls", later)
    assert (said.status, said.code, said.json["field"]) == (403, "FORBIDDEN", "target")
    later = {"target": "sip:a@192.0.2.1", "task": "x", "schedule": {"earliest_at": soon(days=31)}}
    said = await asking.ask("POST", "/api/calls", later)
    assert (said.status, said.json["field"]) == (400, "schedule.earliest_at")


async def test_a_running_call_is_told_to_press_keys_to_wait_and_to_go_elsewhere(
    asking: Asking, callee: TestPhone
) -> None:
    call_id = (await asking.ask("POST", "/api/calls", wanted(callee))).json["call_id"]
    await asking.until(call_id, "in_progress")
    path = f"/api/calls/{call_id}"

    assert (await asking.ask("POST", f"{path}/dtmf", {"digits": "12#D"})).status == 200
    assert await callee.digits(4) == "12#D"

    for held in (True, False):
        assert (await asking.ask("POST", f"{path}/hold", {"hold": held})).status == 200
        assert (await callee.facts.until(HoldChanged, 1 if held else 2)).held is held

    said = await asking.ask("POST", f"{path}/transfer", {"target": "sip:+881612345678@192.0.2.1"})
    assert (said.status, said.code) == (403, "FORBIDDEN")
    await asking.tells(call_id, "call.refused")

    async with phone(SILENT) as operator:
        target = f"sip:carol@{operator.address.host}:{operator.address.port}"
        said = await asking.ask("POST", f"{path}/transfer", {"target": target, "mode": "bridge"})
        assert (said.status, said.json) == (202, {"success": True, "call_id": call_id})
        await operator.facts.until(CallAnswered)
        second = await asking.ask("POST", f"{path}/transfer", {"target": target, "mode": "bridge"})
        assert second.status == 409
        assert (await asking.ask("DELETE", path)).status == 200
        await operator.facts.until(CallEnded)
    await asking.until(call_id, "completed")
    await asking.tells(call_id, "transfer.ended")
    for command, body in (("dtmf", {"digits": "1"}), ("hold", {"hold": True}), ("transfer", {"target": "100"})):
        over = await asking.ask("POST", f"{path}/{command}", body)
        assert (over.status, over.code) == (400, "BAD_REQUEST")
        assert "has ended" in over.json["hint"]

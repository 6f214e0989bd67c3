"""/health and /status say what SIP4AI's say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.api.running_calls import Running, RunningCall
from tests.api.served import Served

from offhook.api.native.status import go_duration
from offhook.model.trunks import TrunkChanged, TrunkPhase
from offhook.store.database import Database

TRUNK = {"kind": "register", "server": "pbx.example.com", "username": "100", "password": "x"}


@pytest.fixture
def running() -> Running:
    return Running()


@pytest.fixture
def phases() -> dict[str, TrunkChanged]:
    return {}


@pytest.fixture
async def served(
    database: Database, tmp_path: Path, running: Running, phases: dict[str, TrunkChanged]
) -> AsyncIterator[Served]:
    async with Served(database, tmp_path, calls=running, trunk_states=lambda: phases, up_since=1_000.0) as one:
        yield one


def changed(trunk_id: str, phase: TrunkPhase) -> TrunkChanged:
    return TrunkChanged(trunk_id=trunk_id, phase=phase, at=0.0)


async def test_health_is_just_ok(served: Served) -> None:
    await served.key()
    said = await served.get("/health")
    assert (said.status, said.data) == (200, b'{"status":"ok"}')


async def test_nothing_happens_yet(served: Served) -> None:
    said = await served.get("/status")
    assert said.status == 200
    assert said.json == {"sip_registered": False, "active_calls": 0, "calls": [], "uptime": "0s"}


async def test_the_calls_that_are_not_over_are_told(served: Served, running: Running) -> None:
    running.calls["a"] = RunningCall(up_s=45.9)
    running.calls["b"] = RunningCall(phase="ringing")
    running.calls["c"] = RunningCall(phase="arrived")
    running.calls["over"] = RunningCall(phase="ended", up_s=9.0)
    served.clock.at += 2 * 3600 + 15 * 60 + 30.7
    told = (await served.get("/status")).json
    assert (told["active_calls"], told["uptime"]) == (3, "2h15m30s")
    assert told["calls"] == [
        {"id": "a", "status": "in_progress", "duration": 45},
        {"id": "b", "status": "ringing", "duration": 0},
        {"id": "c", "status": "initiating", "duration": 0},
    ]


async def test_an_account_sees_its_own_calls(served: Served, running: Running) -> None:
    stranger = await served.account("stranger")
    running.calls["a"], running.calls["b"] = RunningCall(), RunningCall(account_id="stranger")
    assert (await served.get("/status")).status == 401
    assert [call["id"] for call in (await served.get("/status", headers=stranger)).json["calls"]] == ["b"]


@pytest.mark.parametrize(
    ("states", "registered"),
    [
        ({}, False),
        ({"one": "online"}, False),
        ({"one": "online", "two": "registering"}, False),
        ({"one": "failed", "two": "online"}, False),
        ({"one": "online", "two": "online"}, True),
    ],
)
async def test_it_is_registered_where_every_trunk_that_registers_is(
    served: Served, phases: dict[str, TrunkChanged], states: dict[str, Any], registered: bool
) -> None:
    for trunk_id in ("one", "two"):
        assert (await served.ask("POST", "/api/trunks", json={"id": trunk_id, **TRUNK})).status == 201
    gateway = {"id": "gate", "kind": "gateway", "peers": ["192.0.2.1"]}
    assert (await served.ask("POST", "/api/trunks", json=gateway)).status == 201
    phases.update({trunk_id: changed(trunk_id, phase) for trunk_id, phase in states.items()})
    assert (await served.get("/status")).json["sip_registered"] is registered


async def test_the_trunks_of_others_do_not_count(served: Served, phases: dict[str, TrunkChanged]) -> None:
    mine, theirs = await served.account("a"), await served.account("b")
    for trunk_id, headers in (("mine", mine), ("theirs", theirs)):
        await served.ask("POST", "/api/trunks", json={"id": trunk_id, **TRUNK}, headers=headers)
    phases["mine"] = changed("mine", "online")
    assert (await served.get("/status", headers=mine)).json["sip_registered"] is True
    assert (await served.get("/status", headers=theirs)).json["sip_registered"] is False


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0s"), (0.9, "0s"), (45, "45s"), (120, "2m0s"), (3605, "1h0m5s"), (8130, "2h15m30s"), (360_000, "100h0m0s")],
)
def test_durations_are_as_go_prints_them(seconds: float, text: str) -> None:
    assert go_duration(seconds) == text

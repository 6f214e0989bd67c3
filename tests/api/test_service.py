"""Health, readiness, the account, the states of trunks, and rates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tests.api.served import Clock, Served
from tests.store.stories import WHOLE, happened

from offhook.api.parts import ReadyPart
from offhook.api.rates import BUCKETS, Rate, RateLimits
from offhook.model.records import AccountLimits
from offhook.model.trunks import TrunkChanged
from offhook.store.accounts import set_limits
from offhook.store.database import Database

DAY = 86_400.0


async def test_health_is_ok_while_the_process_serves(served: Served) -> None:
    said = await served.get("/health")
    assert (said.status, said.json) == (200, {"status": "ok"})


async def test_readiness_is_told_part_by_part(served: Served) -> None:
    good = await served.get("/ready")
    served.ready.append(ReadyPart(name="store", ready=False, detail="1 of 2 trunks"))
    bad = await served.get("/ready")

    assert (good.status, good.json) == (200, {"status": "ready", "parts": {"sip": {"ready": True, "detail": ""}}})
    assert (bad.status, bad.json["status"]) == (503, "not_ready")
    assert bad.json["parts"]["store"] == {"ready": False, "detail": "1 of 2 trunks"}


async def test_an_account_sees_its_limits_and_its_day(database: Database, tmp_path: Path) -> None:
    async with Served(database, tmp_path, now=lambda: 3 * DAY + 100) as served:
        await database.run(set_limits, "default", AccountLimits(max_calls=7, minutes_per_day=60))
        happened(database, *WHOLE, call_id="today", at=3 * DAY)
        happened(database, *WHOLE, call_id="yesterday", at=2 * DAY)

        account = (await served.get("/api/account")).json

        assert account["limits"] == {"max_calls": 7, "minutes_per_day": 60.0, "spend_per_day": 0.0}
        assert account["today"] == {"calls": 1, "minutes": 0.07, "spend": 0.5, "until": "1970-01-05T00:00:00Z"}


async def test_the_states_of_trunks_are_those_of_ones_own(database: Database, tmp_path: Path) -> None:
    failed = TrunkChanged(
        trunk_id="office", phase="failed", at=1000.0, sip_code=403, reason="Forbidden", fix="Check it"
    )
    states: Mapping[str, TrunkChanged] = {"office": failed, "theirs": replace(failed, trunk_id="theirs")}
    form = {"kind": "register", "server": "sip.example.com", "username": "200"}
    async with Served(database, tmp_path, trunk_states=lambda: states) as served:
        mine, theirs = await served.key(), await served.account("other")
        await served.ask("POST", "/api/trunks", json={**form, "id": "office"}, headers=mine)
        await served.ask("POST", "/api/trunks", json={"kind": "open", "id": "door"}, headers=mine)
        await served.ask("POST", "/api/trunks", json={**form, "id": "theirs"}, headers=theirs)

        office = (await served.get("/api/trunks/office/state", headers=mine)).json
        listed = (await served.get("/api/trunk-states", headers=mine)).json

        assert (office["phase"], office["sip_code"], office["fix"]) == ("failed", 403, "Check it")
        assert office["at"] == "1970-01-01T00:16:40Z"
        assert [(one["trunk_id"], one["phase"]) for one in listed["trunk_states"]] == [
            ("door", None),
            ("office", "failed"),
        ]
        assert (await served.get("/api/trunks/theirs/state", headers=mine)).status == 404


def test_a_bucket_fills_again_with_time() -> None:
    clock = Clock()
    rates = RateLimits(Rate(per_s=2, burst=3), clock)

    assert [rates.take("a") for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert rates.take("b") == 0.0
    clock.at += 0.5
    assert [rates.take("a"), rates.take("a")] == [0.0, 0.5]
    clock.at += 100
    assert [rates.take("a") for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]


def test_only_so_many_buckets_are_kept() -> None:
    rates = RateLimits(Rate(per_s=1, burst=1), Clock())
    rates.take("first")
    for number in range(BUCKETS):
        rates.take(str(number))

    assert rates.take("first") == 0.0
    assert rates.take(str(BUCKETS - 1)) > 0

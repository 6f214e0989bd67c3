"""The benchmark measures the real server: a small run of it, looked at closely.

The figures themselves are not judged: the machine has other tests to run meanwhile.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.bench.bench import Plan, run
from tests.bench.figures import Report
from tests.bench.subject import BUILD
from tests.bench.table import table

PACKETS_PER_SECOND = 50

NO_GROUND: dict[str, Any] = {"ground_rates": (), "api_requests": (), "bridged": (), "turns": ()}


@pytest.fixture(autouse=True)
def _build_folder() -> None:
    BUILD.mkdir(parents=True, exist_ok=True)


def written(name: str) -> Report:
    return msgspec.json.decode((BUILD / f"{name}.json").read_bytes(), type=Report)


def test_two_calls_and_the_floor_beside_them() -> None:
    plan = Plan(
        name="smoke", calls=(2,), seconds=1.0, settle_s=0.2, floors=("floor_epoll",), setup_rates=(), **NO_GROUND
    )
    report = run(plan)
    assert written("smoke") == report
    assert [(one.subject, one.calls) for one in report.media] == [("floor_epoll", 2), ("offhook", 2)]
    for one in report.media:
        assert one.packets.sent == pytest.approx(2 * PACKETS_PER_SECOND, rel=0.5)
        assert one.packets.received == pytest.approx(2 * PACKETS_PER_SECOND, rel=0.5)
        assert (one.packets.lost, one.packets.silent, one.packets.dropped_unread) == (0, 0, 0)
        assert 0 < one.gap_ms.p50 <= one.gap_ms.p99 <= one.gap_ms.max
        assert 0 < one.cpu.percent_per_call < 50
        assert one.memory.loaded_kb > 10_000
    floor, offhook = report.media
    assert floor.setups is None
    assert offhook.setups is not None
    assert (offhook.setups.offered, offhook.setups.answered, offhook.setups.failed) == (2, 2, 0)
    assert [(ratio.calls, ratio.floor) for ratio in report.ratios] == [(2, "floor_epoll")]
    assert "offhook      2" in table(report)


def test_setups_climb_until_the_list_ends() -> None:
    plan = Plan(name="smoke-rates", calls=(), floors=(), setup_rates=(5.0, 10.0), setup_seconds=0.6, **NO_GROUND)
    report = run(plan)
    asked = [(one.rate_per_s, one.setups.offered, one.setups.answered) for one in report.setup_rates]
    assert asked == [(5.0, 3, 3), (10.0, 6, 6)] or not all(one.clean for one in report.setup_rates)
    assert all(one.ms_of_cpu_per_call > 0 and one.setups.ms.p50 > 0 for one in report.setup_rates)
    clean = [one.rate_per_s for one in report.setup_rates if one.clean]
    assert report.highest_clean_rate_per_s == max(clean, default=None)
    assert (f"highest clean rate: {max(clean):g} set-ups" if clean else "no rate was clean") in table(report)


def test_what_a_call_leaves_and_who_asks_meanwhile() -> None:
    plan = Plan(
        name="smoke-ground",
        calls=(),
        floors=(),
        setup_rates=(),
        ground_rates=((5.0, 0.6),),
        api_requests=("patch an agent",),
        api_calls=2,
        seconds=0.5,
        settle_s=1.0,
        bridged=(),
        turns=(),
    )
    report = run(plan)
    assert written("smoke-ground") == report
    [set_ups], [beside] = report.ground, report.api
    assert (set_ups.setups.answered, set_ups.kept, set_ups.told) == (3, 3, 3)
    assert 0 < set_ups.told_ms.p50 <= set_ups.told_ms.max
    assert (beside.request, beside.failed) == ("patch an agent", 0)
    assert beside.answered > 0
    assert beside.gap_ms.p99 > 0
    assert "patch an agent" in table(report)


def test_calls_bridged_to_a_provider_and_turns_with_one() -> None:
    plan = Plan(
        name="smoke-bridged",
        calls=(),
        floors=(),
        setup_rates=(),
        seconds=0.5,
        ground_rates=(),
        api_requests=(),
        bridged=((2, True),),
        turns=((2, 2),),
    )
    report = run(plan)
    assert written("smoke-bridged") == report
    assert [(one.tls, one.media.calls) for one in report.bridged] == [(True, 2)]
    for one in report.bridged:
        assert one.media.packets.received > one.media.packets.silent  # the provider was heard
    [turns] = report.turns
    assert (turns.calls, turns.turns + turns.lost) == (2, 4)
    assert turns.inward_ms.max > 0
    assert "turns with an agent" in table(report)

from __future__ import annotations

from tests.bench.compare import differences
from tests.bench.figures import (
    Cpu,
    GeneratorHealth,
    Machine,
    MediaRun,
    Memory,
    Packets,
    Report,
    Setups,
    Spread,
    SubjectName,
    Surroundings,
    ratios,
    spread,
)
from tests.bench.table import table

EVEN = Spread(p50=20.0, p99=21.0, max=22.0)


def media_run(
    subject: SubjectName = "offhook", calls: int = 10, cpu: float = 2.0, *, silent: int = 0, elsewhere: float = 0.0
) -> MediaRun:
    return MediaRun(
        subject=subject,
        calls=calls,
        seconds=10.0,
        cpu=Cpu(percent=cpu, percent_per_call=cpu / calls, us_per_packet_pair=10.0),
        memory=Memory(idle_kb=1000, loaded_kb=2000, kb_per_call=1000 / calls),
        gap_ms=EVEN,
        jitter_ms=EVEN,
        late_gaps=0,
        holes=0,
        packets=Packets(sent=100, received=100, missing=0, lost=0, silent=silent, dropped_unread=0),
        setups=Setups(offered=calls, answered=calls, failed=0, resent=0, ms=EVEN) if subject == "offhook" else None,
        generator=GeneratorHealth(cpu_percent=5.0, late_ms=EVEN, dropped_unread=0),
        surroundings=Surroundings(load_average=0.1, busy_elsewhere_percent=elsewhere, steal_percent=0.0),
    )


def report(*runs: MediaRun) -> Report:
    return Report(
        name="made up",
        started_at="2026-01-01T00:00:00+00:00",
        commit="abc1234",
        machine=Machine(cores=2, model="a processor", python="3.11", kernel="6.1", pinned=True),
        media=runs,
        setup_rates=(),
        highest_clean_rate_per_s=None,
        ratios=ratios(runs),
    )


def test_spread_is_by_nearest_rank() -> None:
    assert spread([]) == Spread(p50=0.0, p99=0.0, max=0.0)
    assert spread([7.0]) == Spread(p50=7.0, p99=7.0, max=7.0)
    assert spread([float(value) for value in range(100, -1, -1)]) == Spread(p50=50.0, p99=99.0, max=100.0)


def test_a_ratio_is_taken_to_each_floor_with_as_many_calls() -> None:
    runs = [
        media_run("floor_uvloop", 10, 1.0),
        media_run("floor_epoll", 10, 0.5),
        media_run("floor_epoll", 20, 9.0),
        media_run("offhook", 10, 2.0),
    ]
    assert [(one.floor, one.calls, one.cpu, one.memory) for one in ratios(runs)] == [
        ("floor_uvloop", 10, 2.0, 1.0),
        ("floor_epoll", 10, 4.0, 1.0),
    ]


def test_a_comparison_takes_medians_so_that_one_bad_run_does_not_count() -> None:
    old = [report(media_run(cpu=cpu)) for cpu in (2.0, 50.0, 2.2)]
    new = [report(media_run(cpu=cpu)) for cpu in (1.1, 1.0, 40.0)]
    per_call = differences(old, new)[0]
    assert (per_call.calls, per_call.figure, per_call.old, per_call.new) == (10, "CPU %/call", 0.22, 0.11)
    assert per_call.change_percent == -50.0


def test_the_table_warns_of_figures_that_mean_nothing() -> None:
    assert "WARNING" not in table(report(media_run()))
    assert "other processes were busy" in table(report(media_run(elsewhere=90.0)))
    assert "sent silence" in table(report(media_run(silent=50)))

"""One benchmark: subjects and floors in turn, each in a fresh process, under the same load."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeVar, get_args

import msgspec
from tests.bench.bridged import BridgedBench
from tests.bench.figures import ApiRequest, Machine, MediaRun, Report, SetupRun, ratios
from tests.bench.ground import GroundBench, MediaLoad
from tests.bench.jobs import Job, MediaJob, SetupJob
from tests.bench.subject import BUILD, SOURCE, Cores, Started, choose_cores, commit_of, floor, generate, serving

R = TypeVar("R", MediaRun, SetupRun)
Floor = Literal["floor_uvloop", "floor_epoll"]

FLOORS: tuple[Floor, ...] = ("floor_uvloop", "floor_epoll")

SETUP_RATES = (12.5, 25.0, 50.0, 100.0, 200.0, 400.0, 800.0)
"""Calls per second, doubled until one is not clean; then once halfway, geometrically, back."""

GROUND_RATES = ((20.0, 60.0), *((rate, 10.0) for rate in (30.0, 45.0, 65.0, 100.0, 150.0, 220.0)))
"""(calls per second, seconds): the aim of the issue for a minute, then upwards until one is not good."""

BRIDGED = ((50, False), (200, False), (200, True))
"""(calls, TLS)."""

TURNS = ((20, 50),)
"""(calls, turns of each)."""

API_REQUESTS: tuple[ApiRequest | None, ...] = (None, *get_args(ApiRequest))

GENERATOR_SPARE_S = 60.0
"""Beyond the window: set-ups, settling, hanging up."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What to measure. ``source`` is the folder of the ``offhook`` package under test."""

    name: str
    calls: tuple[int, ...] = (1, 50, 200, 400)
    seconds: float = 10.0
    settle_s: float = 2.0
    """From the last call's start to the window: buffers and caches have filled."""
    floors: tuple[Floor, ...] = FLOORS
    setup_rates: tuple[float, ...] = SETUP_RATES
    setup_seconds: float = 4.0
    ground_rates: tuple[tuple[float, float], ...] = GROUND_RATES
    api_requests: tuple[ApiRequest | None, ...] = API_REQUESTS
    api_calls: int = 100
    bridged: tuple[tuple[int, bool], ...] = BRIDGED
    turns: tuple[tuple[int, int], ...] = TURNS
    source: Path = SOURCE


def run(plan: Plan, note: Callable[[str], None] = lambda _: None) -> Report:
    """Measure, and write build/bench/NAME.json. ``note`` hears what is being done.

    Raises ``RuntimeError`` when the server does not start or the load fails.
    """
    cores = choose_cores()
    folder = BUILD / f"{plan.name}.work"
    started = datetime.now().astimezone()
    try:
        media = [run for calls in plan.calls for run in _at(plan, calls, folder, cores, note)]
        setup_rates = _climb(plan, folder, cores, note)
        shutil.rmtree(folder / "data", ignore_errors=True)
        ground = GroundBench(folder=folder, cores=cores, note=note)
        ground_runs = ground.climb(plan.ground_rates)
        load = MediaLoad(calls=plan.api_calls, seconds=plan.seconds, settle_s=plan.settle_s)
        api_runs = ground.api_beside(load, plan.api_requests)
        shutil.rmtree(folder / "data", ignore_errors=True)
        bridge = BridgedBench(folder=folder, cores=cores, note=note)
        bridged = [bridge.carry(calls, plan.seconds, tls=tls) for calls, tls in plan.bridged]
        shutil.rmtree(folder / "data", ignore_errors=True)
        turns = [bridge.turns(calls, number) for calls, number in plan.turns]
    finally:
        shutil.rmtree(folder / "data", ignore_errors=True)
    clean = [one.rate_per_s for one in setup_rates if one.clean]
    report = Report(
        name=plan.name,
        started_at=started.isoformat(timespec="seconds"),
        commit=commit_of(plan.source),
        machine=_machine(cores),
        media=tuple(media),
        setup_rates=tuple(setup_rates),
        highest_clean_rate_per_s=max(clean, default=None),
        ratios=ratios(media),
        ground=tuple(ground_runs),
        api=tuple(api_runs),
        bridged=tuple(bridged),
        turns=tuple(turns),
    )
    path = BUILD / f"{plan.name}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    return report


def _at(plan: Plan, calls: int, folder: Path, cores: Cores, note: Callable[[str], None]) -> list[MediaRun]:
    """The floors and the server, one after the other, with so many calls."""
    runs = []
    for kind in plan.floors:
        note(f"{kind}, {calls} calls")
        with floor(kind.removeprefix("floor_"), calls, core=cores.subject) as under_test:
            job = MediaJob(
                subject=kind,
                server_pid=under_test.pid,
                calls=calls,
                seconds=plan.seconds,
                settle_s=plan.settle_s,
                echo_ports=under_test.ports,
            )
            runs.append(_ask(job, cores, MediaRun, plan.seconds))
    note(f"offhook, {calls} calls")
    with serving(folder, core=cores.subject, source=plan.source) as under_test:
        job = MediaJob(
            subject="offhook",
            server_pid=under_test.pid,
            calls=calls,
            seconds=plan.seconds,
            settle_s=plan.settle_s,
            sip_port=under_test.ports[0],
        )
        runs.append(_ask(job, cores, MediaRun, plan.seconds + calls / job.setups_per_s))
    return runs


def _climb(plan: Plan, folder: Path, cores: Cores, note: Callable[[str], None]) -> list[SetupRun]:
    """Set-ups at rising rates on one server, until one is not clean."""
    done: list[SetupRun] = []
    if not plan.setup_rates:
        return done
    with serving(folder, core=cores.subject, source=plan.source) as under_test:
        for rate in plan.setup_rates:
            done.append(_set_up_at(rate, plan.setup_seconds, under_test, cores, note))
            if not done[-1].clean and len(done) > 1:
                halfway = round((done[-2].rate_per_s * rate) ** 0.5)
                done.append(_set_up_at(halfway, plan.setup_seconds, under_test, cores, note))
            if not all(one.clean for one in done):
                break
    return done


def _set_up_at(rate: float, seconds: float, under_test: Started, cores: Cores, note: Callable[[str], None]) -> SetupRun:
    note(f"offhook, {rate:g} set-ups per second")
    job = SetupJob(server_pid=under_test.pid, sip_port=under_test.ports[0], rate_per_s=rate, seconds=seconds)
    return _ask(job, cores, SetupRun, seconds)


def _ask(job: Job, cores: Cores, kind: type[R], seconds: float) -> R:
    answer = generate(msgspec.json.encode(job), core=cores.generator, timeout_s=seconds + GENERATOR_SPARE_S)
    return msgspec.json.decode(answer, type=kind)


def _machine(cores: Cores) -> Machine:
    models = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
              if line.startswith("model name")]  # fmt: skip
    return Machine(
        cores=os.cpu_count() or 1,
        model=models[0] if models else platform.machine(),
        python=platform.python_version(),
        kernel=platform.release(),
        pinned=cores.subject is not None,
    )

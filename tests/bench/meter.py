"""Reads a process's CPU and memory, the machine's spare time and the kernel's datagram drops (Linux, /proc)."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_KB = os.sysconf("SC_PAGE_SIZE") // 1024


def cpu_s(pid: int) -> float:
    """User and system time of all threads so far. Raises ``FileNotFoundError`` when the process has ended.

    /proc/PID/stat counts in ticks of 10 ms, a tenth of what one call costs in 10 s; schedstat counts
    nanoseconds, but each thread has its own and a thread that ended takes its share with it.
    """
    threads = Path(f"/proc/{pid}/task")
    return sum(_nanoseconds(thread) for thread in threads.iterdir()) / 1e9


def _nanoseconds(thread: Path) -> int:
    try:
        return int((thread / "schedstat").read_text().split()[0])
    except (FileNotFoundError, ProcessLookupError):  # ended between the listing and now
        return 0


def resident_kb(pid: int) -> int:
    """The resident set, as ``ps`` shows it."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_KB


def local_udp_drops(ports: Collection[int]) -> int:
    """Datagrams thrown away because the socket bound to one of ``ports`` (IPv4) was full, since it was opened."""
    rows = [line.split() for line in Path("/proc/net/udp").read_text().splitlines()[1:]]
    return sum(int(row[-1]) for row in rows if int(row[1].rsplit(":", 1)[1], 16) in ports)


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """Everything that a window's beginning and end are compared by."""

    at: float
    subject_s: float
    generator_s: float
    machine_busy_s: float
    machine_stolen_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """What was used between two moments."""

    before: Moment
    after: Moment

    @property
    def seconds(self) -> float:
        return self.after.at - self.before.at

    @property
    def subject_s(self) -> float:
        return self.after.subject_s - self.before.subject_s

    @property
    def generator_s(self) -> float:
        return self.after.generator_s - self.before.generator_s


def take_moment(subject_pid: int) -> Moment:
    busy, stolen = _machine_s()
    return Moment(
        at=time.monotonic(),
        subject_s=cpu_s(subject_pid),
        generator_s=time.process_time(),
        machine_busy_s=busy,
        machine_stolen_s=stolen,
    )


def _machine_s() -> tuple[float, float]:
    """(busy, stolen) seconds of all cores, from the first line of /proc/stat."""
    with open("/proc/stat") as file:
        fields = [int(field) for field in file.readline().split()[1:]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields[:8]
    return (user + nice + system + irq + softirq) / _TICKS_PER_S, steal / _TICKS_PER_S

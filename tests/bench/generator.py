"""The load generator: a process that takes one job on standard input and prints its result.

It samples the subject's CPU and memory itself, so that the window is the same for both.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
import time
from collections import deque

import msgspec
from tests.bench.figures import (
    HOLE_GAP_MS,
    LATE_GAP_MS,
    Cpu,
    GeneratorHealth,
    MediaRun,
    Memory,
    Packets,
    SetupRun,
    Setups,
    Surroundings,
    spread,
)
from tests.bench.jobs import Job, MediaJob, Result, SetupJob
from tests.bench.meter import Window, local_udp_drops, resident_kb, take_moment
from tests.bench.pacer import Pacer
from tests.bench.rtp_line import RtpLine
from tests.bench.sip_caller import T1_S, Phase, SipCaller

PACKETS_PER_S = 50
ANSWER_WITHIN_S = 5.0
END_WITHIN_S = 5.0


class LoadError(Exception):
    """The load could not be put on the subject; no figure would mean anything."""


# ── calls with media ─────────────────────────────────────────────────────────────────────────────────────


def carry(job: MediaJob) -> MediaRun:
    """Raises ``LoadError`` when a call was not answered or fell during the window."""
    lines = [RtpLine(number) for number in range(job.calls)]
    caller = SipCaller(job.sip_port) if job.sip_port is not None else None
    pacer = Pacer(lines, caller)
    idle_kb = resident_kb(job.server_pid)
    if caller is None:
        for line, port in zip(lines, job.echo_ports, strict=True):
            line.connect(("127.0.0.1", port))
    else:
        _place_all(caller, lines, pacer, job)
    pacer.run_until(time.monotonic() + job.settle_s)
    pacer.forget()
    before = take_moment(job.server_pid)
    pacer.run_until(before.at + job.seconds)
    window = Window(before=before, after=take_moment(job.server_pid))
    result = _media_run(job, lines, pacer, window, idle_kb)
    if caller is not None:
        result = msgspec.structs.replace(result, setups=_setups(caller))
        _end_all(caller, pacer)
    return result


def _place_all(caller: SipCaller, lines: list[RtpLine], pacer: Pacer, job: MediaJob) -> None:
    started = time.monotonic()
    waiting = deque(range(job.calls))

    def work(now: float) -> None:
        while waiting and now >= started + waiting[0] / job.setups_per_s:
            number = waiting.popleft()
            caller.invite(number, lines[number].port)
        while caller.newly_up:
            call = caller.newly_up.pop()
            lines[call.number].connect(call.media)

    deadline = started + job.calls / job.setups_per_s + ANSWER_WITHIN_S
    pacer.run_while(lambda: bool(waiting or caller.unsettled or caller.newly_up), deadline, work)
    _require_up(caller, job.calls, "were answered")


def _require_up(caller: SipCaller, calls: int, what: str) -> None:
    up = sum(call.phase is Phase.UP for call in caller.calls.values())
    if up < calls:
        raise LoadError(f"only {up} of {calls} calls {what}")


def _end_all(caller: SipCaller, pacer: Pacer) -> None:
    _require_up(caller, len(caller.calls), "lasted to the end")
    waiting = deque(caller.calls)

    def work(_: float) -> None:
        if waiting:
            caller.bye(waiting.popleft())

    pacer.run_while(lambda: bool(waiting or caller.unsettled), time.monotonic() + END_WITHIN_S, work)
    ended = sum(call.phase is Phase.ENDED for call in caller.calls.values())
    if ended < len(caller.calls):
        raise LoadError(f"only {ended} of {len(caller.calls)} calls were ended by BYE")


def _media_run(job: MediaJob, lines: list[RtpLine], pacer: Pacer, window: Window, idle_kb: int) -> MediaRun:
    gaps = [gap for line in lines for gap in line.gaps_ms()]
    loaded_kb = resident_kb(job.server_pid)
    owed = int(window.seconds * PACKETS_PER_S) - 1  # a line: the window may begin and end between two packets
    return MediaRun(
        subject=job.subject,
        calls=job.calls,
        seconds=round(window.seconds, 2),
        cpu=_cpu(job.calls, window),
        memory=Memory(idle_kb=idle_kb, loaded_kb=loaded_kb, kb_per_call=round((loaded_kb - idle_kb) / job.calls, 1)),
        gap_ms=spread(gaps),
        jitter_ms=spread([abs(gap - 20.0) for gap in gaps]),
        late_gaps=sum(gap > LATE_GAP_MS for gap in gaps),
        holes=sum(gap > HOLE_GAP_MS for gap in gaps),
        packets=Packets(
            sent=sum(line.sent for line in lines),
            received=sum(len(line.sequences) for line in lines),
            missing=sum(max(0, owed - len(line.sequences)) for line in lines),
            lost=sum(line.lost for line in lines),
            silent=sum(line.silent for line in lines),
            dropped_unread=local_udp_drops({_remote_port(line) for line in lines}),
        ),
        setups=None,
        generator=GeneratorHealth(
            cpu_percent=_percent(window.generator_s, window.seconds),
            late_ms=spread(pacer.late_ms),
            dropped_unread=local_udp_drops({line.port for line in lines}),
        ),
        surroundings=_surroundings(window),
    )


def _remote_port(line: RtpLine) -> int:
    port: int = line.socket.getpeername()[1]
    return port


def _cpu(calls: int, window: Window) -> Cpu:
    percent = 100 * window.subject_s / window.seconds
    return Cpu(
        percent=round(percent, 2),
        percent_per_call=round(percent / calls, 4),
        us_per_packet_pair=round(1e6 * window.subject_s / (window.seconds * PACKETS_PER_S * calls), 2),
    )


def _surroundings(window: Window) -> Surroundings:
    busy_s = window.after.machine_busy_s - window.before.machine_busy_s
    stolen_s = window.after.machine_stolen_s - window.before.machine_stolen_s
    elsewhere_s = max(0.0, busy_s - window.subject_s - window.generator_s)
    return Surroundings(
        load_average=round(os.getloadavg()[0], 2),
        busy_elsewhere_percent=_percent(elsewhere_s, window.seconds),
        steal_percent=_percent(stolen_s, window.seconds),
    )


def _percent(used_s: float, seconds: float) -> float:
    return round(100 * used_s / seconds, 2)


# ── set-ups ──────────────────────────────────────────────────────────────────────────────────────────────


def place_and_end(job: SetupJob) -> SetupRun:
    """Calls come at ``rate_per_s`` for ``seconds``; their audio goes to one socket that nobody reads."""
    caller = SipCaller(job.sip_port)
    pacer = Pacer([], caller)
    offered = round(job.rate_per_s * job.seconds)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
        sink.bind(("127.0.0.1", 0))
        before = take_moment(job.server_pid)
        _place_each(caller, pacer, job, offered, sink.getsockname()[1])
        window = Window(before=before, after=take_moment(job.server_pid))
    setups = _setups(caller)
    return SetupRun(
        rate_per_s=job.rate_per_s,
        setups=setups,
        cpu_percent=_percent(window.subject_s, window.seconds),
        ms_of_cpu_per_call=round(1000 * window.subject_s / offered, 3),
        clean=setups.failed == 0 and setups.resent == 0 and setups.ms.p99 < T1_S * 1000,
    )


def _place_each(caller: SipCaller, pacer: Pacer, job: SetupJob, offered: int, sink_port: int) -> None:
    started = time.monotonic()
    to_place = deque(range(offered))
    to_end: deque[tuple[float, int]] = deque()

    def work(now: float) -> None:
        while to_place and now >= started + to_place[0] / job.rate_per_s:
            caller.invite(to_place.popleft(), sink_port)
        to_end.extend((now + job.hold_s, call.number) for call in caller.newly_up)
        caller.newly_up.clear()
        while to_end and now >= to_end[0][0]:
            caller.bye(to_end.popleft()[1])

    deadline = started + job.seconds + job.hold_s + ANSWER_WITHIN_S + END_WITHIN_S
    pacer.run_while(lambda: bool(to_place or to_end or caller.unsettled or caller.newly_up), deadline, work)


def _setups(caller: SipCaller) -> Setups:
    calls = caller.calls.values()
    answered = [call for call in calls if call.answered_ns and call.phase is not Phase.FAILED]
    return Setups(
        offered=len(calls),
        answered=len(answered),
        failed=len(calls) - len(answered),
        resent=sum(call.resent for call in calls),
        ms=spread([call.setup_ms for call in answered]),
    )


def main() -> None:
    """A job that cannot be done: one sentence on standard error and exit code 1."""
    gc.disable()
    job: Job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    try:
        result: Result = carry(job) if isinstance(job, MediaJob) else place_and_end(job)
    except (LoadError, FileNotFoundError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    sys.stdout.buffer.write(msgspec.json.encode(result))


if __name__ == "__main__":
    main()

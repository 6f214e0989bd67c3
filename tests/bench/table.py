"""A report as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tests.bench.figures import ApiRun, GroundRun, MediaRun, Report, SetupRun, TurnsFigures

BUSY_PERCENT = 20.0
"""Above this, something else took a fifth of a core: the figures are not to be trusted."""

_MEDIA = (
    "subject", "calls", "CPU %", "%/call", "µs/pair", "RSS MB", "kB/call", "gap p50", "p99", "max ms",
    "jitter p99", ">25", ">40", "missing", "unread", "set-up p50", "p99 ms", "gen %", "gen late p99", "other %",
)  # fmt: skip
_RATES = ("set-ups/s", "offered", "answered", "resent", "p50 ms", "p99", "max", "CPU %", "CPU ms/call", "clean")
_GROUND = (
    "set-ups/s", "for s", "offered", "answered", "resent", "kept", "told", "p50 ms", "p99", "max",
    "told p50 ms", "p99", "max", "CPU %", "CPU ms/call", "good",
)  # fmt: skip
_API = (
    "calls", "asked for", "answered", "failed", "per s", "p50 ms", "p99", "max", "CPU %", "gap p50", "p99",
    "max ms", ">40",
)  # fmt: skip
_TURNS = (
    "calls", "turns", "lost", "in p50 ms", "p99", "out p50 ms", "p99", "stop p50 ms", "p99", "record off p50 ms", "p99",
)  # fmt: skip
_RATIOS = ("calls", "floor", "CPU ×", "memory ×", "gap p99 ×")


def table(report: Report) -> str:
    """Everything of the report that a person compares."""
    machine = report.machine
    where = f"{machine.cores} × {machine.model}, Python {machine.python}, Linux {machine.kernel}"
    parts = [
        f"{report.name} · commit {report.commit} · {report.started_at}\n{where}, {_pinning(machine.pinned)}",
        columns(_MEDIA, map(_media_row, report.media)),
    ]
    if report.ratios:
        rows = ([one.calls, one.floor, one.cpu, one.memory, one.gap_p99] for one in report.ratios)
        parts.append("offhook / floor\n" + columns(_RATIOS, rows))
    if report.setup_rates:
        best = report.highest_clean_rate_per_s
        summary = f"highest clean rate: {best:g} set-ups per second" if best else "no rate was clean"
        parts.append(columns(_RATES, map(_rate_row, report.setup_rates)) + f"\n{summary}")
    if report.ground:
        good = max((one.rate_per_s for one in report.ground if one.good), default=None)
        summary = f"highest good rate: {good:g} set-ups per second" if good else "no rate was good"
        parts.append(f"with webhooks\n{columns(_GROUND, map(_ground_row, report.ground))}\n{summary}")
    if report.api:
        parts.append("the API beside calls\n" + columns(_API, map(_api_row, report.api)))
    if report.bridged:
        bridged = (("TLS" if one.tls else "plain", *_media_row(one.media)) for one in report.bridged)
        parts.append("bridged to OpenAI's protocol\n" + columns(("wire", *_MEDIA), bridged))
    if report.turns:
        parts.append("turns with an agent\n" + columns(_TURNS, map(_turns_row, report.turns)))
    parts += _warnings(report.media)
    return "\n\n".join(parts)


def columns(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Right-aligned columns, two spaces apart."""
    lines = [[*head], *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def _turns_row(run: TurnsFigures) -> list[object]:
    measured = (run.inward_ms, run.outward_ms, run.stop_ms, run.latency_off_ms)
    return [run.calls, run.turns, run.lost, *(point for one in measured for point in (one.p50, one.p99))]


def _pinning(pinned: bool) -> str:
    return "server and generator on cores of their own" if pinned else "one core for server and generator"


def _media_row(run: MediaRun) -> list[object]:
    setups = [run.setups.ms.p50, run.setups.ms.p99] if run.setups is not None else ["-", "-"]
    return [
        run.subject, run.calls, run.cpu.percent, run.cpu.percent_per_call, run.cpu.us_per_packet_pair,
        round(run.memory.loaded_kb / 1024, 1), run.memory.kb_per_call,
        run.gap_ms.p50, run.gap_ms.p99, run.gap_ms.max, run.jitter_ms.p99, run.late_gaps, run.holes,
        run.packets.missing, run.packets.dropped_unread, *setups,
        run.generator.cpu_percent, run.generator.late_ms.p99, run.surroundings.busy_elsewhere_percent,
    ]  # fmt: skip


def _rate_row(run: SetupRun) -> list[object]:
    setups = run.setups
    return [
        run.rate_per_s, setups.offered, setups.answered, setups.resent,
        setups.ms.p50, setups.ms.p99, setups.ms.max, run.cpu_percent, run.ms_of_cpu_per_call,
        "yes" if run.clean else "no",
    ]  # fmt: skip


def _ground_row(run: GroundRun) -> list[object]:
    setups, told = run.setups, run.told_ms
    return [
        run.rate_per_s, run.seconds, setups.offered, setups.answered, setups.resent, run.kept, run.told,
        setups.ms.p50, setups.ms.p99, setups.ms.max, told.p50, told.p99, told.max,
        run.cpu_percent, run.ms_of_cpu_per_call, "yes" if run.good else "no",
    ]  # fmt: skip


def _api_row(run: ApiRun) -> list[object]:
    gap = run.gap_ms
    return [
        run.calls, run.request or "-", run.answered, run.failed, run.rate_per_s, run.ms.p50, run.ms.p99, run.ms.max,
        run.cpu_percent, gap.p50, gap.p99, gap.max, run.holes,
    ]  # fmt: skip


def _warnings(runs: Sequence[MediaRun]) -> list[str]:
    warnings = []
    if any(run.surroundings.busy_elsewhere_percent > BUSY_PERCENT for run in runs):
        warnings.append("WARNING: other processes were busy (other %): measure again on a quiet machine.")
    if any(run.generator.cpu_percent > 90 or run.generator.dropped_unread for run in runs):
        warnings.append("WARNING: the generator was the bottleneck: its figures, not the subject's.")
    if any(run.packets.silent > run.packets.received // 100 for run in runs):
        warnings.append("WARNING: the subject sent silence: it did not do the work that is measured.")
    return warnings

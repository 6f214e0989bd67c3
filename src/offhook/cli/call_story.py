"""One call told to a person: what happened and when, why it was refused, its figures, what was said, what was sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

import click

from offhook.cli.live_log import LiveLog, ended_by, one_line
from offhook.cli.storage import shown_time
from offhook.delivery.call_document import as_they_began
from offhook.delivery.event_documents import EVENT_NAMES
from offhook.model.call_events import (
    AgentJoined,
    AgentLeft,
    CallEvent,
    CallFact,
    CallRinging,
    MediaReported,
    ProviderUsage,
    ToolCalled,
    ToolReturned,
    TurnSpoken,
    WayTaken,
)
from offhook.model.records import CallRecord
from offhook.store.calls import CallStatus, status_of
from offhook.store.outbox import Delivery

COLOURS: Mapping[CallStatus, str] = {
    "initiating": "yellow",
    "ringing": "yellow",
    "in_progress": "cyan",
    "completed": "green",
    "failed": "red",
}


def story(record: CallRecord, events: Sequence[CallEvent], deliveries: Sequence[Delivery]) -> Iterator[str]:
    """Line by line."""
    yield from _head(record)
    yield ""
    yield _title("what happened")
    yield from _happened(record, events)
    media = [event.fact for event in events if isinstance(event.fact, MediaReported)]
    latencies = [turn.latency_ms for turn in record.transcript if turn.latency_ms is not None]
    if media or latencies:
        yield ""
        yield _title("figures")
        yield from _figures(media, latencies)
    if record.transcript:
        yield ""
        yield _title("what was said")
        yield from map(_said, as_they_began(record.transcript))
    if deliveries:
        yield ""
        yield _title("webhooks")
        yield from map(_delivered, reversed(deliveries))


def call_line(record: CallRecord) -> str:
    """One call of a list."""
    status = status_of(record)
    end = f"{record.cause}{f' {record.sip_code}' if record.sip_code is not None else ''}" if record.cause else ""
    seconds = f"{record.duration_ms / 1000:.0f} s" if record.ended_at is not None else ""
    arrow = "→" if record.direction == "outbound" else "←"
    return (
        f"{shown_time(record.created_at)}  {click.style(record.call_id[:8], bold=True)}  "
        f"{click.style(f'{status:<11}', fg=COLOURS[status])} {arrow} {_short(_other(record)):<32} "
        f"{record.agent_id or '-':<12} {seconds:>7}  {end}"
    )


def _head(record: CallRecord) -> Iterator[str]:
    status = status_of(record)
    yield f"{click.style(record.call_id, bold=True)}  {click.style(status, fg=COLOURS[status])}"
    rows = {
        "from": record.from_uri,
        "to": record.to_uri,
        "by": f"{record.direction}, trunk {record.trunk_id or '-'}, {record.remote_address}",
        "agent": f"{record.agent_id} ({record.provider})" if record.agent_id else "",
        "audio": " ".join(filter(None, (record.codec, record.srtp))),
        "began": shown_time(record.created_at),
        "answered": shown_time(record.answered_at),
        "ended": _end(record),
        "reached": record.answered_by or "",
        "task": one_line(f"{record.task.outcome}: {record.task.summary}") if record.task else "",
        "Call-ID": record.sip_call_id,
        "recording": record.recording or "",
        "node": f"{record.node_id}, account {record.account_id}",
        "spend": f"{record.spend:g}" if record.spend else "",
    }
    for name, text in rows.items():
        if text:
            yield f"  {name:<10} {text}"


def _end(record: CallRecord) -> str:
    if record.ended_at is None:
        return ""
    status = f" {record.sip_code}" if record.sip_code is not None else ""
    reason = f" ({record.reason})" if record.reason else ""
    fault = record.provider_fault
    fault = f", {fault}" if fault and fault != record.reason else ""
    seconds = f"{record.duration_ms / 1000:.1f} s"
    by = ended_by(record.ended_by) if record.ended_by else "nobody"
    return f"{shown_time(record.ended_at)} after {seconds} by {by}: {record.cause}{status}{reason}{fault}"


def _used(used: ProviderUsage) -> str:
    amounts = ", ".join(f"{one.amount:g} {one.units.replace('_', ' ')}" for one in used.amounts)
    return f"{used.provider} used {amounts or 'nothing that it tells'}"


def _happened(record: CallRecord, events: Sequence[CallEvent]) -> Iterator[str]:
    """Each fact with its time since the call's first; what was said comes by itself."""
    tell = LiveLog(show_speech=True).describe
    for event in events:
        if not isinstance(event.fact, TurnSpoken):
            fact = event.fact
            text = _in_full(fact) or tell(fact) or _plain(event)
            yield f"  {event.at - record.created_at:8.3f} s  {text.strip()}"


def _in_full(fact: CallFact) -> str:
    """Facts that the live log is silent or brief about; "" for any other."""
    match fact:
        case ProviderUsage():
            return _used(fact)
        case ToolCalled():
            return f"tool {fact.tool} called with {one_line(fact.arguments) or '{}'}"
        case ToolReturned(is_error=False):
            return f"tool {fact.tool} answered after {fact.took_ms} ms: {one_line(fact.output)}"
        case AgentJoined():
            return f"agent {fact.agent_id} speaks, by {fact.provider}"
        case AgentLeft():
            return f"agent {fact.agent_id} left: {fact.reason}"
        case CallRinging():
            return f"rings ({fact.status})"
        case WayTaken(problem=""):
            return f"INVITE to {fact.server}"
        case _:
            return ""


def _plain(event: CallEvent) -> str:
    """A fact that the live log is silent on, with every field that says something."""
    said = ", ".join(f"{name} {value}" for name, value in asdict(event.fact).items() if value not in ("", None))
    return f"{EVENT_NAMES[type(event.fact)]}{f': {said}' if said else ''}"


def _figures(media: Sequence[MediaReported], latencies: Sequence[int]) -> Iterator[str]:
    for leg in media:
        remote = "" if leg.remote_loss_percent is None else f", {leg.remote_loss_percent:.1f} % lost there"
        trip = "" if leg.round_trip_ms is None else f", round trip {leg.round_trip_ms:.0f} ms"
        yield (
            f"  {leg.packets_received} packets in, {leg.packets_sent} out, {leg.loss_percent:.1f} % lost here{remote}, "
            f"jitter {leg.jitter_ms:.1f} ms, {leg.concealed_frames} frames concealed, {leg.late_ticks} late{trip}"
        )
    if latencies:
        middle = sorted(latencies)[len(latencies) // 2]
        yield f"  {len(latencies)} answers after {middle} ms (median), {max(latencies)} ms at worst"


def _said(turn: TurnSpoken) -> str:
    colour = "cyan" if turn.speaker == "caller" else "yellow"
    cut = " (interrupted)" if turn.interrupted else ""
    latency = "" if turn.latency_ms is None else click.style(f"  after {turn.latency_ms} ms", dim=True)
    words = f"“{turn.text}”" if turn.text else "(deleted)"
    return f"  {turn.started_ms / 1000:8.1f} s  {click.style(f'{turn.speaker:>8}', fg=colour)}: {words}{cut}{latency}"


def _delivered(delivery: Delivery) -> str:
    colour = {"delivered": "green", "pending": "yellow"}.get(delivery.state, "red")
    status = "" if delivery.last_status is None else f" {delivery.last_status}"
    problem = f" ({delivery.last_problem})" if delivery.last_problem else ""
    return (
        f"  {delivery.event:<20} to {delivery.webhook_id}: {click.style(delivery.state, fg=colour)}{status}, "
        f"{delivery.attempt} attempt{'' if delivery.attempt == 1 else 's'}{problem}"
    )


def _title(text: str) -> str:
    return click.style(text, underline=True)


def _other(record: CallRecord) -> str:
    return record.to_uri if record.direction == "outbound" else record.from_uri


def _short(uri: str) -> str:
    """User and host alone."""
    bare = uri.partition(";")[0].removeprefix("sip:").removeprefix("sips:").removeprefix("tel:")
    return bare if len(bare) <= 32 else f"{bare[:31]}…"

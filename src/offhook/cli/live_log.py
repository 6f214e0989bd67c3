"""Calls as they happen: a line a fact for a person; or, with ``log.format`` json, a log record with the same words."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import click

from offhook.delivery.event_documents import EVENT_NAMES
from offhook.model.call_events import (
    AgentJoined,
    AgentLeft,
    AnswerJudged,
    CallAnswered,
    CallArrived,
    CallEnded,
    CallEvent,
    CallFact,
    CallRefused,
    CallRinging,
    DigitReceived,
    EndedBy,
    HoldChanged,
    InterruptionResumed,
    LegAnswered,
    LegDialled,
    LegEnded,
    MediaPathChanged,
    MediaReported,
    PartyReplaced,
    ProviderFailed,
    ProviderReplaced,
    ProviderUsage,
    RecordingWritten,
    SipMessageReceived,
    TaskCompleted,
    ToolCalled,
    ToolReturned,
    TransferEnded,
    TransferStarted,
    TurnSpoken,
    WayTaken,
)
from offhook.model.trunks import TrunkChanged
from offhook.observability.logs import SHORT_ID, LogFormat

REASON_CHARACTERS = 200
"""Of what a failed tool's server said: more is in the record."""

_log = logging.getLogger("offhook.calls")


class LiveLog:
    """Watches the bus. ``show_speech`` off: that something was said is told, not what (privacy)."""

    def __init__(self, *, show_speech: bool, log_format: LogFormat = "text") -> None:
        self._show_speech = show_speech
        self._as_records = log_format == "json"
        self._colour = sys.stdout.isatty() and not os.environ.get(
            "NO_COLOR"
        )  # once: left to itself, click asks the system at every line

    def __call__(self, event: CallEvent) -> None:
        text = self.describe(event.fact)
        if text is None:
            return
        if self._as_records:
            about = {"call_id": event.call_id, "event": EVENT_NAMES[type(event.fact)]}
            _log.info("%s", click.unstyle(text).strip(), extra=about)
            return
        clock = time.strftime("%H:%M:%S", time.localtime(event.at))
        click.echo(f"{clock}  {click.style(event.call_id[:SHORT_ID], dim=True)}  {text}", color=self._colour)

    def describe(self, fact: CallFact) -> str | None:
        """The line for a fact; None for what a person does not need to see."""
        if isinstance(fact, TurnSpoken):
            return self._turn(fact)
        if isinstance(fact, DigitReceived):
            return f"{'caller':>6}: pressed {fact.digit if self._show_speech else '•'}"
        if isinstance(fact, ToolReturned) and fact.is_error:
            return click.style(f"tool {fact.tool} failed after {fact.took_ms} ms{self._why(fact)}", fg="red")
        return LINES[type(fact)](fact)

    def _turn(self, turn: TurnSpoken) -> str:
        words = f"“{turn.text}”" if self._show_speech else f"spoke for {turn.ended_ms - turn.started_ms} ms"
        cut = " (interrupted)" if turn.interrupted else ""
        latency = "" if turn.latency_ms is None else click.style(f"  after {turn.latency_ms} ms", dim=True)
        colour = "cyan" if turn.speaker == "caller" else "yellow"
        return f"{click.style(f'{turn.speaker:>6}', fg=colour)}: {words}{cut}{latency}"

    def _why(self, failed: ToolReturned) -> str:
        """What the model was told may hold what somebody's server said of the caller."""
        return f": {one_line(failed.output)[:REASON_CHARACTERS]}" if self._show_speech else ""


class TrunkLog:
    """Watches the trunks: a line whenever one comes up or goes down, not at each refresh."""

    def __init__(self, log_format: LogFormat = "text") -> None:
        self._as_records = log_format == "json"
        self._phases: dict[str, tuple[str, int | None, str]] = {}

    def __call__(self, changed: TrunkChanged) -> None:
        known = (changed.phase, changed.sip_code, changed.reason)
        if self._phases.get(changed.trunk_id) != known and changed.phase != "registering":
            self._phases[changed.trunk_id] = known
            self._tell(changed)

    def _tell(self, changed: TrunkChanged) -> None:
        if self._as_records:
            level = logging.WARNING if changed.phase == "failed" else logging.INFO
            _log.log(level, "%s", click.unstyle(self.describe(changed)), extra={"trunk_id": changed.trunk_id})
        else:
            clock = time.strftime("%H:%M:%S", time.localtime(changed.at))
            click.echo(f"{clock}  trunk {changed.trunk_id}: {self.describe(changed)}")

    def describe(self, changed: TrunkChanged) -> str:
        if changed.phase == "failed":
            code = f"{changed.sip_code} " if changed.sip_code is not None else ""
            return click.style(f"failed: {code}{changed.reason} → {changed.fix}", fg="red")
        where = f" by {changed.server}" if changed.server else ""
        return click.style(changed.phase, fg="green" if changed.phase == "online" else None) + where


def one_line(text: str) -> str:
    """What somebody else wrote, harmless to a terminal."""
    return "".join(each if each.isprintable() else "·" for each in " ".join(text.split()))


def ended_by(by: EndedBy) -> str:
    """``caller`` is whom we talk to, also where we called him."""
    return "the other side" if by == "caller" else by


def _silent(_: CallFact) -> None:
    return None


def _arrived(fact: CallArrived) -> str:
    if fact.direction == "outbound":
        return f"calling {fact.to_uri}{f' by trunk {fact.trunk_id}' if fact.trunk_id else ''}"
    return f"call from {fact.from_uri} to {fact.to_uri} ({fact.transport} {fact.remote_address})"


def _way(fact: WayTaken) -> str | None:
    return f"goes on by {fact.server}: {fact.problem}" if fact.problem else None


def _answered(fact: CallAnswered) -> str:
    secured = f", {fact.srtp}" if fact.srtp else ""
    return click.style(f"answered after {fact.setup_ms} ms, {fact.codec}{secured}", fg="green")


def _judged(fact: AnswerJudged) -> str:
    return f"reached: {fact.by} ({fact.evidence}{', before the answer' if fact.early else ''})"


def _refused(fact: CallRefused) -> str:
    return click.style(f"refused with {fact.status}: {fact.rule} [{fact.evidence}] → {fact.fix}", fg="red")


def _resumed(fact: InterruptionResumed) -> str:
    return f" agent: went on after a pause of {fact.paused_ms} ms (no interruption)"


def _hold(fact: HoldChanged) -> str:
    return "put on hold" if fact.held else "taken back from hold"


def _transfer(fact: TransferStarted) -> str:
    named = f"{fact.destination}, " if fact.destination else ""
    return f"transfer to {named}{fact.target} ({fact.mode})"


def _transferred(fact: TransferEnded) -> str:
    status = f" {fact.sip_code}" if fact.sip_code is not None else ""
    reason = f" ({fact.reason})" if fact.reason else ""
    colour = "green" if fact.outcome == "connected" else "red"
    return click.style(f"transfer to {fact.target} ({fact.mode}): {fact.outcome}{status}{reason}", fg=colour)


def _replaced(fact: PartyReplaced) -> str:
    return f"goes on with {fact.remote_uri} ({fact.by})"


def _failed(fact: ProviderFailed) -> str:
    return click.style(f"{fact.provider} failed ({fact.verdict}): {fact.problem}", fg="red")


def _provider_replaced(fact: ProviderReplaced) -> str:
    return f"{fact.by} goes on for {fact.failed}"


def _task(fact: TaskCompleted) -> str:
    return click.style(f"task: {fact.outcome}", fg="green")


def _media(fact: MediaReported) -> str:
    return (
        f"media: {fact.packets_received} packets in, {fact.packets_sent} out, "
        f"loss {fact.loss_percent:.1f} %, jitter {fact.jitter_ms:.1f} ms"
    )


def _recorded(fact: RecordingWritten) -> str:
    return f"recorded to {fact.path}"


def _tool_returned(fact: ToolReturned) -> str:
    return f"tool {fact.tool} answered after {fact.took_ms} ms"


def _ended(fact: CallEnded) -> str:
    status = f" {fact.sip_code}" if fact.sip_code is not None else ""
    reason = f" ({fact.reason})" if fact.reason else ""
    return f"ended by {ended_by(fact.by)} after {fact.duration_ms / 1000:.1f} s: {fact.cause}{status}{reason}"


LINES: Mapping[type[CallFact], Callable[[Any], str | None]] = {
    AgentJoined: _silent,
    AgentLeft: _silent,
    AnswerJudged: _judged,
    CallAnswered: _answered,
    CallArrived: _arrived,
    CallEnded: _ended,
    CallRefused: _refused,
    CallRinging: _silent,
    HoldChanged: _hold,
    InterruptionResumed: _resumed,
    LegAnswered: _silent,
    LegDialled: _silent,
    LegEnded: _silent,
    MediaPathChanged: _silent,
    MediaReported: _media,
    PartyReplaced: _replaced,
    ProviderFailed: _failed,
    ProviderReplaced: _provider_replaced,
    ProviderUsage: _silent,
    RecordingWritten: _recorded,
    SipMessageReceived: _silent,
    TaskCompleted: _task,
    ToolCalled: _silent,
    ToolReturned: _tool_returned,
    TransferEnded: _transferred,
    TransferStarted: _transfer,
    WayTaken: _way,
}
"""A line for every fact that is the same with and without privacy; a test holds it against the union."""

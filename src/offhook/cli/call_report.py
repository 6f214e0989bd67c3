"""What ``offhook call`` tells of its call: the facts as they come, then the figures, and the exit code."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from offhook.call.ports import EventSink
from offhook.call.session import CallSession
from offhook.cli.figures import TurnLatencies
from offhook.model.audio import AudioFormat, Encoding, leg_format
from offhook.model.call_events import (
    CallAnswered,
    CallArrived,
    CallEnded,
    CallEvent,
    CallRefused,
    CallRinging,
    DigitReceived,
    MediaReported,
    TurnSpoken,
)
from offhook.store.facts import event_document

EXIT_OK = 0
EXIT_NOT_ANSWERED = 1
EXIT_SILENCE = 3
"""Answered, but not a single packet of audio came: one-way audio."""


class CallReport(EventSink):
    """Keeps the call's facts and prints them as they come; at the end the figures."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._events: list[CallEvent] = []
        self._session: CallSession | None = None
        self._latencies: TurnLatencies | None = None
        self._answered: CallAnswered | None = None
        self._media: MediaReported | None = None
        self._ended: CallEnded | None = None

    def watch(self, session: CallSession) -> None:
        self._session = session

    def append(self, event: CallEvent) -> None:
        self._events.append(event)
        match event.fact:
            case CallArrived(to_uri=to_uri):
                self._line(f"calling {to_uri}")
            case CallRinging(status=status):
                self._line(f"ringing ({status})")
            case CallAnswered() as answered:
                self._answered = answered
                self._line(f"answered after {answered.setup_ms} ms, {answered.codec}")
                self._tap(leg_format(Encoding(answered.codec)))
            case CallRefused() as refused:
                self._line(f"refused with {refused.status}: {refused.evidence} → {refused.fix}")
            case TurnSpoken() as turn:
                who = "far end" if turn.speaker == "caller" else "we"
                self._line(f"{turn.started_ms / 1000:6.1f} s  {who:>7}: {turn.text}")
            case DigitReceived(digit=digit):
                self._line(f"far end pressed {digit}")
            case MediaReported() as media:
                self._media = media
            case CallEnded() as ended:
                self._ended = ended
            case _:
                pass

    def print_figures(self) -> None:
        if self._quiet:
            click.echo(msgspec.json.format(msgspec.json.encode(self.document()), indent=1))
            return
        ended = self._ended
        if ended is not None:
            who = {"caller": "the far end", "agent": "us"}.get(ended.by, ended.by)
            status = f" {ended.sip_code}" if ended.sip_code is not None else ""
            reason = f" ({ended.reason})" if ended.reason else ""
            click.echo(f"ended by {who} after {ended.duration_ms / 1000:.1f} s: {ended.cause}{status}{reason}")
        if self._answered is not None:
            click.echo(self._figures_line(self._answered))

    def _figures_line(self, answered: CallAnswered) -> str:
        parts = [f"setup {answered.setup_ms} ms"]
        if self._latencies is not None and self._latencies.turns_ms:
            turns = ", ".join(str(turn) for turn in self._latencies.turns_ms)
            parts.append(f"turn latency {turns} ms")
        if self._media is not None:
            parts.append(f"loss {self._media.loss_percent:.1f} %, jitter {self._media.jitter_ms:.1f} ms")
        return " · ".join(parts)

    def document(self) -> dict[str, Any]:
        """The JSON of ``--json``."""
        return {
            "answered": self._answered is not None,
            "setup_ms": self._answered.setup_ms if self._answered is not None else None,
            "codec": self._answered.codec if self._answered is not None else None,
            "turn_latency_ms": self._latencies.turns_ms if self._latencies is not None else [],
            "media": msgspec.to_builtins(self._media) if self._media is not None else None,
            "end": msgspec.to_builtins(self._ended) if self._ended is not None else None,
            "events": [event_document(event) for event in self._events],
        }

    @property
    def exit_code(self) -> int:
        if self._answered is None:
            return EXIT_NOT_ANSWERED
        if self._media is None or self._media.packets_received == 0:
            return EXIT_SILENCE
        return EXIT_OK

    def _tap(self, audio_format: AudioFormat) -> None:
        if self._session is not None and self._session.leg is not None:
            self._latencies = TurnLatencies(audio_format)
            self._session.leg.media.tap(self._latencies)

    def _line(self, text: str) -> None:
        if not self._quiet:
            click.echo(text)

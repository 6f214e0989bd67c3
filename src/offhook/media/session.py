"""One leg's media: sockets, both streams and RTCP, driven by the clock. Audio in and out are 20 ms frames."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import Literal

from offhook.media.clock import FRAME_S, MediaClock
from offhook.media.events import (
    Drained,
    DtmfReceived,
    MediaEvent,
    MediaTimedOut,
    PathChanged,
    Played,
    SpeechSent,
)
from offhook.media.inbound import InboundStream
from offhook.media.outbound import OutboundStream
from offhook.media.playout import Playout
from offhook.media.ports import PortPool
from offhook.media.reports import ReportExchange
from offhook.media.stats import StreamStats
from offhook.media.transport import Transport, UdpTransport, transport_for
from offhook.model.audio import PCMU_8K, AudioFormat, leg_format
from offhook.model.errors import LocalProtocolError
from offhook.rtp.latching import Address
from offhook.rtp.telephone_event import DEFAULT_DURATION_MS
from offhook.sdp.offer_answer import Agreement

__all__ = [
    "Drained",
    "DtmfReceived",
    "MediaEvent",
    "MediaSession",
    "MediaTimedOut",
    "PathChanged",
    "Played",
    "SpeechSent",
    "StreamStats",
]

MEDIA_TIMEOUT_S = 60.0
"""Twice the longest pause of a gateway that suppresses silence without comfort noise."""

_CHORES_TICKS = 5
"""Reports, time-outs and lost ends of digits are looked after every 100 ms."""

_MOST_HEARD_LATE = 100
"""Two seconds: more than the socket's buffer holds. After a longer stop nothing is left to be heard."""

Sink = Callable[[bytes], None]
Tap = Callable[[bytes, bytes], None]


class MediaSession:
    """Open from construction to ``close``; RTP flows from ``start`` on, silence when there is nothing to say.

    Audio given to and taken from it is in ``format``: G.711 as it is on the wire, or L16 at 16 kHz where a wideband
    codec was agreed. ``listener`` is called on the loop.
    Raises ``ResourceExhaustedError`` when the pool has no port. Must be made on a running loop.
    """

    def __init__(
        self,
        *,
        clock: MediaClock,
        pool: PortPool,
        local_host: str,
        ssrc: int,
        phase_group: int = 0,
        listener: Callable[[MediaEvent], None],
        media_timeout_s: float = MEDIA_TIMEOUT_S,
    ) -> None:
        self._clock = clock
        self._pool = pool
        self._ssrc = ssrc
        self.phase_group = phase_group
        self._listener = listener
        self._media_timeout_s = media_timeout_s
        self._sinks: tuple[Sink, ...] = ()
        self._taps: tuple[Tap, ...] = ()
        self._at_once: tuple[Sink, ...] = ()
        self._agreement: Agreement | None = None
        self._inbound: InboundStream | None = None
        self._closed = False
        self._expected: AudioFormat | None = None
        self._timed_out = False
        self._late_ticks = 0
        self._ticked_at = 0.0
        self._sent = b""
        self._chores_in = _CHORES_TICKS
        self._playout = Playout(PCMU_8K)
        self._pair = pool.open(local_host)
        self._transport: Transport = UdpTransport(asyncio.get_running_loop(), self._pair)

    # ── life ─────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def local_port(self) -> int:
        return self._pair.port

    @property
    def format(self) -> AudioFormat:
        """What is given to it and taken from it now; PCMU before ``start``. ``update`` may change it."""
        return self._playout.format

    def expect(self, audio_format: AudioFormat) -> None:
        """Audio played before ``start`` is in this format, and converted then. Without it, it is in the one agreed."""
        self._expected = audio_format
        self._playout.agree(audio_format)

    def start(self, agreement: Agreement, signalling_host: str | None = None) -> None:
        """Send and receive from now on, by SRTP where that was agreed.

        ``signalling_host`` is the IP the SIP messages come from (latching).
        Raises ``LocalProtocolError`` when started or closed before.
        """
        if self._agreement is not None or self._closed:
            raise LocalProtocolError("this media session was started or closed before")
        self._agreement = agreement
        self._transport = transport_for(agreement.crypto, self._transport, time.monotonic())
        if self._expected is None:
            self._playout.agree(leg_format(agreement.encoding))
        else:
            self._playout.recode(leg_format(agreement.encoding))
        inbound = InboundStream(agreement=agreement, signalling_host=signalling_host, tell=self._told)
        self._outbound = OutboundStream(
            ssrc=self._ssrc,
            agreement=agreement,
            send=self._transport.send,
            tell_sound=self._tell_sound,
            tell_end=self._tell,
            playout=self._playout,
        )
        self._outbound.aim(agreement.remote)
        self._reports = ReportExchange(
            ssrc=self._ssrc,
            cname=secrets.token_urlsafe(12),  # RFC 7022 §4.2: random, told apart per call
            remote=agreement.remote_rtcp,
            inbound=inbound,
            outbound=self._outbound,
            send=self._transport.send_control,
        )
        self._inbound = inbound
        inbound.hear_at_once(self._at_once)
        self._transport.discard()
        self._transport.on_rtp = inbound.receive
        self._transport.on_rtcp = self._reports.receive
        self._clock.watch(self._transport.fileno(), self._transport.read, self.phase_group)
        self._clock.add(self, self.phase_group)

    def confirm(self) -> None:
        """The remote party has our answer: its time to be latched on begins now. Before ``start`` it means nothing."""
        if self._inbound is not None:
            self._inbound.confirm()

    def update(self, agreement: Agreement) -> None:
        """A re-INVITE agreed on other addresses, types, codec or direction. Raises as ``start`` does."""
        if self._inbound is None or self._agreement is None or self._closed:
            raise LocalProtocolError("this media session is not started, or closed")
        if agreement.encoding is not self._agreement.encoding:
            self._playout.recode(leg_format(agreement.encoding))
        if agreement.remote_rtcp != self._agreement.remote_rtcp:
            self._reports.latch.renew(declared=agreement.remote_rtcp)
        self._agreement = agreement
        self._timed_out = False
        self._secure(self._inbound, agreement)
        self._inbound.update(agreement)
        self._outbound.update(agreement)
        self._outbound.aim(self._inbound.latch.destination)

    def close(self) -> None:
        """Say goodbye by RTCP and let go of everything; idempotent; no event comes after it."""
        if self._closed:
            return
        self._closed = True
        if self._inbound is not None:
            self._clock.remove(self)
            self._clock.unwatch(self._transport.fileno(), self.phase_group)
            self._reports.close()
        self._transport.close()
        self._pool.release(self._pair)
        self._sinks = self._taps = self._at_once = ()

    # ── who hears the remote party ───────────────────────────────────────────────────────────────────────

    def connect(self, sink: Sink) -> None:
        """Push every frame of the remote party, one each tick, concealed where lost."""
        self._sinks = (*self._sinks, sink)

    def connect_at_once(self, sink: Sink) -> None:
        """Push every frame of the remote party as soon as it is here and in order, 50 a second in the long run: for a
        listener that would rather hear soon than evenly. Of a wideband codec they come each tick.
        """
        self._at_once = (*self._at_once, sink)
        if self._inbound is not None:
            self._inbound.hear_at_once(self._at_once)

    def disconnect_at_once(self, sink: Sink) -> None:
        self._at_once = tuple(other for other in self._at_once if other is not sink)
        if self._inbound is not None:
            self._inbound.hear_at_once(self._at_once)

    def disconnect(self, sink: Sink) -> None:
        self._sinks = tuple(other for other in self._sinks if other != sink)

    def tap(self, tap: Tap) -> None:
        """Push (frame heard, frame sent) of every tick."""
        self._taps = (*self._taps, tap)

    def untap(self, tap: Tap) -> None:
        self._taps = tuple(other for other in self._taps if other != tap)

    # ── what the remote party hears ──────────────────────────────────────────────────────────────────────

    @property
    def playing(self) -> str | None:
        """The item that sounds or comes next; None when nothing is left to say."""
        return self._playout.playing

    @property
    def waiting(self) -> tuple[str, ...]:
        """The items that sound or come later, in their order."""
        return self._playout.waiting

    @property
    def queued_ms(self) -> int:
        return self._playout.queued_ms

    def play(self, item: str, audio: bytes) -> None:
        """Append audio, in the format agreed or to be agreed, to an item; before ``start`` it waits."""
        self._playout.play(item, audio)

    def finish(self, item: str) -> None:
        """No more audio of ``item``: ``Drained`` comes when all of it was sent."""
        self._playout.finish(item)

    def flush(self, item: str | None = None) -> list[Played]:
        """Drop what waits, of one item or of all; how many ms of each left on RTP. No ``Drained`` comes for them."""
        return self._playout.flush(item)

    def pause(self) -> None:
        """Send silence and keep what waits."""
        self._playout.paused = True

    def resume(self) -> None:
        self._playout.paused = False

    def relay(self, frame: bytes) -> None:
        """A frame of another leg in this leg's format, sent alone or mixed with what plays. A sink for ``connect``."""
        if self._inbound is not None:
            self._outbound.relay(frame)

    def send_dtmf(
        self, digits: str, duration_ms: int = DEFAULT_DURATION_MS, *, way: Literal["rfc4733", "inband"] = "rfc4733"
    ) -> bool:
        """Queue digits as events (RFC 4733) or as tones; speech waits while one sounds.

        False: the remote party takes no events. Raises ``ValueError`` for what is no digit or too many of them,
        ``LocalProtocolError`` before ``start``.
        """
        if self._inbound is None:
            raise LocalProtocolError("digits can be sent once the media session is started")
        if way == "rfc4733":
            return self._outbound.queue_digits(digits, duration_ms)
        self._outbound.queue_tones(digits, duration_ms)
        self._inbound.ignore_tones(time.monotonic())
        return True

    # ── figures ──────────────────────────────────────────────────────────────────────────────────────────

    @property
    def last_speech_at(self) -> float:
        """Monotonic arrival of the last packet judged speech; 0.0 before the first."""
        return self._inbound.last_speech_at if self._inbound is not None else 0.0

    @property
    def remote(self) -> Address | None:
        """Where media is sent now; None before ``start``."""
        return self._inbound.latch.destination if self._inbound is not None else None

    def stats(self) -> StreamStats | None:
        """The figures so far; None before ``start``."""
        if self._inbound is None:
            return None
        reception, buffer = self._inbound.reception, self._inbound.jitter_buffer
        return StreamStats(
            packets_sent=self._outbound.packets,
            octets_sent=self._outbound.octets,
            packets_received=reception.received,
            packets_lost=reception.lost,
            loss_percent=100 * reception.lost / reception.expected if reception.expected else 0.0,
            jitter_ms=buffer.jitter_ms,
            remote_loss_percent=self._reports.remote_loss_percent,
            remote_jitter_ms=self._reports.remote_jitter_ms,
            round_trip_ms=self._reports.round_trip_ms,
            concealed_frames=self._inbound.concealed_frames,
            playout_delay_ms=buffer.delay_ms(self._ticked_at),
            target_delay_ms=buffer.target_delay_ms,
            packets_late=buffer.late,
            packets_duplicate=reception.duplicates,
            packets_reordered=reception.reordered,
            packets_malformed=self._inbound.malformed + self._reports.malformed,
            packets_unexpected=self._inbound.unexpected,
            packets_from_strangers=self._inbound.latch.dropped + self._reports.latch.dropped,
            stream_restarts=reception.restarts,
            late_ticks=self._late_ticks,
            skipped_ticks=self._outbound.skipped_ticks,
            packets_unauthentic=self._transport.packets_unauthentic,
            packets_replayed=self._transport.packets_replayed,
            send_failures=self._transport.send_failures,
            starved_frames=self._playout.starved_frames,
        )

    # ── the hot path ─────────────────────────────────────────────────────────────────────────────────────

    def send(self, due_s: float, now: float) -> None:
        """One frame out."""
        if self._closed:
            return
        if now - due_s >= FRAME_S:
            self._late_ticks += 1
        self._sent = self._outbound.send_next()

    def hear(self, due_s: float) -> None:
        """One frame in, to all who listen."""
        inbound = self._inbound
        if self._closed or inbound is None:
            return
        self._ticked_at = due_s
        heard = inbound.next_frame(due_s)
        if inbound.tones is not None:
            inbound.listen(heard, due_s)
        if self._at_once:
            inbound.tick_at_once(heard)
        for sink in self._sinks:
            sink(heard)
        for tap in self._taps:
            tap(heard, self._sent)
        self._outbound.end_items()
        self._chores_in -= 1
        if not self._chores_in:
            self._chores_in = _CHORES_TICKS
            self._do_chores(inbound, due_s)

    def skip(self, frames: int, due_s: float) -> None:
        """Ticks the engine missed. What was to be sent is gone; what came meanwhile is heard, late but whole."""
        inbound = self._inbound
        if self._closed or inbound is None:
            return
        self._outbound.skip(frames)
        lost = max(0, frames - _MOST_HEARD_LATE)
        inbound.skip(lost)
        for frame in range(lost, frames):
            heard = inbound.next_frame(due_s + frame * FRAME_S)
            if inbound.tones is not None:
                inbound.listen(heard, due_s)
            if self._at_once:
                inbound.tick_at_once(heard)
            for sink in self._sinks:
                sink(heard)
            for tap in self._taps:
                tap(heard, inbound.silence)

    # ── the rest ─────────────────────────────────────────────────────────────────────────────────────────

    def _secure(self, inbound: InboundStream, agreement: Agreement) -> None:
        """Follow the agreement into SRTP, out of it, or to other keys."""
        transport = transport_for(agreement.crypto, self._transport, time.monotonic())
        if transport is not self._transport:
            self._transport = transport
            transport.on_rtp = inbound.receive
            transport.on_rtcp = self._reports.receive
            self._outbound.send_by(transport.send)
            self._reports.send_by(transport.send_control)

    def _do_chores(self, inbound: InboundStream, now: float) -> None:
        inbound.expire(now)
        if self._outbound.sounds_tones:
            inbound.ignore_tones(now)
        if not self._closed:
            self._reports.send_due(now)
            self._watch_silence(inbound, now)

    def _watch_silence(self, inbound: InboundStream, now: float) -> None:
        assert self._agreement is not None
        quiet_s = now - inbound.last_packet_at
        if quiet_s < self._media_timeout_s:
            self._timed_out = False
        elif not self._timed_out and self._agreement.direction == "sendrecv":  # who holds us may send nothing
            self._timed_out = True
            self._tell(MediaTimedOut(after_s=self._media_timeout_s))

    def _told(self, event: DtmfReceived | PathChanged) -> None:
        if isinstance(event, PathChanged):
            self._outbound.aim(event.remote)
        self._tell(event)

    def _tell_sound(self, item: str, at: float) -> None:
        self._tell(SpeechSent(item=item, at=at, caller_speech_at=self.last_speech_at))

    def _tell(self, event: MediaEvent) -> None:
        if not self._closed:
            self._listener(event)

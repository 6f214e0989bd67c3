"""The sending half of a leg: one packet a tick, whatever there is to say."""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Callable
from ipaddress import ip_address

from offhook.audio.dtmf import ToneSender
from offhook.audio.g711 import silence
from offhook.audio.level import LOUDNESS, loudness_of, sketch
from offhook.audio.mix import mix
from offhook.media.events import Drained
from offhook.media.playout import Playout
from offhook.media.wideband import WireEncoder, wire_encoder
from offhook.model.audio import FRAME_MS, PCMU_8K, Encoding, leg_format
from offhook.rtp.latching import Address
from offhook.rtp.packet import HEADER, HEADER_BYTES, MARKER, PLAIN_FIRST_BYTE
from offhook.rtp.telephone_event import PAYLOAD, DtmfSender
from offhook.sdp.offer_answer import Agreement

SOUND_DBM0 = -45.0
"""An agent's frame above this is speech; a voice's own lead-in noise lies below."""

_SOUND_ABOVE = loudness_of(SOUND_DBM0) * PCMU_8K.frame_bytes

RELAYED_FRAMES = 4
"""Frames another leg may be ahead: both tick in one group, so one is usual. Older ones are dropped."""

_pack_header = HEADER.pack_into


class OutboundStream:
    """Packs and sends. ``tell_sound(item, at)`` at an item's first audible frame, ``tell_end`` after its last.

    Packets are built in one buffer: header, then payload. G.711 goes out as the bytes it is, L16 by ``_encoder``.
    """

    def __init__(
        self,
        *,
        ssrc: int,
        agreement: Agreement,
        send: Callable[[bytes | bytearray, Address], bool],
        tell_sound: Callable[[str, float], None],
        tell_end: Callable[[Drained], None],
        playout: Playout,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ssrc = ssrc
        self._send = send
        self._tell_sound = tell_sound
        self._tell_end = tell_end
        self._monotonic = monotonic
        self.playout = playout
        # RFC 3550 §5.1: both begin at random, so that an encrypted stream cannot be attacked with known text
        # The sequence in the lower half: who missed the first packets, and a wrap among them, could never open an SRTP
        # packet (RFC 3711 §3.3.1: both sides count the wraps).
        self.first_sequence = secrets.randbits(15)
        self._sequence = self.first_sequence
        self.timestamp = secrets.randbits(32)
        self.packets = 0
        self.octets = 0
        self.skipped_ticks = 0
        self.dropped_relayed = 0
        self._marker = MARKER
        self._relayed: deque[bytes] = deque()
        self._codec: Encoding | None = None
        self._digits = DtmfSender()
        self._tones: ToneSender | None = None  # while digits leave as tones
        self._next_said = playout.next_frame
        self._event_packet = bytearray(HEADER_BYTES + PAYLOAD.size)
        self.update(agreement)

    def update(self, agreement: Agreement) -> None:
        """The agreement changed: types, encoding, direction. The numbering goes on."""
        if agreement.encoding is not self._codec:
            self._codec = agreement.encoding
            self._encoder: WireEncoder | None = wire_encoder(agreement.encoding)
        audio_format = leg_format(agreement.encoding)
        self._format, self._encoding = audio_format, audio_format.encoding
        self._frame = audio_format.frame_bytes
        self.clock_hz = agreement.clock_hz
        self._step = agreement.clock_hz * FRAME_MS // 1000
        self.silence = silence(audio_format)
        self._packet = bytearray(HEADER_BYTES + self._frame)
        self._audio_type = agreement.payload_type
        self._event_type = agreement.dtmf_payload_type
        if self._event_type is None:
            self._digits.clear()
        self._digits.retune(agreement.dtmf_clock_hz)
        if self._tones is not None:
            self._tones.retune(audio_format)
        self._may_send = agreement.direction in ("sendrecv", "sendonly")
        self._relayed.clear()

    def aim(self, destination: Address) -> None:
        """Where packets go from now on. An address that names no host (RFC 3264 §8.4: 0.0.0.0) gets none."""
        self._destination = destination if is_sendable(destination) else None

    def send_by(self, send: Callable[[bytes | bytearray, Address], bool]) -> None:
        """Another transport took over."""
        self._send = send

    def queue_digits(self, digits: str, duration_ms: int) -> bool:
        """False where the remote takes no events. Raises ``ValueError`` for what is no digit, or too many."""
        if self._event_type is None:
            return False
        self._digits.queue(digits, duration_ms)
        return True

    @property
    def sounds_tones(self) -> bool:
        return self._tones is not None

    def queue_tones(self, digits: str, duration_ms: int) -> None:
        """Digits in the audio itself; nothing else is heard meanwhile. Raises ``ValueError`` as ``queue_digits``."""
        tones = self._tones if self._tones is not None else ToneSender(self._format)
        tones.queue(digits, duration_ms)
        self._tones, self._next_said = tones, self._next_tone

    def relay(self, frame: bytes) -> None:
        """A frame of another leg in this leg's format: sent alone, or with what this leg's agent says."""
        if len(frame) != self._frame or self._tones is not None:
            return
        if len(self._relayed) == RELAYED_FRAMES:
            self._relayed.popleft()
            self.dropped_relayed += 1
        self._relayed.append(frame)

    def send_next(self) -> bytes:
        """Send the packet of this tick; the frame it carried, silence when it carried none."""
        destination = self._destination
        timestamp = self.timestamp
        self.timestamp = (timestamp + self._step) & 0xFFFFFFFF
        relayed = self._relayed.popleft() if self._relayed else None
        if destination is None or not self._may_send:
            self._marker = MARKER
            return self.silence
        if not self._digits.idle and (payload := self._digits.next_payload(timestamp)) is not None:
            self._send_event(payload, destination)
            return self.silence
        playout = self.playout
        said = frame = self._next_said()
        if frame is None:
            frame = self.silence if relayed is None else relayed
        elif relayed is not None:
            frame = mix(self._encoding, (frame, relayed))
        packet = self._packet
        _pack_header(
            packet, 0, PLAIN_FIRST_BYTE, self._audio_type | self._marker, self._sequence, timestamp, self._ssrc
        )
        payload = frame if self._encoder is None else self._encoder.encode(frame)
        packet[HEADER_BYTES:] = payload
        self._dispatch(packet, destination, len(payload))
        if said is not None and playout.sounding_item is not None:
            self._listen(playout.sounding_item, said)
        return frame

    def end_items(self) -> None:
        """Tell of items that are over; after the tick's packet is out."""
        while ended := self.playout.take_ended():
            self._tell_end(Drained(item=ended.item, played_ms=ended.played_ms))

    def skip(self, frames: int) -> None:
        """Ticks that will never be sent: time and audio move on without them, the numbering does not."""
        self.timestamp = (self.timestamp + frames * self._step) & 0xFFFFFFFF
        self.skipped_ticks += frames
        self.playout.missed(frames)
        self._relayed.clear()

    def _next_tone(self) -> bytes | None:
        """In place of what the playout would say, which waits."""
        assert self._tones is not None
        frame = self._tones.next_frame()
        if frame is None:
            self._tones, self._next_said = None, self.playout.next_frame
            return self.playout.next_frame()
        self.playout.sounding_item = None
        return frame

    def _send_event(self, payload: bytes, destination: Address) -> None:
        assert self._event_type is not None
        digits = self._digits
        marker = MARKER if digits.marker else 0
        packet = self._event_packet
        _pack_header(
            packet, 0, PLAIN_FIRST_BYTE, self._event_type | marker, self._sequence, digits.timestamp, self._ssrc
        )
        packet[HEADER_BYTES:] = payload
        self._dispatch(packet, destination, PAYLOAD.size)

    def _dispatch(self, packet: bytearray, destination: Address, octets: int) -> None:
        self._send(packet, destination)
        self._marker = 0
        self._sequence = (self._sequence + 1) & 0xFFFF
        self.packets += 1
        self.octets += octets

    def _listen(self, item: str, frame: bytes) -> None:
        """Is this the first sound of its item?"""
        weighed, encoding = (frame, self._encoding) if self._encoder is None else (sketch(frame), Encoding.PCMU)
        if sum(weighed.translate(LOUDNESS[encoding])) > _SOUND_ABOVE:
            self.playout.mark_sounded()
            self._tell_sound(item, self._monotonic())


def is_sendable(address: Address) -> bool:
    """A numeric address with a port: names are not looked up here, the socket would do it on the loop."""
    try:
        host = ip_address(address[0])
    except ValueError:
        return False
    return not host.is_unspecified and 0 < address[1] < 65_536

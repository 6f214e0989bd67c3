"""One call's RTP as the caller sees it: one prebuilt packet out every 20 ms, arrivals noted."""

from __future__ import annotations

import socket
import struct
from array import array
from itertools import pairwise

from tests.bench.kernel_time import ANCILLARY_BYTES, arrived_ns, ask_for_times

from offhook.audio.tones import tone
from offhook.model.audio import Encoding

HEADER_BYTES = 12
SAMPLES = 160
PACKET_BYTES = HEADER_BYTES + SAMPLES

VOICE = tone(400, 20, -18.0, Encoding.PCMU)
"""Eight whole periods in a frame, so that repeated it is one unbroken tone."""

SILENCE = b"\xff" * SAMPLES
"""PCMU's zero (G.711 table 2a)."""

RECEIVE_BUFFER_BYTES = 1 << 20
"""Seconds of packets: the generator reads when it has time, the kernel has noted when they came."""

_NUMBERS = struct.Struct("!HI")  # sequence number and timestamp, RFC 3550 §5.1, from byte 2


class RtpLine:
    """``arrivals_ns`` and ``sequences`` belong together, one entry a packet since the last ``forget``."""

    def __init__(self, number: int, host: str = "127.0.0.1") -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        ask_for_times(self.socket)
        self.socket.bind((host, 0))
        self.port: int = self.socket.getsockname()[1]
        self.sending = False
        self.forget()
        self._packet = bytearray(struct.pack("!BBHII", 0x80, 0, 0, 0, 0x0BE7C000 + number) + VOICE)
        self._sequence = 0
        self._buffer = bytearray(2048)
        self._payload = memoryview(self._buffer)[HEADER_BYTES:PACKET_BYTES]
        self._into = [self._buffer]

    def forget(self) -> None:
        """Start a new window."""
        self.arrivals_ns: array[int] = array("q")
        self.sequences: array[int] = array("H")
        self.sent = self.silent = self.refused = 0

    def connect(self, destination: tuple[str, int]) -> None:
        """Send from now on; packets of any other source no longer come here."""
        self.socket.connect(destination)
        self.sending = True

    def send(self) -> None:
        """The next packet."""
        number = self._sequence
        _NUMBERS.pack_into(self._packet, 2, number & 0xFFFF, number * SAMPLES & 0xFFFFFFFF)
        self._sequence = number + 1
        try:
            self.socket.send(self._packet)
        except OSError:
            self.refused += 1
            return
        self.sent += 1

    def receive(self) -> None:
        """Note one packet."""
        try:
            length, ancillary, _, _ = self.socket.recvmsg_into(self._into, ANCILLARY_BYTES)
        except OSError:
            self.refused += 1
            return
        if length >= HEADER_BYTES:
            self.arrivals_ns.append(arrived_ns(ancillary))
            self.sequences.append(self._buffer[2] << 8 | self._buffer[3])
            self.silent += self._payload == SILENCE

    def gaps_ms(self) -> list[float]:
        """Between packets that came one after the other."""
        return [(after - before) / 1e6 for before, after in pairwise(self.arrivals_ns)]

    @property
    def lost(self) -> int:
        """Numbers missing between the first and the last packet (RFC 3550 A.3); a wrap is followed."""
        if not self.sequences:
            return 0
        steps = sum((after - before) & 0xFFFF for before, after in pairwise(self.sequences))
        return steps + 1 - len(self.sequences)

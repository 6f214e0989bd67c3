"""A caller made of message templates: as little SIP as places, acknowledges and ends calls over one UDP socket.

The product's own user agent would cost more than the server it measures. Nothing here is strict: the
subject is trusted to be a correct SIP endpoint, other tests see to that.
"""

from __future__ import annotations

import re
import socket
import time
from dataclasses import dataclass
from enum import Enum

from tests.bench.kernel_time import ANCILLARY_BYTES, arrived_ns, ask_for_times

T1_S = 0.5
"""RFC 3261 §17.1.1.1: a request unanswered for so long is sent again."""

MOST_RESENT = 6
"""Then the call has failed: 64*T1 would outlast the measurement."""

RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024
BURST = 64
"""Datagrams read in one go before RTP gets its turn."""

_CALL_NUMBER = re.compile(rb"\r\n(?:call-id|i)[ \t]*:[ \t]*bench-(\d+)\b", re.IGNORECASE)
_METHOD = re.compile(rb"\r\ncseq[ \t]*:[ \t]*\d+[ \t]+([A-Z]+)", re.IGNORECASE)
_TO = re.compile(rb"\r\n(?:to|t)[ \t]*:[ \t]*([^\r]+)", re.IGNORECASE)
_CONTACT = re.compile(rb"\r\n(?:contact|m)[ \t]*:[ \t]*(?:[^<\r]*<([^>]+)>|([^;\r]+))", re.IGNORECASE)
_MEDIA_PORT = re.compile(rb"\r\nm=audio (\d+) ")
_MEDIA_HOST = re.compile(rb"\r\nc=IN IP4 (\S+)")
_HOP = re.compile(rb"\r\n(?:via|v|from|f|to|t|call-id|i|cseq)[ \t]*:[^\r]*", re.IGNORECASE)


class Phase(Enum):
    INVITING = "inviting"
    UP = "up"
    LEAVING = "leaving"
    ENDED = "ended"
    FAILED = "failed"


@dataclass(kw_only=True, slots=True)
class PlacedCall:
    """``to``, ``target`` and ``media`` are known once it is ``UP``."""

    number: int
    rtp_port: int
    invited_ns: int
    resend_at: float
    phase: Phase = Phase.INVITING
    answered_ns: int = 0
    resent: int = 0
    to: str = ""
    target: str = ""
    media: tuple[str, int] = ("", 0)

    @property
    def setup_ms(self) -> float:
        return (self.answered_ns - self.invited_ns) / 1e6


class SipCaller:
    """All calls of one generator. ``newly_up`` collects the calls answered since it was last emptied."""

    def __init__(self, server_port: int, host: str = "127.0.0.1") -> None:
        self.calls: dict[int, PlacedCall] = {}
        self.newly_up: list[PlacedCall] = []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        ask_for_times(self.socket)
        self.socket.bind((host, 0))
        self.port: int = self.socket.getsockname()[1]
        self._host = host
        self._server = (host, server_port)
        self._uri = f"sip:bench@{host}:{server_port}"

    # ── commands ─────────────────────────────────────────────────────────────────────────────────────────

    def invite(self, number: int, rtp_port: int) -> None:
        call = PlacedCall(
            number=number, rtp_port=rtp_port, invited_ns=time.time_ns(), resend_at=time.monotonic() + T1_S
        )
        self.calls[number] = call
        self._send_invite(call)

    def bye(self, number: int) -> None:
        """End a call that is up; others are left as they are."""
        call = self.calls[number]
        if call.phase is Phase.UP:
            call.phase = Phase.LEAVING
            call.resend_at = time.monotonic() + T1_S
            self._send_bye(call)

    def resend_due(self, now: float) -> None:
        """Retransmit what was not answered; a call that never is has failed."""
        for call in self.calls.values():
            if call.phase not in (Phase.INVITING, Phase.LEAVING) or now < call.resend_at:
                continue
            call.resend_at = now + T1_S
            call.resent += 1
            if call.resent > MOST_RESENT:
                call.phase = Phase.FAILED
            elif call.phase is Phase.INVITING:
                self._send_invite(call)
            else:
                self._send_bye(call)

    @property
    def unsettled(self) -> int:
        """Calls that still wait for an answer to INVITE or BYE."""
        return sum(call.phase in (Phase.INVITING, Phase.LEAVING) for call in self.calls.values())

    # ── what comes ───────────────────────────────────────────────────────────────────────────────────────

    def receive(self) -> None:
        """Read and act on what has arrived."""
        for _ in range(BURST):
            try:
                datagram, ancillary, _, source = self.socket.recvmsg(4096, ANCILLARY_BYTES)
            except OSError:  # nothing more, or ECONNREFUSED of an earlier datagram: resend_due sees to it
                return
            found = _CALL_NUMBER.search(datagram)
            call = self.calls.get(int(found[1])) if found else None
            if call is not None and datagram.startswith(b"SIP/2.0 "):
                self._response(call, datagram, arrived_ns(ancillary))
            elif call is not None and datagram.startswith(b"BYE "):
                call.phase = Phase.ENDED
                self._answer(datagram, source)

    def _response(self, call: PlacedCall, datagram: bytes, at_ns: int) -> None:
        status = int(datagram[8:11])
        method = _METHOD.search(datagram)
        if status < 200 or method is None:
            return
        if method[1] == b"INVITE":
            self._invite_answered(call, status, datagram, at_ns)
        elif method[1] == b"BYE" and call.phase is Phase.LEAVING:
            call.phase = Phase.ENDED if status == 200 else Phase.FAILED

    def _invite_answered(self, call: PlacedCall, status: int, datagram: bytes, at_ns: int) -> None:
        if call.phase is Phase.INVITING:
            call.answered_ns = at_ns
            self._learn(call, datagram)
            call.phase = Phase.UP if status == 200 and call.media[1] else Phase.FAILED
            if call.phase is Phase.UP:
                self.newly_up.append(call)
        self._send(self._request(call, "ACK", 1, branch="i" if status >= 300 else "a"))

    def _learn(self, call: PlacedCall, answer: bytes) -> None:
        to, contact = _TO.search(answer), _CONTACT.search(answer)
        port, host = _MEDIA_PORT.search(answer), _MEDIA_HOST.search(answer)
        call.to = to[1].decode() if to else ""
        call.target = (contact[1] or contact[2]).decode() if contact else self._uri
        if port and host:
            call.media = (host[1].decode(), int(port[1]))

    def _answer(self, request: bytes, source: tuple[str, int]) -> None:
        copied = b"".join(_HOP.findall(request))
        self._transmit(b"SIP/2.0 200 OK" + copied + b"\r\nContent-Length: 0\r\n\r\n", source)

    # ── what leaves ──────────────────────────────────────────────────────────────────────────────────────

    def _send_invite(self, call: PlacedCall) -> None:
        offer = (
            f"v=0\r\no=bench {call.number} 1 IN IP4 {self._host}\r\ns=-\r\nc=IN IP4 {self._host}\r\nt=0 0\r\n"
            f"m=audio {call.rtp_port} RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n"
            "a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\n"
        )
        self._send(self._request(call, "INVITE", 1, branch="i", offer=offer))

    def _send_bye(self, call: PlacedCall) -> None:
        self._send(self._request(call, "BYE", 2, branch="b"))

    def _request(self, call: PlacedCall, method: str, sequence: int, *, branch: str, offer: str = "") -> bytes:
        here = f"{self._host}:{self.port}"
        lines = [
            f"{method} {call.target or self._uri} SIP/2.0",
            f"Via: SIP/2.0/UDP {here};branch=z9hG4bK{branch}-{self.port}-{call.number};rport",
            "Max-Forwards: 70",
            f"From: <sip:load@{here}>;tag=load-{call.number}",
            f"To: {call.to or f'<{self._uri}>'}",
            f"Call-ID: bench-{call.number}@{here}",
            f"CSeq: {sequence} {method}",
            f"Contact: <sip:load@{here}>",
            *(["Content-Type: application/sdp"] if offer else []),
            f"Content-Length: {len(offer)}",
        ]
        return ("\r\n".join(lines) + "\r\n\r\n" + offer).encode()

    def _send(self, datagram: bytes) -> None:
        self._transmit(datagram, self._server)

    def _transmit(self, datagram: bytes, destination: tuple[str, int]) -> None:
        try:
            self.socket.sendto(datagram, destination)
        except OSError:  # a refused or full socket: what was lost is resent, and counted there
            return

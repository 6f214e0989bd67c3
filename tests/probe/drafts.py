"""Requests and responses as text, each field free to be wrong."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Protocol

from tests.probe.wire import Message, unique

from offhook.sip.events import Address


class Sender(Protocol):
    """What a draft must know of the peer that sends it."""

    transport: str
    media_port: int
    address: Address

    @property
    def host_port(self) -> str: ...


def sdp(host: str, port: int, *, payloads: str = "0 8 101", lines: str = "", version: int = 1, c: str = "") -> str:
    """A plain offer or answer; ``c`` overrides the connection address, ``lines`` are added at the end."""
    kind = "IP6" if ":" in host else "IP4"
    return (
        f"v=0\no=probe 7 {version} IN {kind} {host}\ns=-\nc=IN {kind} {c or host}\nt=0 0\n"
        f"m=audio {port} RTP/AVP {payloads}\na=rtpmap:101 telephone-event/8000\n{lines}"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """A request. ``dataclasses.replace`` it (``with_``) into the one the test needs."""

    method: str
    uri: str
    via: tuple[str, ...]
    from_: str
    to: str
    call_id: str
    contact: str
    number: int = 1
    max_forwards: int = 70
    extra: str = ""
    """More header lines, each ended."""
    content_type: str = "application/sdp"
    body: str = ""

    def with_(self, **changes: object) -> Draft:
        return replace(self, **changes)  # type: ignore[arg-type]

    def __str__(self) -> str:
        via = "".join(f"Via: {value}\n" for value in self.via)
        contact = f"Contact: {self.contact}\n" if self.contact else ""
        content = f"Content-Type: {self.content_type}\n" if self.body else ""
        length = len(self.body.replace("\n", "\r\n"))
        return (
            f"{self.method} {self.uri} SIP/2.0\n{via}Max-Forwards: {self.max_forwards}\nFrom: {self.from_}\n"
            f"To: {self.to}\nCall-ID: {self.call_id}\nCSeq: {self.number} {self.method}\n{contact}{self.extra}{content}"
            f"Content-Length: {length}\n\n{self.body}"
        )

    def companion(self, method: str) -> Draft:
        """CANCEL or the ACK of a failure: same branch, same number (RFC 3261 §9.1, §17.1.1.3)."""
        return self.with_(method=method, body="", extra="", contact="")


def new_request(peer: Sender, target: Address, method: str = "INVITE", *, user: str = "demo") -> Draft:
    """A request outside any dialog, in good order; an INVITE offers G.711 at the peer's RTP port."""
    host = f"[{target.host}]" if ":" in target.host else target.host
    return Draft(
        method=method,
        uri=f"sip:{user}@{host}:{target.port}",
        via=(new_via(peer),),
        from_=f"<sip:probe@{peer.host_port}>;tag={unique('f')}",
        to=f"<sip:{user}@{host}>",
        call_id=unique("c"),
        contact=contact_of(peer),
        body=sdp(peer.address.host, peer.media_port) if method == "INVITE" else "",
    )


def new_via(peer: Sender) -> str:
    return f"SIP/2.0/{peer.transport} {peer.host_port};branch=z9hG4bK{unique('b')};rport"


def contact_of(peer: Sender) -> str:
    suffix = ";transport=tcp" if peer.transport == "TCP" else ""
    return f"<sip:probe@{peer.host_port}{suffix}>"


@dataclass(slots=True)
class Dialog:
    """The peer's side of a call it made: builds in-dialog requests with rising CSeq."""

    peer: Sender
    invite: Draft
    answer: Message
    number: int = field(init=False)

    def __post_init__(self) -> None:
        self.number = self.invite.number

    @property
    def remote_target(self) -> str:
        return self.answer.get("contact").partition("<")[2].partition(">")[0]

    def ack(self, body: str = "") -> Draft:
        return self._request("ACK").with_(body=body)

    def next(self, method: str, **changes: object) -> Draft:
        self.number += 1
        return self._request(method).with_(**changes)

    def _request(self, method: str) -> Draft:
        """A new branch, the dialog's identity, no body."""
        return self.invite.with_(
            method=method,
            uri=self.remote_target,
            via=(new_via(self.peer),),
            to=self.answer.get("to"),
            number=self.number,
            extra="",
            body="",
        )


def response(
    request: Message, status: int, *, to_tag: str = "", contact: str = "", extra: str = "", body: str = ""
) -> str:
    """A response to what offhook asked. ``contact`` without angle brackets; ``extra``: more header lines."""
    vias = "".join(f"Via: {value}\n" for value in request.all("via"))
    tag = f";tag={to_tag}" if to_tag else ""
    contact_line = f"Contact: <{contact}>\n" if contact else ""
    content = "Content-Type: application/sdp\n" if body else ""
    length = len(body.replace("\n", "\r\n"))
    return (
        f"SIP/2.0 {status} Probed\n{vias}From: {request.get('from')}\nTo: {request.get('to')}{tag}\n"
        f"Call-ID: {request.get('call-id')}\nCSeq: {request.get('cseq')}\n{contact_line}{extra}{content}"
        f"Content-Length: {length}\n\n{body}"
    )

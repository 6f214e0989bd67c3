"""What the numbers in an RTP ``m=`` line stand for: payload types, packet times, directions, addresses.

Everything here reads one media description, falling back on its session where RFC 8866 says so.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

from offhook.model.audio import FRAME_MS, Encoding
from offhook.sdp.description import MediaDescription, SessionDescription, numeral

Direction = Literal["sendrecv", "sendonly", "recvonly", "inactive"]
"""RFC 3264 §5.1: what one side is willing to do with the stream."""

_DIRECTIONS: dict[str, Direction] = {name: name for name in get_args(Direction)}

TELEPHONE_EVENT = "telephone-event"  # RFC 4733 §7.1.1
TELEPHONE_CLOCK_HZ = 8000

_MAX_PAYLOAD_TYPE = 127
_MAX_PORT = 65_535
_LONGEST_PTIME_MS = 100
"""800 bytes of G.711: within any MTU. A wish for more is cut to this."""
_ABSURD_PTIME_MS = 10_000  # a=ptime above this is a mistake, not a wish


class PayloadFormat(NamedTuple):
    """What a payload type carries: encoding name as it was written, clock rate in Hz, channels."""

    name: str
    clock_hz: int
    channels: int = 1

    def __str__(self) -> str:
        return f"{self.name}/{self.clock_hz}" + (f"/{self.channels}" if self.channels > 1 else "")

    def same(self, other: PayloadFormat) -> bool:
        """RFC 4855 §3: encoding names are compared without regard to case."""
        return self[1:] == other[1:] and self.name.lower() == other.name.lower()


CODEC_FORMATS = {
    Encoding.PCMU: PayloadFormat("PCMU", 8000),
    Encoding.PCMA: PayloadFormat("PCMA", 8000),
    Encoding.G722: PayloadFormat("G722", 8000),  # RFC 3551 §4.5.2: an error of RFC 1890, kept for compatibility
    Encoding.OPUS: PayloadFormat("opus", 48_000, 2),  # RFC 7587 §4.1, §7: always, whatever is sent
}
"""The codecs of a leg, as an ``a=rtpmap`` names them."""

STATIC_PAYLOAD_TYPES = {
    0: PayloadFormat("PCMU", 8000),
    3: PayloadFormat("GSM", 8000),
    4: PayloadFormat("G723", 8000),
    5: PayloadFormat("DVI4", 8000),
    6: PayloadFormat("DVI4", 16000),
    7: PayloadFormat("LPC", 8000),
    8: PayloadFormat("PCMA", 8000),
    9: PayloadFormat("G722", 8000),
    10: PayloadFormat("L16", 44100),  # two channels
    11: PayloadFormat("L16", 44100),
    12: PayloadFormat("QCELP", 8000),
    13: PayloadFormat("CN", 8000),
    14: PayloadFormat("MPA", 90000),
    15: PayloadFormat("G728", 8000),
    16: PayloadFormat("DVI4", 11025),
    17: PayloadFormat("DVI4", 22050),
    18: PayloadFormat("G729", 8000),
}
"""RFC 3551 table 4: numbers that mean something without an ``a=rtpmap``."""


def payload_formats(media: MediaDescription) -> dict[int, PayloadFormat]:
    """The payload types of the ``m=`` line in their order.

    Left out are those with no meaning, and of several channels all but Opus, whose two are but a name.
    """
    mapped = _rtpmaps(media)
    offered = dict.fromkeys(numeral(text, _MAX_PAYLOAD_TYPE) for text in media.formats)
    known = {number: mapped.get(number, STATIC_PAYLOAD_TYPES.get(number)) for number in offered if number is not None}
    return {number: form for number, form in known.items() if form is not None}


def _rtpmaps(media: MediaDescription) -> dict[int, PayloadFormat | None]:
    """By payload type; None for one we can do nothing with (RFC 8866 §6.6: encoding/clock[/channels])."""
    found: dict[int, PayloadFormat | None] = {}
    for value in media.attributes_named("rtpmap"):
        number_text, _, mapping = value.strip(" ").partition(" ")
        number = numeral(number_text, _MAX_PAYLOAD_TYPE)
        if number is not None:
            found.setdefault(number, _payload_format(mapping.strip(" ")))
    return found


def _payload_format(mapping: str) -> PayloadFormat | None:
    name, _, rest = mapping.partition("/")
    clock_text, _, channels = rest.partition("/")
    clock_hz = numeral(clock_text, 1_000_000)
    if not name or not clock_hz:
        return None
    if channels == "2" and name.lower() == "opus":
        return PayloadFormat(name, clock_hz, 2)
    return PayloadFormat(name, clock_hz) if channels in ("", "1") else None


def packet_time_ms(session: SessionDescription, media: MediaDescription) -> int:
    """How much audio the remote side wants in one packet, in whole frames of 20 ms; 20 when it does not say.

    ``a=ptime`` is a wish, ``a=maxptime`` a limit (RFC 8866 §6.4, §6.5). Below 20 ms stays 20: our clock
    has no shorter tick, and no receiver of G.711 is known to mind.
    """
    wish = _milliseconds(session, media, "ptime") or FRAME_MS
    limit = _milliseconds(session, media, "maxptime") or wish
    frames = min(wish, limit, _LONGEST_PTIME_MS) // FRAME_MS
    return max(1, frames) * FRAME_MS


def _milliseconds(session: SessionDescription, media: MediaDescription, name: str) -> int | None:
    value = media.attribute(name) or session.attribute(name) or ""
    return numeral(value.strip(" "), _ABSURD_PTIME_MS)


def direction_of(session: SessionDescription, media: MediaDescription) -> Direction:
    """What the remote side will do, from its own view; a null address means that it takes nothing.

    The media level speaks before the session level; neither means sendrecv (RFC 8866 §6.7). Hold as
    RFC 2543 had it, ``c=0.0.0.0``, and its IPv6 forms (RFC 3264 §8.4, RFC 6157 §5) are read as sendonly.
    """
    stated = _stated_direction(session, media)
    host, _ = media_address(session, media) or ("", 0)
    if host in ("0.0.0.0", "::") or host.lower().endswith(".invalid"):
        return direction_from(sends=may_send(stated), receives=False)
    return stated


def _stated_direction(session: SessionDescription, media: MediaDescription) -> Direction:
    for attributes in (media.attributes, session.attributes):
        for attribute in attributes:
            if attribute.name in _DIRECTIONS:
                return _DIRECTIONS[attribute.name]
    return "sendrecv"


def direction_from(*, sends: bool, receives: bool) -> Direction:
    if sends:
        return "sendrecv" if receives else "sendonly"
    return "recvonly" if receives else "inactive"


def may_send(direction: Direction) -> bool:
    return direction in ("sendrecv", "sendonly")


def may_receive(direction: Direction) -> bool:
    return direction in ("sendrecv", "recvonly")


def answering_direction(remote: Direction, ours: Direction) -> Direction:
    """RFC 3264 §6.1: we send what the other side receives and receive what it sends, as far as we want to."""
    return direction_from(
        sends=may_receive(remote) and may_send(ours),
        receives=may_send(remote) and may_receive(ours),
    )


def media_address(session: SessionDescription, media: MediaDescription) -> tuple[str, int] | None:
    """Where the remote side takes RTP; None when no ``c=`` line says it (RFC 8866 §5.7)."""
    connection = media.connections[0] if media.connections else session.connection
    return (connection.address, media.port) if connection else None


def control_address(media: MediaDescription, rtp: tuple[str, int]) -> tuple[str, int]:
    """Where the remote side takes RTCP: ``a=rtcp`` (RFC 3605 §2.1), else the next port (RFC 3550 §11)."""
    host, port = rtp
    default = (host, min(port + 1, _MAX_PORT))
    words = (media.attribute("rtcp") or "").split()
    stated = numeral(words[0], _MAX_PORT) if words else None
    if not stated:
        return default
    return (words[3] if len(words) == 4 else host, stated)

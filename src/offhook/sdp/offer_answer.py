"""Offer and answer (RFC 3264) for one audio stream, as pure functions of values.

We settle on one codec, so that neither side changes it without a new offer. Every other stream is refused
in its place with port 0 (RFC 3264 §6): video, a second audio stream, DTLS-SRTP.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from offhook.model.audio import FRAME_MS, Encoding
from offhook.model.srtp import Crypto
from offhook.sdp.crypto import (
    CLEAR_ONLY,
    CLEAR_PROTOCOLS,
    SECURE_PROTOCOLS,
    CryptoLine,
    Insecure,
    Secured,
    SrtpTerms,
    judge_answer,
    judge_offer,
    offer_security,
)
from offhook.sdp.description import Attribute, Connection, MediaDescription, Origin, SessionDescription
from offhook.sdp.rtp_formats import (
    CODEC_FORMATS,
    TELEPHONE_CLOCK_HZ,
    TELEPHONE_EVENT,
    Direction,
    PayloadFormat,
    answering_direction,
    control_address,
    direction_of,
    media_address,
    packet_time_ms,
    payload_formats,
)

__all__ = ["Agreement", "Capabilities", "Direction", "NoCommonCodec", "accept_answer", "negotiate", "offer"]

_USUAL_TYPES = {
    CODEC_FORMATS[Encoding.PCMU]: 0,  # RFC 3551 table 4
    CODEC_FORMATS[Encoding.PCMA]: 8,
    CODEC_FORMATS[Encoding.G722]: 9,
    CODEC_FORMATS[Encoding.OPUS]: 96,  # dynamic, as those that follow
    PayloadFormat(TELEPHONE_EVENT, 8000): 101,  # the number nearly everybody uses
    PayloadFormat(TELEPHONE_EVENT, 48_000): 110,
}
_DYNAMIC_TYPES = range(96, 128)  # RFC 3551 §6

_PARAMETERS = {
    TELEPHONE_EVENT: "0-15",  # the sixteen digits (RFC 4733 §3.2)
    # RFC 7587 §6.1: what we can make use of: one channel, up to 8 kHz of sound, repairs, our frame and longer
    CODEC_FORMATS[Encoding.OPUS].name: "minptime=20;useinbandfec=1;stereo=0;maxplaybackrate=16000",
}
"""``a=fmtp`` by encoding name."""

# RFC 3261 §20.43
_WARN_ADDRESS = 301
_WARN_PROTOCOL = 302
_WARN_MEDIA = 304
_WARN_FORMAT = 305
_WARN_MULTICAST = 330

_LISTED = 12  # formats named in a refusal; an offer may hold hundreds
_LISTED_CHARACTERS = 24  # of each name


@dataclass(frozen=True, kw_only=True, slots=True)
class Capabilities:
    """What a leg can do, and where it takes its media; per leg, so that a trunk may differ."""

    codecs: tuple[Encoding, ...] = (Encoding.PCMU, Encoding.PCMA)
    """Best first; any of ``CODEC_FORMATS``."""
    telephone_event: bool = True
    ptime_ms: int = FRAME_MS
    address: str
    """An IPv4 or IPv6 address, without brackets."""
    port: int
    srtp: SrtpTerms = CLEAR_ONLY
    """Whether media is encrypted, and what our keys are made of."""
    session_id: int
    version: int
    """Raised by the caller with every description that differs from the last (RFC 3264 §8)."""
    direction: Direction = "sendrecv"
    peer_address: str = ""
    """Where the remote side signals from. It stands in for a media address of the other IP family: linphone writes
    its IPv6 address into a call it places over IPv4."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """What both sides settled on, seen from ours."""

    encoding: Encoding
    payload_type: int
    """What we send."""
    receive_payload_type: int
    ptime_ms: int
    """What the remote side wants in one packet: 20, 40, 60, 80 or 100."""
    dtmf_payload_type: int | None
    """What we send telephone-events as (RFC 4733); None: the remote side takes none."""
    dtmf_receive_payload_type: int | None
    remote: tuple[str, int]
    """Where the remote side takes RTP; a name is possible, 0.0.0.0 comes with a direction that sends nothing."""
    remote_rtcp: tuple[str, int]
    direction: Direction
    """Ours: what we may do."""
    crypto: Crypto | None = None
    """What RTP and RTCP are protected by; None: they go in clear."""
    clock_hz: int = 8000
    """Of the RTP timestamps: 8000, for G.722 as well; 48,000 for Opus."""
    dtmf_clock_hz: int = 8000
    """Of the durations of telephone-events: the codec's, or 8000 where the remote side has no other."""


@dataclass(frozen=True, slots=True)
class NoCommonCodec:
    """Why no media can flow: a 488 with a Warning (RFC 3261 §20.43)."""

    why: str
    """The Warning's text, ASCII without quotes; for a codec it names what was offered and what we take."""
    warning: int = _WARN_FORMAT
    """The Warning's code: 301 address, 302 transport, 304 media type, 305 format, 330 multicast."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Choice:
    """One audio stream we can take: its codec's and its telephone-event's numbers as its owner wrote them."""

    encoding: Encoding
    payload_type: int
    dtmf_payload_type: int | None
    dtmf_clock_hz: int
    remote: tuple[str, int]
    secured: Secured | None = None


_Security = Callable[[MediaDescription], Secured | Insecure | None]
"""Whether a stream is encrypted, refused, or (None) goes in clear."""


# ── the three procedures ─────────────────────────────────────────────────────────────────────────────────


def offer(
    capabilities: Capabilities, *, previous: SessionDescription | None = None, standing: Crypto | None = None
) -> SessionDescription:
    """A first offer, or the next one after ``previous``, the last description we sent in this session.

    A later offer keeps every stream in its place and every payload type's meaning (RFC 3264 §8); streams
    other than our audio stay refused. The ``standing`` keys, those in use, stay as well. Raises
    ``LocalProtocolError`` where SRTP is required and impossible.
    """
    index = _live_index(previous) if previous else None
    security = offer_security(
        capabilities.srtp,
        version=capabilities.version,
        standing=standing,
        previous=None if previous is None or index is None else previous.media[index],
    )
    audio = _audio(
        capabilities,
        _formats_to_offer(capabilities, previous),
        direction=capabilities.direction,
        protocol=security.protocol,
        keys=security.attributes,
    )
    if previous is None:
        return _session(capabilities, (audio,))
    ours = _live_index(previous)
    kept = tuple(audio if index == ours else _refused(each) for index, each in enumerate(previous.media))
    return _session(capabilities, kept if ours is not None else (*kept, audio))


def negotiate(
    offer: SessionDescription, capabilities: Capabilities, *, standing: Crypto | None = None
) -> tuple[SessionDescription, Agreement] | NoCommonCodec:
    """The answer to a remote offer, and what it settles; or why there is none.

    The offer's order of codecs decides (RFC 3264 §6.1). The first audio stream that works is taken. Our key stays
    the ``standing`` one where the remote side kept its own.
    """

    def security(media: MediaDescription) -> Secured | Insecure | None:
        return judge_offer(media, capabilities.srtp, version=capabilities.version, standing=standing)

    found = _first_choice(offer, capabilities, security)
    if isinstance(found, NoCommonCodec):
        return found
    index, choice = found
    taken = offer.media[index]
    direction = answering_direction(direction_of(offer, taken), capabilities.direction)
    formats = _formats_of_answer(choice)
    audio = _audio(capabilities, formats, direction=direction, protocol=taken.protocol, keys=_key_lines(choice.secured))
    media = tuple(audio if place == index else _refused(each) for place, each in enumerate(offer.media))
    answer = replace(_session(capabilities, media), timing=offer.timing)  # RFC 3264 §6: the same t=
    return answer, _agreement(offer, taken, choice, receive=formats, direction=direction)


def accept_answer(
    offer: SessionDescription, answer: SessionDescription, capabilities: Capabilities
) -> Agreement | NoCommonCodec:
    """What the remote answer to our ``offer`` settles; or why it leaves us without audio."""
    index = _live_index(offer)
    if index is None or index >= len(answer.media):
        return NoCommonCodec("the answer holds no audio stream in the place of the offered one", _WARN_MEDIA)
    taken = answer.media[index]
    choice = _choice(answer, taken, capabilities, lambda media: judge_answer(offer.media[index], media))
    if isinstance(choice, NoCommonCodec):
        return choice
    direction = answering_direction(direction_of(answer, taken), capabilities.direction)
    return _agreement(answer, taken, choice, receive=payload_formats(offer.media[index]), direction=direction)


# ── choosing ─────────────────────────────────────────────────────────────────────────────────────────────


def _first_choice(
    offer: SessionDescription, capabilities: Capabilities, security: _Security
) -> tuple[int, _Choice] | NoCommonCodec:
    """The first stream that works, by its place; otherwise what is wrong with the most promising one."""
    problems = []
    for index, media in enumerate(offer.media):
        choice = _choice(offer, media, capabilities, security)
        if isinstance(choice, _Choice):
            return index, choice
        problems.append(choice)
    # A codec that could be changed says more than a stream that was never meant for us.
    problems.sort(key=lambda problem: (problem.warning == _WARN_MEDIA, problem.warning != _WARN_FORMAT))
    return problems[0] if problems else NoCommonCodec("no media offered; we take audio", _WARN_MEDIA)


def _choice(
    session: SessionDescription, media: MediaDescription, capabilities: Capabilities, security: _Security
) -> _Choice | NoCommonCodec:
    remote = _in_our_family(media_address(session, media), capabilities)
    problem = _stream_problem(media, capabilities) or _address_problem(remote, capabilities)
    if problem or remote is None:
        return problem or NoCommonCodec("no c= line", _WARN_ADDRESS)
    secured = security(media)
    if isinstance(secured, Insecure):
        return NoCommonCodec(secured.why, _WARN_PROTOCOL)
    formats = payload_formats(media)
    for number, form in formats.items():
        for encoding in capabilities.codecs:
            if form.same(CODEC_FORMATS[encoding]):
                dtmf = _telephone_event(formats, form.clock_hz) if capabilities.telephone_event else None
                return _Choice(
                    encoding=encoding,
                    payload_type=number,
                    dtmf_payload_type=dtmf,
                    dtmf_clock_hz=form.clock_hz if dtmf is None else formats[dtmf].clock_hz,
                    remote=remote,
                    secured=secured,
                )
    ours = ", ".join(encoding.value for encoding in capabilities.codecs)
    return NoCommonCodec(f"no common codec: offered {_listed(formats.values(), media)}; we take {ours}")


def _stream_problem(media: MediaDescription, capabilities: Capabilities) -> NoCommonCodec | None:
    if media.kind != "audio":
        return NoCommonCodec(f"no audio stream: {_plain(media.kind)}; we take audio", _WARN_MEDIA)
    if media.protocol.upper() not in (*CLEAR_PROTOCOLS, *SECURE_PROTOCOLS):
        return NoCommonCodec(f"audio over {_plain(media.protocol)}; we take {capabilities.srtp.takes}", _WARN_PROTOCOL)
    if media.port == 0:
        return NoCommonCodec("the audio stream has port 0", _WARN_MEDIA)
    return None


def _address_problem(remote: tuple[str, int] | None, capabilities: Capabilities) -> NoCommonCodec | None:
    if remote is None:
        return NoCommonCodec("no c= line says where the audio goes", _WARN_ADDRESS)
    if "/" in remote[0]:  # RFC 8866 §5.7: only a multicast address has a TTL or a count
        return NoCommonCodec("multicast audio", _WARN_MULTICAST)
    theirs, ours = _address(remote[0]), _address(capabilities.address)
    if theirs is None or ours is None or theirs.is_unspecified:
        return None  # a name, which its resolver knows better, or hold
    if theirs.is_multicast:
        return NoCommonCodec("multicast audio", _WARN_MULTICAST)
    if theirs.version != ours.version:
        return NoCommonCodec(f"audio over IPv{theirs.version}; this leg has IPv{ours.version}", _WARN_ADDRESS)
    return None


def _in_our_family(remote: tuple[str, int] | None, capabilities: Capabilities) -> tuple[str, int] | None:
    """The media address, or the peer's signalling address where the stated one is of a family we cannot reach."""
    if remote is None:
        return None
    theirs, ours, signalling = (_address(text) for text in (remote[0], capabilities.address, capabilities.peer_address))
    if theirs is None or ours is None or signalling is None or theirs.is_unspecified or theirs.is_multicast:
        return remote
    if theirs.version != ours.version == signalling.version:
        return capabilities.peer_address, remote[1]
    return remote


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _telephone_event(formats: Mapping[int, PayloadFormat], clock_hz: int) -> int | None:
    """Its number at the clock rate of the codec (RFC 4733 §2.1), else at 8000: baresip has no other beside Opus."""
    for clock in dict.fromkeys((clock_hz, TELEPHONE_CLOCK_HZ)):
        wanted = PayloadFormat(TELEPHONE_EVENT, clock)
        for number, form in formats.items():
            if form.same(wanted):
                return number
    return None


def _listed(formats: Iterable[PayloadFormat], media: MediaDescription) -> str:
    names = [str(form) for form in formats] or list(media.formats)
    listed = ", ".join(_plain(name) for name in names[:_LISTED]) or "nothing"
    return f"{listed}, ..." if len(names) > _LISTED else listed


def _plain(text: str) -> str:
    """Remote text, fit for a quoted string in a header."""
    safe = "".join(each if " " < each < "\x7f" and each not in '"\\' else "?" for each in text)
    return safe[:_LISTED_CHARACTERS]


def _agreement(
    remote: SessionDescription,
    media: MediaDescription,
    choice: _Choice,
    *,
    receive: Mapping[int, PayloadFormat],
    direction: Direction,
) -> Agreement:
    """``receive`` are the formats of our own description: what arrives bears its numbers."""
    wanted = CODEC_FORMATS[choice.encoding]
    matching = (number for number, form in receive.items() if form.same(wanted))
    return Agreement(
        encoding=choice.encoding,
        payload_type=choice.payload_type,
        receive_payload_type=next(matching, choice.payload_type),
        ptime_ms=packet_time_ms(remote, media),
        dtmf_payload_type=choice.dtmf_payload_type,
        dtmf_receive_payload_type=_telephone_event(receive, choice.dtmf_clock_hz),
        remote=choice.remote,
        remote_rtcp=control_address(media, choice.remote),
        direction=direction,
        crypto=None if choice.secured is None else choice.secured.crypto,
        clock_hz=wanted.clock_hz,
        dtmf_clock_hz=choice.dtmf_clock_hz,
    )


# ── writing ──────────────────────────────────────────────────────────────────────────────────────────────


def _session(capabilities: Capabilities, media: tuple[MediaDescription, ...]) -> SessionDescription:
    address_type = "IP6" if ":" in capabilities.address else "IP4"
    return SessionDescription(
        origin=Origin(
            session_id=str(capabilities.session_id),
            version=str(capabilities.version),
            address_type=address_type,
            address=capabilities.address,
        ),
        connection=Connection(address_type=address_type, address=capabilities.address),
        media=media,
    )


def _audio(
    capabilities: Capabilities,
    formats: Mapping[int, PayloadFormat],
    *,
    direction: Direction,
    protocol: str,
    keys: tuple[Attribute, ...],
) -> MediaDescription:
    return MediaDescription(
        kind="audio",
        port=capabilities.port,
        protocol=protocol,
        formats=tuple(str(number) for number in formats),
        attributes=(
            *keys,
            *(Attribute("rtpmap", f"{number} {form}") for number, form in formats.items()),
            *(
                Attribute("fmtp", f"{number} {_PARAMETERS[form.name]}")
                for number, form in formats.items()
                if form.name in _PARAMETERS
            ),
            Attribute("ptime", str(capabilities.ptime_ms)),
            Attribute(direction),
        ),
    )


def _key_lines(secured: Secured | None) -> tuple[Attribute, ...]:
    """RFC 4568 §5.1.2: the one line that was taken, with our key."""
    if secured is None:
        return ()
    return (CryptoLine(secured.tag, secured.crypto.suite, secured.crypto.send).attribute(),)


def _refused(media: MediaDescription) -> MediaDescription:
    """RFC 3264 §6: port 0; the formats only fill their place, and there must be one."""
    return MediaDescription(kind=media.kind, port=0, protocol=media.protocol, formats=media.formats or ("0",))


def _formats_of_answer(choice: _Choice) -> dict[int, PayloadFormat]:
    """The offer's own numbers (RFC 3264 §6.1)."""
    formats = {choice.payload_type: CODEC_FORMATS[choice.encoding]}
    if choice.dtmf_payload_type is not None:
        formats[choice.dtmf_payload_type] = PayloadFormat(TELEPHONE_EVENT, choice.dtmf_clock_hz)
    return formats


def _formats_to_offer(capabilities: Capabilities, previous: SessionDescription | None) -> dict[int, PayloadFormat]:
    """RFC 3264 §8.3.2: a number keeps its meaning for the session; what is new gets a number that has none."""
    index = _live_index(previous) if previous else None
    used = payload_formats(previous.media[index]) if previous is not None and index is not None else {}
    numbers = {form: number for number, form in used.items()}
    for form in _wanted_formats(capabilities):
        if form not in numbers:
            taken = set(numbers.values())
            candidates = (_USUAL_TYPES[form], *_DYNAMIC_TYPES)
            numbers[form] = next(number for number in candidates if number not in taken)
    return {numbers[form]: form for form in _wanted_formats(capabilities)}


def _wanted_formats(capabilities: Capabilities) -> list[PayloadFormat]:
    """Codecs in their order, then telephone-events once for each of their clock rates (RFC 4733 §2.1)."""
    codecs = [CODEC_FORMATS[encoding] for encoding in capabilities.codecs]
    if not capabilities.telephone_event:
        return codecs
    clocks = dict.fromkeys(codec.clock_hz for codec in codecs)
    return codecs + [PayloadFormat(TELEPHONE_EVENT, clock) for clock in clocks]


def _live_index(session: SessionDescription) -> int | None:
    """Which stream of a description of ours is the audio in use."""
    for index, media in enumerate(session.media):
        if media.kind == "audio" and media.port:
            return index
    return None

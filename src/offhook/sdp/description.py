"""Session descriptions (RFC 8866): bytes <-> frozen values.

Text that is not UTF-8 survives as surrogate escapes. Lines may come in any order within their section and
end in CRLF or LF; they leave in the order of RFC 8866 §9, ended by CRLF. What stands in fields that offer
and answer do not need (times, bandwidths, keys) is kept as it came.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from offhook.model.errors import SdpError

# A softphone's offer is 0.5 to 2 KB, a browser's 6 to 10 KB: what is larger is an attack or a mistake.
MAX_DESCRIPTION_BYTES = 65_536
MAX_MEDIA = 32
MAX_ATTRIBUTES = 256
"""Of the whole description: a browser's audio and video together have about 150."""

MAX_LINES = 1_000
"""Ten thousand empty ones would hold the loop up for as long as a packet takes."""
MAX_FORMATS = 128
"""Of one ``m=`` line: RTP has as many payload types."""

_MAX_PORT = 65_535
_KEY_LINE = re.compile(r"k|.*(crypto|inline|ice-pwd|key-mgmt)", re.IGNORECASE | re.DOTALL)
_SHOWN = 120  # characters of an offending line that an error carries


class Attribute(NamedTuple):
    """One ``a=`` line; ``value`` is None for a flag."""

    name: str
    value: str | None = None

    def __str__(self) -> str:
        return self.name if self.value is None else f"{self.name}:{self.value}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Connection:
    """A ``c=`` line (RFC 8866 §5.7). The address may be a name, or end in a multicast TTL: it is kept as text."""

    network_type: str = "IN"
    address_type: str = "IP4"
    address: str

    def __str__(self) -> str:
        return f"{self.network_type} {self.address_type} {self.address}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """The ``o=`` line (RFC 8866 §5.2). Id and version are numerals of any length: kept as text."""

    username: str = "-"
    session_id: str
    version: str
    network_type: str = "IN"
    address_type: str = "IP4"
    address: str

    def __str__(self) -> str:
        parts = (self.username, self.session_id, self.version, self.network_type, self.address_type, self.address)
        return " ".join(parts)


@dataclass(frozen=True, kw_only=True, slots=True)
class MediaDescription:
    """One ``m=`` line and what follows it (RFC 8866 §5.14)."""

    kind: str
    port: int
    port_count: int = 1
    protocol: str
    formats: tuple[str, ...]
    title: str | None = None
    connections: tuple[Connection, ...] = ()
    bandwidths: tuple[str, ...] = ()
    key: str | None = None
    attributes: tuple[Attribute, ...] = ()

    def attribute(self, name: str) -> str | None:
        """The first value of an attribute; ``""`` for a flag, None when it is absent."""
        return next(self.attributes_named(name), None)

    def attributes_named(self, name: str) -> Iterator[str]:
        return (each.value or "" for each in self.attributes if each.name == name)


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionDescription:
    """A whole description. ``timing`` holds the ``t=``, ``r=`` and ``z=`` lines as they came."""

    origin: Origin
    name: str = "-"
    title: str | None = None
    uri: str | None = None
    emails: tuple[str, ...] = ()
    phones: tuple[str, ...] = ()
    connection: Connection | None = None
    bandwidths: tuple[str, ...] = ()
    timing: tuple[str, ...] = ("t=0 0",)
    key: str | None = None
    attributes: tuple[Attribute, ...] = ()
    media: tuple[MediaDescription, ...] = ()

    def attribute(self, name: str) -> str | None:
        """The first value of a session-level attribute; ``""`` for a flag, None when it is absent."""
        return next((each.value or "" for each in self.attributes if each.name == name), None)


# ── bytes to values ──────────────────────────────────────────────────────────────────────────────────────


class _Line(NamedTuple):
    letter: str
    value: str

    def error(self, problem: str) -> SdpError:
        return SdpError(_shown(f"{self.letter}={self.value}"), problem)


def _shown(raw: str) -> str:
    """The beginning of an offending line, and of one that may hold a key (``k=``, ``a=crypto``) its name alone."""
    return raw[:2] + "..." if _KEY_LINE.match(raw) else raw[:_SHOWN]


def parse(data: bytes) -> SessionDescription:
    """Read a description. Raises ``SdpError`` with the offending line.

    Stricter than needed nowhere: ``s=`` and ``t=`` may be absent, blank lines are skipped. An unknown
    attribute is kept; an unknown letter is refused, as RFC 8866 §5 demands.
    """
    if len(data) > MAX_DESCRIPTION_BYTES:
        raise SdpError("", f"longer than {MAX_DESCRIPTION_BYTES} bytes")
    if data.count(b"\n") > MAX_LINES:
        raise SdpError("", f"more than {MAX_LINES} lines")
    lines = _lines(data.decode("utf-8", "surrogateescape"))
    _check_limits(lines)
    bounds = [*(index for index, line in enumerate(lines) if line.letter == "m"), len(lines)]
    media = tuple(_media(lines[start:end]) for start, end in pairwise(bounds))
    return _session(lines[: bounds[0]], media)


def _lines(text: str) -> list[_Line]:
    # Not str.splitlines, which also breaks at characters that are text here (U+2028, vertical tab).
    return [_line(raw) for raw in (raw.rstrip("\r") for raw in text.split("\n")) if raw]


def _line(raw: str) -> _Line:
    letter, equals, value = raw[:1], raw[1:2], raw[2:]
    if equals != "=":
        raise SdpError(_shown(raw), "not of the form <letter>=<value>")
    if "\0" in value or "\r" in value:  # RFC 8866 §9: byte-string
        raise SdpError(_shown(raw), "NUL or CR inside a line")
    return _Line(letter, value)


def _check_limits(lines: list[_Line]) -> None:
    if not lines or lines[0] != _Line("v", "0"):
        raise SdpError(_shown("=".join(lines[0])) if lines else "", "does not begin with v=0")
    if sum(line.letter == "m" for line in lines) > MAX_MEDIA:
        raise SdpError("m=", f"more than {MAX_MEDIA} media descriptions")
    if sum(line.letter == "a" for line in lines) > MAX_ATTRIBUTES:
        raise SdpError("a=", f"more than {MAX_ATTRIBUTES} attributes")


class _Section:
    """The lines of one section, by letter. Refuses letters that do not belong there."""

    def __init__(self, lines: list[_Line], allowed: str) -> None:
        self.values: dict[str, list[_Line]] = {letter: [] for letter in allowed}
        for line in lines:
            if line.letter not in self.values:
                raise line.error("unknown or misplaced line")
            self.values[line.letter].append(line)

    def only(self, letter: str) -> _Line | None:
        found = self.values[letter]
        if len(found) > 1:
            raise found[1].error("repeated")
        return found[0] if found else None

    def text(self, letter: str) -> str | None:
        line = self.only(letter)
        return line.value if line else None

    def texts(self, letter: str) -> tuple[str, ...]:
        return tuple(line.value for line in self.values[letter])

    def attributes(self) -> tuple[Attribute, ...]:
        return tuple(_attribute(line.value) for line in self.values["a"])


def _session(lines: list[_Line], media: tuple[MediaDescription, ...]) -> SessionDescription:
    section = _Section(lines, "vosiuepcbtrzka")
    section.only("v")
    origin, connection, name = section.only("o"), section.only("c"), section.text("s")
    if origin is None:
        raise SdpError("", "no o= line")
    return SessionDescription(
        origin=_origin(origin),
        name="-" if name is None else name,
        title=section.text("i"),
        uri=section.text("u"),
        emails=section.texts("e"),
        phones=section.texts("p"),
        connection=_connection(connection) if connection else None,
        bandwidths=section.texts("b"),
        timing=tuple(f"{line.letter}={line.value}" for line in lines if line.letter in "trz"),
        key=section.text("k"),
        attributes=section.attributes(),
        media=media,
    )


def _media(lines: list[_Line]) -> MediaDescription:
    section = _Section(lines, "micbka")
    kind, port, port_count, protocol, formats = _media_line(lines[0])
    return MediaDescription(
        kind=kind,
        port=port,
        port_count=port_count,
        protocol=protocol,
        formats=formats,
        title=section.text("i"),
        connections=tuple(_connection(line) for line in section.values["c"]),
        bandwidths=section.texts("b"),
        key=section.text("k"),
        attributes=section.attributes(),
    )


def _media_line(line: _Line) -> tuple[str, int, int, str, tuple[str, ...]]:
    kind, port, protocol, *formats = _words(line, at_least=3)
    if len(formats) > MAX_FORMATS:
        raise line.error(f"more than {MAX_FORMATS} formats")
    number, slash, count = port.partition("/")
    return kind, _port(line, number), _port(line, count) if slash else 1, protocol, tuple(formats)


def _port(line: _Line, text: str) -> int:
    number = numeral(text, _MAX_PORT)
    if number is None:
        raise line.error(f"no port number: {text[:_SHOWN]!r}")
    return number


def _origin(line: _Line) -> Origin:
    username, session_id, version, network_type, address_type, address = _words(line, at_least=6)[:6]
    return Origin(
        username=username,
        session_id=session_id,
        version=version,
        network_type=network_type,
        address_type=address_type,
        address=address,
    )


def _connection(line: _Line) -> Connection:
    network_type, address_type, address = _words(line, at_least=3)[:3]
    return Connection(network_type=network_type, address_type=address_type, address=address)


def _words(line: _Line, *, at_least: int) -> list[str]:
    words = [word for word in line.value.split(" ") if word]
    if len(words) < at_least:
        raise line.error(f"fewer than {at_least} fields")
    return words


def _attribute(value: str) -> Attribute:
    name, colon, rest = value.partition(":")
    return Attribute(name, rest if colon else None)


def numeral(text: str, most: int) -> int | None:
    """A decimal number from 0 to ``most`` in ASCII digits; None for anything else."""
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(most))):
        return None
    return number if (number := int(text)) <= most else None


# ── values to bytes ──────────────────────────────────────────────────────────────────────────────────────


def serialize(description: SessionDescription) -> bytes:
    """The description as it goes on the wire, in the order of RFC 8866 §9."""
    lines = [*_session_lines(description)]
    for media in description.media:
        lines += _media_lines(media)
    return "".join(f"{line}\r\n" for line in lines).encode("utf-8", "surrogateescape")


def _session_lines(session: SessionDescription) -> Iterator[str]:
    yield "v=0"
    yield f"o={session.origin}"
    yield f"s={session.name}"
    yield from _optional("i", session.title)
    yield from _optional("u", session.uri)
    yield from _each("e", session.emails)
    yield from _each("p", session.phones)
    yield from _optional("c", session.connection)
    yield from _each("b", session.bandwidths)
    yield from session.timing
    yield from _optional("k", session.key)
    yield from _each("a", session.attributes)


def _media_lines(media: MediaDescription) -> Iterator[str]:
    port = f"{media.port}" if media.port_count == 1 else f"{media.port}/{media.port_count}"
    yield "m=" + " ".join((media.kind, port, media.protocol, *media.formats))
    yield from _optional("i", media.title)
    yield from _each("c", media.connections)
    yield from _each("b", media.bandwidths)
    yield from _optional("k", media.key)
    yield from _each("a", media.attributes)


def _optional(letter: str, value: object | None) -> Iterator[str]:
    if value is not None:
        yield f"{letter}={value}"


def _each(letter: str, values: Iterable[object]) -> Iterator[str]:
    return (f"{letter}={value}" for value in values)

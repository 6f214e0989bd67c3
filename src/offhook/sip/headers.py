"""Header fields: the ordered multimap, and the typed views of the ones every element must read (RFC 3261 §20)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from offhook.model.errors import SipParseError
from offhook.sip.grammar import (
    BLANK,
    HOST,
    QUOTED,
    TOKEN_CHARS,
    Params,
    format_host,
    format_params,
    param_value,
    parse_host,
    parse_number,
    parse_params,
    parse_port,
    quote,
    split_list,
    unquote,
)
from offhook.sip.uri import SipUri

CSEQ_MAX = 2**31 - 1
"""§8.1.1.5: the sequence number "MUST be less than 2**31"."""

_COMPACT = {
    "a": "Accept-Contact",  # RFC 3841
    "b": "Referred-By",  # RFC 3892
    "c": "Content-Type",
    "d": "Request-Disposition",  # RFC 3841
    "e": "Content-Encoding",
    "f": "From",
    "i": "Call-ID",
    "j": "Reject-Contact",  # RFC 3841
    "k": "Supported",
    "l": "Content-Length",
    "m": "Contact",
    "n": "Identity-Info",  # RFC 4474
    "o": "Event",  # RFC 6665
    "r": "Refer-To",  # RFC 3515
    "s": "Subject",
    "t": "To",
    "u": "Allow-Events",  # RFC 6665
    "v": "Via",
    "x": "Session-Expires",  # RFC 4028
    "y": "Identity",  # RFC 8224
}

# fmt: off
_COMMON = (
    "Accept", "Accept-Encoding", "Accept-Language", "Alert-Info", "Allow", "Authorization", "Call-Info",
    "Content-Disposition", "Content-Language", "CSeq", "Date", "Diversion", "Expires", "History-Info",
    "In-Reply-To", "Max-Forwards", "MIME-Version", "Min-Expires", "Min-SE", "Organization",
    "P-Asserted-Identity", "P-Preferred-Identity", "Path", "Priority", "Privacy", "Proxy-Authenticate",
    "Proxy-Authorization", "Proxy-Require", "RAck", "Reason", "Record-Route", "Refer-Sub", "Remote-Party-ID",
    "Replaces", "Require", "Retry-After", "Route", "RSeq", "Server", "Service-Route", "Subscription-State",
    "Timestamp", "Unsupported", "User-Agent", "Warning", "WWW-Authenticate",
)
# fmt: on


def _known_names() -> dict[str, tuple[str, str]]:
    """Every usual spelling of a known name -> (key to compare by, name to write)."""
    known: dict[str, tuple[str, str]] = {}
    for name in (*_COMPACT.values(), *_COMMON):
        for spelling in (name, name.lower(), name.upper()):
            known[spelling] = (name.lower(), name)
    for short, name in _COMPACT.items():
        known[short] = known[short.upper()] = (name.lower(), name)
    return known


_KNOWN = _known_names()

Field = tuple[str, str, str]
"""Key to compare by (lower case), name as written, value."""


def field_of(name: str, value: str) -> Field:
    """A field with its compact form expanded and, for known names, the RFC's spelling."""
    key, spelling = known_name(name) or (name.lower(), name)
    return key, spelling, value


def known_name(name: str) -> tuple[str, str] | None:
    """(key, RFC's spelling) of a usual name in any case, or of a compact form; None for the others."""
    known = _KNOWN.get(name)
    # A Kelvin sign in lower case is an ASCII k: only ASCII may be folded.
    return _KNOWN.get(name.lower()) if known is None and name.isascii() else known


def _key(name: str) -> str:
    known = _KNOWN.get(name)
    return name.lower() if known is None else known[0]


class Headers:
    """Header fields in order. Names compare without regard to case; compact forms are expanded.

    A value is one header line's, unfolded and stripped. A list of fields is never changed in place, so
    copies share it. Nothing is checked here: the parser does that
    for what arrives, ``serialize`` refuses line breaks in what leaves.
    """

    __slots__ = ("_by_key", "_fields")

    def __init__(self, items: Iterable[tuple[str, str]] = ()) -> None:
        self._fields: list[Field] = [field_of(name, value) for name, value in items]
        self._by_key: dict[str, list[str]] | None = None

    @classmethod
    def of_fields(cls, fields: list[Field]) -> Headers:
        """Takes the list over; for the parser."""
        headers = cls()
        headers._fields = fields
        return headers

    def _lines(self, name: str) -> list[str]:
        """The values of that name, by an index that lives until the next change."""
        if self._by_key is None:
            self._by_key = {}
            for key, _, value in self._fields:
                self._by_key.setdefault(key, []).append(value)
        return self._by_key.get(_key(name), [])

    def get(self, name: str, default: str | None = None) -> str | None:
        """The value of the first line of that name."""
        lines = self._lines(name)
        return lines[0] if lines else default

    def get_all(self, name: str) -> list[str]:
        """One value per header line of that name."""
        return list(self._lines(name))

    def values(self, name: str) -> list[str]:
        """Every comma-separated value of a list header, over all its lines; empty ones dropped.

        Only for headers that are lists (Via, Route, Contact, Allow, Require …): a Date or a challenge
        holds commas of another kind.
        """
        return [value for line in self._lines(name) for value in split_list(line)]

    def set(self, name: str, value: str) -> None:
        """One line of that name, in the place of the first there was, or at the end."""
        new = field_of(name, value)
        at = next((at for at, field in enumerate(self._fields) if field[0] == new[0]), len(self._fields))
        rest = [field for field in self._fields[at:] if field[0] != new[0]]
        self._change([*self._fields[:at], new, *rest])

    def add(self, name: str, value: str) -> None:
        self._change([*self._fields, field_of(name, value)])

    def prepend(self, name: str, value: str) -> None:
        """Before everything else: where a Via goes."""
        self._change([field_of(name, value), *self._fields])

    def remove(self, name: str) -> None:
        """Every line of that name; none is fine."""
        unwanted = _key(name)
        self._change([field for field in self._fields if field[0] != unwanted])

    def _change(self, fields: list[Field]) -> None:
        self._fields = fields
        self._by_key = None

    def repeated(self, names: Iterable[str]) -> list[str]:
        """Those of ``names`` that stand on more than one line."""
        return [name for name in names if len(self._lines(name)) > 1]

    def items(self) -> list[tuple[str, str]]:
        """(name, value) per line, in order."""
        return [(name, value) for _, name, value in self._fields]

    def copy(self) -> Headers:
        return Headers.of_fields(self._fields)

    def __contains__(self, name: str) -> bool:
        return bool(self._lines(name))

    def __len__(self) -> int:
        return len(self._fields)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Headers):
            return NotImplemented
        return self._comparable() == other._comparable()

    def _comparable(self) -> list[tuple[str, str]]:
        return [(key, value) for key, _, value in self._fields]

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"Headers({self.items()!r})"


# ── typed views ──────────────────────────────────────────────────────────────────────────────────────────

_ADDRESS = re.compile(
    rf"[ \t]*(?:({QUOTED})[ \t]*|([^\"<>;:]*))<[ \t]*([A-Za-z][A-Za-z0-9+.\-]*:[^\x00-\x20\x7f<>\"]+)[ \t]*>",
    re.DOTALL,
)
_BARE_ADDRESS = re.compile(r"[ \t]*([A-Za-z][A-Za-z0-9+.\-]*:[^\x00-\x20\x7f<>\",;?]+)[ \t]*(?=;|\Z)")


@dataclass(frozen=True, kw_only=True, slots=True)
class NameAddr:
    """``"display name" <uri>;params``: From, To, Contact, Route, Record-Route, Refer-To … (RFC 3261 §20.10)."""

    display_name: str = ""
    """Unquoted."""
    uri: str
    """Raw, of any scheme; ``sip_uri()`` reads it."""
    params: Params = ()

    @classmethod
    def parse(cls, text: str, field: str = "address") -> NameAddr:
        """Raises SipParseError(field).

        A display name that should have been quoted is taken (RFC 4475 §3.1.2.15 allows to infer the
        quotes), as are blanks inside the angle brackets (§3.1.2.14). Without brackets, parameters belong to
        the header and a ``?`` or ``,`` is an error (RFC 3261 §20: such a URI MUST be in brackets).
        """
        match = _ADDRESS.match(text)
        if match is not None:
            quoted, bare, uri = match.groups()
            name = unquote(quoted) if quoted else bare.strip(BLANK)
        else:
            match = _BARE_ADDRESS.match(text)
            if match is None:
                raise SipParseError(field, f"not an address: {text[:80]!r}")
            name, uri = "", match[1]
        return cls(display_name=name, uri=uri, params=parse_params(text[match.end() :], field))

    @property
    def tag(self) -> str | None:
        return self.param("tag")

    def param(self, name: str) -> str | None:
        """The unquoted value of a header parameter: "" for a flag, None when absent. ``name`` in lower case."""
        return param_value(self.params, name)

    def with_tag(self, tag: str) -> NameAddr:
        """The same with that tag, in place of any it had."""
        others = tuple(pair for pair in self.params if pair[0].lower() != "tag")
        return replace(self, params=(*others, ("tag", tag)))

    def sip_uri(self) -> SipUri:
        """Raises SipParseError: 416 for another scheme (tel:, http: …)."""
        return SipUri.parse(self.uri)

    def __str__(self) -> str:
        name = f"{quote(self.display_name)} " if self.display_name else ""
        return f"{name}<{self.uri}>{format_params(self.params)}"


_VIA = re.compile(
    rf"[ \t]*([{TOKEN_CHARS}]+)[ \t]*/[ \t]*([{TOKEN_CHARS}]+)[ \t]*/[ \t]*([{TOKEN_CHARS}]+)[ \t]+"
    rf"({HOST})(?:[ \t]*:[ \t]*([0-9]{{1,10}}))?[ \t]*(?=;|\Z)"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Via:
    """One hop of a request's way (RFC 3261 §20.42, RFC 3581)."""

    transport: str
    """Upper case: "UDP", "TCP", "TLS" or an unknown one."""
    host: str
    """sent-by; lower case, an IPv6 address without brackets."""
    port: int | None = None
    branch: str | None = None
    received: str | None = None
    """An IPv6 address without brackets (RFC 5118 §4.5: both forms arrive)."""
    rport: str | None = None
    """None: absent; "": asked for; else the port filled in."""
    params: Params = ()
    """The other parameters."""
    protocol: str = "SIP/2.0"

    @classmethod
    def parse(cls, text: str, field: str = "Via") -> Via:
        """One value, not a list. Raises SipParseError(field)."""
        match = _VIA.match(text)
        if match is None:
            raise SipParseError(field, f"not a Via: {text[:80]!r}")
        name, version, transport, host, port = match.groups()
        named: dict[str, str | None] = {}
        others = []
        for key, value in parse_params(text[match.end() :], field):
            lower = key.lower()
            if lower in _VIA_NAMED:
                named[lower] = value
            else:
                others.append((key, value))
        received = named.get("received")
        return cls(
            protocol=f"{name.upper()}/{version}",
            transport=transport.upper(),
            host=parse_host(host),
            port=parse_port(port, field),
            branch=named.get("branch"),
            received=received.strip("[]") if received else None,
            rport=(named["rport"] or "") if "rport" in named else None,
            params=tuple(others),
        )

    def __str__(self) -> str:
        received = self.received
        if received is not None and ":" in received:
            received = f"[{received}]"
        return "".join(
            (
                f"{self.protocol}/{self.transport} {format_host(self.host, self.port)}",
                "" if self.branch is None else f";branch={self.branch}",
                "" if received is None else f";received={received}",
                "" if self.rport is None else f";rport={self.rport}" if self.rport else ";rport",
                format_params(self.params),
            )
        )


_VIA_NAMED = frozenset({"branch", "received", "rport"})
_CSEQ = re.compile(rf"[ \t]*([0-9]+)[ \t]+([{TOKEN_CHARS}]+)[ \t]*")


@dataclass(frozen=True, kw_only=True, slots=True)
class CSeq:
    """Place of a request in its dialog (RFC 3261 §20.16). ``method`` is case-sensitive."""

    number: int
    method: str

    @classmethod
    def parse(cls, text: str, field: str = "CSeq") -> CSeq:
        """Raises SipParseError(field): not ``number method``, or the number is 2**31 or more."""
        match = _CSEQ.fullmatch(text)
        if match is None:
            raise SipParseError(field, f"not a CSeq: {text[:80]!r}")
        return cls(number=parse_number(match[1], field, CSEQ_MAX), method=match[2])

    def __str__(self) -> str:
        return f"{self.number} {self.method}"

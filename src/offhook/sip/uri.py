"""SIP and SIPS URIs (RFC 3261 §19.1)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv6Address

from offhook.model.errors import SipParseError
from offhook.sip.grammar import HOST, Params, format_host, format_params, parse_host, parse_port

_VISIBLE = r"^\x00-\x20\x7f<>\""
"""Inside brackets: anything but controls, blanks, quotes and angle brackets. The RFC allows less; peers send more."""

_PASSWORD = re.compile(r"^(sips?:[^:@<>\s]*):[^@<>\s]*@", re.IGNORECASE)

_SIP_URI = re.compile(
    rf"([sS][iI][pP][sS]?):(?:([{_VISIBLE}@:]++)(?::([{_VISIBLE}@]*+))?@)?"
    rf"({HOST})(?::([0-9]{{1,10}}))?((?:;[{_VISIBLE};=?]++[{_VISIBLE};?]*+)*+)(?:\?([{_VISIBLE}]*))?"
)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*):")
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_ESCAPED_OCTET = re.compile(rb"%([0-9A-Fa-f]{2})")

_NEVER_ALONE = frozenset({"user", "ttl", "method", "maddr", "transport"})
"""§19.1.4: such a parameter in only one of two URIs makes them differ, even with its default value."""

_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.!~*'()")


def scheme_of(uri: str) -> str:
    """The scheme of any absolute URI, lower case. Raises SipParseError where there is none."""
    match = _SCHEME.match(uri)
    if match is None:
        raise SipParseError("uri", f"no scheme in {uri[:40]!r}")
    return match[1].lower()


def is_sip(uri: str) -> bool:
    """Whether the scheme is sip or sips."""
    return uri[:5].lower().startswith(("sip:", "sips:"))


def unescape(text: str) -> str:
    """``%HH`` undone (§19.1.2). For showing and comparing: put the raw text back on the wire."""
    if "%" not in text:
        return text
    octets = text.encode("utf-8", "surrogateescape")
    return _ESCAPED_OCTET.sub(_octet, octets).decode("utf-8", "surrogateescape")


def _octet(match: re.Match[bytes]) -> bytes:
    return bytes((int(match[1], 16),))


def escape(text: str) -> str:
    """``text`` for the value of a URI header (§25.1, hvalue): all that is not unreserved as ``%HH``."""
    octets = text.encode("utf-8", "surrogateescape")
    return "".join(chr(octet) if chr(octet) in _UNRESERVED else f"%{octet:02X}" for octet in octets)


@dataclass(frozen=True, kw_only=True, slots=True)
class SipUri:
    """``sip:user:password@host:port;params?headers``. ``==`` compares text; ``same_uri`` as §19.1.4 says."""

    scheme: str = "sip"
    user: str | None = None
    """Raw: still escaped, with any ``;`` it carries (RFC 4475 §3.1.1.9)."""
    password: str | None = None
    host: str
    """Lower case; an IPv6 address without brackets."""
    port: int | None = None
    params: Params = ()
    headers: str = ""
    """Raw text after the ``?``."""

    @classmethod
    def parse(cls, text: str) -> SipUri:
        """Raises SipParseError: status 416 for another scheme, 400 for what is no SIP URI."""
        match = _SIP_URI.fullmatch(text)
        if match is None:
            raise _no_sip_uri(text)
        scheme, user, password, host, port, params, headers = match.groups()
        return cls(
            scheme=scheme.lower(),
            user=user,
            password=password,
            host=parse_host(host),
            port=parse_port(port, "uri"),
            params=_uri_params(params) if params else (),
            headers=headers or "",
        )

    @staticmethod
    def check(text: str) -> None:
        """Raises what ``parse`` would raise, for half the price."""
        match = _SIP_URI.fullmatch(text)
        if match is None:
            raise _no_sip_uri(text)
        parse_port(match[5], "uri")

    def param(self, name: str) -> str | None:
        """The unescaped value of a parameter: "" for a flag, None when absent. ``name`` in lower case."""
        for key, value in self.params:
            if unescape(key).lower() == name:
                return "" if value is None else unescape(value)
        return None

    def header_values(self, name: str) -> list[str]:
        """The unescaped values of the URI headers (after the ``?``) called ``name``, in lower case."""
        pairs = (piece.partition("=") for piece in self.headers.split("&"))
        return [unescape(value) for key, _, value in pairs if unescape(key).lower() == name]

    def __str__(self) -> str:
        password = "" if self.password is None else f":{self.password}"
        userinfo = "" if self.user is None else f"{self.user}{password}@"
        headers = f"?{self.headers}" if self.headers else ""
        hostport = format_host(self.host, self.port)
        return f"{self.scheme}:{userinfo}{hostport}{format_params(self.params)}{headers}"


def host_uri(text: str) -> SipUri:
    """``host``, ``host:port``, ``[2001:db8::1]:port`` or an IPv6 address alone, as a URI. Raises ``SipParseError``.

    Whoever wants no user part or parameters looks for them himself.
    """
    bare = f"[{text}]" if text.count(":") > 1 and not text.startswith("[") else text
    return SipUri.parse(f"sip:{bare}")


def without_password(text: str) -> str:
    """A URI as it may be kept and shown: §19.1.1 lets a password stand after the user, for all to read."""
    return _PASSWORD.sub(r"\1@", text)


def _no_sip_uri(text: str) -> SipParseError:
    if is_sip(text):
        return SipParseError("uri", f"not a SIP URI: {text[:80]!r}")
    return SipParseError("uri", f"scheme {scheme_of(text)[:40]!r} is not supported", 416)


def _uri_params(text: str) -> Params:
    pieces = [piece.partition("=") for piece in text[1:].split(";")]
    return tuple((name, value if equals else None) for name, equals, value in pieces)


def same_uri(a: SipUri, b: SipUri) -> bool:
    """Whether two URIs are equivalent (§19.1.4)."""
    return (
        a.scheme == b.scheme
        and _normal(a.user) == _normal(b.user)
        and _normal(a.password) == _normal(b.password)
        and _normal_host(a.host) == _normal_host(b.host)
        and a.port == b.port
        and _same_params(a.params, b.params)
        and _normal_headers(a.headers) == _normal_headers(b.headers)
    )


def _same_params(a: Params, b: Params) -> bool:
    ours, theirs = _normal_params(a), _normal_params(b)
    return all(
        ours[name] == theirs[name] if name in ours and name in theirs else name not in _NEVER_ALONE
        for name in ours.keys() | theirs.keys()
    )


def _normal_params(params: Params) -> dict[str, str | None]:
    return {_fold(name): None if value is None else _fold(value) for name, value in params}


def _normal_headers(headers: str) -> list[tuple[str, str]]:
    """§19.1.4: header components match in any order, names without regard to case."""
    pairs = (piece.partition("=") for piece in headers.split("&"))
    return sorted((_fold(name), _normal(value) or "") for name, _, value in pairs)


def _fold(text: str) -> str:
    return (_normal(text) or "").lower()


def _normal(text: str | None) -> str | None:
    """Escapes of unreserved characters undone, the others in upper case: equal iff §19.1.4 says so."""
    return text if text is None or "%" not in text else _ESCAPE.sub(_normal_escape, text)


def _normal_escape(match: re.Match[str]) -> str:
    character = chr(int(match[1], 16))
    return character if character in _UNRESERVED else match[0].upper()


def _normal_host(host: str) -> str | IPv6Address:
    if ":" not in host:
        return host
    try:
        return IPv6Address(host)
    except ValueError:
        return host

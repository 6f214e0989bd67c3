"""What REFER and its NOTIFYs say, as values: Refer-To, Referred-By, Event, Subscription-State, message/sipfrag."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from offhook.model.errors import SipParseError
from offhook.sip.grammar import BLANK, Params, is_token, param_value, parse_number, parse_params
from offhook.sip.headers import NameAddr
from offhook.sip.message import Request
from offhook.sip.replaces_value import Replaces
from offhook.sip.uri import SipUri, is_sip, scheme_of

FRAGMENT_TYPE = "message/sipfrag"
"""RFC 3515 §2.4.5."""

LONGEST_STATUS_LINE_BYTES = 256
"""Of a fragment only the status line is read, and of a longer one only this much."""

EXPIRES_MAX_S = 2**31 - 1
"""What delta-seconds can say; what is done with it is the subscriber's business."""

_SCHEMES = frozenset({"sip", "sips", "tel"})
_STATUS_LINE = re.compile(rb"SIP/2\.0[ \t]+([1-6][0-9][0-9])(?=[ \t\r\n]|\Z)[ \t]*([^\r\n]*)", re.IGNORECASE)


# ── Refer-To, Referred-By ────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferTo:
    """Whom to call: ``uri`` is a sip:, sips: or tel: URI as text, without the headers it may have carried."""

    uri: str
    replaces: Replaces | None = None

    @classmethod
    def parse(cls, text: str) -> ReferTo:
        """A name-addr or addr-spec (RFC 3515 §2.1).

        Raises SipParseError: 416 for a scheme we cannot call, 603 for another method than INVITE, 400 otherwise.
        """
        address = _address(text)
        if scheme_of(address.uri) not in _SCHEMES:
            raise SipParseError("Refer-To", f"no sip:, sips: or tel: URI: {text[:80]!r}", 416)
        if not is_sip(address.uri):
            return cls(uri=address.uri)
        uri = SipUri.parse(address.uri)
        if (method := uri.param("method")) not in (None, "INVITE"):
            raise SipParseError("Refer-To", f"asks for {str(method)[:40]!r}, and only calls are made", 603)
        params = tuple(pair for pair in uri.params if pair[0].lower() != "method")
        return cls(uri=str(replace(uri, headers="", params=params)), replaces=_replaces_in(uri))


def _address(text: str) -> NameAddr:
    """RFC 3261 §20 wants a URI with ``?`` in brackets; without them it is as plain here, where nothing may follow."""
    if "<" not in text and "?" in text:
        text = f"<{text.strip(BLANK)}>"
    return NameAddr.parse(text, "Refer-To")


def _replaces_in(uri: SipUri) -> Replaces | None:
    values = uri.header_values("replaces")
    if len(values) > 1:
        raise SipParseError("Refer-To", "more than one Replaces in its URI")
    return Replaces.parse(values[0], "Refer-To") if values else None


def refer_to_of(request: Request) -> ReferTo:
    """Raises SipParseError. RFC 3515 §2.4.1: 400 "if the request contained zero or more than one Refer-To"."""
    values = request.headers.get_all("Refer-To")
    if len(values) != 1:
        raise SipParseError("Refer-To", f"{len(values)} of them, and there must be one")
    return ReferTo.parse(values[0])


def referred_by_of(request: Request) -> str:
    """The URI of Referred-By (RFC 3892); "" where there is none that can be read: it decides nothing."""
    values = request.headers.get_all("Referred-By")
    try:
        return NameAddr.parse(values[0], "Referred-By").uri if len(values) == 1 else ""
    except SipParseError:
        return ""


def wants_no_subscription(value: str | None) -> bool:
    """``Refer-Sub: false`` (RFC 4488 §4); whatever else it says, or nothing, means true."""
    return value is not None and value.partition(";")[0].strip(BLANK).lower() == "false"


# ── NOTIFY ───────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True, slots=True)
class EventType:
    """``Event`` (RFC 6665 §8.2.1). ``id_`` None: none was given."""

    package: str
    id_: str | None = None

    @classmethod
    def parse(cls, text: str) -> EventType:
        """Raises SipParseError."""
        package, params = _token_and_params(text, "Event")
        return cls(package=package, id_=param_value(params, "id"))


@dataclass(frozen=True, kw_only=True, slots=True)
class SubscriptionState:
    """``Subscription-State`` (RFC 6665 §8.2.3). A state nobody knows means that it goes on."""

    state: str
    expires_s: int | None = None
    reason: str = ""

    @classmethod
    def parse(cls, text: str) -> SubscriptionState:
        """Raises SipParseError."""
        state, params = _token_and_params(text, "Subscription-State")
        expires = param_value(params, "expires")
        expires_s = None if expires is None else parse_number(expires, "Subscription-State", EXPIRES_MAX_S)
        return cls(state=state, expires_s=expires_s, reason=param_value(params, "reason") or "")

    @property
    def terminated(self) -> bool:
        return self.state == "terminated"


def _token_and_params(text: str, field: str) -> tuple[str, Params]:
    """The token in lower case, and what follows it."""
    token, semicolon, rest = text.partition(";")
    token = token.strip(BLANK)
    if not is_token(token):
        raise SipParseError(field, f"no token: {text[:80]!r}")
    return token.lower(), parse_params(semicolon + rest, field)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fragment:
    """The status line of a message/sipfrag (RFC 3420): how the call we asked for, or are asked for, goes."""

    status: int
    reason: str = ""

    @classmethod
    def parse(cls, body: bytes) -> Fragment:
        """Raises SipParseError."""
        match = _STATUS_LINE.match(body.lstrip()[:LONGEST_STATUS_LINE_BYTES])
        if match is None:
            raise SipParseError(FRAGMENT_TYPE, f"no status line: {body[:80]!r}")
        return cls(status=int(match[1]), reason=match[2].decode("utf-8", "replace").strip())

    @property
    def final(self) -> bool:
        return self.status >= 200

    def __bytes__(self) -> bytes:
        return f"SIP/2.0 {self.status} {self.reason}\r\n".encode("utf-8", "surrogateescape")

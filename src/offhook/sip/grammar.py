"""The small pieces every SIP header is made of (RFC 3261 §25.1): tokens, quoted strings, parameters, hosts.

Text is ``str`` decoded as UTF-8 with surrogateescape, so octets that are not UTF-8 survive a round trip.
All patterns run in time linear in their input; possessive quantifiers (``*+``) say where nothing is tried twice.
"""

from __future__ import annotations

import re

from offhook.model.errors import SipParseError

Params = tuple[tuple[str, str | None], ...]
"""``;name=value`` pairs in order, names and values as written (quotes and escapes kept); None: no ``=``."""

BLANK = " \t"
"""What is left of linear white space once lines are unfolded."""

TOKEN_CHARS = r"A-Za-z0-9\-.!%*_+`'~"
QUOTED = r'"(?:[^"\\]++|\\.)*+"'
HOST = r"[A-Za-z0-9._\-]+|\[[0-9A-Fa-f:.]+\]"
"""A name, an IPv4 address or an IPv6 reference. The underscore is not the RFC's; Docker gives such names."""

PORT_MAX = 65535

_DIGITS_MAX = 10
"""No number of this protocol has more; int() need not see what an attacker writes."""

_TOKEN = re.compile(rf"[{TOKEN_CHARS}]+")
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)
_MUST_ESCAPE = re.compile(r'["\\]')
_LIST_VALUE = re.compile(rf'(?:[^,"<]++|{QUOTED}|<[^>]*+>|["<].*)++', re.DOTALL)
_PARAM = re.compile(
    rf";[ \t]*([{TOKEN_CHARS}]+)[ \t]*(?:=[ \t]*({QUOTED}|[^ \t;,\"<>]+)[ \t]*)?",
    re.DOTALL,
)


def is_token(text: str) -> bool:
    return _TOKEN.fullmatch(text) is not None


def parse_number(text: str, field: str, maximum: int) -> int:
    """``1*DIGIT`` up to ``maximum``. Raises SipParseError: not digits, or out of range."""
    if not (text.isascii() and text.isdigit()):
        raise SipParseError(field, f"not a number: {text[:40]!r}")
    digits = text.lstrip("0")
    number = int(digits[: _DIGITS_MAX + 1] or "0")
    if number > maximum:
        raise SipParseError(field, f"{text[:40]} is above {maximum}")
    return number


def parse_port(text: str | None, field: str) -> int | None:
    """The digits after a host's colon, or None. Raises SipParseError above 65,535."""
    return None if text is None else parse_number(text, field, PORT_MAX)


def unquote(text: str) -> str:
    """A quoted string's content with its escapes undone; other text as it is."""
    if not text.startswith('"'):
        return text
    content = text[1:-1]
    return _QUOTED_PAIR.sub(r"\1", content) if "\\" in content else content


def quote(text: str) -> str:
    """``text`` as a quoted string."""
    return f'"{_MUST_ESCAPE.sub(_escaped, text)}"'


def _escaped(match: re.Match[str]) -> str:
    return "\\" + match[0]


def split_list(text: str) -> list[str]:
    """The comma-separated values of a list header, stripped; empty ones dropped.

    Commas inside quotes and angle brackets do not count. What follows a quote or bracket that never
    closes is one value, for its own parser to refuse.
    """
    values = _LIST_VALUE.findall(text) if "," in text else [text]
    return [stripped for value in values if (stripped := value.strip(BLANK))]


def parse_params(text: str, field: str) -> Params:
    """``*( ; name [= value] )``. Raises SipParseError on anything else, an empty parameter too."""
    text = text.strip(BLANK)
    params = []
    position = 0
    while position < len(text):
        match = _PARAM.match(text, position)
        if match is None:
            raise SipParseError(field, f"not a parameter: {text[position : position + 40]!r}")
        params.append((match[1], match[2]))
        position = match.end()
    return tuple(params)


def readable_params(text: str) -> str:
    """The parameters in ``text``, written again without what lies between them."""
    return format_params(tuple((name, value or None) for name, value in _PARAM.findall(text)))


def param_value(params: Params, name: str) -> str | None:
    """The unquoted value of the parameter called ``name`` (lower case): "" for a flag, None when absent."""
    for key, value in params:
        if key.lower() == name:
            return "" if value is None else unquote(value)
    return None


def format_params(params: Params) -> str:
    return "".join(f";{name}" if value is None else f";{name}={value}" for name, value in params)


def parse_host(text: str) -> str:
    """A host as matched by ``HOST``: lower case, an IPv6 reference without its brackets.

    RFC 5118 §4.10: RFC 3261's ABNF allowed three colons before an embedded IPv4 address; read as two.
    """
    return text.strip("[]").replace(":::", "::").lower()


def format_host(host: str, port: int | None) -> str:
    """``host[:port]``, an IPv6 address in brackets."""
    name = f"[{host}]" if ":" in host else host
    return name if port is None else f"{name}:{port}"

"""Digest authentication, the client's part (RFC 2617, RFC 7616, RFC 8760): challenges in, credentials out.

Pure: the client nonce is given in. ``sip.challenges`` is the server's part.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import md5, sha256
from types import MappingProxyType

from offhook.sip.grammar import BLANK, QUOTED, TOKEN_CHARS, quote, unquote

COUNTED_NONCES = 32
"""Nonces whose use is counted, one each for the realms and servers in use; older ones are asked for again."""

_HASHES: Mapping[str, Callable[[bytes], str]] = MappingProxyType(
    {
        "SHA-256": lambda data: sha256(data).hexdigest(),
        "MD5": lambda data: md5(data, usedforsecurity=False).hexdigest(),
    }
)
"""Strongest first. RFC 8760 §2.1 wants the first challenge we support; ``strongest`` says why we differ."""

ALGORITHMS = tuple(_HASHES)

_SCHEME = re.compile("digest[ \\t]+", re.IGNORECASE | re.ASCII)
_PART = re.compile(rf"[ \t]*([{TOKEN_CHARS}]+)[ \t]*=[ \t]*({QUOTED}|[^ \t,\"]+)[ \t]*(?:,|$)", re.DOTALL)
_CHALLENGES_READ = 8
"""In one response; a peer that sends hundreds wants us busy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Credentials:
    """Who we are for one ``realm``; "" for any. ``username`` is the auth id, not the caller's number."""

    username: str
    password: str = field(repr=False)
    realm: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Challenge:
    """One WWW-Authenticate or Proxy-Authenticate value we can answer (RFC 7616 §3.3)."""

    realm: str
    nonce: str
    algorithm: str = "MD5"
    opaque: str | None = None
    qop_auth: bool = False
    """The server offers ``qop=auth``; without qop the answer is RFC 2069's."""
    stale: bool = False


def parse_digest(value: str) -> dict[str, str] | None:
    """The parameters of a ``Digest`` header value, names in lower case, values unquoted; None: no such thing.

    A parameter that stands twice makes the value void: two readers might believe different ones.
    """
    text = value.strip(BLANK)
    scheme = _SCHEME.match(text)
    if scheme is None:
        return None
    parts: dict[str, str] = {}
    position = scheme.end()
    while position < len(text):
        match = _PART.match(text, position)
        if match is None or match[1].lower() in parts:
            return None
        parts[match[1].lower()] = unquote(match[2])
        position = match.end()
    return parts


def parse_challenges(values: Sequence[str]) -> tuple[Challenge, ...]:
    """Those of ``values`` that can be answered: Digest, an algorithm we have, ``qop`` absent or with ``auth``."""
    found = (_challenge(value) for value in values[:_CHALLENGES_READ])
    return tuple(one for one in found if one is not None)


def _challenge(value: str) -> Challenge | None:
    parts = parse_digest(value)
    if parts is None or "realm" not in parts or not parts.get("nonce"):
        return None
    algorithm = parts.get("algorithm", "MD5").upper()
    qop = [one.strip().lower() for one in parts.get("qop", "").split(",") if one.strip()]
    if algorithm not in _HASHES or (qop and "auth" not in qop):
        return None
    return Challenge(
        realm=parts["realm"],
        nonce=parts["nonce"],
        algorithm=algorithm,
        opaque=parts.get("opaque"),
        qop_auth=bool(qop),
        stale=parts.get("stale", "").lower() == "true",
    )


def strongest(challenges: Sequence[Challenge], realm: str = "") -> Challenge | None:
    """The challenge to answer, of those for ``realm`` ("" for any).

    RFC 8760 §2.4 lets the server order them, topmost first. An attacker in the path can reorder as well as delete,
    and servers that list MD5 first are common, so the strength decides; the order only among equals.
    """
    fitting = [one for one in challenges if realm in ("", one.realm)]
    return min(fitting, key=lambda one: ALGORITHMS.index(one.algorithm), default=None)


class DigestClient:
    """Answers challenges with one pair of credentials, and counts how often each nonce was used (RFC 7616 §3.4)."""

    def __init__(self, credentials: Credentials) -> None:
        self.credentials = credentials
        self._counts: OrderedDict[str, int] = OrderedDict()

    def authorization(self, challenge: Challenge, *, method: str, uri: str, cnonce: str) -> str:
        """The value of Authorization or Proxy-Authorization. ``uri`` is the Request-URI, byte for byte."""
        credentials = self.credentials
        parts = [
            f"username={quote(credentials.username)}",
            f"realm={quote(challenge.realm)}",
            f"nonce={quote(challenge.nonce)}",
            f"uri={quote(uri)}",
        ]
        count = f"{self._count(challenge.nonce):08x}" if challenge.qop_auth else ""
        answer = digest_response(
            algorithm=challenge.algorithm,
            username=credentials.username,
            realm=challenge.realm,
            password=credentials.password,
            method=method,
            uri=uri,
            nonce=challenge.nonce,
            count=count,
            cnonce=cnonce,
        )
        parts += [f'response="{answer}"', f"algorithm={challenge.algorithm}"]
        if challenge.opaque is not None:
            parts.append(f"opaque={quote(challenge.opaque)}")
        if challenge.qop_auth:
            parts += ["qop=auth", f"nc={count}", f"cnonce={quote(cnonce)}"]
        return "Digest " + ", ".join(parts)

    def _count(self, nonce: str) -> int:
        number = self._counts.pop(nonce, 0) + 1
        while len(self._counts) >= COUNTED_NONCES:
            self._counts.popitem(last=False)
        self._counts[nonce] = number
        return number


def digest_response(
    *,
    algorithm: str,
    username: str,
    realm: str,
    password: str,
    method: str,
    uri: str,
    nonce: str,
    count: str = "",
    cnonce: str = "",
) -> str:
    """The ``response`` of RFC 7616 §3.4.1 with ``qop=auth``; where ``count`` is "", that of RFC 2069."""
    hashed = _HASHES[algorithm]
    secret = hashed(_octets(f"{username}:{realm}:{password}"))
    request = hashed(_octets(f"{method}:{uri}"))
    middle = f"{nonce}:{count}:{cnonce}:auth" if count else nonce
    return hashed(_octets(f"{secret}:{middle}:{request}"))


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")

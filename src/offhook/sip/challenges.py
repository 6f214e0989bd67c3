"""Digest authentication, the server's part (RFC 7616, RFC 8760): challenges out, credentials judged.

Pure: time and randomness are given in. A nonce says itself when, where and for whom it was made, so a challenge costs
no memory; only nonces that were used are remembered, and those not for long.
"""

from __future__ import annotations

import hmac
import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Literal

from offhook.model.errors import SipParseError
from offhook.sip.digest import ALGORITHMS, digest_response, parse_digest
from offhook.sip.grammar import quote
from offhook.sip.uri import SipUri, same_uri

NONCE_LIFE_S = 60.0
"""Long enough for the answer to a challenge, and for the re-INVITE and BYE of a short call; then ``stale``."""

USED_NONCES = 10_000
"""One for each call of the last minute; while there is no room, further nonces count as stale and are made anew."""

LONGEST_VALUE = 2048
"""Of an Authorization: more is no honest client's, and would be hashed."""

_MAC_CHARS = 32
"""128 bits of the HMAC."""

_COUNT = re.compile("[0-9A-Fa-f]{8}")
_COUNT_MAX = 0xFFFFFFFF

_NO_SUCH_USER = "there is no such user, and so no password"


@dataclass(frozen=True, kw_only=True, slots=True)
class Accepted:
    username: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """``why`` is for the log. ``stale``: the nonce was at fault, the password was not looked at (RFC 7616 §3.3)."""

    why: str
    stale: bool = False


class NonceMint:
    """Makes and checks nonces: issue time, salt, and an HMAC that binds both to this node and to the source.

    ``secret`` is random, new in each process and not shared: a later process, or another, does not know which nonces
    this one has seen used. Times are monotonic seconds.
    """

    def __init__(self, secret: bytes, node: str, lifetime_s: float = NONCE_LIFE_S) -> None:
        self._secret = secret
        self._node = node
        self.lifetime_s = lifetime_s

    def mint(self, source_host: str, now: float, salt: str) -> str:
        """A nonce for ``source_host``. ``salt`` is fresh random text, letters and digits."""
        issued = f"{int(now * 1000):x}"
        return f"{issued}.{salt}.{self._mac(source_host, issued, salt)}"

    def check(self, nonce: str, source_host: str, now: float) -> Literal["fresh", "stale", "foreign"]:
        """``foreign``: not of this node, not for this source, or not made by us at all."""
        issued, _, rest = nonce.partition(".")
        salt, _, mac = rest.rpartition(".")
        wanted = self._mac(source_host, issued, salt)
        if not hmac.compare_digest(mac.encode("utf-8", "surrogateescape"), wanted.encode()):
            return "foreign"
        age_s = now - int(issued, 16) / 1000
        return "fresh" if 0 <= age_s < self.lifetime_s else "stale"

    def _mac(self, source_host: str, issued: str, salt: str) -> str:
        said = "\n".join((self._node, source_host, issued, salt)).encode("utf-8", "surrogateescape")
        return hmac.new(self._secret, said, sha256).hexdigest()[:_MAC_CHARS]


class Authenticator:
    """Challenges for one realm, and the judge of their answers."""

    def __init__(
        self, mint: NonceMint, realm: str, algorithms: Sequence[str] = ALGORITHMS, used_nonces: int = USED_NONCES
    ) -> None:
        self._mint = mint
        self._realm = realm
        self._algorithms = tuple(algorithms)
        self._room = used_nonces
        self._used: OrderedDict[str, tuple[int, float]] = OrderedDict()
        """Nonce -> highest count seen, and when the nonce may be forgotten; oldest first."""

    def challenges(
        self, source_host: str, now: float, salt: str, *, stale: bool = False, algorithms: Sequence[str] = ()
    ) -> tuple[str, ...]:
        """One WWW-Authenticate value for each algorithm, strongest first (RFC 8760 §2.4)."""
        nonce = self._mint.mint(source_host, now, salt)
        ending = ", stale=true" if stale else ""
        return tuple(
            f'Digest realm={quote(self._realm)}, nonce="{nonce}", algorithm={algorithm}, qop="auth"{ending}'
            for algorithm in algorithms or self._algorithms
        )

    def verify(
        self,
        value: str,
        *,
        method: str,
        uri: str,
        source_host: str,
        now: float,
        password_of: Callable[[str], str | None],
        algorithms: Sequence[str] = (),
    ) -> Accepted | Refused:
        """Judge one Authorization value for a request with that method and Request-URI.

        A user that does not exist and a wrong password get the same answer after the same work. Never raises.
        """
        parts = parse_digest(value) if len(value) <= LONGEST_VALUE else None
        problem = _unfit(parts, self._realm, algorithms or self._algorithms, uri)
        if parts is None or problem is not None:
            return Refused(why=problem or "no digest")
        nonce = parts["nonce"]
        state = self._mint.check(nonce, source_host, now)
        if state != "fresh":
            return Refused(why=f"the nonce is {state}", stale=True)
        username = parts["username"]
        password = password_of(username)
        wanted = digest_response(
            algorithm=parts.get("algorithm", "MD5").upper(),
            username=username,
            realm=self._realm,
            password=_NO_SUCH_USER if password is None else password,
            method=method,
            uri=parts["uri"],
            nonce=nonce,
            count=parts["nc"] if "qop" in parts else "",
            cnonce=parts.get("cnonce", ""),
        )
        right = hmac.compare_digest(parts["response"].lower().encode("utf-8", "surrogateescape"), wanted.encode())
        if not right or password is None:
            return Refused(why="user name or password is wrong")
        # RFC 3261 §22.4: qop "must unfortunately remain optional for clients"; without a count once is all.
        count = int(parts["nc"], 16) if "qop" in parts else _COUNT_MAX
        if not self._count(nonce, count, now):
            return Refused(why="the nonce was used with this count before", stale=True)
        return Accepted(username=username)

    def _count(self, nonce: str, count: int, now: float) -> bool:
        """RFC 7616 §3.4: a count not above the last one is a replay. Only answers that hold take up memory."""
        while self._used and next(iter(self._used.values()))[1] <= now:
            self._used.popitem(last=False)
        last = self._used.get(nonce)
        if last is None:
            if len(self._used) >= self._room:
                return False
            self._used[nonce] = (count, now + self._mint.lifetime_s)
            return True
        if count <= last[0]:
            return False
        self._used[nonce] = (count, last[1])
        return True


def _unfit(parts: dict[str, str] | None, realm: str, algorithms: Sequence[str], uri: str) -> str | None:
    """What is wrong with credentials before any password is looked at; None: nothing."""
    if parts is None:
        return "no digest that can be read"
    needed = ("username", "realm", "nonce", "uri", "response", *(("nc", "cnonce") if "qop" in parts else ()))
    missing = [name for name in needed if name not in parts]
    if missing:
        return f"{', '.join(missing)} missing"
    if "qop" in parts and not _COUNT.fullmatch(parts["nc"]):
        return "nc is not eight hexadecimal digits"
    if parts["realm"] != realm:
        return "another realm"
    if parts.get("algorithm", "MD5").upper() not in algorithms:
        return f"algorithm {parts.get('algorithm', 'MD5')} was not offered"
    if parts.get("qop", "auth").lower() != "auth":
        return "qop is not auth"
    # RFC 7616 §3.4.6: the server must make sure of it; else an answer would serve for any number.
    return None if _same_target(parts["uri"], uri) else "the uri is not the Request-URI"


def _same_target(one: str, other: str) -> bool:
    """Equivalence is enough (RFC 3261 §19.1.4): a proxy before us may have written the URI anew.

    So is our own address without a user part, as SIPp writes it: it names no other number.
    """
    if one == other:
        return True
    try:
        proved, wanted = SipUri.parse(one), SipUri.parse(other)
    except SipParseError:
        return False
    return same_uri(proved, wanted) or (proved.user is None and same_uri(proved, replace(wanted, user=None, params=())))

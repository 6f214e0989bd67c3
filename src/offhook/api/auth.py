"""Who asks, and whether he may: API keys, scopes, rates; and, while nobody has made a key, this machine alone.

Without keys a browser on this machine is the danger: any page it shows can send requests to loopback (CSRF), or make
its own name lead there (DNS rebinding). Such a page's requests tell where they come from, and are refused.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from urllib.parse import urlsplit

from aiohttp import web

from offhook.api.endpoints import Client, Endpoint
from offhook.api.problems import ApiError, too_many
from offhook.api.rates import Rate, RateLimits
from offhook.model.call_events import DEFAULT_ACCOUNT
from offhook.model.records import ApiKey
from offhook.store.directory import DirectoryState
from offhook.store.keys import KeyUse, digest_of

KEY_RATE = Rate(per_s=50, burst=200)
"""Of each key: a console and a script beside it; thousands of calls are placed and watched within it."""

FAILURE_RATE = Rate(per_s=0.2, burst=20)
"""Failed tries of one address. A key has 256 random bits, and is found by nobody: this keeps logs and CPU."""

PRIVATE_SUFFIXES = (".localhost", ".local", ".internal", ".home.arpa")
"""Names nobody can own on the Internet (RFC 6761, RFC 6762, ICANN 2024, RFC 8375): no attacker makes them lead here."""

_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="offhook"'}
_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-IP")


@dataclass(frozen=True, kw_only=True, slots=True)
class Door:
    """``hosts``: names by which this server may be called without a key; ``allow_anonymous``: from other machines, too.

    ``now`` is Unix time, ``clock`` seconds that only rise.
    """

    directory: Callable[[], DirectoryState]
    now: Callable[[], float]
    clock: Callable[[], float]
    hosts: frozenset[str] = frozenset()
    allow_anonymous: bool = False
    key_rate: Rate = KEY_RATE
    failure_rate: Rate = FAILURE_RATE


class Gate:
    """Lets requests in. Every method raises ``ApiError``."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._rates = RateLimits(door.key_rate, door.clock)
        self._failures = RateLimits(door.failure_rate, door.clock)
        self.used = KeyUse()

    def admit(self, endpoint: Endpoint, request: web.Request) -> Client:
        """Who asks for it, if he may."""
        if not endpoint.scope:
            return NOBODY
        client = self._client(endpoint, request)
        if client is not NOBODY and not client.may(endpoint.scope):
            raise ApiError(
                "FORBIDDEN",
                f"This key lacks the scope {endpoint.scope}",
                hint=f"Use a key that has {endpoint.scope}, or *",
            )
        wait_s = self._rates.take(client.key_id or _address(request))
        if wait_s:
            raise too_many("Too many requests with this key", wait_s)
        return client

    def _client(self, endpoint: Endpoint, request: web.Request) -> Client:
        keys = self._door.directory()
        if not keys.has_api_keys:
            self._check_anonymous(request)
            return ANYBODY
        given = key_of(request.headers)
        if not given and endpoint.free_on_loopback and is_local(request):
            check_browser(request.headers, self._door.hosts)
            return NOBODY
        found = keys.api_key(digest_of(given)) if given else None
        problem = self._problem(given, found)
        if problem:
            raise self._refused(problem, request)
        assert found is not None
        self.used.note(found.key_id, self._door.now())
        return Client(account_id=found.account_id, scopes=found.scopes, key_id=found.key_id)

    def _problem(self, given: str, found: ApiKey | None) -> str:
        if not given:
            return "An API key is needed"
        digest = digest_of(given)
        if found is None or not hmac.compare_digest(found.digest, digest):
            return "This API key is not known"
        expired = found.expires_at is not None and found.expires_at <= self._door.now()
        return "This API key has expired" if expired else ""

    def _refused(self, problem: str, request: web.Request) -> ApiError:
        wait_s = self._failures.take(_address(request))
        if wait_s:
            return too_many("Too many tries without a valid key", wait_s)
        hint = "Send Authorization: Bearer <key>, or X-API-Key: <key>; `offhook keys create` makes one"
        return ApiError("UNAUTHORIZED", problem, hint=hint, headers=_CHALLENGE)

    def _check_anonymous(self, request: web.Request) -> None:
        if not is_local(request) and not self._door.allow_anonymous:
            raise ApiError(
                "UNAUTHORIZED",
                "Without an API key only programs on offhook's own machine are served",
                hint="Make a key there with `offhook keys create`",
                headers=_CHALLENGE,
            )
        check_browser(request.headers, self._door.hosts)


NOBODY = Client(account_id="", scopes=())
"""Who asks for what everybody may ask for."""

ANYBODY = Client(account_id=DEFAULT_ACCOUNT, scopes=("*",))


def key_of(headers: Mapping[str, str]) -> str:
    """The API key sent with a request; "" where there is none."""
    scheme, _, token = headers.get("Authorization", "").strip().partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return headers.get("X-API-Key", "").strip()


def is_local(request: web.Request) -> bool:
    """From this machine, and not passed on by a proxy on it."""
    if any(name in request.headers for name in _FORWARDED):
        return False
    return _is_loopback(_address(request))


def check_browser(headers: Mapping[str, str], hosts: frozenset[str]) -> None:
    """Refuse what a page of somebody else's may have sent: by ``Host`` (rebinding), ``Origin``, ``Sec-Fetch-Site``.

    Raises ``ApiError``.
    """
    host = _host_name(f"//{headers.get('Host', '')}")
    if host and not _is_ours(host, hosts) and not _is_address(host):
        raise ApiError(
            "FORBIDDEN",
            f"Without an API key offhook does not answer to the name {host}",
            hint="Use localhost or an IP address, or make a key with `offhook keys create`",
        )
    origin = headers.get("Origin")
    foreign = origin is not None and not (
        _host_name(origin) == host or _is_loopback(_host_name(origin)) or _host_name(origin) == "localhost"
    )
    if foreign or headers.get("Sec-Fetch-Site") == "cross-site":
        raise ApiError(
            "FORBIDDEN",
            "Without an API key offhook takes no requests from other sites' pages",
            hint="Make a key with `offhook keys create`, and send it",
        )


def _is_ours(host: str, hosts: frozenset[str]) -> bool:
    return host in hosts or "." not in host or host.endswith(PRIVATE_SUFFIXES)


def _host_name(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return "broken.invalid"


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def _address(request: web.Request) -> str:
    return request.remote or ""

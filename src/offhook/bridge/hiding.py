"""Keys that a provider says back: they are gone before anybody reads, logs or keeps what it said.

Done where its words come in, so that no codec has to think of it: vendors repeat the key they refuse, and a server of
somebody's own may repeat anything. What is looked for is what we sent ourselves: headers and parameters of the request,
and the agent's own keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from offhook.bridge.wire import HttpRequest, WebsocketTarget

SHORTEST = 8
"""Characters; a shorter one is no key, and stands in other words."""

MOST = 32
"""Looked for in each message; an agent has a few keys."""

INSTEAD = b"***"

_SECRET_NAME = re.compile(r"(?i)key|token|auth|secret|cookie|signature|password|credential")

_HARMLESS_HEADER = re.compile(r"(?i)content-type|accept|openai-beta|[a-z-]+-version")
"""Those that codecs set of themselves; any other may hold a key."""

Secrets = tuple[bytes, ...]


def secrets_of(request: HttpRequest | WebsocketTarget) -> Secrets:
    """Of its headers and its URL."""
    parts = urlsplit(request.url)
    values = [value for name, value in request.headers if not _HARMLESS_HEADER.fullmatch(name)]
    values += [value for name, value in parse_qsl(parts.query) if _SECRET_NAME.search(name)]
    raw = [pair.partition("=")[2] for pair in parts.query.split("&") if _SECRET_NAME.search(pair.partition("=")[0])]
    return _sorted([request.url, *raw, *(value.split()[-1] for value in values if value.split())])


def secrets_in(options: Mapping[str, Any]) -> Secrets:
    """Of an agent: what its options call keys, and all its headers."""
    return _sorted(_values(options, known=False))


def hidden(words: bytes, secrets: Secrets) -> bytes:
    """``words`` without them."""
    for secret in secrets:
        if secret in words:
            words = words.replace(secret, INSTEAD)
    return words


def _values(options: Mapping[str, Any], *, known: bool) -> Iterator[str]:
    for name, value in options.items():
        secret = known or name.endswith(("_key", "_token")) or name in ("key", "token")
        if isinstance(value, Mapping):
            yield from _values(value, known=secret or name.endswith("headers"))
        elif secret and isinstance(value, str) and value.split():
            yield value.split()[-1]


def _sorted(values: Iterable[str]) -> Secrets:
    """The longest first: one may stand in another."""
    found = {value.encode() for value in values if len(value) >= SHORTEST}
    return tuple(sorted(found, key=len, reverse=True)[:MOST])

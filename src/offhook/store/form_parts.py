"""What all forms are made of: types of values, and checks that several of them need."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from ipaddress import ip_network
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec

from offhook.model.errors import ConfigError, SipParseError
from offhook.sip.custom_headers import is_custom_header
from offhook.sip.targets import HOW_TO_WRITE, parse_target

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]

FormId = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=r"^[^\s/?#]+$")]
"""What can be a part of a URL's path."""

Secret = Annotated[str, msgspec.Meta(extra_json_schema={"writeOnly": True})]
"""A password or a key: never given back, and encrypted where it is stored."""

SecretMap = Annotated[dict[str, str], msgspec.Meta(extra_json_schema={"writeOnly": True})]

SECRET_OPTIONS = r"(?i)(^|[_-])(key|token|secret|password|apikey)$"
"""Names of a provider's options that are secrets, of whatever provider: ``api_key``."""

OptionMap = Annotated[dict[str, Any], msgspec.Meta(extra_json_schema={"x-write-only-names": SECRET_OPTIONS})]
"""What a name says is a secret is treated as one; the rest is shown."""


class Form(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Unknown keys are errors."""


def check_networks(key: str, networks: tuple[str, ...]) -> None:
    """Raises ``ConfigError`` naming the one that is no address and no network."""
    for index, text in enumerate(networks):
        try:
            ip_network(text)
        except ValueError as error:
            fix = "Write an address or a network: 192.0.2.1, 192.0.2.0/24, 2001:db8::/32"
            raise ConfigError(f"{key}[{index}]", f"{text!r} is no network ({error})", fix) from None


def check_url(key: str, url: str) -> None:
    """Whether it is a web address; if it may be reached is judged when it is used. Raises ``ConfigError``."""
    fix = "Write it as https://host/path"
    try:
        parts = urlsplit(url)
        problem = "" if parts.scheme in ("http", "https") and parts.hostname else "is no web address"
        _ = parts.port
    except ValueError as error:
        raise ConfigError(key, f"is no web address ({error})", fix) from None
    if problem or not url.isprintable() or " " in url:
        raise ConfigError(key, problem or "has characters no URL has", fix)
    if parts.username is not None or parts.password is not None:
        raise ConfigError(key, "holds a user name or password", "Send them as a header")


def check_target(key: str, target: str) -> None:
    """Whether somebody can be called by it. Raises ``ConfigError``."""
    try:
        parse_target(target)
    except SipParseError as error:
        raise ConfigError(key, error.problem, HOW_TO_WRITE) from None


def check_signing(key: str, secret: str) -> None:
    """Raises ``ConfigError`` for a secret that signs nothing; none at all is well."""
    if secret and not re.fullmatch(r"whsec_[A-Za-z0-9+/]{32,88}={0,2}", secret):
        fix = "Write whsec_ and 24 to 64 octets in base64, or leave it out"
        raise ConfigError(key, "is no Standard Webhooks secret", fix)


def check_headers(key: str, headers: Mapping[str, str]) -> None:
    """Whether a SIP message can carry them. Raises ``ConfigError``."""
    for name, value in headers.items():
        if not is_custom_header(name, value):
            fix = "Use a name like X-Ticket, of letters, digits and hyphens, and a value on one line"
            raise ConfigError(f"{key}.{name}", "cannot be sent", fix)


def check_known(key: str, kind: str, name: str, known: Collection[str]) -> None:
    """Raises ``ConfigError`` naming what there is."""
    if name not in known:
        choice = ", ".join(sorted(known)[:20]) or "none is configured"
        raise ConfigError(key, f"there is no {kind} {name!r}", f"Use one of: {choice}")


def at(key: str, name: str) -> str:
    """The path of a key below ``key``; "" is the form itself."""
    return f"{key}.{name}" if key else name

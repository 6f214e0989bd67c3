"""The variables that SIP4AI's users set, put into the document where keys of config.json stand for them.

One that is empty is not set: container files pass on what nobody gave. Whatever is wrong names the variable.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from offhook.config.sip4ai import ACCOUNT_TRUNK_ID, shown_number
from offhook.model.errors import ConfigError, SipParseError
from offhook.sip.uri import SipUri, host_uri, is_sip

Document = dict[str, Any]

ACCOUNT = ("SIP_USERNAME", "SIP_PASSWORD", "SIP_DOMAIN", "SIP_SERVER")
"""A SIP account is all of them."""

TRANSPORTS = ("udp", "tcp", "tls")

PREFERRED = ("openai", "elevenlabs", "gemini", "deepgram", "cartesia")
"""Which provider speaks where a SIP account is all that is said: the first one with a key."""

RTP_PORTS = range(1024, 65535)
"""RTP takes one of them, RTCP the one above."""


def overlay(document: Document, environment: Mapping[str, str], *, vendors: Collection[str]) -> Iterator[ConfigError]:
    """``vendors``: those whose key is in the environment. What cannot be used is told, and left out."""
    given = {
        name: text if name == "SIP_PASSWORD" else text.strip() for name, text in environment.items() if text.strip()
    }
    steps: Sequence[Callable[[], None]] = (
        partial(_take_api_port, document, given),
        partial(_take_rtp_port, document, given),
        partial(_take_audio_file, document, given),
        partial(_take_provider, document, given, vendors),
    )
    for step in steps:
        try:
            step()
        except ConfigError as error:
            yield error
    yield from _take_account(document, given)


def put(document: Document, path: Sequence[str], value: object) -> None:
    """Raises ``ConfigError`` where something else stands on the way."""
    *sections, key = path
    for section in sections:
        inner = document.setdefault(section, {})
        if not isinstance(inner, dict):
            raise ConfigError(section, "is not a JSON object", f'Write it as {{"{key}": …}}')
        document = inner
    document[key] = value


def _take_api_port(document: Document, given: Mapping[str, str]) -> None:
    if "API_PORT" in given:
        fix = "Set it to 1 to 65535, or to 0 for no HTTP server"
        document["api_port"] = _number("API_PORT", given, range(65536), fix)


def _take_rtp_port(document: Document, given: Mapping[str, str]) -> None:
    name = "DEBUG_FORCE_PORT"
    if name not in given:
        return
    port = _number(name, given, RTP_PORTS, "Set it to an even port, 1024 to 65534")
    if port % 2:
        raise ConfigError(name, f"{port} is odd, and the odd port is RTCP's (RFC 3550)", f"Set it to {port - 1}")
    put(document, ("rtp", "port_min"), port)
    put(document, ("rtp", "port_max"), port + 1)


def _take_audio_file(document: Document, given: Mapping[str, str]) -> None:
    if "AUDIO_FILE" in given:
        document["audio_file"] = given["AUDIO_FILE"]


def _take_provider(document: Document, given: Mapping[str, str], vendors: Collection[str]) -> None:
    said = any(document.get(key) for key in ("provider", "agents", "numbers"))
    if "SIP_USERNAME" in given and not said:
        document.update([("provider", name) for name in PREFERRED if name in vendors][:1])


def _number(name: str, given: Mapping[str, str], allowed: range, fix: str) -> int:
    text = given[name]
    if not (text.isascii() and text.isdecimal() and len(text) <= len("65535")) or int(text) not in allowed:
        raise ConfigError(name, f"{text[:20]!r} is no port that can be used", fix)
    return int(text)


# ── the SIP account ──────────────────────────────────────────────────────────────────────────────────────


def _take_account(document: Document, given: Mapping[str, str]) -> Iterator[ConfigError]:
    """A register trunk, last of ``trunks``; every variable that cannot be used, where there are some."""
    if not any(name in given for name in ACCOUNT):
        return
    trunk: Document = {"id": ACCOUNT_TRUNK_ID, "kind": "register"}
    problems = []
    for read in (_missing, _server, _names, _transport, _proxy, partial(_free_id, document)):
        try:
            trunk.update(read(given))
        except ConfigError as error:
            problems.append(error)
    yield from problems
    trunks = document.setdefault("trunks", [])
    if not problems and isinstance(trunks, list):
        trunks.append({**trunk, **_shown(document)})


def _missing(given: Mapping[str, str]) -> Document:
    missing = [name for name in ACCOUNT if name not in given]
    if missing:
        fix = f"Set {' and '.join(missing)}, or unset {', '.join(name for name in ACCOUNT if name in given)}"
        raise ConfigError(missing[0], "is missing: a SIP account needs it", fix)
    return {"password": given["SIP_PASSWORD"]}


def _server(given: Mapping[str, str]) -> Document:
    uri = _host("SIP_SERVER", given, "Write it as pbx.example.com or pbx.example.com:5060")
    return {} if uri is None else {"server": uri.host, "port": uri.port or 0}


def _names(given: Mapping[str, str]) -> Document:
    fix = "Write it as pbx.example.com, without a port"
    domain = _host("SIP_DOMAIN", given, fix)
    if domain is not None and domain.port is not None:
        raise ConfigError("SIP_DOMAIN", f"{given['SIP_DOMAIN']!r} is more than a host", fix)
    username = given.get("SIP_USERNAME", "")
    try:
        SipUri.parse(f"sip:{username or 'none'}@none")
    except SipParseError:
        fix = "Give the part before the @ alone"
        raise ConfigError("SIP_USERNAME", f"{username!r} is no user part of a SIP URI", fix) from None
    names = {"username": username, "auth_id": given.get("SIP_AUTH_ID", "")}
    return names if domain is None else {**names, "domain": domain.host}


def _transport(given: Mapping[str, str]) -> Document:
    transport = given.get("SIP_TRANSPORT", TRANSPORTS[0]).lower()
    if transport not in TRANSPORTS:
        fix = f"Use one of: {', '.join(TRANSPORTS)}"
        raise ConfigError("SIP_TRANSPORT", f"there is no {given['SIP_TRANSPORT']!r}", fix)
    return {"transport": transport}


def _proxy(given: Mapping[str, str]) -> Document:
    """A host says nothing of the transport, so it is told; a SIP URI is taken as it is."""
    name = "SIP_OUTBOUND_PROXY"
    if name not in given:
        return {}
    fix = "Write it as proxy.example.com:5060 or sip:proxy.example.com;transport=tcp"
    if is_sip(given[name]):
        try:
            uri = SipUri.parse(given[name])
        except SipParseError as error:
            raise ConfigError(name, error.problem, fix) from None
        if (uri.param("transport") or "udp").lower() not in TRANSPORTS:
            raise ConfigError(name, "names a transport there is not", f"Use one of: {', '.join(TRANSPORTS)}")
        return {"outbound_proxy": given[name]}
    transport = given.get("SIP_TRANSPORT", TRANSPORTS[0]).lower()
    return {"outbound_proxy": f"{_host(name, given, fix)};transport={transport}"}


def _host(name: str, given: Mapping[str, str], fix: str) -> SipUri | None:
    """As ``host_uri`` takes it; None where it is not set."""
    text = given.get(name)
    if text is None:
        return None
    try:
        uri = host_uri(text)
    except SipParseError:
        raise ConfigError(name, f"{text!r} is no host", fix) from None
    if uri.user is not None or uri.params or uri.headers or uri.port == 0:
        raise ConfigError(name, f"{text!r} is more than a host and a port", fix)
    return uri


def _free_id(document: Document, _: Mapping[str, str]) -> Document:
    trunks = document.get("trunks", [])
    for index, trunk in enumerate(trunks if isinstance(trunks, list) else ()):
        if isinstance(trunk, dict) and trunk.get("id") == ACCOUNT_TRUNK_ID:
            fix = f"Give trunks[{index}] another id, or unset the SIP_ variables"
            raise ConfigError("SIP_USERNAME", f"its trunk is called {ACCOUNT_TRUNK_ID!r}, like trunks[{index}]", fix)
    return {}


def _shown(document: Document) -> Document:
    """The number that calls of ours show: whoever has the account knows that it is theirs."""
    outbound = document.get("outbound")
    caller_id = outbound.get("caller_id") if isinstance(outbound, dict) else None
    number = shown_number(caller_id) if isinstance(caller_id, str) else ""
    return {"caller_ids": [number]} if number else {}

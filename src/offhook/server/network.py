"""Where we listen, with which certificates, and how the outside sees our address."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path

from offhook.call.ways import TRANSPORTS
from offhook.config import Settings, SipSettings
from offhook.model.errors import ConfigError, SipParseError, UnreachableError
from offhook.server.phone import Phone
from offhook.signaling.endpoint import SipEndpoint
from offhook.signaling.stun import DEFAULT_PORT as STUN_PORT
from offhook.signaling.tls import TlsContexts, TlsSettings
from offhook.signaling.transports import free_port
from offhook.sip.events import Hop
from offhook.sip.uri import SipUri

_log = logging.getLogger("offhook.server")

STUN_AGAIN_S = 25.0
"""Translators forget a UDP binding after 30 s at the worst; and a changed address is noticed."""


async def listen_everywhere(endpoint: SipEndpoint, sip: SipSettings) -> None:
    """Bind UDP and TCP on one port, TLS on its own; an empty host means every address, IPv4 and IPv6.

    Raises ``ListenError``.
    """
    transports = [TRANSPORTS[name] for name in sip.transports]
    port = sip.port
    if not port:
        with contextlib.suppress(OSError, ValueError):  # then listening says what is wrong
            port = free_port(sip.host, [transport for transport in transports if transport != "TLS"])
    for transport in transports:
        await endpoint.listen(transport, sip.host, sip.tls_port if transport == "TLS" else port)


def tls_contexts(settings: Settings) -> TlsContexts:
    """Raises ``ConfigError`` naming the file that cannot be used."""
    files = settings.tls

    def path(text: str) -> Path | None:
        return Path(text).expanduser() if text else None

    return TlsContexts(
        TlsSettings(
            certificate=path(files.certificate),
            private_key=path(files.private_key),
            ca_file=path(files.ca_file),
            client_certificate=files.client_certificate,
        )
    )


def stun_hop(text: str) -> Hop:
    """``host``, ``host:port`` or ``[address]:port``. Raises ``ConfigError``."""
    try:
        server = SipUri.parse(f"sip:{text}")
    except SipParseError:
        fix = "Write it as stun.example.com or stun.example.com:3478"
        raise ConfigError("sip.stun_server", f"{text!r} is no host", fix) from None
    return Hop(transport="UDP", host=server.host, port=server.port or STUN_PORT)


async def discover(phone: Phone, server: Hop) -> None:
    """Ask once what our address is; registrations and contacts follow it."""
    try:
        if await phone.endpoint.discover(server):
            phone.trunks.address_changed()
    except UnreachableError as error:
        _log.warning("our public address is not known: %s; calls from outside may stay silent", error)


async def keep_discovering(phone: Phone, server: Hop) -> None:
    """Ask again and again, until cancelled."""
    while True:
        await asyncio.sleep(STUN_AGAIN_S)
        await discover(phone, server)

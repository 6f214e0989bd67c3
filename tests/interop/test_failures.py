"""A registrar that fails while we are registered at it: what is said of the trunk, how soon, and the way back.

Where the evidence is a connection that ends, the state follows it within a second; recovery comes by back-off.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.interop.kamailio import Kamailio
from tests.interop.offhook_server import OffhookServer
from tests.interop.program import Program
from tests.interop.tools import free_sip_port
from tests.signaling.certificates import Authority
from tests.signaling.dns_server import DnsServer

HOST = "127.0.0.1"
NAME = "pbx.example.org"
NOTICED_S = 1.0
"""From the evidence to the state that follows from it."""

SENT_ANYWAY_S = 20.0
"""By UDP a server that is gone tells us so when something is sent to it; that often we do, to keep the way open."""

FIRST_RETRIES_S = 15.0
"""In which the first retries fall: 2, 4 and 8 s after one another at most, with a second for each attempt."""

EXPIRES_S = 30
REFRESHED_S = 0.8 * EXPIRES_S
"""The shortest registration that can be asked for, and when at the latest it is refreshed."""

AFTER_REFUSAL_S = 12.0
"""A refusal is not asked about again for 5 to 10 s."""

Offhook = Callable[..., Awaitable[OffhookServer]]
Registrar = Callable[..., Awaitable[Kamailio]]


@pytest.mark.parametrize(("transport", "noticed_s"), [("tcp", NOTICED_S), ("udp", SENT_ANYWAY_S + NOTICED_S)])
async def test_a_registrar_that_stops_is_missed_and_found_again(
    offhook: Offhook, kamailio: Registrar, transport: str, noticed_s: float
) -> None:
    pbx = await kamailio(host=HOST, port=free_sip_port())
    server = await registered_server(offhook, trunk_at(HOST, pbx.port, transport))
    seen = await stops(pbx, server)
    await server.program.says("trunk pbx: failed: Connection refused .*is the server running", noticed_s, seen)
    shown = await shown_state(server)
    assert (shown["phase"], shown["sip_code"], shown["reason"]) == ("failed", None, "Connection refused")
    assert shown["retry_at"] - shown["at"] <= 2
    assert shown["refreshed_at"] < shown["at"]
    await kamailio(host=HOST, port=pbx.port)
    await server.program.says("trunk pbx: online", FIRST_RETRIES_S, seen)
    assert (await shown_state(server))["phase"] == "online"


async def test_a_password_that_was_changed_is_named_and_taken_when_it_is_changed_back(
    offhook: Offhook, kamailio: Registrar
) -> None:
    """By UDP, where a restart is not noticed: the refresh is the evidence."""
    pbx = await kamailio(host=HOST, port=free_sip_port(), password="first")
    server = await registered_server(
        offhook, trunk_at(HOST, pbx.port, "udp") | {"password": "first", "expires_s": EXPIRES_S}
    )
    seen = await stops(pbx, server)
    changed = await kamailio(host=HOST, port=pbx.port, password="second")
    await server.program.says("trunk pbx: failed: 401 Unauthorized → .*password", REFRESHED_S + NOTICED_S, seen)
    shown = await shown_state(server)
    assert (shown["phase"], shown["sip_code"]) == ("failed", 401)
    assert shown["at"] - shown["refreshed_at"] <= REFRESHED_S + NOTICED_S
    assert 5 <= shown["retry_at"] - shown["at"] <= 10  # PBXs lock out who knocks too often
    await changed.program.stop()
    await kamailio(host=HOST, port=pbx.port, password="first")
    await server.program.says("trunk pbx: online", AFTER_REFUSAL_S, seen)


async def test_a_certificate_that_expired_is_named_and_taken_when_it_is_renewed(
    offhook: Offhook, kamailio: Registrar, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    pbx = await kamailio(host=HOST, port=free_sip_port(), tls=authority.issue(HOST))
    server = await registered_server(offhook, trunk_at(HOST, pbx.tls_port, "tls"), tls={"ca_file": str(authority.file)})
    seen = await stops(pbx, server)
    expired = await kamailio(host=HOST, port=pbx.port, tls=authority.issue(HOST, expired=True))
    await server.program.says(
        f"trunk pbx: failed: the certificate of {HOST} has expired: its owner must renew it", FIRST_RETRIES_S, seen
    )
    shown = await shown_state(server)
    assert (shown["phase"], shown["sip_code"]) == ("failed", None)
    await expired.program.stop()
    await kamailio(host=HOST, port=pbx.port, tls=authority.issue(HOST))
    await server.program.says("trunk pbx: online", FIRST_RETRIES_S, seen)


async def test_a_registrar_that_moved_is_followed_by_its_name_however_long_dns_said_it_would_stay(
    offhook: Offhook, kamailio: Registrar
) -> None:
    async with DnsServer() as dns:
        old = await kamailio(host=HOST, port=free_sip_port())
        dns.zone(zone(old.port))
        server = await registered_server(
            offhook, trunk_at(NAME, 0, "tcp"), sip={"nameservers": [dns.text]}, by=f"{HOST}:{old.port}"
        )
        seen = await stops(old, server)
        await server.program.says("trunk pbx: failed: Connection refused", NOTICED_S, seen)
        new = await kamailio(host=HOST, port=free_sip_port())
        dns.zone(zone(new.port))
        await server.program.says(f"trunk pbx: online by {HOST}:{new.port}/TCP", FIRST_RETRIES_S, seen)
        await new.registered("200")


# ── the language ─────────────────────────────────────────────────────────────────────────────────────────


def trunk_at(server: str, port: int, transport: str) -> dict[str, Any]:
    return {
        "id": "pbx",
        "kind": "register",
        "server": server,
        "port": port,
        "transport": transport,
        "username": "200",
        "expires_s": 600,
    }


def zone(port: int) -> str:
    """The name's server is at ``port``; DNS promises that for an hour."""
    return f"""
        _sip._tcp.{NAME}. 3600 IN SRV 1 1 {port} host.example.org.
        host.example.org. 3600 IN A {HOST}
        """


async def registered_server(offhook: Offhook, trunk: dict[str, Any], by: str = "", **settings: Any) -> OffhookServer:
    """A server that its registrar has accepted, at the address ``by``."""
    server = await offhook(trunks=[trunk], **settings)
    await server.program.says(f"trunk pbx: online by {by}")
    return server


async def stops(registrar: Kamailio, server: OffhookServer) -> int:
    """It is gone; returns where in the server's output the consequences begin."""
    seen = len(server.program.lines)
    await registrar.program.stop()
    return seen


async def shown_state(server: OffhookServer) -> dict[str, Any]:
    """What ``offhook trunks`` tells of the only trunk."""
    folder = server.recordings.parent
    program = await Program.start(
        *(sys.executable, "-m", "offhook", "trunks", "--json"),
        *("--config", folder.parent / "config.json", "--data", folder),
        cwd=folder,
    )
    await program.ends(10)
    (state,) = json.loads(program.output)
    return dict(state)

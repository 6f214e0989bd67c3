"""Trunks with real peers: registered, challenged both ways, by UDP, TCP and TLS, on IPv4 and IPv6; heard both ways."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.interop.baresip import Baresip
from tests.interop.cells import Cell
from tests.interop.linphone import Linphone
from tests.interop.offhook_server import OffhookServer, literal
from tests.interop.rtp_phone import RtpPhone
from tests.interop.sippers import SippRun
from tests.interop.speech import assert_heard_in_full, tone, write_wav
from tests.interop.tools import free_sip_port
from tests.interop.trunks import (
    AGENT,
    CHALLENGED,
    GREETING_HZ,
    PASSWORD,
    Start,
    assert_heard_both_ways,
    caller,
    locked_server,
    python_phone,
    version,
)
from tests.signaling.certificates import Authority

# ── Kamailio ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("transport", "host", "algorithm"),
    [("udp", "127.0.0.1", "MD5"), ("tcp", "::1", "SHA-256"), ("tls", "127.0.0.1", "SHA-256"), ("udp", "::1", "")],
)
async def test_kamailio_registers_us_and_brings_calls(
    *,
    offhook: Start,
    kamailio: Start,
    sipp: Start,
    rtp_phone: Callable[..., RtpPhone],
    cell: Cell,
    tmp_path: Path,
    transport: str,
    host: str,
    algorithm: str,
) -> None:
    cell.fills("Kamailio", "registers us with digest" if algorithm else "registers us", "inbound call")
    cell.fills("Kamailio", "routes by Record-Route", "is hung up on", *(["TLS"] if transport == "tls" else []))
    if ":" in host:
        cell.fills("Kamailio", "IPv6")
        cell.fills("SIPp", "IPv6")
    cell.note(transport.upper(), version(host), algorithm or "no digest")
    authority = Authority(tmp_path)
    pbx = await kamailio(
        host=host,
        port=free_sip_port(host),
        password=PASSWORD if algorithm else "",
        algorithm=algorithm or "MD5",
        tls=authority.issue(host) if transport == "tls" else None,
        min_expires=60,
    )
    trunk = {
        "id": "pbx",
        "kind": "register",
        "server": host,
        "port": pbx.tls_port if transport == "tls" else pbx.port,
        "transport": transport,
        "username": "200",
        "password": PASSWORD,
        "expires_s": 30,
    }
    server: OffhookServer = await offhook(
        agents=[AGENT], host=host, trunks=[trunk], tls={"ca_file": str(authority.file)}
    )
    await server.program.says("trunk pbx: .*online")
    await pbx.registered("200")
    phone = rtp_phone(host)
    run: SippRun = await sipp(
        "uac", to=(host, pbx.port), user="200", host=host, audio_port=phone.port, stay_ms=2500, transport="udp"
    )
    (await run.result()).assert_all_went_well()
    record = await server.ended_call()
    assert record["trunk_id"] == "pbx"
    assert_heard_in_full(np.concatenate([tone(hz, 100) for hz in GREETING_HZ]), phone.heard(), drift_ms=1.0)
    server.program.interrupt()
    assert await server.program.ends(10) == 0
    assert "trunk pbx: " in server.program.output
    assert "stopped" in server.program.output


@pytest.mark.parametrize(("transport", "host"), [("udp", "127.0.0.1"), ("tcp", "::1"), ("tls", "127.0.0.1")])
async def test_kamailio_takes_our_calls_on(
    *, kamailio: Start, sipp: Start, cell: Cell, tmp_path: Path, transport: str, host: str
) -> None:
    """It challenges the INVITE, records its route and sends the call to SIPp."""
    cell.fills("Kamailio", "outbound call", "it challenges, we prove ourselves", "routes by Record-Route")
    cell.note(transport.upper(), version(host))
    authority = Authority(tmp_path)
    callee: SippRun = await sipp("uas", host=host, stay_ms=0)
    pbx = await kamailio(
        host=host,
        port=free_sip_port(host),
        password=PASSWORD,
        gateway=f"{literal(host)}:{callee.port}",
        tls=authority.issue(host) if transport == "tls" else None,
    )
    port = pbx.tls_port if transport == "tls" else pbx.port
    trunk = {"id": "pbx", "kind": "register", "server": host, "port": port, "transport": transport}
    trunk |= {"username": "201", "password": PASSWORD}
    config = {"trunks": [trunk], "tls": {"ca_file": str(authority.file)}}
    report = await caller(tmp_path, "+4930123", "--trunk", "pbx", "--host", host, config=config)
    assert report["answered"], (report["end"], report["events"])
    (await callee.result()).assert_all_went_well()


async def test_a_refusal_that_kamailio_relays_is_explained(kamailio: Start, cell: Cell, tmp_path: Path) -> None:
    cell.fills("Kamailio", "refusal explained")
    pbx = await kamailio(host="127.0.0.1", port=free_sip_port())
    trunk = {"id": "pbx", "kind": "register", "server": "127.0.0.1", "port": pbx.port, "username": "201"}
    report = await caller(tmp_path, "nobody", "--trunk", "pbx", "--host", "127.0.0.1", config={"trunks": [trunk]})
    (refused,) = [event for event in report["events"] if event["type"] == "CallRefused"]
    assert (refused["status"], report["end"]["sip_code"]) == (404, 404)
    assert refused["fix"]


# ── phones ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("transport", "host"), [("udp", "127.0.0.1"), ("tcp", "::1"), ("tls", "127.0.0.1")])
async def test_baresip_proves_itself(
    *, offhook: Start, baresip: Start, cell: Cell, tmp_path: Path, transport: str, host: str
) -> None:
    cell.fills("baresip", "we challenge, it proves itself", "inbound call", "hangs up")
    cell.fills("baresip", *(["TLS"] if transport == "tls" else []), *(["IPv6"] if ":" in host else []))
    cell.note(transport.upper(), version(host))
    server = await locked_server(offhook, tmp_path, host)
    phone: Baresip = await baresip(
        speaks=write_wav(tmp_path / "tone.wav", tone(900, 20_000)),
        transport=transport,
        host=host,
        password=PASSWORD,
        authorities=tmp_path / "ca.pem",
    )
    await phone.dial(server.uri("200", transport))
    await phone.event("CALL_ESTABLISHED")
    await asyncio.sleep(2)
    await phone.hang_up()
    record = await server.ended_call()
    assert record["trunk_id"] == "locked"
    assert_heard_both_ways(record)
    assert CHALLENGED in server.program.output


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_linphone_proves_itself(
    *, offhook: Start, linphone: Start, cell: Cell, tmp_path: Path, transport: str
) -> None:
    cell.fills("linphone", "we challenge, it proves itself", "inbound call", "hangs up")
    cell.note(transport.upper(), "IPv4")
    server = await locked_server(offhook, tmp_path, "127.0.0.1")
    phone: Linphone = await linphone(
        speaks=write_wav(tmp_path / "tone.wav", tone(900, 20_000)), transport=transport, password=PASSWORD
    )
    await phone.dial(server.uri("200", transport))
    await phone.established()
    await asyncio.sleep(2)
    await phone.hang_up()
    record = await server.ended_call()
    assert record["trunk_id"] == "locked"
    assert_heard_both_ways(record)


@pytest.mark.parametrize(("transport", "host"), [("udp", "127.0.0.1"), ("tcp", "127.0.0.1")])
async def test_sipp_proves_itself(
    *,
    offhook: Start,
    sipp: Start,
    rtp_phone: Callable[..., RtpPhone],
    cell: Cell,
    tmp_path: Path,
    transport: str,
    host: str,
) -> None:
    cell.fills("SIPp", "we challenge, it proves itself", "inbound call", "hangs up")
    cell.fills("SIPp", *(["IPv6"] if ":" in host else []))
    cell.note(transport.upper(), version(host))
    server = await locked_server(offhook, tmp_path, host)
    phone = rtp_phone(host)
    run: SippRun = await sipp(
        "uac_digest",
        to=(host, server.port),
        user="200",
        host=host,
        transport=transport,
        audio_port=phone.port,
        stay_ms=2500,
    )
    (await run.result()).assert_all_went_well()
    assert (await server.ended_call())["trunk_id"] == "locked"
    assert_heard_in_full(np.concatenate([tone(hz, 100) for hz in GREETING_HZ]), phone.heard(), drift_ms=1.0)


async def test_sipp_challenges_us(sipp: Start, cell: Cell, tmp_path: Path) -> None:
    cell.fills("SIPp", "it challenges, we prove ourselves", "outbound call", "is hung up on")
    cell.note("UDP", "IPv4")
    callee: SippRun = await sipp("uas_digest")
    trunk = {"id": "gw", "kind": "gateway", "targets": [f"sip:127.0.0.1:{callee.port}"]}
    config = {"trunks": [trunk | {"username": "trunk", "password": PASSWORD}]}
    report = await caller(tmp_path, "+4930123", "--trunk", "gw", "--host", "127.0.0.1", config=config)
    assert report["answered"], (report["end"], report["events"])
    (await callee.result()).assert_all_went_well()


@pytest.mark.parametrize(("peer", "transport"), [("baresip", "udp"), ("baresip", "tcp"), ("linphone", "tcp")])
async def test_phones_take_our_calls(
    *, baresip: Start, linphone: Start, cell: Cell, tmp_path: Path, peer: str, transport: str
) -> None:
    cell.fills(peer, "outbound call", "is hung up on")
    cell.note(transport.upper(), "IPv4")
    speech = write_wav(tmp_path / "tone.wav", tone(900, 20_000))
    phone = await (baresip if peer == "baresip" else linphone)(speaks=speech, transport=transport)
    report = await caller(tmp_path, phone.uri, "--host", "127.0.0.1", config={})
    assert report["answered"], (report["end"], report["events"])
    assert report["media"]["packets_received"] > 40
    assert report["end"]["phase"] == "up"


# ── baresip-python ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("transport", "digits"), [("udp", "7"), ("tcp", ""), ("tls", "")])
async def test_baresip_python_proves_itself(
    *, offhook: Start, cell: Cell, tmp_path: Path, transport: str, digits: str
) -> None:
    cell.fills("baresip-python", "we challenge, it proves itself", "inbound call", "hangs up")
    cell.fills("baresip-python", *(["TLS"] if transport == "tls" else []), *(["DTMF"] if digits else []))
    cell.note(transport.upper(), "IPv4", "SHA-256")
    server = await locked_server(offhook, tmp_path, "127.0.0.1", algorithms=["SHA-256"])
    told = await python_phone(
        tmp_path,
        domain=f"127.0.0.1:{server.port}",
        transport=transport,
        password=PASSWORD,
        dial=server.uri("200", transport),
        digits=digits,
        config=f"sip_cafile {tmp_path / 'ca.pem'}\n",
    )
    record = await server.ended_call()
    assert record["trunk_id"] == "locked"
    assert record["digits"] == digits
    assert told["loudest_db"] > -30
    assert_heard_both_ways(record)
    sent = re.findall(r"^Authorization: .*\balgorithm=([\w-]+)", await server.trace(record), re.MULTILINE)
    assert set(sent) == {"SHA-256"}  # to an offer of both it sends both, and which one counted would not be seen


async def test_baresip_python_takes_our_call(cell: Cell, tmp_path: Path) -> None:
    cell.fills("baresip-python", "outbound call", "hangs up")
    cell.note("UDP", "IPv4")
    port = free_sip_port()
    phone = asyncio.create_task(
        python_phone(
            tmp_path, domain=f"127.0.0.1:{port}", config=f"sip_listen 127.0.0.1:{port}\n", seconds=7.0, speaks=False
        )
    )
    await asyncio.sleep(1.5)  # its listening socket cannot be awaited from here
    report = await caller(tmp_path, f"sip:python@127.0.0.1:{port}", "--host", "127.0.0.1", config={})
    assert report["answered"], (report["end"], report["events"])
    assert (await phone)["loudest_db"] > -30, "it heard nothing of our tone"

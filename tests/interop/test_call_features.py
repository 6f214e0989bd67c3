"""What peers do beside calling: hold, give up, refuse, be refused, show signs of life; the rest of TLS and IPv6."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.interop.baresip import Baresip
from tests.interop.cells import Cell
from tests.interop.linphone import Linphone
from tests.interop.offhook_server import OffhookServer, Record, described_directions, events, literal, scripted
from tests.interop.sippers import SippRun
from tests.interop.speech import tone, write_wav
from tests.interop.tools import free_sip_port
from tests.interop.trunks import Start, assert_heard_both_ways, caller, locked_server, python_phone, version

HOST = "127.0.0.1"
FRAME_MS = 20
HELD_MS = 1000
AROUND_MS = 500
"""What a client takes to send a re-INVITE, and what the last packets before the end may be off."""


TALKS = scripted("200", steps=[{"on": "ready", "do": [{"do": "speak", "tone_hz": 500, "ms": 12_000}]}])
BRIEF = scripted(
    "200", steps=[{"on": "ready", "do": [{"do": "speak", "tone_hz": 500, "ms": 900}]}], hang_up_after_ms=1500
)
SLOW = scripted("200", open_after_ms=20_000)


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    return write_wav(tmp_path / "speech.wav", tone(900, 20_000))


# ── hold ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_baresip_holds_and_resumes(offhook: Start, baresip: Start, cell: Cell, speech: Path) -> None:
    cell.fills("baresip", "holds and resumes")
    cell.note("TCP", "IPv4")
    server: OffhookServer = await offhook(agents=[TALKS])
    phone: Baresip = await baresip(speaks=speech, transport="tcp")
    await phone.dial(server.uri("200", "tcp"))
    await phone.event("CALL_ESTABLISHED")
    for act in (phone.hold, phone.resume, phone.hang_up):
        await asyncio.sleep(HELD_MS / 1000)
        await act()
    await assert_silent_while_held(server)


async def test_linphone_holds_and_resumes(offhook: Start, linphone: Start, cell: Cell, speech: Path) -> None:
    cell.fills("linphone", "holds and resumes")
    cell.note("UDP", "IPv4")
    server: OffhookServer = await offhook(agents=[TALKS])
    phone: Linphone = await linphone(speaks=speech)
    await phone.dial(server.uri("200"))
    await phone.established()
    for act in (phone.hold, phone.resume, phone.hang_up):
        await asyncio.sleep(HELD_MS / 1000)
        await act()
    await assert_silent_while_held(server)


async def test_baresip_python_holds_and_resumes(offhook: Start, cell: Cell, tmp_path: Path) -> None:
    cell.fills("baresip-python", "holds and resumes", "hangs up")
    cell.note("UDP", "IPv4")
    server: OffhookServer = await offhook(agents=[TALKS])
    told = await python_phone(tmp_path, domain=f"{HOST}:{server.port}", dial=server.uri("200"), plan="hold")
    assert told["loudest_db"] > -30  # it is heard again
    await assert_silent_while_held(server)


async def assert_silent_while_held(server: OffhookServer) -> None:
    """Held, we said that we only listen, and sent nothing; resumed, we spoke again until they hung up."""
    record = await server.ended_call()
    assert (record["ended_by"], record["cause"]) == ("caller", "hangup")
    assert described_directions(await server.trace(record)) == ["sendrecv", "recvonly", "sendrecv"]
    (report,) = events(record, "MediaReported")
    spoken_ms = record["duration_ms"] - HELD_MS
    assert abs(report["packets_sent"] * FRAME_MS - spoken_ms) < AROUND_MS


# ── refused ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("peer", ["baresip", "linphone", "SIPp", "baresip-python"])
async def test_a_peer_that_dials_an_unknown_number_is_told_and_the_operator_is_told_why(
    *, offhook: Start, baresip: Start, linphone: Start, sipp: Start, cell: Cell, tmp_path: Path, speech: Path, peer: str
) -> None:
    cell.fills(peer, "refusal explained")
    cell.note("UDP", "IPv4")
    server: OffhookServer = await offhook(agents=[TALKS])
    uri = server.uri("999")
    if peer == "baresip":
        phone: Baresip = await baresip(speaks=speech)
        await phone.dial(uri)
        assert "404" in str((await phone.event("CALL_CLOSED"))["param"])
    elif peer == "linphone":
        console: Linphone = await linphone(speaks=speech)
        await console.dial(uri)
        await console.closed()
    elif peer == "SIPp":
        run: SippRun = await sipp("uac", to=(HOST, server.port), user="999")
        (await run.result()).first("SIP/2.0 404", sent=False)
    else:
        told = await python_phone(tmp_path, domain=f"{HOST}:{server.port}", dial=uri, plan="be_refused")
        assert "404" in told["reason"]
    record = await server.ended_call()
    assert (record["cause"], record["sip_code"]) == ("refused", 404)
    assert_refusal_explained(record, status=404, evidence="999", fix="numbers")


async def test_baresip_declines_our_call(baresip: Start, cell: Cell, tmp_path: Path, speech: Path) -> None:
    cell.fills("baresip", "refusal explained")
    cell.note("TCP", "IPv4")
    phone: Baresip = await baresip(speaks=speech, transport="tcp", answers=False)
    calling = asyncio.create_task(caller(tmp_path, phone.uri, "--host", HOST))
    await phone.event("CALL_INCOMING")
    await phone.hang_up()
    assert_declined(await calling)


async def test_linphone_declines_our_call(linphone: Start, cell: Cell, tmp_path: Path, speech: Path) -> None:
    cell.fills("linphone", "refusal explained")
    cell.note("TCP", "IPv4")
    phone: Linphone = await linphone(speaks=speech, transport="tcp", answers=False)
    calling = asyncio.create_task(caller(tmp_path, phone.uri, "--host", HOST))
    await phone.called()
    await phone.hang_up()
    assert_declined(await calling)


def assert_declined(report: dict[str, Any]) -> None:
    assert not report["answered"]
    status = report["end"]["sip_code"]
    assert status in {480, 486, 603}
    assert_refusal_explained(report, status=status, evidence=str(status))


def assert_refusal_explained(record: Record, *, status: int, evidence: str, fix: str = "") -> None:
    (refused,) = events(record, "CallRefused")
    assert refused["status"] == status
    assert refused["rule"]
    assert evidence in refused["evidence"]
    assert refused["fix"]
    assert fix in refused["fix"]


# ── given up ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("peer", ["baresip", "linphone"])
async def test_we_give_up_what_rings_too_long(
    *, baresip: Start, linphone: Start, cell: Cell, tmp_path: Path, speech: Path, peer: str
) -> None:
    cell.fills(peer, "CANCEL")
    cell.note("TCP", "IPv4")
    phone = await (baresip if peer == "baresip" else linphone)(speaks=speech, transport="tcp", answers=False)
    report = await caller(tmp_path, phone.uri, "--host", HOST, "--ring-timeout", "1")
    assert not report["answered"]
    await (phone.event("CALL_CLOSED", 2) if peer == "baresip" else phone.closed(2))


async def test_kamailio_carries_our_cancel_on(kamailio: Start, sipp: Start, cell: Cell, tmp_path: Path) -> None:
    cell.fills("Kamailio", "CANCEL")
    cell.note("TCP", "IPv6")
    callee: SippRun = await sipp("uas_never_answers", host="::1")
    pbx = await kamailio(host="::1", port=free_sip_port("::1"), gateway=f"{literal('::1')}:{callee.port}")
    trunk = {"id": "pbx", "kind": "gateway", "targets": [f"sip:[::1]:{pbx.port};transport=tcp"]}
    report = await caller(
        tmp_path, "+4930123", "--trunk", "pbx", "--host", "::1", "--ring-timeout", "1", config={"trunks": [trunk]}
    )
    assert not report["answered"]
    (await callee.result()).assert_all_went_well()


async def test_kamailio_carries_a_callers_cancel_to_us(
    offhook: Start, kamailio: Start, sipp: Start, cell: Cell
) -> None:
    cell.fills("Kamailio", "CANCEL")
    cell.note("UDP", "IPv4")
    pbx = await kamailio(host=HOST, port=free_sip_port())
    trunk = {"id": "pbx", "kind": "register", "server": HOST, "port": pbx.port, "username": "200"}
    server: OffhookServer = await offhook(agents=[SLOW], trunks=[trunk])
    await server.program.says("trunk pbx: online")
    run: SippRun = await sipp("uac_cancel_by_proxy", to=(HOST, pbx.port), user="200", stay_ms=500)
    result = await run.result()
    result.assert_all_went_well()
    result.first("SIP/2.0 487", sent=False)
    record = await server.ended_call()
    assert (record["ended_by"], record["cause"], record["trunk_id"]) == ("caller", "cancelled", "pbx")


async def test_baresip_python_gives_up(offhook: Start, cell: Cell, tmp_path: Path) -> None:
    cell.fills("baresip-python", "CANCEL")
    cell.note("TCP", "IPv4")
    server: OffhookServer = await offhook(agents=[SLOW])
    uri = server.uri("200", "tcp")
    await python_phone(tmp_path, domain=f"{HOST}:{server.port}", transport="tcp", dial=uri, plan="give_up")
    record = await server.ended_call()
    assert (record["ended_by"], record["cause"], record["answered_at"]) == ("caller", "cancelled", None)


# ── the rest of TLS, IPv6 and hanging up ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("transport", "host"), [("tls", HOST), ("tcp", "::1")])
async def test_linphone_calls_by_tls_and_ipv6(
    *, offhook: Start, linphone: Start, cell: Cell, tmp_path: Path, speech: Path, transport: str, host: str
) -> None:
    cell.fills("linphone", "TLS" if transport == "tls" else "IPv6")
    cell.note(transport.upper(), version(host))
    server = await locked_server(offhook, tmp_path, host)
    phone: Linphone = await linphone(
        speaks=speech,
        transport=transport,
        host=host,
        ipv6=":" in host,
        password="secret",
        authorities=tmp_path / "ca.pem",
    )
    named = server.uri("200", transport).replace(HOST, "localhost")  # it finds no IP address in a certificate
    await phone.dial(named)
    await phone.established()
    await asyncio.sleep(2)
    await phone.hang_up()
    assert_heard_both_ways(await server.ended_call())


async def test_baresip_python_calls_by_ipv6_and_is_hung_up_on(offhook: Start, cell: Cell, tmp_path: Path) -> None:
    cell.fills("baresip-python", "IPv6", "is hung up on")
    cell.note("UDP", "IPv6")
    server: OffhookServer = await offhook(agents=[BRIEF], host="::1")
    told = await python_phone(
        tmp_path, host="::1", domain=f"[::1]:{server.port}", dial=server.uri("200"), plan="listen"
    )
    assert told["hung_up_on"]
    assert told["loudest_db"] > -30
    assert (await server.ended_call())["ended_by"] == "agent"


# ── signs of life ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("peer", "transport"), [("Kamailio", "tcp"), ("baresip", "udp"), ("linphone", "tcp"), ("SIPp", "udp")]
)
async def test_a_gateway_that_lives_is_online(
    *,
    offhook: Start,
    kamailio: Start,
    baresip: Start,
    linphone: Start,
    sipp: Start,
    cell: Cell,
    speech: Path,
    peer: str,
    transport: str,
) -> None:
    cell.fills(peer, "OPTIONS")
    cell.note(transport.upper(), "IPv4")
    if peer == "Kamailio":
        target = f"sip:{HOST}:{(await kamailio(host=HOST, port=free_sip_port())).port};transport={transport}"
    elif peer == "SIPp":
        target = f"sip:{HOST}:{(await sipp('uas_options')).port}"
    else:
        phone = await (baresip if peer == "baresip" else linphone)(speaks=speech, transport=transport)
        target = phone.uri
    server: OffhookServer = await offhook(trunks=[{"id": "gw", "kind": "gateway", "targets": [target]}])
    await server.program.says("trunk gw: online")

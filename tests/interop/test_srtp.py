"""SRTP with real phones, both ways: what each side says is heard by the other, and the trace shows no key."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.interop.baresip import Baresip
from tests.interop.cells import Cell
from tests.interop.linphone import Linphone
from tests.interop.offhook_server import OffhookServer, Record, events
from tests.interop.speech import RATE_HZ, Samples, channel, read_wav, tone, tone_db, write_wav
from tests.interop.tools import free_port, free_sip_port
from tests.interop.trunks import Start, assert_heard_both_ways, caller, python_phone
from tests.signaling.certificates import Authority

HOST = "127.0.0.1"
OURS_HZ, THEIRS_HZ = 500, 1100
CALLER_HZ = 900
"""What ``offhook call`` plays."""

TALK_S = 2
HEARD_DB = -30
AGENT = {
    "id": "200",
    "provider": "scripted",
    "options": {
        "script": json.dumps({"steps": [{"on": "ready", "do": [{"do": "speak", "tone_hz": OURS_HZ, "ms": 12_000}]}]})
    },
}


class Phones:
    """The three that know SRTP. ``mediaenc`` is baresip's word for how: "srtp" is RTP/AVP with keys."""

    def __init__(self, baresip: Start, linphone: Start, folder: Path) -> None:
        self._baresip = baresip
        self._linphone = linphone
        self._folder = folder
        self._speech = write_wav(folder / "phone.wav", tone(THEIRS_HZ, 20_000))
        self._heard = folder / "heard.wav"

    async def call(self, peer: str, mediaenc: str, server: OffhookServer, transport: str) -> Samples:
        """Talk for a while and hang up; what was heard."""
        uri = server.uri("200", transport)
        if peer == "baresip-python":
            await self._python(mediaenc, dial=uri, domain=f"{HOST}:{server.port}", transport=transport)
            return read_wav(self._heard)
        phone = await self._start(peer, mediaenc, transport)
        # linphone finds no IP address in a certificate
        await phone.dial(uri.replace(HOST, "localhost") if peer == "linphone" else uri)
        await (phone.established() if isinstance(phone, Linphone) else phone.event("CALL_ESTABLISHED"))
        await asyncio.sleep(TALK_S)
        await phone.hang_up()
        return await self._heard_by(phone)

    async def hold(self, peer: str, server: OffhookServer) -> Samples:
        """Call, hold, resume, talk on and hang up; what was heard."""
        if peer == "baresip-python":
            domain = f"{HOST}:{server.port}"
            await self._python("srtp-mand", dial=server.uri("200"), domain=domain, plan="hold")
            return read_wav(self._heard)
        phone = await self._start(peer, "srtp-mand", "udp")
        await phone.dial(server.uri("200"))
        await (phone.established() if isinstance(phone, Linphone) else phone.event("CALL_ESTABLISHED"))
        for act in (phone.hold, phone.resume, phone.hang_up):
            await asyncio.sleep(TALK_S)
            await act()
        return await self._heard_by(phone)

    async def take_call(self, peer: str, mediaenc: str, policy: str) -> tuple[dict[str, Any], Samples]:
        """Be called by ``offhook call``: its report, and what was heard."""
        if peer == "baresip-python":
            port = free_sip_port()
            listening = asyncio.create_task(
                self._python(mediaenc, domain=f"{HOST}:{port}", listen=port, transport="tcp", seconds=7.0)
            )
            await asyncio.sleep(1.5)  # its listening socket cannot be awaited from here
            report = await self._be_called(f"sip:python@{HOST}:{port};transport=tcp", policy)
            await listening
            return report, read_wav(self._heard)
        phone = await self._start(peer, mediaenc, "tcp")
        report = await self._be_called(phone.uri, policy)
        return report, await self._heard_by(phone)

    async def _be_called(self, uri: str, policy: str) -> dict[str, Any]:
        trunk = {"id": "gw", "kind": "gateway", "targets": [uri], "srtp": policy, "srtp_without_tls": True}
        return await caller(self._folder, uri, "--trunk", "gw", "--host", HOST, config={"trunks": [trunk]})

    async def _start(self, peer: str, mediaenc: str, transport: str) -> Baresip | Linphone:
        authorities = self._folder / "ca.pem" if transport == "tls" else None
        wanted = {"speaks": self._speech, "transport": transport, "authorities": authorities}
        phone: Baresip | Linphone
        if peer == "linphone":
            phone = await self._linphone(**wanted, encrypts=bool(mediaenc))
        else:
            phone = await self._baresip(**wanted, mediaenc=mediaenc)
        return phone

    async def _heard_by(self, phone: Baresip | Linphone) -> Samples:
        await (phone.closed() if isinstance(phone, Linphone) else phone.event("CALL_CLOSED"))
        return phone.heard()

    async def _python(self, mediaenc: str, *, listen: int = 0, **wanted: Any) -> None:
        await python_phone(
            self._folder,
            **wanted,
            account=[f"mediaenc={mediaenc}"],
            config=f"sip_listen {HOST}:{listen}\n" if listen else f"sip_cafile {self._folder / 'ca.pem'}\n",
            tone_hz=THEIRS_HZ,
            heard=str(self._heard),
        )


@pytest.fixture
def phones(baresip: Start, linphone: Start, tmp_path: Path) -> Phones:
    return Phones(baresip, linphone, tmp_path)


async def server_with(offhook: Start, folder: Path, policy: str) -> OffhookServer:
    """It listens on TLS too; on other transports keys are taken as well."""
    certificate, key = Authority(folder).issue(HOST, "localhost")
    tls_port = free_port("tcp", HOST)
    server: OffhookServer = await offhook(
        agents=[AGENT],
        trunks=[{"id": "open", "kind": "open", "srtp": policy, "srtp_without_tls": True}],
        sip={"tls_port": tls_port, "transports": ["udp", "tcp", "tls"]},
        tls={"certificate": str(certificate), "private_key": str(key)},
    )
    server.tls_port = tls_port
    return server


@pytest.mark.parametrize(
    ("peer", "mediaenc", "transport", "policy", "protocol"),
    [
        ("baresip", "srtp-mand", "tls", "required", "RTP/SAVP"),
        ("baresip", "srtp-mandf", "udp", "optional", "RTP/SAVPF"),
        ("baresip", "srtp", "tcp", "optional", "RTP/AVP"),
        ("linphone", "srtp-mand", "tls", "required", "RTP/SAVP"),
        ("linphone", "srtp-mand", "tcp", "optional", "RTP/SAVP"),
        ("baresip-python", "srtp-mand", "tls", "required", "RTP/SAVP"),
        ("baresip-python", "srtp-mandf", "tcp", "optional", "RTP/SAVPF"),
        ("baresip-python", "srtp", "udp", "optional", "RTP/AVP"),
    ],
)
async def test_phones_call_us_encrypted(
    *,
    offhook: Start,
    phones: Phones,
    cell: Cell,
    tmp_path: Path,
    peer: str,
    mediaenc: str,
    transport: str,
    policy: str,
    protocol: str,
) -> None:
    cell.fills(peer, "SRTP", "inbound call", *(["TLS"] if transport == "tls" else []))
    cell.note(transport.upper(), "IPv4")
    server = await server_with(offhook, tmp_path, policy)
    heard = await phones.call(peer, mediaenc, server, transport)
    record = await server.ended_call()
    assert_heard_both_ways(record)
    recording = await channel(server.recordings.parent / record["recording"], 1, tmp_path / "channel.wav")
    assert loudest_db(recording, THEIRS_HZ) > HEARD_DB
    assert loudest_db(heard, OURS_HZ) > HEARD_DB
    await assert_encrypted(server, record, protocol)


@pytest.mark.parametrize("peer", ["baresip", "linphone", "baresip-python"])
async def test_encrypted_calls_are_held_and_resumed(
    offhook: Start, phones: Phones, cell: Cell, tmp_path: Path, peer: str
) -> None:
    cell.fills(peer, "SRTP", "holds and resumes")
    cell.note("UDP", "IPv4")
    server = await server_with(offhook, tmp_path, "required")
    heard = await phones.hold(peer, server)
    record = await server.ended_call()
    recording = await channel(server.recordings.parent / record["recording"], 1, tmp_path / "channel.wav")
    assert loudest_db(recording[-RATE_HZ:], THEIRS_HZ) > HEARD_DB
    assert loudest_db(heard[-RATE_HZ:], OURS_HZ) > HEARD_DB
    assert set(re.findall(r"^m=audio \d+ (\S+)", await server.trace(record), re.MULTILINE)) == {"RTP/SAVP"}


@pytest.mark.parametrize(
    ("peer", "mediaenc", "policy"),
    [
        ("baresip", "srtp-mand", "required"),
        ("baresip", "srtp", "optional"),
        ("linphone", "srtp-mand", "required"),
        ("baresip-python", "srtp-mand", "required"),
        ("baresip-python", "srtp", "optional"),
    ],
)
async def test_phones_take_our_encrypted_calls(
    phones: Phones, cell: Cell, peer: str, mediaenc: str, policy: str
) -> None:
    cell.fills(peer, "SRTP", "outbound call")
    cell.note("TCP", "IPv4")
    report, heard = await phones.take_call(peer, mediaenc, policy)
    assert report["answered"], (report["end"], report["events"])
    assert report["media"]["packets_received"] > 40
    assert loudest_db(heard, CALLER_HZ) > HEARD_DB


async def test_a_phone_in_clear_is_refused_where_srtp_is_required(
    offhook: Start, baresip: Start, cell: Cell, tmp_path: Path
) -> None:
    cell.fills("baresip", "refusal explained")
    cell.note("UDP", "IPv4")
    server = await server_with(offhook, tmp_path, "required")
    phone: Baresip = await baresip(speaks=write_wav(tmp_path / "phone.wav", tone(THEIRS_HZ, 5000)))
    await phone.dial(server.uri("200"))
    assert "488" in str((await phone.event("CALL_CLOSED"))["param"])
    (refused,) = events(await server.ended_call(), "CallRefused")
    assert "is not encrypted for certain" in refused["evidence"]
    assert "RTP/SAVP" in refused["fix"]


def loudest_db(heard: Samples, hz: float) -> float:
    """Of any half second."""
    step = RATE_HZ // 2
    return max(tone_db(heard[start : start + step], hz) for start in range(0, len(heard), step))


async def assert_encrypted(server: OffhookServer, record: Record, protocol: str) -> None:
    """Offer and answer are in one protocol, with keys on both sides, which the trace crosses out."""
    trace = await server.trace(record)
    protocols = re.findall(r"^m=audio \d+ (\S+)", trace, re.MULTILINE)
    assert set(protocols) == {protocol}, protocols
    keys = re.findall(r"^a=crypto:\d+ \S+ inline:([^|\s]+)", trace, re.MULTILINE)
    assert len(keys) >= 2
    assert {key.strip("x") for key in keys} == {""}

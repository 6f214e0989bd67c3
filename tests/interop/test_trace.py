"""The pcap of a call's trace, as Wireshark reads it."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.interop.offhook_server import OffhookServer
from tests.interop.program import POLL_S, Program
from tests.interop.tools import free_port, needs
from tests.signaling.certificates import Authority

AGENT = {"id": "brief", "provider": "scripted", "options": {"script": json.dumps({"hang_up_after_ms": 700})}}
CHECKED = [f"{protocol}.check_checksum:TRUE" for protocol in ("ip", "udp", "tcp")]
DIALOG = ["INVITE", "100", "180", "200", "ACK", "BYE", "200"]

Start = Callable[..., Awaitable[OffhookServer]]


async def output_of(where: Path, *argv: str | Path) -> list[str]:
    """The lines a program wrote; it has ended well."""
    program = await Program.start(*argv, cwd=where)
    assert await program.ends(30) == 0, program.tail()
    return program.output.splitlines()


async def tshark(file: Path, shown: str, *fields: str) -> list[list[str]]:
    """The ``fields`` of each packet that the filter ``shown`` lets through."""
    options = [part for option in CHECKED for part in ("-o", option)]
    wanted = [part for field in fields for part in ("-e", field)]
    lines = await output_of(file.parent, "tshark", "-r", file, *options, "-Y", shown, "-T", "fields", *wanted)
    return [line.split("\t") for line in lines if "Running as user" not in line]


def is_kept(server: OffhookServer, octets: bytes) -> bool:
    """Whether a message with these is on disk."""
    return any(octets in file.read_bytes() for file in (server.recordings.parent / "traces").glob("*.jsonl"))


async def until(kept: Callable[[], bool]) -> None:
    """Wait for the disk, a second at most."""
    for _ in range(round(1.0 / POLL_S)):
        if kept():
            return
        await asyncio.sleep(POLL_S)
    raise AssertionError("not on disk within a second")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
async def test_wireshark_reads_the_messages_of_a_call(
    *, offhook: Start, tmp_path: Path, transport: str, host: str
) -> None:
    needs("tshark")
    authority = Authority(tmp_path)
    certificate, key = authority.issue(host)
    tls_port = free_port("tcp", host)
    server = await offhook(
        agents=[AGENT],
        host=host,
        sip={"transports": ["udp", "tcp", "tls"], "tls_port": tls_port},
        tls={"certificate": str(certificate), "private_key": str(key)},
    )
    server.tls_port = tls_port
    config = tmp_path / "caller.json"
    config.write_text(json.dumps({"tls": {"ca_file": str(authority.file)}}))
    command = (sys.executable, "-m", "offhook", "call", server.uri("brief", transport))
    await output_of(tmp_path, *command, "--config", config, "--host", host, "--no-transcript")
    record = await server.ended_call()

    file = tmp_path / "call.pcap"
    folder = server.recordings.parent
    await output_of(
        tmp_path, sys.executable, "-m", "offhook", "trace", record["call_id"], "--data", folder, "--pcap", file
    )
    messages = await tshark(file, "sip", "sip.Method", "sip.Status-Code", "sip.CSeq.method", "sip.Call-ID")
    # The PRACK of our 180 may cross the 200: it waits for no answer.
    assert [method or status for method, status, of, _ in messages if of != "PRACK"] == DIALOG
    assert [method or status for method, status, of, _ in messages if of == "PRACK"] == ["PRACK", "200"]
    assert {call_id for _, _, _, call_id in messages} == {record["sip_call_id"]}
    (offer, answer) = await tshark(file, "sdp", "sdp.media.media", "sdp.media.format")
    assert offer[0] == answer[0] == "audio"
    wrong = await tshark(file, "_ws.malformed || _ws.expert.severity >= 6291456", "frame.number", "_ws.expert.message")
    assert wrong == []


async def test_the_trace_of_a_running_call_is_there_within_a_second(*, offhook: Start, tmp_path: Path) -> None:
    server = await offhook(agents=[{**AGENT, "options": {"script": json.dumps({"vad": True})}}])
    call = await Program.start(
        *(sys.executable, "-m", "offhook", "call", server.uri("brief")), *("--no-transcript", "--max-duration", "20")
    )
    try:
        await call.says("answered")
        await until(lambda: is_kept(server, b"ACK sip:") and [one["phase"] for one in server.records()] == ["up"])
        text = await server.trace(server.records()[0])
    finally:
        call.interrupt()
        await call.ends(20)
    arrows = re.findall(r"─ (INVITE|\d{3} [A-Z][a-z]+|200 OK \(INVITE|ACK|BYE)\b", text.partition("── 1:")[0])
    assert arrows == ["INVITE", "100 Trying", "180 Ringing", "200 OK (INVITE", "ACK"]

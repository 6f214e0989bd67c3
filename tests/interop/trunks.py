"""What tests of trunks share: an agent, a locked server, ``offhook call`` and baresip-python run to their ends."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tests.interop.offhook_server import OffhookServer, Record, events
from tests.interop.program import Program
from tests.interop.speech import silence, tone, write_wav
from tests.interop.tools import free_port, unavailable
from tests.signaling.certificates import Authority

ROOT = Path(__file__).resolve().parents[2]
GREETING_HZ = (500, 800, 650, 1100, 950, 700, 1250, 600)
GREETING = [{"do": "speak", "tone_hz": hz, "ms": 100} for hz in GREETING_HZ]
AGENT = {
    "id": "200",
    "provider": "scripted",
    "options": {"script": json.dumps({"steps": [{"on": "ready", "do": GREETING}]})},
}
PASSWORD = "secret"
LOCKED = {
    "id": "locked",
    "kind": "gateway",
    "peers": ["127.0.0.0/8", "::1"],
    "username": "trunk",
    "password": PASSWORD,
    "require_digest": True,
}
CHALLENGED = "refused with 401: trunk locked requires digest"

Start = Callable[..., Awaitable[Any]]


def version(host: str) -> str:
    return "IPv6" if ":" in host else "IPv4"


async def caller(
    where: Path, *arguments: str, config: dict[str, Any] | None = None, max_duration_s: int = 12
) -> dict[str, Any]:
    """``offhook call``, with its report: it speaks a tone and listens."""
    (where / "caller.json").write_text(json.dumps(config or {}))
    speech = write_wav(where / "speech.wav", np.concatenate([tone(900, 1500), silence(500)]))
    program = await Program.start(
        *(sys.executable, "-m", "offhook", "call", *arguments, "--config", str(where / "caller.json")),
        *("--json", "--no-transcript", "--play", str(speech), "--max-duration", str(max_duration_s)),
        cwd=where,
    )
    async with program.stopped_on_failure():
        await program.ends(max_duration_s + 18)
    report: dict[str, Any] = json.loads("\n".join(line for line in program.output.splitlines() if line))
    return report


def assert_heard_both_ways(record: Record) -> None:
    (report,) = events(record, "MediaReported")
    assert report["packets_received"] > 40
    assert report["packets_sent"] > 40
    assert report["loss_percent"] < 5


async def locked_server(
    offhook: Start, folder: Path, host: str, *, algorithms: Sequence[str] = ("MD5",)
) -> OffhookServer:
    """A server that wants proof of everybody, with a certificate that ``folder``'s authority issued."""
    certificate, key = Authority(folder).issue(host, "localhost")
    sip: dict[str, Any] = {"tls_port": free_port("tcp", host), "transports": ["udp", "tcp", "tls"]}
    server: OffhookServer = await offhook(
        agents=[AGENT],
        host=host,
        trunks=[LOCKED | {"digest_algorithms": list(algorithms)}],
        sip=sip,
        tls={"certificate": str(certificate), "private_key": str(key)},
    )
    server.tls_port = sip["tls_port"]
    return server


async def python_phone(where: Path, **wanted: Any) -> dict[str, Any]:
    """Run baresip-python to its end; what it told when it closed."""
    if importlib.util.find_spec("baresip") is None:
        unavailable("baresip-python is not installed: pip install baresip-python")
    program = await Program.start(sys.executable, "-m", "tests.interop.python_phone", json.dumps(wanted), cwd=ROOT)
    async with program.stopped_on_failure():
        assert await program.ends(30) == 0, program.tail()
    told: dict[str, Any] = json.loads(program.output.splitlines()[-1])
    assert told["event"] == "closed", program.tail()
    return told

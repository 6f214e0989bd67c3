"""offhook itself as a process of its own, as a user starts it, and the records it writes."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from tests.interop.program import POLL_S, Program
from tests.interop.tools import free_sip_port
from tests.kept_calls import kept_calls

Record = Mapping[str, Any]


def literal(host: str) -> str:
    """A host as URIs have it: an IPv6 address in brackets (RFC 3986 §3.2.2)."""
    return f"[{host}]" if ":" in host else host


def scripted(agent_id: str, **script: Any) -> dict[str, Any]:
    """An agent that plays a script: see ``offhook.bridge.scripted``."""
    return {"id": agent_id, "provider": "scripted", "options": {"script": json.dumps(script)}}


class OffhookServer:
    """``python -m offhook serve`` with a configuration of the test's own."""

    def __init__(self, program: Program, where: Path, host: str, port: int) -> None:
        self.program = program
        self.host = host
        self.port = port
        self.tls_port = 0
        self.recordings = where / "data" / "recordings"

    @classmethod
    async def start(
        cls,
        where: Path,
        *,
        agents: Sequence[Mapping[str, Any]] = (),
        host: str = "127.0.0.1",
        namespace: str | None = None,
        **settings: Any,
    ) -> OffhookServer:
        """Each of ``agents`` answers the number of its own ``id``; without any, the demo agent answers all."""
        config: dict[str, Any] = {"agents": list(agents), **settings}
        if agents:
            config["numbers"] = [{"user": agent["id"], "agent": agent["id"]} for agent in agents]
        (where / "config.json").write_text(json.dumps(config))
        port = free_sip_port(host) if namespace is None else 5060
        program = await Program.start(
            *(sys.executable, "-m", "offhook", "serve", "--config", where / "config.json"),
            *("--host", host, "--port", str(port), "--data", where / "data", "--show-speech"),
            cwd=where,
            namespace=namespace,
        )
        async with program.stopped_on_failure():
            await program.says("offhook listens on", timeout_s=30)
        return cls(program, where, host, port)

    def uri(self, user: str = "demo", transport: str = "udp") -> str:
        port = self.tls_port if transport == "tls" else self.port
        return f"sip:{user}@{literal(self.host)}:{port};transport={transport}"

    async def trace(self, record: Record) -> str:
        """What ``offhook trace`` shows of a call."""
        folder = self.recordings.parent
        program = await Program.start(
            *(sys.executable, "-m", "offhook", "trace", record["call_id"], "--data", str(folder)), cwd=folder
        )
        assert await program.ends(10) == 0, program.tail()
        return program.output

    def udp_sockets(self) -> int:
        """How many it has open: one or two for SIP, two for each leg's media."""
        return len(psutil.Process(self.program.pid).net_connections("udp"))

    def records(self) -> list[Record]:
        """Every call's record, oldest first."""
        return kept_calls(self.recordings.parent)

    async def ended_call(self, timeout_s: float = 10.0) -> Record:
        """Wait for the end of its only call."""
        [record] = await self.ended_calls(1, timeout_s)
        return record

    async def ended_calls(self, count: int, timeout_s: float = 10.0) -> list[Record]:
        """Wait until ``count`` calls have come and all of them have ended."""
        records: list[Record] = []
        for _ in range(round(timeout_s / POLL_S)):
            records = self.records()
            if len(records) >= count and all(record["phase"] == "ended" for record in records):
                assert len(records) == count, f"{len(records)} calls came, not {count}"
                return records
            await asyncio.sleep(POLL_S)
        ended = sum(record["phase"] == "ended" for record in records)
        raise AssertionError(f"{ended} of {len(records)} calls ended in {timeout_s:g} s:\n{self.program.tail()}")


def events(record: Record, kind: str) -> list[Record]:
    """The events of one kind, oldest first."""
    return [event for event in record["events"] if event["type"] == kind]


def said(record: Record, speaker: str) -> list[str]:
    """What ``caller`` or ``agent`` said, turn by turn, in lower case."""
    return [turn["text"].lower() for turn in record["transcript"] if turn["speaker"] == speaker]


def described_directions(trace: str) -> list[str]:
    """The direction in each session description that we sent."""
    sent = [part for part in re.split(r"^── \d+: ", trace, flags=re.MULTILINE) if re.match(r"\S+ s, sent", part)]
    return [
        one for part in sent for one in re.findall(r"^a=(sendrecv|sendonly|recvonly|inactive)$", part, re.MULTILINE)
    ]

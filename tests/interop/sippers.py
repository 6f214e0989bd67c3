"""SIPp as a client or a server, for the signalling; the media is an ``RtpPhone``'s, whose port goes into the SDP."""

from __future__ import annotations

import asyncio
import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tests.interop.program import POLL_S, Program
from tests.interop.tools import free_sip_port, needs

SCENARIOS = Path(__file__).parent / "sipp"
_TRANSPORTS = {
    "udp": ("-t", "u1"),
    # by default SIPp counts a call as failed when the other side closes the connection after the last message
    "tcp": ("-t", "t1", "-max_reconnect", "2", "-reconnect_close", "false"),
}
_ENTRY = re.compile(r"^-{40,} (\S+ \S+)\n\w+ message (sent|received) .*:\n\n?", re.MULTILINE)
DISCARD_PORT = 9


@dataclass(frozen=True, kw_only=True, slots=True)
class SippMessage:
    """One message of SIPp's log. ``at`` is Unix time in seconds."""

    at: float
    sent: bool
    text: str

    @property
    def start_line(self) -> str:
        return self.text.partition("\n")[0].strip()


@dataclass(frozen=True, kw_only=True, slots=True)
class SippResult:
    """``exit_code`` 0: every call went as the scenario says."""

    exit_code: int
    successful: int
    failed: int
    retransmissions: int
    messages: tuple[SippMessage, ...]
    errors: str

    def first(self, start: str, *, sent: bool) -> SippMessage:
        """The first message sent, or received, whose start line begins with ``start``."""
        for message in self.messages:
            if message.sent is sent and message.start_line.startswith(start):
                return message
        lines = "\n".join(f"{'->' if one.sent else '<-'} {one.start_line}" for one in self.messages)
        raise AssertionError(f"no {start!r} was {'sent' if sent else 'received'}:\n{lines}\n{self.errors}")

    def assert_all_went_well(self, calls: int = 1) -> None:
        lines = "\n".join(f"{'->' if one.sent else '<-'} {one.start_line}" for one in self.messages)
        assert (self.exit_code, self.successful, self.failed) == (0, calls, 0), f"{self.errors}\n{lines}"


class SippRun:
    """SIPp while it runs."""

    def __init__(self, program: Program, where: Path, host: str, port: int) -> None:
        self.program = program
        self.host = host
        self.port = port
        self._where = where

    @classmethod
    async def start(
        cls,
        where: Path,
        scenario: str,
        *,
        to: tuple[str, int] | None = None,
        user: str = "demo",
        transport: str = "udp",
        calls: int = 1,
        rate: float = 10,
        stay_ms: int = 1000,
        audio_port: int = DISCARD_PORT,
        host: str = "127.0.0.1",
        timeout_s: int = 40,
        keys: Mapping[str, str] | None = None,
        namespace: str | None = None,
    ) -> SippRun:
        """``to`` None: wait for calls. ``stay_ms``: the scenario's pause. ``keys``: more [keywords] of it.

        They are filled in here: SIPp's own ``-key`` cannot stand for the code of a response.
        """
        needs("sipp")
        port = free_sip_port(host) if namespace is None else 5062
        target = [] if to is None else [f"[{to[0]}]:{to[1]}" if ":" in to[0] else f"{to[0]}:{to[1]}"]
        chosen = {"audio_port": str(audio_port), **(keys or {})}
        steps = (SCENARIOS / f"{scenario}.xml").read_text()
        for name, value in chosen.items():
            steps = steps.replace(f"[{name}]", value)
        (where / f"{scenario}.xml").write_text(steps)
        arguments = [
            *("sipp", *target, "-s", user),
            *("-sf", str(where / f"{scenario}.xml")),
            *("-i", host, "-mi", host, "-p", str(port), *_TRANSPORTS[transport], "-m", str(calls), "-r", str(rate)),
            *("-d", str(stay_ms), "-timeout", f"{timeout_s}s", "-timeout_error", "-nostdin"),
            *("-trace_msg", "-message_file", str(where / "messages.log")),
            *("-trace_err", "-error_file", str(where / "errors.log")),
            *("-trace_stat", "-stf", str(where / "statistics.csv"), "-fd", "1"),
        ]
        program = await Program.start(*arguments, cwd=where, namespace=namespace)
        if to is None:
            async with program.stopped_on_failure():
                await program.listens(transport, port)
        return cls(program, where, host, port)

    async def result(self, timeout_s: float = 45) -> SippResult:
        """Wait until all its calls are done."""
        exit_code = await self.program.ends(timeout_s)
        counts = self._statistics()
        return SippResult(
            exit_code=exit_code,
            successful=int(counts.get("SuccessfulCall(C)", 0)),
            failed=int(counts.get("FailedCall(C)", 0)),
            retransmissions=int(counts.get("Retransmissions(C)", 0)),
            messages=self.messages(),
            errors=self._text("errors.log"),
        )

    def messages(self) -> tuple[SippMessage, ...]:
        """What it sent and received so far."""
        parts = _ENTRY.split(self._text("messages.log"))[1:]
        return tuple(
            SippMessage(at=datetime.fromisoformat(at).timestamp(), sent=way == "sent", text=text)
            for at, way, text in zip(*[iter(parts)] * 3, strict=True)
        )

    async def message(self, start: str, *, sent: bool, timeout_s: float = 10.0, number: int = 1) -> SippMessage:
        """Wait for the first (second…) message sent, or received, whose start line begins with ``start``."""
        for _ in range(round(timeout_s / POLL_S)):
            found = [one for one in self.messages() if one.sent is sent and one.start_line.startswith(start)]
            if len(found) >= number:
                return found[number - 1]
            await asyncio.sleep(POLL_S)
        raise AssertionError(f"no {start!r} in {timeout_s:g} s, only {[one.start_line for one in self.messages()]}")

    def _statistics(self) -> Mapping[str, str]:
        rows = list(csv.DictReader(self._text("statistics.csv").splitlines(), delimiter=";"))
        return rows[-1] if rows else {}

    def _text(self, name: str) -> str:
        path = self._where / name
        return path.read_text("utf-8", "replace") if path.exists() else ""

"""Whom calls of ours reach: one SIPp for many calls, which does what the last digits of the number say (callee.xml)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path

from tests.interop.program import POLL_S
from tests.interop.sippers import DISCARD_PORT, SippMessage, SippRun

MANY = 10_000
"""More calls than come: it ends with its test."""

ENDS_AFTER_S = 600

LAST_DIGITS = "sip:[^@]*([0-9]{3})@"
DIGITS_BEFORE_THEM = "sip:[^@]*([0-9]{3})[0-9]{3}@"
"""For one of two that get the same number and do different things."""

_CALL_ID = re.compile(r"^(?:Call-ID|i):\s*(\S+)", re.MULTILINE | re.IGNORECASE)


class Callee:
    """Made by ``Callee.start``. ``hesitates_ms``: the pause before it refuses, or hangs up."""

    def __init__(self, run: SippRun) -> None:
        self._run = run
        self.port = run.port

    @classmethod
    async def start(
        cls, where: Path, *, audio_port: int = DISCARD_PORT, hesitates_ms: int = 300, number: str = LAST_DIGITS
    ) -> Callee:
        run = await SippRun.start(
            where,
            "callee",
            calls=MANY,
            stay_ms=hesitates_ms,
            audio_port=audio_port,
            timeout_s=ENDS_AFTER_S,
            keys={"number": number},
        )
        return cls(run)

    @property
    def uri(self) -> str:
        """As a gateway's target."""
        return f"sip:127.0.0.1:{self.port}"

    def gateway(self, trunk_id: str = "line", **more: object) -> dict[str, object]:
        """A trunk that leads here, as config.json has it."""
        return {"id": trunk_id, "kind": "gateway", "targets": [self.uri], **more}

    async def close(self) -> None:
        await self._run.program.stop()

    def messages(self) -> tuple[SippMessage, ...]:
        return self._run.messages()

    def got(self, method: str, number: str = "") -> list[SippMessage]:
        """Requests that came, each Call-ID once: retransmissions are the same request."""
        found: dict[str, SippMessage] = {}
        for message in self.messages():
            if not message.sent and message.start_line.startswith(method) and number in message.start_line:
                found.setdefault(sip_call_id(message), message)
        return list(found.values())

    def dialogs(self, number: str) -> Mapping[str, list[str]]:
        """Of each call to ``number``: what went, ``>`` received and ``<`` sent, by method or status."""
        found: dict[str, list[str]] = {sip_call_id(message): [] for message in self.got("INVITE", number)}
        for message in self.messages():
            if (at := sip_call_id(message)) in found:
                found[at].append(("<" if message.sent else ">") + _kind(message))
        return found

    async def gets(self, method: str, number: str = "", *, count: int = 1, timeout_s: float = 10.0) -> SippMessage:
        """Wait for the ``count``-th such request."""
        for _ in range(round(timeout_s / POLL_S)):
            if len(found := self.got(method, number)) >= count:
                return found[count - 1]
            await asyncio.sleep(POLL_S)
        seen = [message.start_line for message in self.messages()]
        raise AssertionError(f"no {method} {number} ({count}) in {timeout_s:g} s: {seen}")


def sip_call_id(message: SippMessage) -> str:
    found = _CALL_ID.search(message.text)
    assert found is not None, message.text
    return found[1]


def header(message: SippMessage, name: str) -> str:
    """The value of a header; "" where there is none."""
    found = re.search(rf"^{name}:\s*(.*?)\s*$", message.text, re.MULTILINE | re.IGNORECASE)
    return found[1] if found else ""


def _kind(message: SippMessage) -> str:
    first, second, *_ = message.start_line.split(" ")
    return second if first == "SIP/2.0" else first

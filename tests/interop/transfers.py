"""A transfer as the tests tell it: who plays whom, which tone is whose, and who hears whom when it is over.

Each party has a tone of its own. The agent has two: one that it says when it is told how the transfer ended, and one
with which it answers whoever speaks then. So what the caller hears tells whether the agent hears him, too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tests.interop.offhook_server import OffhookServer, Record, events, scripted
from tests.interop.program import POLL_S
from tests.interop.rtp_phone import RtpPhone
from tests.interop.sippers import SippRun
from tests.interop.speech import RATE_HZ, Samples, tone, tone_db
from tests.interop.trunks import Start

Hearing = frozenset[tuple[str, str]]
"""Who hears whom."""

GREETING_HZ, BACK_HZ, ANSWER_HZ, CALLER_HZ, TARGET_HZ, BRIEFING_HZ = 400, 700, 1100, 1900, 1500, 2300
HEARD_DB = -30
WINDOW = RATE_HZ // 10
GREETING_MS = 400
BACK_MS, CALLER_MS, BRIEFING_MS = 500, 400, 600
SPEAKS_AFTER_S = 0.7
"""From the first that is heard after the transfer: the agent has said its part by then."""

STAY_MS = 3000
"""From the outcome until the caller hangs up: the agent speaks, the caller speaks, half a second passes, it answers."""

NOBODYS_PORT = 1
"""tcpmux: a free port would be another test's server's a moment later."""

NO_ANSWER_S = 1.0
SETTLED_S = 0.1
"""After the outcome: packets that were under way."""

ALONE: Hearing = frozenset()
BACK: Hearing = frozenset({("caller", "agent"), ("agent", "caller")})
TOGETHER: Hearing = frozenset({("caller", "target"), ("target", "caller")})


@dataclass(frozen=True, kw_only=True, slots=True)
class Role:
    """A scenario of SIPp for one party. ``stay_ms`` is its pause, ``outcome`` its key of that name."""

    scenario: str
    stay_ms: int = STAY_MS
    outcome: str = ""

    @property
    def options(self) -> dict[str, Any]:
        return {"stay_ms": self.stay_ms, "keys": {"outcome": self.outcome} if self.outcome else None}


@dataclass(slots=True)
class Transfer:
    """One that was played to its end. ``sockets``: how many the server had before any call."""

    server: OffhookServer
    record: Record
    caller: RtpPhone
    target: RtpPhone
    sockets: int

    @property
    def outcome(self) -> Record:
        """The one fact that ends the one transfer."""
        (_started,) = events(self.record, "TransferStarted")
        (ended,) = events(self.record, "TransferEnded")
        return ended

    @property
    def briefing_was_private(self) -> bool:
        """The operator heard it, the caller did not."""
        return loudest_db(self.target.heard(), BRIEFING_HZ) > HEARD_DB > loudest_db(self.caller.heard(), BRIEFING_HZ)

    @property
    def nobody_is_left(self) -> bool:
        """No leg's port for media is open, and SIPp, which knows when a call was not ended, was content."""
        return self.server.udp_sockets() == self.sockets

    def hearing(self) -> Hearing:
        """Who heard whom after its end."""
        now = time.monotonic()
        ended = now - time.time() + self.outcome["at"] + SETTLED_S
        caller, target = (phone.heard_between(ended, now) for phone in (self.caller, self.target))
        found = {
            ("caller", "agent"): max(loudest_db(caller, hz) for hz in (GREETING_HZ, BACK_HZ)),
            ("agent", "caller"): loudest_db(caller, ANSWER_HZ),
            ("caller", "target"): loudest_db(caller, TARGET_HZ),
            ("target", "caller"): loudest_db(target, CALLER_HZ),
            ("target", "agent"): max(loudest_db(target, hz) for hz in (GREETING_HZ, BACK_HZ, ANSWER_HZ)),
        }
        return frozenset(pair for pair, level_db in found.items() if level_db > HEARD_DB)


def loudest_db(heard: Samples, hz: float) -> float:
    """How loud a tone was where it was loudest, in windows of 100 ms."""
    windows = np.array_split(heard, max(1, len(heard) // WINDOW))
    return max(tone_db(window, hz) for window in windows)


def agent(destination: Mapping[str, Any], *, after_ms: int = 200) -> dict[str, Any]:
    """Greets, transfers its caller, and when it is told the outcome says so and answers who speaks."""
    steps = [
        {"on": "ready", "do": [{"do": "speak", "tone_hz": GREETING_HZ, "ms": GREETING_MS}]},
        {
            "on": "ready",
            "after_ms": after_ms,
            "do": [{"do": "use_tool", "name": "transfer_call", "arguments": {"destination": "sales"}}],
        },
        {"on": "tool_result", "do": [{"do": "speak", "tone_hz": BACK_HZ, "ms": BACK_MS}]},
        {"on": "speech_stopped", "do": [{"do": "speak", "tone_hz": ANSWER_HZ, "ms": 400}]},
    ]
    return scripted("200", vad=True, steps=steps) | {"destinations": [destination]}


BRIEFER = scripted("briefer", greeting_tone_hz=BRIEFING_HZ, greeting_ms=BRIEFING_MS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """Plays transfers with SIPp and ``RtpPhone``s: see ``play``."""

    offhook: Start
    sipp: Start
    caller: RtpPhone
    target: RtpPhone

    async def play(
        self,
        mode: str,
        *,
        caller: Role,
        target: Role | None,
        presses: str = "",
        target_says_ms: int = 30_000,
        **destination: Any,
    ) -> Transfer:
        """``target`` None: nobody is there. ``presses``: keys of the target's once it heard the briefing.

        ``destination``: what differs from the usual one.
        """
        runs: list[SippRun] = []
        uri = f"sip:sales@127.0.0.1:{NOBODYS_PORT};transport=tcp"
        if target is not None:
            runs.append(await self.sipp(target.scenario, audio_port=self.target.port, **target.options))
            uri = f"sip:sales@127.0.0.1:{runs[0].port}"
        wanted = {"name": "sales", "target": uri, "mode": mode, "no_answer_s": NO_ANSWER_S} | destination
        server: OffhookServer = await self.offhook(agents=[agent(wanted), BRIEFER])
        sockets = server.udp_sockets()
        to, port = (server.host, server.port), self.caller.port
        runs.append(await self.sipp(caller.scenario, to=to, user="200", audio_port=port, **caller.options))
        if presses:
            await self.target.hears_ms(BRIEFING_MS)
            await self.target.dial(presses)
        self.target.begin_to_say(tone(TARGET_HZ, target_says_ms))
        await self._somebody_else_speaks(runs[-1])
        await asyncio.sleep(SPEAKS_AFTER_S)
        self.caller.begin_to_say(tone(CALLER_HZ, CALLER_MS))
        for each in runs:
            (await each.result()).assert_all_went_well()
        return Transfer(
            server=server, record=await server.ended_call(), caller=self.caller, target=self.target, sockets=sockets
        )

    async def _somebody_else_speaks(self, run: SippRun) -> None:
        """Wait until the caller hears the agent that is back, or the target; or until he has hung up."""
        while run.program.running:
            now = time.monotonic()
            lately = self.caller.heard_between(now - 0.2, now)
            if max(loudest_db(lately, BACK_HZ), loudest_db(lately, TARGET_HZ)) > HEARD_DB:
                return
            await asyncio.sleep(POLL_S)

"""The offline agent hands its caller over: asked in words, told in words how it went, and it briefs in words."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.interop.offhook_server import OffhookServer, Record, events, said
from tests.interop.program import POLL_S
from tests.interop.rtp_phone import RtpPhone
from tests.interop.sippers import SippRun
from tests.interop.speech import Samples, flite_wav, read_wav, tone
from tests.interop.transfers import CALLER_HZ, HEARD_DB, TARGET_HZ, Role, loudest_db
from tests.interop.trunks import Start

GREETING_MS = 3000
"""When the caller speaks: the agent has said its "Welcome." by then."""

BRIEFING_MS = 8500
"""From the operator's answer until the briefing, a sentence and the keys, is over."""

DECISION_MS = 3000
"""Of silence after the operator's words, until they are understood and done."""

STAY_MS = 16_000
TONE_MS = 30_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What came of it: the record, and what both people heard."""

    record: Record
    caller: RtpPhone
    target: RtpPhone

    @property
    def outcome(self) -> tuple[str, str]:
        (ended,) = events(self.record, "TransferEnded")
        return ended["mode"], ended["outcome"]

    @property
    def talk_together(self) -> bool:
        target_heard = loudest_db(self.caller.heard(), TARGET_HZ) > HEARD_DB
        return target_heard and loudest_db(self.target.heard(), CALLER_HZ) > HEARD_DB


@dataclass(frozen=True, kw_only=True, slots=True)
class Desk:
    """``ask``: the caller says ``words`` to an agent that may connect him to sales, who are ``target``."""

    offhook: Start
    sipp: Start
    caller: RtpPhone
    target: RtpPhone
    folder: Path

    async def ask(
        self, words: str, target: Role, *, operator_says: str = "", stay_ms: int = STAY_MS, **destination: Any
    ) -> Asked:
        sales = await self.sipp(target.scenario, audio_port=self.target.port, **target.options)
        uri = f"sip:sales@127.0.0.1:{sales.port}"
        wanted = {"name": "sales", "target": uri, "mode": "bridge"} | destination
        agent = {"id": "200", "provider": "local", "greeting": "Welcome.", "destinations": [wanted]}
        server: OffhookServer = await self.offhook(agents=[agent])
        self.caller.begin_to_say(await self._spoken("rms", words, GREETING_MS))
        to, port = (server.host, server.port), self.caller.port
        call = await self.sipp("uac", to=to, user="200", audio_port=port, stay_ms=stay_ms)
        if operator_says:
            await self.target.hears_ms(BRIEFING_MS, timeout_s=20)
            self.target.begin_to_say(await self._spoken("rms", operator_says, 0, DECISION_MS))
        self.target.begin_to_say(tone(TARGET_HZ, TONE_MS))
        await self._target_is_heard(call)
        self.caller.begin_to_say(tone(CALLER_HZ, TONE_MS))
        (await call.result()).assert_all_went_well()
        return Asked(record=await server.ended_call(), caller=self.caller, target=self.target)

    async def _spoken(self, voice: str, words: str, before_ms: int, after_ms: int = 0) -> Samples:
        path = self.folder / f"{words}.wav"
        return read_wav(await flite_wav(path, voice, words, before_ms=before_ms, after_ms=after_ms))

    async def _target_is_heard(self, call: SippRun) -> None:
        """By the caller; or he has hung up."""
        while call.program.running:
            now = time.monotonic()
            if loudest_db(self.caller.heard_between(now - 0.5, now), TARGET_HZ) > HEARD_DB:
                return
            await asyncio.sleep(POLL_S)


@pytest.fixture
async def desk(offhook: Start, sipp: Start, rtp_phone: Callable[..., RtpPhone], tmp_path: Path) -> Desk:
    return Desk(offhook=offhook, sipp=sipp, caller=rtp_phone(), target=rtp_phone(), folder=tmp_path)


@pytest.mark.parametrize("words", ["transfer me please", "I want to talk to sales"])
async def test_a_caller_who_asks_for_somebody_talks_with_him(desk: Desk, words: str) -> None:
    one = await desk.ask(words, Role(scenario="uas"))
    assert said(one.record, "caller")[0] == words.lower()
    assert said(one.record, "agent") == ["welcome.", "one moment, i connect you to sales."]
    assert one.outcome == ("bridge", "connected")
    assert one.talk_together


async def test_a_caller_who_cannot_be_connected_is_told_why(desk: Desk) -> None:
    one = await desk.ask("transfer me please", Role(scenario="uas_refuses", outcome="486 Busy Here"))
    assert one.outcome == ("bridge", "busy")
    assert said(one.record, "agent")[:3] == [
        "welcome.",
        "one moment, i connect you to sales.",
        "sorry, i could not connect you to sales: the line is busy. what else can i do for you?",
    ]
    assert not one.talk_together


@pytest.mark.parametrize(("answer", "outcome"), [("yes please", "connected"), ("not now", "refused")])
async def test_an_operator_takes_the_caller_or_declines_in_words(desk: Desk, answer: str, outcome: str) -> None:
    one = await desk.ask(
        "transfer me please",
        Role(scenario="uas"),
        operator_says=answer,
        stay_ms=2 * STAY_MS,
        mode="warm",
        briefing="A caller is waiting.",
    )
    assert said(one.record, "operator") == [answer]
    assert one.outcome == ("warm", outcome)
    assert one.talk_together is (outcome == "connected")

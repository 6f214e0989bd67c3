"""Transfers where 20 % of the SIP packets are lost, each way: the caller gets through, and nothing is left behind."""

from __future__ import annotations

import asyncio
import random

import pytest
from tests.call.exchange import CALLER, OPEN, WILLING, target_phone, transferring
from tests.call.phones import phone
from tests.soak.test_loss import LONGEST_CALL_S, lossy_line

from offhook.call.dialling import PlaceCall
from offhook.model.call_events import CallEnded, TransferEnded, TransferMode
from offhook.sip.uri import SipUri


async def transfer(mode: TransferMode, number: int, seed: int) -> None:
    """``number`` callers at once. Whom we call ourselves is behind a bad line as well."""
    async with target_phone() as target, lossy_line(target, seed) as to_target:
        there = to_target.front if mode in ("bridge", "warm") else target.address
        agent = transferring(f"sip:target@{there.host}:{there.port}", mode)
        async with (
            phone(agent, trunks=(OPEN,)) as server,
            phone(trunks=(WILLING,)) as caller,
            lossy_line(server, seed) as line,
        ):
            to_us = SipUri.parse(f"sip:demo@{line.front.host}:{line.front.port}")
            command = PlaceCall(target=to_us, agent=CALLER, trunk=WILLING)
            for _ in range(number):
                caller.phone.manager.place(command)
            async with asyncio.timeout(LONGEST_CALL_S):
                while len(server.facts.of(TransferEnded)) < number:  # noqa: ASYNC110 as patient as a bad line asks for
                    await asyncio.sleep(0.05)
                for side in (caller, server, target):
                    for call in tuple(side.phone.manager.calls.values()):
                        side.hang_up(call)
                        await side.phone.manager.wait(call)
            assert [ended.outcome for ended in server.facts.of(TransferEnded)] == ["connected"] * number
            assert len(server.facts.of(CallEnded)) == number
            assert line.lost > line.carried / 10
            for side in (caller, server, target):
                assert side.left_over["calls"] == side.left_over["ports"] == 0


@pytest.mark.parametrize("mode", ["blind", "attended", "bridge"])
async def test_two_transfers_over_a_bad_line(mode: TransferMode) -> None:
    await transfer(mode, 2, seed=7)


@pytest.mark.soak
@pytest.mark.parametrize("mode", ["blind", "attended", "bridge"])
async def test_thirty_transfers_over_a_bad_line(mode: TransferMode) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    await transfer(mode, 30, seed=seed)

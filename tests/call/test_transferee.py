"""Blind transfers of callers whose PBX has manners of its own: the outcome is what it told, and no leg is left."""

from __future__ import annotations

import pytest
from tests.call.exchange import OPEN, outcome, transferring
from tests.call.phones import phone
from tests.call.transferee import Accept, Bye, Pause, Pbx, Step, Tell

OPERATOR = "sip:operator@127.0.0.1:9"


@pytest.mark.parametrize(
    ("steps", "result", "status"),
    [
        ((Accept(), Tell(100), Tell(180), Tell(200, last=True), Bye()), "connected", 200),
        ((Accept(status=200), Tell(200, last=True)), "connected", 200),
        ((Accept(), Tell(100), Bye(), Pause(0.2), Tell(180), Tell(200, last=True)), "connected", 200),
        ((Tell(200, last=True), Accept()), "connected", 200),
        ((Accept(), Tell(200)), "connected", 200),
        ((Accept(), Tell(180), Tell(486, last=True)), "busy", 486),
        ((Accept(), Tell(603)), "refused", 603),
        ((Accept(status=603),), "refused", 603),
        ((Accept(status=401),), "refused", 401),
        ((Accept(status=481),), "failed", 481),
        ((Accept(status=500),), "failed", 500),
        ((Accept(), Tell(200, last=True), Tell(486, last=True), Tell(200)), "connected", 200),
        ((Tell(486, last=True), Accept(), Tell(486, last=True)), "busy", 486),
    ],
)
async def test_however_a_pbx_tells_it_the_outcome_is_known(steps: tuple[Step, ...], result: str, status: int) -> None:
    async with (
        phone(transferring(OPERATOR, "blind", fallback=False), trunks=(OPEN,)) as server,
        Pbx(*steps) as pbx,
    ):
        await pbx.call(server.address)
        ended = await outcome(server)
        assert (ended.outcome, ended.sip_code) == (result, status)
        assert f"Refer-To: <{OPERATOR}>" in pbx.refer
        if result == "connected":
            await server.quiet()
        server_answers = {status for method, status in pbx.answered if method == "NOTIFY"}
        assert server_answers <= {200, 481}  # after the last one there is no subscription
        for call in tuple(server.phone.manager.calls.values()):
            server.hang_up(call)
        await server.quiet()

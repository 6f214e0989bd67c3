"""Calls through a network that loses packets, both ways."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
from tests.interop.network import impaired_network
from tests.interop.offhook_server import OffhookServer
from tests.interop.sippers import SippRun

CALLS = 200
SIP_TIMEOUT_S = 64
"""2 * 64*T1: what RFC 3261 leaves of a transaction is gone by then."""

QUIET = {"id": "quiet", "provider": "scripted", "options": {"script": json.dumps({})}}


@pytest.mark.parametrize("loss_percent", [20])
async def test_every_call_is_set_up_and_ended_on_both_sides(
    offhook: Callable[..., Awaitable[OffhookServer]],
    sipp: Callable[..., Awaitable[SippRun]],
    loss_percent: int,
) -> None:
    # Delay without jitter: SIPp fails a call whose 200 overtook the 180.
    async with impaired_network(loss_percent=loss_percent, delay_ms=10) as network:
        server = await offhook(agents=[QUIET], namespace=network.server, host=network.server_host)
        run = await sipp(
            "uac",
            to=(server.host, server.port),
            user="quiet",
            calls=CALLS,
            rate=20,
            stay_ms=1000,
            host=network.client_host,
            namespace=network.client,
            timeout_s=150,
        )
        result = await run.result(timeout_s=160)
        result.assert_all_went_well(CALLS)
        assert result.retransmissions > CALLS * loss_percent // 100  # the network was as bad as it should be
        records = await server.ended_calls(CALLS, timeout_s=SIP_TIMEOUT_S)
        endings = Counter((record["phase"], record["ended_by"], record["cause"]) for record in records)
        assert endings == {("ended", "caller", "hangup"): CALLS}

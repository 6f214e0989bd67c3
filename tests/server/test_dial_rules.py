"""What config.json says of calls of ours, in a whole server that is asked by HTTP, and after a reload."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from tests.call.phones import SILENT, phone

from offhook.call.destination_policy import DestinationPolicy
from offhook.config import DiallingSettings
from offhook.config.checking import convert
from offhook.model.call_events import CallArrived
from offhook.server.dial_rules import dial_rules
from offhook.server.service import Server


def test_every_key_becomes_a_rule() -> None:
    dialling = DiallingSettings(
        allow=("+49",),
        deny=("+4930666",),
        permit=("premium",),
        max_calls=3,
        calls_per_min=7,
        max_call_s=90,
        hours="08:00-20:30",
        time_zone="Europe/Berlin",
    )
    rules = dial_rules(dialling)
    assert rules.policy == DestinationPolicy(allow=("+49",), deny=("+4930666",), permit=frozenset({"premium"}))
    assert (rules.max_calls, rules.calls_per_min, rules.max_call_s) == (3, 7, 90)
    assert str(rules.hours) == "08:00-20:30 Europe/Berlin"


@pytest.mark.parametrize("given", [{}, {"hours": ""}])
def test_by_default_ten_calls_at_once_for_an_hour_at_any_time(given: dict[str, Any]) -> None:
    rules = dial_rules(DiallingSettings(**given))
    assert (rules.max_calls, rules.max_call_s, rules.hours) == (10, 3600, None)
    assert not rules.policy.permit


def config(folder: Path, **dialling: Any) -> dict[str, Any]:
    return {
        "sip": {"host": "127.0.0.1", "port": 0, "transports": ["udp"], "trace": False},
        "http": {"host": "127.0.0.1", "port": 0},
        "rtp": {"port_min": 28000, "port_max": 29998},
        "data_dir": str(folder),
        "agents": [{"id": "demo", "provider": "scripted", "record": False, "options": {"script": "{}"}}],
        "dialling": dialling,
    }


async def test_of_twenty_requests_at_once_as_many_are_calls_as_may_be_and_a_reload_changes_whom(tmp_path: Path) -> None:
    server = Server(convert(config(tmp_path, max_calls=3)))
    try:
        await server.start()
        ((host, port),) = server.http_addresses
        async with phone(SILENT) as callee, aiohttp.ClientSession(f"http://{host}:{port}") as client:

            async def ask(user: str) -> tuple[int, Any]:
                target = f"sip:{user}@{callee.address.host}:{callee.address.port}"
                body = {"target": target, "task": "Say hello", "machines": {"detect": False}}
                async with client.post("/api/calls", json=body) as answer:
                    return answer.status, await answer.json()

            answers = await asyncio.gather(*(ask("+4930123456") for _ in range(20)))
            assert sorted(status for status, _ in answers) == [201] * 3 + [429] * 17
            await callee.facts.until(CallArrived, 3)
            after = convert(config(tmp_path, deny=["+4930"], max_calls=5))
            await server.reload(msgspec.structs.replace(server.settings, dialling=after.dialling))
            status, told = await ask("+4930123456")
            assert (status, told["code"], told["field"]) == (403, "FORBIDDEN", "target")
            assert "dialling.deny" in told["hint"]
            assert (await ask("+4940123456"))[0] == 201
            await callee.facts.until(CallArrived, 4)
    finally:
        await server.close()
    assert len(callee.facts.of(CallArrived)) == 4

"""What config.json says of calls of ours, in a whole server that is asked by HTTP, and after a reload."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.api.served import Said
from tests.call.phones import SILENT, phone
from tests.server.asking import serving, wanted

from offhook.call.destination_policy import DestinationPolicy
from offhook.config import DiallingSettings
from offhook.model.call_events import CallArrived
from offhook.server.dial_rules import dial_rules


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


async def test_of_twenty_requests_at_once_as_many_are_calls_as_may_be_and_a_reload_changes_whom(tmp_path: Path) -> None:
    async with serving(tmp_path, dialling={"max_calls": 3}) as asking, phone(SILENT) as callee:

        async def ask(number: str) -> Said:
            return await asking.ask("POST", "/api/calls", wanted(callee, number))

        answers = await asyncio.gather(*(ask("+4930123456") for _ in range(20)))
        assert sorted(said.status for said in answers) == [201] * 3 + [429] * 17
        await callee.facts.until(CallArrived, 3)
        after = DiallingSettings(deny=("+4930",), max_calls=5)
        await asking.server.reload(msgspec.structs.replace(asking.server.settings, dialling=after))
        said = await ask("+4930123456")
        assert (said.status, said.code, said.json["field"]) == (403, "FORBIDDEN", "target")
        assert "dialling.deny" in said.json["hint"]
        assert (await ask("+4940123456")).status == 201
        await callee.facts.until(CallArrived, 4)
    assert len(callee.facts.of(CallArrived)) == 4

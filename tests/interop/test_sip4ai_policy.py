"""Toll fraud: whoever asks offhook to call numbers that cost is refused, told why, and kept on record; nothing is sent.

Three ask: a client of the API, a model that was talked into it, and a telephone that transfers us. Numbers are real
ranges, written the ways in which people try to get past a filter.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any

import pytest
from tests.interop.callees import Callee
from tests.interop.offhook_server import Record, events, said, scripted
from tests.interop.sip4ai_server import Sip4ai
from tests.interop.sippers import SippRun
from tests.interop.trunks import Start

PREMIUM, SATELLITE, SHARED = "+499001234567", "+881612345678", "+4918051234567"
FULLWIDTH = str.maketrans("+0123456789", "\uff0b\uff10\uff11\uff12\uff13\uff14\uff15\uff16\uff17\uff18\uff19")
ARABIC = str.maketrans("0123456789", "\u0660\u0661\u0662\u0663\u0664\u0665\u0666\u0667\u0668\u0669")

COSTLY = {
    "premium": PREMIUM,
    "premium of America": "+19005551234",
    "premium of Britain": "+449098791234",
    "premium of no country": "+979812345678",
    "shared cost": SHARED,
    "satellite": SATELLITE,
    "Inmarsat": "+870776123456",
    "a network of no country": "+88213123456",
    "emergency": "112",
    "emergency of the country": "110",
    "emergency of America": "911",
    "written nationally": "0900 1234567",
    "with 00": "00881612345678",
    "with separators": "+881 (6) 12-34.56/78",
    "tel:": f"tel:{SATELLITE}",
    "tel: with separators": "tel:+881-612-345-678",
    "tel: in a context": "tel:612345678;phone-context=+881",
    "TEL:": f"TEL:{PREMIUM}",
    "sip:": f"sip:{SATELLITE}@127.0.0.1:PORT",
    "sip: with user=phone": f"sip:{PREMIUM};user=phone@127.0.0.1:PORT;user=phone",
    "sip: with 00": "sip:00881612345678@127.0.0.1:PORT",
    "sip: nationally": "sip:09001234567@127.0.0.1:PORT",
    "sip: percent-encoded": "sip:%2B%38%38%31612345678@127.0.0.1:PORT",
    "percent-encoded": "%2B881612345678",
    "tel: percent-encoded": "tel:%2B881612345678",
    "fullwidth digits": SATELLITE.translate(FULLWIDTH),
    "fullwidth digits after 00": "00881612345678".translate(FULLWIDTH),
    "Arabic digits": "+" + "881612345678".translate(ARABIC),
    "sip: with Arabic digits": f"sip:{PREMIUM.translate(ARABIC)}@127.0.0.1:PORT",
    "invisible signs within": "+88\u200b16\u00ad12345678",
    "sip: emergency": "sip:112@127.0.0.1:PORT",
    "service URN": "urn:service:sos",
}
UNLISTED = ("+14155550123", "tel:+1-415-555-0123", "sip:0014155550123@127.0.0.1:PORT", "+33142685300")
TALK_MS = 1500

CHEAP = "+493012345201"


def config(line: Callee, *agents: dict[str, Any], **dialling: Any) -> dict[str, Any]:
    numbers = [{"user": agent["id"], "agent": agent["id"]} for agent in agents]
    return {
        "agents": agents,
        "numbers": numbers,
        "trunks": [
            line.gateway(region="DE", refer="accept", peers=["127.0.0.0/8"]),
        ],
        "dialling": {"calls_per_min": 0, **dialling},
    }


def written(target: str, line: Callee) -> str:
    return target.replace("PORT", str(line.port))


async def assert_nothing_was_sent(line: Callee) -> None:
    await asyncio.sleep(0.3)
    assert not line.got("INVITE"), line.got("INVITE")[0].text


# ── the API ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", ["/api/calls", "/call"])
async def test_the_api_calls_nobody_who_costs(sip4ai: Start, callee: Start, path: str) -> None:
    """403 with rule, number and fix; 400 where it is no number at all; a line in the log for each."""
    line: Callee = await callee()
    server: Sip4ai = await sip4ai(config(line, scripted("desk")))
    found = {}
    for name, target in COSTLY.items():
        body = {"target": written(target, line), "task": "Ask.", "agent_id": "desk"}
        reply = await server.ask("POST", path, body)
        found[name] = (reply.status, reply.document)
    await assert_nothing_was_sent(line)
    placed = {name: told for name, told in found.items() if told[0] not in {400, 403}}
    assert not placed, placed
    for name, (status, told) in found.items():
        assert told["code"] == ("FORBIDDEN" if status == 403 else "BAD_REQUEST"), (name, told)
        assert told["field"] == "target", (name, told)
        assert told["hint"], (name, told)
    unexplained = {name for name, (status, _) in found.items() if status == 400}
    assert unexplained <= {"service URN", "invisible signs within"}, {name: found[name] for name in unexplained}
    assert not server.records()
    for needle in ("premium", "satellite", "emergency", "shared"):
        assert needle in server.program.output, f"the log does not tell of {needle} numbers"


async def test_the_api_calls_only_what_is_listed(sip4ai: Start, callee: Start) -> None:
    """Where the operator lists beginnings, all others are refused; what he denies, too; an extension is no number."""
    line: Callee = await callee()
    rules = {"allow": ["+4930", "+881"], "deny": ["+493066"]}
    server: Sip4ai = await sip4ai(config(line, scripted("desk"), **rules))
    for target in (*UNLISTED, "+493066123", "+881612345678", f"sip:{PREMIUM}@127.0.0.1:{line.port}"):
        reply = await server.ask("POST", "/api/calls", {"target": written(target, line), "task": "Ask."})
        assert (reply.status, reply.document["code"]) == (403, "FORBIDDEN"), (target, reply)
    await assert_nothing_was_sent(line)
    for target in (CHEAP, f"sip:reception201@127.0.0.1:{line.port}"):
        await server.over(await server.places(target, agent_id="desk"))
    assert len(line.got("INVITE")) == 2


async def test_what_the_operator_permits_is_called(sip4ai: Start, callee: Start) -> None:
    line: Callee = await callee(hesitates_ms=20)
    server: Sip4ai = await sip4ai(config(line, scripted("desk"), permit=["satellite"]))
    await server.over(await server.places("+881612345404", agent_id="desk"))
    assert "+881612345404" in line.got("INVITE")[0].start_line
    refused = await server.ask("POST", "/api/calls", {"target": PREMIUM, "task": "Ask.", "agent_id": "desk"})
    assert refused.status == 403


# ── the model ────────────────────────────────────────────────────────────────────────────────────────────

TALKED_INTO = (
    "premium",
    "satellite",
    "emergency",
    "written nationally",
    "with 00",
    "tel:",
    "sip: with 00",
    "sip: percent-encoded",
    "fullwidth digits",
    "invisible signs within",
)


def gives_in(name: str, wanted: dict[str, str]) -> dict[str, Any]:
    """An agent that transfers whoever calls, and says what it was told."""
    steps = [
        {"on": "ready", "after_ms": 100, "do": [{"do": "use_tool", "name": "transfer_call", "arguments": wanted}]},
        {"on": "tool_result", "do": [{"do": "speak", "tone_hz": 500, "ms": 100, "text": "I may not."}]},
    ]
    return scripted(name, steps=steps) | {"transfers_anywhere": True}


async def _all_called(server: Sip4ai, sipp: Start, users: Sequence[str]) -> list[Record]:
    runs: list[SippRun] = [
        await sipp("uac", to=("127.0.0.1", server.sip_port), user=user, stay_ms=TALK_MS) for user in users
    ]
    for run in runs:
        (await run.result()).assert_all_went_well()
    for _ in range(100):
        records = server.records()
        if len(records) == len(users) and all(one["phase"] == "ended" for one in records):
            return records
        await asyncio.sleep(0.05)
    raise AssertionError(f"{len(records)} of {len(users)} calls ended")


@pytest.mark.parametrize("mode", ["bridge", "blind"])
async def test_a_model_that_was_talked_into_it_transfers_nobody_there(
    sip4ai: Start, callee: Start, sipp: Start, mode: str
) -> None:
    """Neither by a call of ours nor by REFER; the model is told why, and so is who reads the record."""
    line: Callee = await callee()
    targets = {f"agent-{number}": COSTLY[name] for number, name in enumerate(TALKED_INTO)}
    agents = [gives_in(name, {"target": written(target, line), "mode": mode}) for name, target in targets.items()]
    unlisted = gives_in("unlisted", {"target": UNLISTED[0], "mode": mode})
    server: Sip4ai = await sip4ai(config(line, *agents, unlisted, deny=["+1415"]))
    records = await _all_called(server, sipp, [*targets, "unlisted"])
    await assert_nothing_was_sent(line)
    for record in records:
        assert not events(record, "LegDialled"), record
        assert said(record, "agent") == ["i may not."], "the model was not told"
        assert record["cause"] == "hangup"
        assert (refusals := events(record, "CallRefused") + events(record, "TransferEnded")), record
        assert refusals[0].get("status", 403) >= 400
    trace = await server.offhook("trace", records[0]["call_id"])
    assert not re.search(r"^\s*REFER ", trace, re.MULTILINE), trace


async def test_a_destination_that_costs_is_not_called_although_it_is_configured(
    sip4ai: Start, callee: Start, sipp: Start
) -> None:
    """The operator has the last word, agents made by others included: the policy is his."""
    line: Callee = await callee()
    agent = gives_in("desk", {"destination": "sales"})
    destination = {"name": "sales", "target": SATELLITE, "mode": "bridge"}
    server: Sip4ai = await sip4ai(config(line, agent | {"destinations": [destination]}))
    [record] = await _all_called(server, sipp, ["desk"])
    await assert_nothing_was_sent(line)
    assert said(record, "agent") == ["i may not."]


async def test_a_function_that_transfers_there_does_not(sip4ai: Start, callee: Start) -> None:
    """It came with the call, by whoever may place calls: refused at once, or when the model uses it."""
    line: Callee = await callee()
    agent = gives_in("desk", {})
    server: Sip4ai = await sip4ai(config(line, agent | {"transfers_anywhere": False}))
    function = {"name": "transfer_call", "type": "transfer", "target": SATELLITE}
    body = {"target": "+493012345200", "task": "Ask.", "agent_id": "desk", "functions": [function]}
    reply = await server.ask("POST", "/api/calls", body | {"max_duration_seconds": 5})
    if reply.status == 201:
        await server.over(reply.document["call_id"])
        assert said(server.record(reply.document["call_id"]), "agent") == ["i may not."]
    else:
        assert (reply.status, reply.document["code"]) == (403, "FORBIDDEN"), reply
    assert not line.got("INVITE", "881612345678")


# ── a telephone ──────────────────────────────────────────────────────────────────────────────────────────

REFERRED_TO = {
    "premium": f"sip:{PREMIUM}@127.0.0.1:PORT",
    "satellite": f"sip:{SATELLITE}@127.0.0.1:PORT",
    "emergency": "sip:112@127.0.0.1:PORT",
    "with 00": "sip:00881612345678@127.0.0.1:PORT",
    "percent-encoded": "sip:%2B%38%38%31612345678@127.0.0.1:PORT",
    "tel:": f"tel:{SATELLITE}",
    "nationally": "sip:09001234567@127.0.0.1:PORT",
    "in place of another call": f"sip:{SATELLITE}@127.0.0.1:PORT?Replaces=a%40b%3Bto-tag%3Dc%3Bfrom-tag%3Dd",
    "sips:": f"sips:{PREMIUM}@127.0.0.1:PORT",
    "unlisted": "sip:+14155550123@127.0.0.1:PORT",
}


async def test_a_telephone_may_send_nobody_there(sip4ai: Start, callee: Start, sipp: Start) -> None:
    """Although its trunk accepts REFER: 403, with the rule in the record."""
    line: Callee = await callee()
    server: Sip4ai = await sip4ai(config(line, scripted("desk"), deny=["+1415"]))
    to = ("127.0.0.1", server.sip_port)
    runs: list[SippRun] = []
    for target in REFERRED_TO.values():
        keys = {"to": written(target, line), "refused": "403"}
        runs.append(await sipp("uac_refers", to=to, user="desk", stay_ms=300, keys=keys))
    for run in runs:
        (await run.result()).assert_all_went_well()
    await assert_nothing_was_sent(line)
    records = server.records()
    assert len(records) == len(REFERRED_TO)
    for record in records:
        (refused,) = events(record, "CallRefused")
        assert refused["status"] == 403, refused
        assert all(refused[part] for part in ("rule", "evidence", "fix")), refused
        assert not events(record, "LegDialled")


async def test_an_extension_is_no_number(sip4ai: Start, callee: Start, sipp: Start) -> None:
    """Short numbers and names of a PBX are dialled as they are, and so are numbers that cost nothing."""
    line: Callee = await callee(hesitates_ms=20)
    server: Sip4ai = await sip4ai(config(line, scripted("desk")))
    for target in (f"sip:404@127.0.0.1:{line.port}", f"sip:sales404@127.0.0.1:{line.port}", "+61400000404"):
        await server.over(await server.places(target, agent_id="desk"))
    assert len(line.got("INVITE")) == 3

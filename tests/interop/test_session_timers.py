"""Session timers, UPDATE and PRACK with SIPp: each side in each role, as RFC 4028, RFC 3311 and RFC 3262 have it."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from tests.interop.cells import Cell
from tests.interop.offhook_server import OffhookServer, described_directions, events, scripted
from tests.interop.sippers import SippMessage, SippResult, SippRun
from tests.interop.trunks import Start, caller

HOST = "127.0.0.1"
TALKS = scripted("200", steps=[{"on": "ready", "do": [{"do": "speak", "tone_hz": 500, "ms": 12_000}]}])
SLOW = scripted("200", open_after_ms=1500, steps=[{"on": "ready", "do": [{"do": "speak", "tone_hz": 500, "ms": 500}]}])

SHORTEST_S = 90
"""Between two refreshes no peer may ask for less (RFC 4028 §5)."""
HANGS_UP_AFTER_S = SHORTEST_S - SHORTEST_S / 3
"""§10: the lesser of 32 s and a third before the end."""
REFRESHED_EACH_S = 10
"""Half of what ``uas_refreshed_by_….xml`` answer with, against the RFC: or the test would take half an hour."""
TOLERANCE_S = 1.5


def headers(message: SippMessage, name: str) -> list[str]:
    return re.findall(rf"^{name}:[ \t]*(.*?)\r?$", message.text, re.MULTILINE | re.IGNORECASE)


def came(result: SippResult, start: str) -> list[SippMessage]:
    """What SIPp received whose start line begins so, without copies."""
    found = [one for one in result.messages if not one.sent and one.start_line.startswith(start)]
    return list({headers(one, "CSeq")[0]: one for one in found}.values())


# ── session timers ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("method", ["update", "reinvite"])
async def test_sipp_refreshes_the_session_and_is_told_for_how_long(
    *, offhook: Start, sipp: Start, cell: Cell, method: str
) -> None:
    cell.fills("SIPp", "session timer, it refreshes")
    cell.note(method)
    server: OffhookServer = await offhook(agents=[TALKS])
    run: SippRun = await sipp(f"uac_refresh_{method}", to=(server.host, server.port), user="200", stay_ms=700)
    result = await run.result()
    result.assert_all_went_well()
    answers = [one for one in came(result, "SIP/2.0 200") if "BYE" not in headers(one, "CSeq")[0]]
    assert len(answers) == (3 if method == "update" else 2)
    for answer in answers:
        assert headers(answer, "Session-Expires") == [f"{SHORTEST_S};refresher=uac"]
        assert headers(answer, "Require") == ["timer"]
    record = await server.ended_call()
    assert (record["ended_by"], record["cause"]) == ("caller", "hangup")


async def test_a_session_that_sipp_does_not_refresh_is_ended(offhook: Start, sipp: Start, cell: Cell) -> None:
    cell.fills("SIPp", "session timer, it refreshes")
    cell.note("not in time")
    server: OffhookServer = await offhook(agents=[TALKS])
    run: SippRun = await sipp("uac_no_refresh", to=(server.host, server.port), user="200", timeout_s=80)
    result = await run.result(timeout_s=85)
    result.assert_all_went_well()
    lasted_s = result.first("BYE", sent=False).at - result.first("ACK", sent=True).at
    assert abs(lasted_s - HANGS_UP_AFTER_S) < TOLERANCE_S
    record = await server.ended_call()
    assert (record["ended_by"], record["cause"]) == ("system", "session_expired")


@pytest.mark.parametrize("method", ["update", "reinvite"])
async def test_we_refresh_the_session_by_what_sipp_allows(
    *, sipp: Start, cell: Cell, tmp_path: Path, method: str
) -> None:
    cell.fills("SIPp", "session timer, we refresh")
    cell.note(method)
    run: SippRun = await sipp(f"uas_refreshed_by_{method}")
    lines = ("--dtmf", "1", "--dtmf", "2")  # after each the caller listens for 10 s
    uri = f"sip:200@{HOST}:{run.port}"
    calling = asyncio.create_task(caller(tmp_path, uri, *lines, "--host", HOST, max_duration_s=30))
    result = await run.result()
    result.assert_all_went_well()
    report = await calling
    assert report["answered"]
    assert report["end"]["cause"] == "hangup"
    name = {"update": "UPDATE", "reinvite": "INVITE"}[method]
    refreshes = came(result, name)[-2:]
    assert [headers(one, "Session-Expires") for one in refreshes] == [["90;refresher=uac"]] * 2, (
        "§7.4: no less than Min-SE"
    )
    assert abs(refreshes[1].at - refreshes[0].at - REFRESHED_EACH_S) < TOLERANCE_S
    if method == "reinvite":
        offers = [re.findall(r"^[om]=.*$", one.text, re.MULTILINE) for one in came(result, "INVITE")]
        assert offers[0] == offers[1] == offers[2], "unchanged, version and all"


async def test_sipp_asks_for_too_short_a_session_and_is_told_what_we_take(
    offhook: Start, sipp: Start, cell: Cell
) -> None:
    cell.fills("SIPp", "session interval too small (422)")
    cell.note("we refuse")
    server: OffhookServer = await offhook(agents=[TALKS])
    run: SippRun = await sipp("uac_422", to=(server.host, server.port), user="200", stay_ms=300)
    result = await run.result()
    result.assert_all_went_well()
    assert headers(result.first("SIP/2.0 422", sent=False), "Min-SE") == [str(SHORTEST_S)]
    assert headers(result.first("SIP/2.0 200", sent=False), "Session-Expires") == [f"{SHORTEST_S};refresher=uas"]
    record = await server.ended_call()  # one: nobody was told of the first try
    assert record["cause"] == "hangup"


async def test_sipp_refuses_our_session_as_too_short_and_gets_a_longer_one(
    sipp: Start, cell: Cell, tmp_path: Path
) -> None:
    cell.fills("SIPp", "session interval too small (422)")
    cell.note("it refuses")
    run: SippRun = await sipp("uas_422", stay_ms=300)
    report = await caller(tmp_path, f"sip:200@{HOST}:{run.port}", "--host", HOST)
    result = await run.result()
    result.assert_all_went_well()
    assert report["answered"]
    first, second = came(result, "INVITE")
    assert headers(first, "Session-Expires") == ["1800"]
    assert (headers(second, "Session-Expires"), headers(second, "Min-SE")) == (["3600"], ["3600"])
    assert headers(first, "Call-ID") == headers(second, "Call-ID")


# ── UPDATE ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_sipp_holds_and_resumes_by_update(offhook: Start, sipp: Start, cell: Cell) -> None:
    cell.fills("SIPp", "UPDATE")
    cell.note("it holds and resumes")
    server: OffhookServer = await offhook(agents=[TALKS])
    run: SippRun = await sipp("uac_update_hold", to=(server.host, server.port), user="200", stay_ms=700)
    (await run.result()).assert_all_went_well()
    record = await server.ended_call()
    assert record["cause"] == "hangup"
    assert [event["held"] for event in events(record, "HoldChanged")] == [True, False]
    assert described_directions(await server.trace(record)) == ["sendrecv", "recvonly", "sendrecv"]


# ── PRACK ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_sipp_is_rung_reliably_until_its_prack_comes(offhook: Start, sipp: Start, cell: Cell) -> None:
    cell.fills("SIPp", "PRACK")
    cell.note("it acknowledges")
    server: OffhookServer = await offhook(agents=[SLOW])
    run: SippRun = await sipp("uac_prack", to=(server.host, server.port), user="200", stay_ms=300)
    result = await run.result()
    result.assert_all_went_well()
    rings = [one for one in result.messages if one.start_line.startswith("SIP/2.0 180")]
    assert len(rings) == 2, "once more after T1, and no more after the PRACK"
    assert abs(rings[1].at - rings[0].at - 0.5) < 0.2
    assert (await server.ended_call())["cause"] == "hangup"


async def test_sipp_rings_reliably_with_media_and_its_200_says_nothing_of_them(
    sipp: Start, cell: Cell, tmp_path: Path
) -> None:
    cell.fills("SIPp", "PRACK")
    cell.note("we acknowledge")
    run: SippRun = await sipp("uas_prack", stay_ms=1500)
    report = await caller(tmp_path, f"sip:200@{HOST}:{run.port}", "--host", HOST)
    result = await run.result()
    result.assert_all_went_well()
    assert report["answered"]
    (prack,) = came(result, "PRACK")
    assert headers(prack, "RAck") == ["4711 1 INVITE"]
    (media,) = events(report, "MediaReported")
    assert media["packets_sent"] > 40, "to where the 183 said"

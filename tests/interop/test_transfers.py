"""Transfers in every way and to every end: who hears whom afterwards, what the record says, and that nobody is left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, get_args

import pytest
from tests.interop.cells import Cell
from tests.interop.rtp_phone import RtpPhone
from tests.interop.transfers import ALONE, BACK, BRIEFING_MS, GREETING_MS, STAY_MS, TOGETHER, Hearing, Role, Stage
from tests.interop.trunks import Start

Mode = Literal["blind", "attended", "bridge"]
Situation = Literal["connected", "busy", "no answer", "declined", "unreachable", "caller hangs up", "target hangs up"]

REPORTS_WITHIN_S = 11.0
"""The second that the target may ring, and ten more to tell of it."""

OUTCOMES: Mapping[Situation, str] = {
    "connected": "connected",
    "busy": "busy",
    "no answer": "no_answer",
    "declined": "refused",
    "unreachable": "failed",
    "caller hangs up": "abandoned",
    "target hangs up": "no_answer",
}
CODES: Mapping[Situation, str] = {
    "connected": "200 OK",
    "busy": "486 Busy Here",
    "no answer": "408 Request Timeout",
    "declined": "603 Decline",
    "unreachable": "503 Service Unavailable",
    "target hangs up": "487 Request Terminated",
}
"""What a caller's side tells that was referred, and what a target answers."""


@pytest.fixture
async def stage(offhook: Start, sipp: Start, rtp_phone: Callable[..., RtpPhone]) -> Stage:
    return Stage(offhook=offhook, sipp=sipp, caller=rtp_phone(), target=rtp_phone())


# ── the matrix ───────────────────────────────────────────────────────────────────────────────────────────


def referred(situation: Situation) -> Role:
    """The caller's side, that is asked to call the target, and tells how it went."""
    match situation:
        case "connected":
            return Role(scenario="transferee_connected", stay_ms=700, outcome=CODES[situation])
        case "caller hangs up":
            return Role(scenario="transferee_leaves", stay_ms=500)
        case _:
            return Role(scenario="transferee_fails", outcome=CODES[situation])


def called(mode: Mode, situation: Situation) -> Role | None:
    """The target, that we call."""
    match situation:
        case "connected":
            return Role(scenario="uas_bye" if mode == "attended" else "uas", stay_ms=300)
        case "no answer" | "caller hangs up":
            return Role(scenario="uas_never_answers")
        case "unreachable":
            return None
        case _:
            return Role(scenario="uas_refuses", stay_ms=200, outcome=CODES[situation])


def calling(mode: Mode, situation: Situation) -> Role:
    """The caller, as long as it is not referred."""
    if mode == "attended" and situation == "connected":
        return referred(situation)
    return Role(scenario="uac", stay_ms=GREETING_MS + (500 if situation == "caller hangs up" else STAY_MS + 1200))


def left_with(mode: Mode, situation: Situation) -> Hearing:
    if situation == "connected":
        return TOGETHER if mode == "bridge" else ALONE  # referred, they talk without us
    return ALONE if situation == "caller hangs up" else BACK


@pytest.mark.parametrize("situation", get_args(Situation))
@pytest.mark.parametrize("mode", get_args(Mode))
async def test_a_transfer_ends_in_a_known_state(stage: Stage, cell: Cell, mode: Mode, situation: Situation) -> None:
    if situation == "connected":
        cell.fills("SIPp", f"is transferred: {mode}")
        cell.note("UDP", "IPv4")
    caller = referred(situation) if mode == "blind" else calling(mode, situation)
    target = None if mode == "blind" else called(mode, situation)
    one = await stage.play(mode, caller=caller, target=target)
    assert one.outcome["outcome"] == OUTCOMES[situation]
    assert one.outcome["mode"] == mode
    assert one.hearing() == left_with(mode, situation)
    referred_away = situation == "connected" and mode != "bridge"
    assert (one.record["ended_by"], one.record["cause"]) == (
        ("agent", "transferred") if referred_away else ("caller", "hangup")
    )
    assert one.nobody_is_left


# ── sides that do it their own way ───────────────────────────────────────────────────────────────────────


async def test_a_caller_whose_side_takes_no_refer_is_bridged(stage: Stage) -> None:
    caller = Role(scenario="transferee_refuses", stay_ms=STAY_MS, outcome="405 Method Not Allowed")
    one = await stage.play("blind", caller=caller, target=Role(scenario="uas"))
    assert (one.outcome["outcome"], one.outcome["mode"]) == ("connected", "bridge")
    assert one.hearing() == TOGETHER
    assert one.nobody_is_left


async def test_a_caller_whose_side_takes_no_refer_is_back_where_nothing_else_may_be_tried(stage: Stage) -> None:
    caller = Role(scenario="transferee_refuses", stay_ms=STAY_MS, outcome="603 Decline")
    one = await stage.play("blind", caller=caller, target=None, fallback=False)
    assert (one.outcome["outcome"], one.outcome["mode"], one.outcome["sip_code"]) == ("refused", "blind", 603)
    assert one.hearing() == BACK


async def test_a_caller_whose_side_never_tells_is_back_after_a_while(stage: Stage) -> None:
    caller = Role(scenario="transferee_silent", stay_ms=round(1000 * REPORTS_WITHIN_S) + STAY_MS)
    one = await stage.play("blind", caller=caller, target=None)
    assert (one.outcome["outcome"], one.outcome["mode"]) == ("no_answer", "blind")
    assert one.hearing() == BACK


async def test_a_target_that_stays_when_it_is_replaced_is_hung_up_on(stage: Stage) -> None:
    caller = Role(scenario="transferee_connected", stay_ms=300, outcome="200 OK")
    one = await stage.play("attended", caller=caller, target=Role(scenario="uas"))
    assert (one.outcome["outcome"], one.outcome["mode"]) == ("connected", "attended")
    assert one.nobody_is_left


async def test_where_the_caller_s_side_fails_to_replace_us_we_stay_between(stage: Stage) -> None:
    caller = Role(scenario="transferee_fails", outcome="503 Service Unavailable")
    one = await stage.play("attended", caller=caller, target=Role(scenario="uas"))
    assert (one.outcome["outcome"], one.outcome["mode"]) == ("connected", "bridge")
    assert one.hearing() == TOGETHER
    assert one.nobody_is_left


async def test_a_bridged_call_ends_when_the_target_hangs_up(stage: Stage) -> None:
    one = await stage.play("bridge", caller=Role(scenario="uac_waits_for_bye"), target=Role(scenario="uas_bye"))
    assert one.outcome["outcome"] == "connected"
    assert one.hearing() == TOGETHER
    assert (one.record["ended_by"], one.record["cause"]) == ("operator", "hangup")
    assert one.nobody_is_left


# ── warm ─────────────────────────────────────────────────────────────────────────────────────────────────

BRIEFED_MS = GREETING_MS + BRIEFING_MS + 1000
"""From the answer to the operator's key, with what it takes to dial and press it."""


async def test_an_operator_who_takes_the_caller_has_him(stage: Stage) -> None:
    caller = Role(scenario="uac", stay_ms=BRIEFED_MS + STAY_MS)
    one = await stage.play("warm", caller=caller, target=Role(scenario="uas"), presses="1", briefing_agent="briefer")
    assert (one.outcome["outcome"], one.outcome["mode"]) == ("connected", "warm")
    assert one.hearing() == TOGETHER
    assert one.briefing_was_private
    assert one.nobody_is_left


async def test_an_operator_who_declines_leaves_the_caller_to_the_agent(stage: Stage) -> None:
    caller = Role(scenario="uac", stay_ms=BRIEFED_MS + STAY_MS)
    one = await stage.play("warm", caller=caller, target=Role(scenario="uas"), presses="2", briefing_agent="briefer")
    assert (one.outcome["outcome"], one.outcome["mode"]) == ("refused", "warm")
    assert one.hearing() == BACK
    assert one.briefing_was_private
    assert one.nobody_is_left


async def test_an_operator_who_takes_the_caller_talks_with_both(stage: Stage) -> None:
    caller = Role(scenario="uac", stay_ms=BRIEFED_MS + STAY_MS)
    one = await stage.play(
        "warm",
        caller=caller,
        target=Role(scenario="uas"),
        presses="1",
        target_says_ms=600,
        briefing_agent="briefer",
        after_briefing="three_way",
    )
    assert one.outcome["outcome"] == "connected"
    assert one.hearing() == TOGETHER | BACK | {("target", "agent")}
    assert one.nobody_is_left


@pytest.mark.parametrize(
    ("caller", "target", "outcome", "hearing"),
    [
        (Role(scenario="uac", stay_ms=GREETING_MS + 500), Role(scenario="uas"), "abandoned", ALONE),
        (
            Role(scenario="uac", stay_ms=GREETING_MS + 500 + STAY_MS),
            Role(scenario="uas_bye", stay_ms=300),
            "refused",
            BACK,
        ),
    ],
)
async def test_whoever_hangs_up_during_the_briefing_ends_the_transfer(
    stage: Stage, caller: Role, target: Role, outcome: str, hearing: Hearing
) -> None:
    one = await stage.play("warm", caller=caller, target=target, briefing_agent="briefer")
    assert (one.outcome["outcome"], one.outcome["mode"]) == (outcome, "warm")
    assert one.hearing() == hearing
    assert one.nobody_is_left

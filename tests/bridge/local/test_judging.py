from __future__ import annotations

import pytest

from offhook.bridge.local.judging import SURELY_A_TURN_MS, Verdict, interrupts, judge, tells


@pytest.mark.parametrize(
    ("text", "speech_ms", "verdict"),
    [
        (None, 1000, Verdict.NOISE),
        ("", 300, Verdict.NOISE),
        ("", 1000, Verdict.TURN),
        ("yeah", 300, Verdict.BACKCHANNEL),
        ("m m h m", 1000, Verdict.BACKCHANNEL),
        ("stop", 100, Verdict.TURN),
        ("say hello", 500, Verdict.TURN),
        ("its a", 200, Verdict.NOISE),
        ("my name is john", 900, Verdict.TURN),
    ],
)
def test_judges_what_was_said(text: str | None, speech_ms: int, verdict: Verdict) -> None:
    assert judge(text, speech_ms) is verdict


@pytest.mark.parametrize(
    ("text", "speech_ms", "genuine"),
    [
        (None, 800, False),
        ("", 800, False),
        ("mm-hm", 1000, False),
        ("yes", 300, False),
        ("thanks", 300, False),
        ("what", 600, False),
        ("its a", 300, False),
        ("stop", 200, True),
        ("wait a moment", 600, True),
        ("what time is it", 800, True),
        ("say hello", 600, True),
        ("connect me to sales", 900, True),
        ("transfer me", 500, True),
        ("i want a pizza", 900, True),
        (None, SURELY_A_TURN_MS, True),
    ],
)
def test_over_the_agent_only_a_turn_interrupts(text: str | None, speech_ms: int, genuine: bool) -> None:
    assert interrupts(text, speech_ms) is genuine


@pytest.mark.parametrize(
    ("text", "speech_ms", "genuine"),
    [
        ("stop", 400, True),
        ("mm-hm", 1300, False),
        (None, 300, False),
        ("of", 450, None),
        ("", 300, None),
        ("", 1600, True),
    ],
)
def test_tells_what_it_does_not_know(text: str | None, speech_ms: int, genuine: bool | None) -> None:
    assert tells(text, speech_ms) is genuine

"""How the end of a connection is told."""

from __future__ import annotations

import pytest

from offhook.bridge.endings import MAX_WORDS_SHOWN, closing, problem_of, verdict_of


def test_a_key_that_the_vendor_repeats_is_not_told() -> None:
    assert problem_of(401, b"Incorrect API key: sk-abc123def456") == "answered HTTP 401: Incorrect API key: ***"


def test_what_a_status_means_goes_before_what_the_vendor_says() -> None:
    assert problem_of(404, b" no\n such ", {404: "has no agent x"}) == "has no agent x: no such"
    assert problem_of(500, b"", {404: "has no agent x"}) == "answered HTTP 500"


def test_long_words_are_cut() -> None:
    assert len(problem_of(500, b"x" * 5000)) < MAX_WORDS_SHOWN + 40
    assert len(closing(1011, "x" * 5000)) < MAX_WORDS_SHOWN + 40


@pytest.mark.parametrize(
    ("status", "verdict"), [(429, "retry"), (503, "retry"), (401, "fall_over"), (400, "fall_over")]
)
def test_what_may_go_well_next_time_is_tried_again(status: int, verdict: str) -> None:
    assert verdict_of(status) == verdict

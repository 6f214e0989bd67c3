"""Refused messages: all counted, few logged."""

from __future__ import annotations

import pytest

from offhook.call import rejections as module
from offhook.call.rejections import Rejections, describe
from offhook.sip.events import Address, MessageRejected


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def rejected(host: str = "192.0.2.1", rule: str = "Require", status: int | None = 420) -> MessageRejected:
    return MessageRejected(source=Address(host, 5060), status=status, rule=rule, evidence="100rel", fix="leave it out")


def test_one_line_says_who_what_rule_evidence_and_fix() -> None:
    assert describe(rejected()) == "192.0.2.1: refused with 420: Require [100rel] → leave it out"
    assert describe(rejected(status=None), 7) == "192.0.2.1: ignored (7 times): Require [100rel] → leave it out"


def test_a_source_is_logged_once_a_minute_with_how_often_it_was(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    rejections = Rejections(clock)
    for _ in range(100):
        rejections.note(rejected())
    rejections.note(rejected(rule="Content-Type"))
    clock.now = 61.0
    rejections.note(rejected())
    assert [record.getMessage().split(": ", 2)[1] for record in caplog.records] == [
        "refused with 420",
        "refused with 420",
        "refused with 420 (100 times)",
    ]
    assert rejections.counts == {"Require": 101, "Content-Type": 1}


def test_a_scan_from_everywhere_is_summed_up(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SOURCES", 10)
    rejections = Rejections(Clock())
    for number in range(500):
        rejections.note(rejected(host=f"10.0.{number >> 8}.{number & 255}"))
    assert len(caplog.records) == 11
    assert rejections.counts["Require"] == 500
    assert len(rejections.latest) == module.LATEST


def test_a_watcher_is_told_each_one_however_few_are_logged() -> None:
    rejections, told = Rejections(Clock()), list[MessageRejected]()
    rejections.watcher = told.append
    for _ in range(3):
        rejections.note(rejected())
    assert told == [rejected()] * 3

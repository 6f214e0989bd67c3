"""The live log: a line for every fact a person should see, and privacy."""

from __future__ import annotations

from typing import get_args

import click
import pytest
from tests.observability.calls import DIALLED, SECRETS, spoken_call

from offhook.cli.live_log import LINES, LiveLog, TrunkLog
from offhook.model.call_events import (
    AnswerJudged,
    CallEnded,
    CallFact,
    CallRefused,
    DigitReceived,
    ToolCalled,
    ToolReturned,
    TransferStarted,
    TurnSpoken,
)
from offhook.model.trunks import TrunkChanged
from offhook.observability.logs import LogFormat

TURN = TurnSpoken(speaker="caller", text="my pin is 1234", started_ms=1000, ended_ms=2500)


def line(fact: CallFact, *, show_speech: bool = False) -> str:
    return click.unstyle(LiveLog(show_speech=show_speech).describe(fact) or "")


def test_every_fact_has_its_line_or_is_silent_on_purpose() -> None:
    assert set(LINES) | {TurnSpoken, DigitReceived} == set(get_args(CallFact))


def test_by_default_nothing_that_is_said_or_pressed_is_shown() -> None:
    assert "1234" not in line(TURN)
    assert "1500 ms" in line(TURN)
    assert "7" not in line(DigitReceived(digit="7", duration_ms=100))


def test_with_speech_shown_it_is() -> None:
    assert "my pin is 1234" in line(TURN, show_speech=True)
    assert "pressed 7" in line(DigitReceived(digit="7", duration_ms=100), show_speech=True)


def test_a_turn_shows_its_latency_and_whether_it_was_cut() -> None:
    turn = TurnSpoken(speaker="agent", text="It is", started_ms=0, ended_ms=9, interrupted=True, latency_ms=640)
    assert line(turn, show_speech=True) == " agent: “It is” (interrupted)  after 640 ms"


def test_a_refusal_names_rule_evidence_and_fix() -> None:
    refused = CallRefused(status=488, rule="RFC 3264", evidence="offered G729", fix="offer PCMU")
    assert line(refused) == "refused with 488: RFC 3264 [offered G729] → offer PCMU"


def test_an_end_says_who_when_and_why() -> None:
    ended = CallEnded(by="system", phase="up", cause="media_timeout", reason="no RTP for 60 s", duration_ms=61500)
    assert line(ended) == "ended by system after 61.5 s: media_timeout (no RTP for 60 s)"


def test_whoever_we_talk_to_is_no_caller_where_we_called() -> None:
    ended = CallEnded(by="caller", phase="up", cause="hangup", reason="", duration_ms=1000)
    assert line(ended) == "ended by the other side after 1.0 s: hangup"


def test_tools_are_for_the_record_not_for_the_log() -> None:
    assert LiveLog(show_speech=True).describe(ToolCalled(tool="end_call", arguments="{}")) is None


def test_why_a_tool_failed_is_shown_where_speech_is() -> None:
    failed = ToolReturned(
        tool="look_up", output="look_up answered 500:\n no \x1b[2JAnna here", is_error=True, took_ms=9
    )
    assert line(failed, show_speech=True) == "tool look_up failed after 9 ms: look_up answered 500: no ·[2JAnna here"
    assert line(failed) == "tool look_up failed after 9 ms"


def test_who_was_reached_is_shown_with_what_tells_so() -> None:
    judged = AnswerJudged(by="sit", evidence="information tones", after_ms=0, early=True)
    assert line(judged) == "reached: sit (information tones, before the answer)"


def test_a_transfer_by_a_function_shows_where_it_leads() -> None:
    started = TransferStarted(mode="bridge", target="+61400000001", destination="to_a_person")
    assert line(started) == "transfer to to_a_person, +61400000001 (bridge)"


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_nothing_private_is_in_what_a_whole_call_leaves_in_the_log(
    log_format: LogFormat, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    log = LiveLog(show_speech=False, log_format=log_format)
    for told in spoken_call():
        log(told)
    written = capsys.readouterr().out + caplog.text
    assert "answered after 120 ms" in written
    said = [secret for secret in SECRETS if secret != DIALLED]
    assert [secret for secret in said if secret in written] == []


def test_as_records_facts_have_their_names_and_their_call(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    log = LiveLog(show_speech=False, log_format="json")
    for told in spoken_call("0f3c8a52"):
        log(told)
    events = [record.__dict__["event"] for record in caplog.records]
    assert {record.__dict__["call_id"] for record in caplog.records} == {"0f3c8a52"}
    assert (events[0], events[-1]) == ("call.arrived", "call.ended")
    TrunkLog("json")(TrunkChanged(trunk_id="pbx", phase="failed", at=1.0, sip_code=403, reason="Forbidden", fix="ask"))
    assert caplog.records[-1].__dict__["trunk_id"] == "pbx"
    assert caplog.messages[-1] == "failed: 403 Forbidden → ask"

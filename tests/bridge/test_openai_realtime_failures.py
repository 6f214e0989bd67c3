"""OpenAI Realtime where something goes wrong, against its simulator, over real sockets."""

from __future__ import annotations

import pytest
from msgspec import structs
from tests.bridge.openai_talk import WEATHER, sent, talk

from offhook.bridge import connection as pump
from offhook.bridge.codec import (
    BridgeFault,
    Expiring,
    Ready,
    ToolCall,
    ToolResult,
    Utterance,
)
from offhook.bridge.openai_realtime import codec
from offhook.model.audio import PCMU_8K
from offhook.model.errors import BridgeError
from offhook.simulators.script import Fault, FaultKind, FaultMoment, Script, ScriptedTool, Turn
from offhook.simulators.voice import spoken


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pump, "RETRY_S", (0.01, 0.02))


@pytest.mark.parametrize(
    ("code", "text", "verdict"),
    [
        (401, "", "fatal"),
        (403, "", "fatal"),
        (404, "", "fatal"),
        (429, "insufficient_quota", "fatal"),
        (429, "", "fall_over"),
        (503, "", "fall_over"),
    ],
)
@pytest.mark.usefixtures("impatient")
async def test_a_refused_handshake_has_a_verdict(code: int, text: str, verdict: str) -> None:
    script = Script(faults=(Fault(do="refuse", on="connect", code=code, text=text, times=9),))
    with pytest.raises(BridgeError, match=f"HTTP {code}") as caught:
        async with talk(script):
            pass
    assert caught.value.verdict == verdict


@pytest.mark.usefixtures("impatient")
async def test_a_busy_service_is_asked_again() -> None:
    async with talk(Script(faults=(Fault(do="refuse", on="connect", code=503),))) as t:
        assert t.journal.connections == 2


SAID = (Utterance(speaker="agent", text="Hello, I am Ann."), Utterance(speaker="caller", text="Hi."))


@pytest.mark.parametrize(
    "fault",
    [
        Fault(do="close", code=1011),
        Fault(do="close", code=1001),
        Fault(do="drop"),
        Fault(do="garbage"),
        Fault(do="error", text="session_expired"),
    ],
    ids=lambda fault: f"{fault.do}-{fault.text or fault.code}",
)
@pytest.mark.parametrize("moment", ["turn", "audio"])
@pytest.mark.usefixtures("impatient")
async def test_a_session_that_breaks_begins_anew_and_goes_on(fault: Fault, moment: FaultMoment) -> None:
    script = Script(turns=(Turn(hears="hi", says="How are you?"),), faults=(structs.replace(fault, on=moment),))
    async with talk(script, history=SAID) as t:
        t.say_something()
        await t.listener.until(lambda: len(t.listener.of(Ready)) == 2)
        t.be_silent(20)
        await t.listener.until(lambda: bool(t.listener.said()))
        assert [fault.verdict for fault in t.listener.of(BridgeFault)] == ["retry"]
        items = [event["item"] for event in sent(t, "conversation.item.create")]
        assert [(item["role"], item["content"][0]["type"], item["content"][0]["text"]) for item in items] == [
            ("assistant", "output_text", "Hello, I am Ann."), ("user", "input_text", "Hi."),
        ]  # fmt: skip
        (asked,) = sent(t, "response.create")
        assert "interrupted" in asked["response"]["instructions"]


@pytest.mark.usefixtures("impatient")
async def test_a_session_that_breaks_in_silence_waits_for_the_caller() -> None:
    script = Script(turns=(Turn(hears="hi", says="How are you?"),), faults=(Fault(do="close", on="after", ms=50),))
    async with talk(script, history=SAID) as t:
        await t.listener.until(lambda: len(t.listener.of(Ready)) == 2)
        t.say_something()
        await t.hears("How are you?")
        assert sent(t, "response.create") == []


@pytest.mark.usefixtures("impatient")
async def test_a_tool_that_runs_while_the_session_breaks_is_answered_in_the_next() -> None:
    turns = (Turn(tools=(ScriptedTool(name="weather", arguments={"city": "Ulm"}),), says="{weather}"),)
    async with talk(Script(turns=turns, faults=(Fault(do="drop", on="tool"),)), tools=(WEATHER,), history=SAID) as t:
        t.say_something()
        await t.listener.until(lambda: len(t.listener.of(Ready)) == 2)
        (call,) = t.listener.of(ToolCall)
        t.connection.send(ToolResult(tool_call_id=call.tool_call_id, output="sunny"))
        await t.sent("function_call_output")
        items = [event["item"]["type"] for event in sent(t, "conversation.item.create")]
        assert items == ["message", "message", "function_call", "function_call_output"]
        assert t.journal.problems == []


@pytest.mark.parametrize("code", ["insufficient_quota", "invalid_api_key"])
async def test_what_no_other_try_helps_is_fatal(code: str) -> None:
    async with talk(Script(faults=(Fault(do="error", on="turn", text=code),))) as t:
        t.say_something()
        await t.listener.until(lambda: bool(t.listener.of(BridgeFault)))
        assert t.listener.of(BridgeFault)[0].verdict == "fatal"
        assert code in t.listener.of(BridgeFault)[0].problem


async def test_a_response_that_fails_is_asked_for_again() -> None:
    script = Script(faults=(Fault(do="error", on="turn", text="server_error"),), otherwise=Turn(says="Yes."))
    async with talk(script) as t:
        t.say_something()
        await t.hears("Yes.")
        assert t.listener.of(BridgeFault) == []


async def test_a_rate_limit_is_waited_for() -> None:
    script = Script(faults=(Fault(do="error", on="turn", text="rate_limit_exceeded"),), otherwise=Turn(says="Yes."))
    async with talk(script) as t:
        t.say_something()
        await t.listener.until(lambda: "ResponseDone" in t.listener.names())
        t.be_silent(1900)
        assert sent(t, "response.create") == []
        t.be_silent(200)
        await t.hears("Yes.")


async def test_a_response_that_fails_again_and_again_falls_over() -> None:
    script = Script(faults=(Fault(do="error", on="turn", text="server_error", times=9),))
    async with talk(script) as t:
        t.say_something()
        await t.listener.until(lambda: bool(t.listener.of(BridgeFault)))
        assert [fault.verdict for fault in t.listener.of(BridgeFault)] == ["fall_over"]


@pytest.mark.parametrize("kind", ["unknown", "duplicate", "burst", "trickle"])
@pytest.mark.parametrize("moment", ["turn", "audio"])
async def test_oddities_change_nothing(kind: FaultKind, moment: FaultMoment) -> None:
    script = Script(turns=(Turn(says="How are you?"),), faults=(Fault(do=kind, on=moment),))
    async with talk(script) as t:
        t.say_something()
        await t.hears("How are you?")
        if not (kind == "duplicate" and moment == "audio"):  # then a piece of sound comes twice, as it was sent
            await t.hears_all("How are you?", spoken("How are you?", PCMU_8K))
        assert t.listener.of(BridgeFault) == []


async def test_a_session_says_five_minutes_before_that_it_will_end(monkeypatch: pytest.MonkeyPatch) -> None:
    minute = 60 * 50
    monkeypatch.setattr(codec, "SESSION_MS", 6 * minute * 20)
    async with talk() as t:
        for _ in range(minute - 1):
            t.connection.send_audio(b"")
        assert t.listener.of(Expiring) == []
        t.connection.send_audio(b"")
        assert t.listener.of(Expiring) == [Expiring(seconds=300.0)]
        await t.listener.until(lambda: len(t.listener.of(Ready)) == 2)

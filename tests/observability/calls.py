"""Facts of calls for the tests of whoever watches them: told words and digits are planted to be found nowhere."""

from __future__ import annotations

from collections.abc import Iterator

from offhook.model.call_events import (
    AgentJoined,
    CallAnswered,
    CallArrived,
    CallEnded,
    CallEvent,
    CallFact,
    CallRefused,
    CallRinging,
    DigitReceived,
    InterruptionResumed,
    MediaReported,
    ProviderFailed,
    SipMessageReceived,
    ToolCalled,
    ToolReturned,
    TransferEnded,
    TransferStarted,
    TurnSpoken,
)

STARTED = 1_700_000_000.0
DIALLED = "49301234567"
SECRETS = ("aubergine", "celeriac", "artichoke", "radicchio", "4711#", DIALLED)
"""What is said, pressed, sent and dialled in ``spoken_call``."""


def event(call_id: str, seq: int, fact: CallFact, at: float | None = None) -> CallEvent:
    return CallEvent(call_id=call_id, leg_id="leg", seq=seq, at=STARTED + seq if at is None else at, fact=fact)


def arrived(direction: str = "inbound", trunk_id: str = "pbx") -> CallArrived:
    return CallArrived(
        direction="outbound" if direction == "outbound" else "inbound",
        from_uri="sip:+49301234567@pbx.example",
        to_uri="sip:demo@127.0.0.1",
        sip_call_id="one@pbx.example",
        transport="UDP",
        remote_address="192.0.2.1:5060",
        trunk_id=trunk_id,
    )


def media(**figures: float) -> MediaReported:
    known = {"packets_sent": 500, "packets_received": 495, "packets_lost": 5, "loss_percent": 1.0, "jitter_ms": 4.0}
    return MediaReported(
        **(known | figures),  # type: ignore[arg-type]
        remote_loss_percent=0.2,
        concealed_frames=5,
        late_ticks=0,
        round_trip_ms=None,
    )


def spoken_call(call_id: str = "call-1") -> Iterator[CallEvent]:
    """An answered call with a tool, a transfer, a turn of each, digits, an interruption and a fault."""
    facts: tuple[CallFact, ...] = (
        arrived(),
        CallRinging(status=180),
        CallAnswered(codec="PCMU", setup_ms=120),
        AgentJoined(agent_id="desk", provider="scripted"),
        TurnSpoken(speaker="caller", text="aubergine please", started_ms=1000, ended_ms=2500),
        DigitReceived(digit="4711#", duration_ms=100),
        ToolCalled(tool="look_up", arguments='{"vegetable": "celeriac"}', tool_call_id="t1"),
        ToolReturned(tool="look_up", output="artichoke", took_ms=800, tool_call_id="t1"),
        SipMessageReceived(method="MESSAGE", content_type="text/plain", text="radicchio"),
        InterruptionResumed(paused_ms=300),
        TurnSpoken(
            speaker="agent", text="one aubergine", started_ms=3100, ended_ms=4000, interrupted=True, latency_ms=600
        ),
        ProviderFailed(provider="scripted", problem="lost the connection", verdict="retry"),
        TransferStarted(mode="bridge", target="sip:+49301234567@pbx.example", destination="sales"),
        TransferEnded(mode="bridge", target="sip:+49301234567@pbx.example", outcome="busy", sip_code=486),
        media(),
        CallEnded(by="caller", phase="up", cause="hangup", duration_ms=14_000),
    )
    for seq, fact in enumerate(facts, 1):
        yield event(call_id, seq, fact)


def refused_call(call_id: str = "call-2") -> Iterator[CallEvent]:
    refusal = CallRefused(status=404, rule="no number matches", evidence="To: 9", fix="add it")
    facts: tuple[CallFact, ...] = (
        arrived("outbound", ""),
        refusal,
        CallEnded(by="system", phase="arrived", cause="refused", sip_code=404),
    )
    for seq, fact in enumerate(facts, 1):
        yield event(call_id, seq, fact)

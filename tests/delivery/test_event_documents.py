"""Every fact has its name outside, and becomes JSON whatever its peer sent."""

from __future__ import annotations

import re
from typing import get_args

import msgspec

from offhook.delivery.event_documents import EVENT_NAMES, event_document, signal_document
from offhook.model.call_events import (
    CallEvent,
    CallFact,
    CallRefused,
    InterimTranscript,
    RecordingWritten,
    SpeechStateChanged,
)


def happened(fact: CallFact) -> CallEvent:
    return CallEvent(call_id="c1", leg_id="leg-1", seq=3, at=1_700_000_000.1234, fact=fact)


def test_every_fact_has_a_name_of_its_own() -> None:
    assert set(EVENT_NAMES) == set(get_args(CallFact))
    assert len(set(EVENT_NAMES.values())) == len(EVENT_NAMES)
    assert all(re.fullmatch(r"[a-z_]+\.[a-z_]+", name) for name in EVENT_NAMES.values())


def test_a_document_says_what_happened_when_and_where_in_the_call() -> None:
    refused = CallRefused(status=488, rule="no codec", evidence="m=audio \udcff", fix="offer PCMU")

    written = msgspec.json.decode(msgspec.json.encode(event_document(happened(refused))))

    assert written == {
        "event": "call.refused",
        "call_id": "c1",
        "leg_id": "leg-1",
        "seq": 3,
        "timestamp": "2023-11-14T22:13:20.123000Z",
        "data": {"status": 488, "rule": "no codec", "evidence": "m=audio \\udcff", "fix": "offer PCMU"},
    }


def test_a_recording_is_told_by_where_the_api_gives_it() -> None:
    document = event_document(happened(RecordingWritten(path="/var/lib/offhook/recordings/c1.wav", duration_ms=9)))

    assert document["data"] == {"path": "/api/calls/c1/recording", "duration_ms": 9}


def test_signals_have_no_place_in_the_call() -> None:
    speech = signal_document(SpeechStateChanged(call_id="c1", speaker="caller", speaking=True), 1.0)
    interim = signal_document(InterimTranscript(call_id="c1", speaker="caller", text="what ti"), 1.0)

    assert (speech["event"], interim["event"]) == ("speech.changed", "transcript.interim")
    assert "seq" not in speech
    assert interim["data"] == {"speaker": "caller", "text": "what ti"}

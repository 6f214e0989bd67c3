"""What a reload does not make true, by its keys."""

from __future__ import annotations

import msgspec

from offhook.config import Settings, waits_for_restart


def settings(**document: object) -> Settings:
    return msgspec.convert(document, Settings)


def test_forms_are_taken_at_once_and_sections_at_the_next_start() -> None:
    before = settings(agents=[{"id": "a"}], sip={"port": 5060}, max_calls=5)
    after = settings(agents=[{"id": "b"}], sip={"port": 5070, "trace": False}, max_calls=7, webhooks=[])
    assert waits_for_restart(before, after) == ("sip.port", "sip.trace", "max_calls")
    assert waits_for_restart(before, before) == ()


def test_what_describes_the_agent_of_provider_is_taken_at_once() -> None:
    before = settings(provider="openai", openai={"voice": "echo"})
    after = settings(
        provider="gemini",
        openai={"voice": "sage"},
        gemini={"voice": "Kore"},
        functions=[{"name": "f", "webhook": "https://app.example"}],
        outbound={"hangup_on_task_complete": False},
        event_webhook="https://app.example",
        audio_file="a.wav",
    )
    assert waits_for_restart(before, after) == ()


def test_the_port_is_called_as_the_file_calls_it() -> None:
    before = settings(api_port=8080, http={"port": 8080}, mode="inbound")
    after = settings(api_port=9000, http={"port": 9000, "host": "::1"}, mode="outbound")
    assert waits_for_restart(before, after) == ("mode", "api_port", "http.host")

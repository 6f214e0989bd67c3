"""Who is told of an event, and in what words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
from tests.store.stories import ANSWERED, ARRIVED, ENDED, JOINED, RECORDED, TURN, event, story

from offhook.delivery.audience import MAX_BODY_BYTES, MAX_CALL_BYTES, Audience, body_of, trial_delivery
from offhook.delivery.call_document import call_document
from offhook.model.call_events import CallFact, SipMessageReceived, ToolReturned, TurnSpoken
from offhook.model.records import CallRecord, WebhookEndpoint
from offhook.store.outbox import Endpoint
from offhook.store.projection import begin, project


def record_of(*facts: CallFact) -> CallRecord:
    first, *others = story(ARRIVED, *facts)
    record = begin(first, ARRIVED, node_id="n1")
    for one in others:
        record = project(record, one)
    return record


def told(fact: CallFact, *before: CallFact) -> dict[str, Any]:
    """What a receiver reads."""
    body = body_of(event(fact, 7), record_of(*before, fact), "msg_1")
    document: dict[str, Any] = msgspec.json.decode(body)
    return document


def audience(**webhooks: tuple[str, tuple[str, ...]]) -> Audience:
    """By its id, the account of each and the events it wants."""
    one = Audience()
    by_account: dict[str, dict[str, WebhookEndpoint]] = {}
    for name, (account, events) in webhooks.items():
        endpoint = WebhookEndpoint(webhook_id=name, account_id=account, url="https://x.example/", events=events)
        by_account.setdefault(account, {})[name] = endpoint
    one.replace(by_account)
    return one


def test_each_webhook_of_the_calls_account_that_wants_the_event_is_told() -> None:
    there = audience(
        all=("default", ("*",)),
        ends=("default", ("call.arrived", "call.ended")),
        turns=("default", ("turn.spoken",)),
        theirs=("other", ("*",)),
    )
    made = list(there.deliveries(event(ENDED, 9), record_of(ENDED)))
    assert [one.webhook_id for one in made] == ["all", "ends"]
    assert [(one.account_id, one.event, one.call_id, one.seq) for one in made] == [
        ("default", "call.ended", "c1", 9)
    ] * 2
    assert len({one.delivery_id for one in made}) == 2
    assert made == list(there.deliveries(event(ENDED, 9), record_of(ENDED)))
    assert [msgspec.json.decode(one.body)["id"] for one in made] == [one.delivery_id for one in made]


def test_a_call_of_another_account_is_told_there_alone() -> None:
    theirs = replace(record_of(), account_id="other")
    there = audience(ours=("default", ("*",)), theirs=("other", ("*",)))
    assert [one.webhook_id for one in there.deliveries(event(JOINED, 2), theirs)] == ["theirs"]


def test_an_event_is_told_as_streams_and_histories_tell_it() -> None:
    assert told(ANSWERED) == {
        "id": "msg_1",
        "event": "call.answered",
        "call_id": "c1",
        "leg_id": "leg-1",
        "seq": 7,
        "timestamp": "1970-01-01T00:16:47Z",
        "data": {"codec": "PCMU", "setup_ms": 20, "srtp": ""},
    }


def test_the_end_tells_the_whole_call_as_the_api_does() -> None:
    facts = (ANSWERED, JOINED, TURN, RECORDED, ENDED)
    document = told(ENDED, *facts[:-1])
    assert document["data"]["cause"] == "hangup"
    assert document["data"]["call"] == msgspec.json.decode(msgspec.json.encode(call_document(record_of(*facts))))
    assert document["data"]["call"]["transcript"] == [
        {
            "speaker": "user",
            "text": "what time is it",
            "timestamp": 0.1,
            "started_ms": 100,
            "ended_ms": 900,
            "interrupted": False,
            "latency_ms": None,
        }
    ]
    assert document["data"]["call"]["recording"] == "/api/calls/c1/recording"
    assert "truncated" not in document


def test_what_peers_send_need_not_be_utf_8() -> None:
    odd = replace(ARRIVED, from_uri="sip:caf\udce9@example.com")
    record = begin(event(odd, 1), odd, node_id="n1")
    document = msgspec.json.decode(body_of(event(ENDED, 2), project(record, event(ENDED, 2)), "m"))
    assert document["data"]["call"]["from_uri"] == "sip:caf\\udce9@example.com"


def test_too_long_a_text_is_cut_and_it_is_said() -> None:
    for fact in (
        ToolReturned(tool="t", output="\x00" * 32_000),
        SipMessageReceived(method="INFO", content_type="a/b", text="\udcff" * 20_000),
        replace(ARRIVED, headers=tuple((f"X-{each}", "ü" * 4000) for each in range(50))),
    ):
        body = body_of(event(fact, 7), record_of(), "msg_1")
        assert len(body) <= MAX_BODY_BYTES
        assert msgspec.json.decode(body)["truncated"] is True


def test_an_endless_talk_is_told_as_far_as_there_is_room() -> None:
    turns = [
        TurnSpoken(speaker="agent", text=f"{each} " + "ü" * 500, started_ms=each, ended_ms=each) for each in range(400)
    ]
    body = body_of(event(ENDED, 500), record_of(ANSWERED, *turns, ENDED), "msg_1")
    document = msgspec.json.decode(body)
    kept = document["data"]["call"]["transcript"]
    assert MAX_CALL_BYTES - 2_000 < len(body) <= MAX_CALL_BYTES
    assert [turn["started_ms"] for turn in kept] == list(range(len(kept)))
    assert document["truncated"] is True
    assert document["data"]["call"]["id"] == "c1"


def test_a_trial_belongs_to_no_call() -> None:
    made = trial_delivery(Endpoint("acme", "crm"), "msg_2", 1000.0)
    assert (made.account_id, made.webhook_id, made.event, made.call_id) == ("acme", "crm", "webhook.test", "")
    assert msgspec.json.decode(made.body) == {
        "id": "msg_2",
        "event": "webhook.test",
        "webhook_id": "crm",
        "timestamp": "1970-01-01T00:16:40Z",
        "data": {},
    }

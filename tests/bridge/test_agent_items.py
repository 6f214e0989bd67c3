"""Utterances of an agent whose provider names none."""

from __future__ import annotations

from tests.bridge.provider_talk import Output

from offhook.bridge.agent_items import MAX_ITEMS, AgentItem, AgentItems
from offhook.bridge.codec import AudioDone, Interrupted, ResponseDone, ResponseStarted


def test_an_utterance_begins_and_ends_once() -> None:
    out, items = Output(), AgentItems(AgentItem)
    item = items.begin(out)
    items.finish(out)
    items.finish(out)
    assert out.events == [ResponseStarted(), AudioDone(item=item.name), ResponseDone()]
    assert items.begin(out).name != item.name


def test_what_the_call_cut_is_not_said_to_be_complete() -> None:
    out, items = Output(), AgentItems(AgentItem)
    items.cut(items.begin(out).name)
    items.finish(out)
    assert out.events == [ResponseStarted(), ResponseDone()]


def test_the_provider_gives_up_what_nobody_cut() -> None:
    out, items = Output(), AgentItems(AgentItem)
    first = items.begin(out)
    items.finish(out)
    second = items.begin(out)
    items.cut(first.name)
    items.give_up(lambda item: True, out)
    assert out.events[-2:] == [Interrupted(item=second.name), ResponseDone()]
    assert items.current is None


def test_old_utterances_are_forgotten() -> None:
    out, items = Output(), AgentItems(AgentItem)
    for _ in range(MAX_ITEMS + 5):
        items.begin(out)
    items.give_up(lambda item: True, out)
    assert len([event for event in out.events if isinstance(event, Interrupted)]) == MAX_ITEMS

"""What config.json defines, with what its keys of SIP4AI stand for."""

from __future__ import annotations

from pathlib import Path

import msgspec
from tests.config.loading import ACCOUNT, load

from offhook.config import Settings, agents_of, forms_of, numbers_of

FUNCTIONS = [
    {"name": "look_up", "webhook": "https://app.example/f", "parameters": {"type": "object"}},
    {"name": "to_sales", "type": "transfer", "target": "+4930123456"},
]


def settings(**document: object) -> Settings:
    return msgspec.convert(document, Settings)


def test_the_agent_of_provider_stands_last_and_answers_where_no_number_is_listed() -> None:
    both = settings(provider="openai", agents=[{"id": "desk"}])
    assert [agent.agent_id for agent in agents_of(both)] == ["desk", "main"]
    assert [(number.user, number.agent_id) for number in numbers_of(both)] == [("*", "main")]
    listed = settings(provider="openai", agents=[{"id": "desk"}], numbers=[{"user": "1", "agent": "desk"}])
    assert [(number.user, number.agent_id) for number in numbers_of(listed)] == [("1", "desk")]
    assert [number.agent_id for number in numbers_of(settings(agents=[{"id": "desk"}]))] == ["desk"]


def test_functions_are_tools_and_destinations_of_that_agent() -> None:
    desk, main = agents_of(settings(provider="openai", functions=FUNCTIONS, agents=[{"id": "desk"}]))
    assert ([tool.name for tool in main.tools], desk.tools, desk.destinations) == (["look_up"], (), ())
    assert [(one.function, one.target) for one in main.destinations] == [("to_sales", "+4930123456")]
    assert main.by_operator


def test_another_agent_may_use_a_function_too() -> None:
    both = settings(functions=FUNCTIONS, agents=[{"id": "desk", "tools": ["look_up"]}])
    assert [tool.name for agent in agents_of(both) for tool in agent.tools] == ["look_up"]


def test_an_event_webhook_is_told_everything_in_its_dialect() -> None:
    (webhook,) = forms_of(settings(event_webhook="https://app.example/events")).webhooks
    assert (webhook.id, webhook.url) == ("event_webhook", "https://app.example/events")
    assert (webhook.dialect, webhook.events, webhook.enabled) == ("sip4ai", ("*",), True)
    assert forms_of(settings()).webhooks == ()


def test_what_is_in_no_list_has_its_place(tmp_path: Path) -> None:
    keys = {"provider": "local", "functions": FUNCTIONS, "event_webhook": "https://app.example"}
    document = {**keys, "agents": [{"id": "a"}]}
    places = {form.id: place for _, place, form in forms_of(load(tmp_path, document, ACCOUNT)).each()}
    assert places == {
        "a": "agents[0]",
        "main": "provider",
        "sip": "SIP_USERNAME",
        "*": "numbers[0]",
        "look_up": "functions[0].name",
        "event_webhook": "event_webhook",
    }

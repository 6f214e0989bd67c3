"""Functions as SIP4AI's users write them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from offhook.model.errors import ConfigError
from offhook.store.forms import AgentForm, DestinationForm, Known, check_agent
from offhook.store.function_forms import FunctionForm, check_functions, function_forms, function_tools

BOOK = {
    "name": "book_appointment",
    "description": "Book an appointment for the caller",
    "webhook": "https://app.example.com/api/book",
    "hold_audio_url": "https://app.example.com/hold.wav",
    "parameters": {"type": "object", "properties": {"date": {"type": "string"}}, "required": ["date"]},
}
TRANSFER = {"name": "transfer_call", "description": "To a human", "type": "transfer", "target": "+61400000001"}


def functions(*documents: dict[str, Any]) -> tuple[FunctionForm, ...]:
    return msgspec.convert(documents, tuple[FunctionForm, ...])


def test_a_webhook_becomes_a_tool_and_a_transfer_a_destination() -> None:
    given = functions(BOOK, TRANSFER)
    check_functions("functions", given)
    (tool,), (destination,) = function_tools(given)
    assert (tool.name, tool.url, tool.method, tool.dialect) == (
        "book_appointment", "https://app.example.com/api/book", "POST", "sip4ai",
    )  # fmt: skip
    assert tool.hold_audio == "https://app.example.com/hold.wav"
    assert msgspec.json.decode(tool.parameters) == BOOK["parameters"]
    assert (destination.name, destination.function, destination.target) == (
        "transfer_call", "transfer_call", "+61400000001",
    )  # fmt: skip
    assert (destination.description, destination.mode) == ("To a human", "bridge")


def test_the_forms_can_be_kept_and_read_again() -> None:
    tools, destinations = function_forms(functions({**BOOK, "name": "b" * 64}, TRANSFER))
    agent = AgentForm(id="main", tools=tuple(tool.id for tool in tools), destinations=destinations)
    check_agent("", agent, Known(tools=agent.tools))
    for form in (*tools, agent):
        assert msgspec.convert(msgspec.to_builtins(form), type(form)) == form


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"webhook": ""}, "webhook"),
        ({"webhook": "nowhere"}, "webhook"),
        ({"webhook": "https://user:secret@app.example.com"}, "webhook"),
        ({"target": "+61400000001"}, "target"),
        ({"hold_audio_url": "/etc/passwd"}, "hold_audio_url"),
        ({"name": "end_call"}, "name"),
        ({"name": "transfer_call"}, "name"),
        ({"parameters": {"type": "array"}}, "parameters"),
        ({"parameters": {"type": "object", "properties": {"a": {"type": "no such"}}}}, "parameters"),
    ],
)
def test_what_is_wrong_with_a_webhook_is_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as raised:
        check_functions("functions", functions({**BOOK, "name": "first"}, {**BOOK, **change}))
    assert raised.value.key == f"functions[1].{field}"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"target": ""}, "target"),
        ({"target": "tel:someone"}, "target"),
        ({"webhook": "https://app.example.com"}, "webhook"),
        ({"hold_audio_url": "https://app.example.com/hold.wav"}, "hold_audio_url"),
        ({"parameters": {"properties": {"why": {}}}}, "parameters"),
        ({"name": "complete_task"}, "name"),
        ({"name": "book_appointment"}, "name"),
    ],
)
def test_what_is_wrong_with_a_transfer_is_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as raised:
        check_functions("functions", functions(BOOK, {**TRANSFER, **change}))
    assert raised.value.key == f"functions[1].{field}"


@pytest.mark.parametrize(("names", "field"), [(("end_call",), 0), (("sales", "sales"), 1)])
def test_an_agents_destinations_have_functions_of_their_own(names: tuple[str, ...], field: int) -> None:
    places = tuple(
        DestinationForm(name=f"place {number}", target="+4930123456", function=name)
        for number, name in enumerate(names)
    )
    with pytest.raises(ConfigError) as raised:
        check_agent("", AgentForm(id="a", destinations=places), Known())
    assert raised.value.key == f"destinations[{field}].function"

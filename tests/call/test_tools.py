"""Built-in tools: what they ask for, and what bad calls are told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from offhook.bridge.codec import ToolCall
from offhook.call.tools import (
    AskServer,
    HangUpAfterSpeech,
    JudgeTransfer,
    ReturnResult,
    SendDigits,
    SendText,
    StartTransfer,
    is_own,
    run_tool,
)
from offhook.model.records import Agent, Tool, TransferDestination

SALES = TransferDestination(name="Sales", target="tel:+4930", mode="bridge")
AGENT = Agent(agent_id="a", provider="scripted", destinations=(SALES,))


def called(name: str, arguments: str) -> ToolCall:
    return ToolCall(tool_call_id="t1", name=name, arguments=arguments)


def test_end_call_hangs_up_after_speech() -> None:
    assert run_tool(called("end_call", '{"reason": "done"}'), AGENT) == (HangUpAfterSpeech(reason="done"),)
    assert run_tool(called("end_call", ""), AGENT) == (HangUpAfterSpeech(reason=""),)


def test_send_dtmf_presses_keys() -> None:
    assert run_tool(called("send_dtmf", '{"digits": "12#a"}'), AGENT) == (SendDigits(digits="12#A"),)


def test_send_text_writes_to_the_other_side() -> None:
    sent, told = run_tool(called("send_text", '{"text": "code 7"}'), AGENT)
    assert sent == SendText(text="code 7")
    assert isinstance(told, ReturnResult)
    assert not told.result.is_error


@pytest.mark.parametrize(
    ("name", "arguments", "problem"),
    [
        ("send_dtmf", '{"digits": ""}', "digits must be"),
        ("send_dtmf", '{"digits": "12x"}', "digits must be"),
        ("send_dtmf", '{"digits": "' + "1" * 65 + '"}', "digits must be"),
        ("send_dtmf", "{}", "digits"),
        ("send_dtmf", "not json", "arguments of send_dtmf"),
        ("end_call", "[1]", "arguments of end_call"),
        ("order_pizza", "{}", "no tool named 'order_pizza'"),
    ],
)
def test_a_bad_call_comes_back_to_the_model_as_an_error(name: str, arguments: str, problem: str) -> None:
    (told,) = run_tool(called(name, arguments), AGENT)
    assert isinstance(told, ReturnResult)
    assert told.result.is_error
    assert problem in told.result.output


def test_a_caller_is_transferred_to_a_destination_by_its_name_or_target() -> None:
    for arguments in ('{"destination": "sales"}', '{"destination": " SALES "}', '{"target": "tel:+4930"}'):
        assert run_tool(called("transfer_call", arguments), AGENT) == (StartTransfer(destination=SALES),)


def test_nowhere_else_unless_the_agent_may() -> None:
    elsewhere = called("transfer_call", '{"target": "sip:premium@example.com", "mode": "attended"}')
    (told,) = run_tool(elsewhere, AGENT)
    assert isinstance(told, ReturnResult)
    assert told.result.is_error
    assert "destinations: Sales" in told.result.output
    free = Agent(agent_id="a", provider="scripted", transfers_anywhere=True)
    (started,) = run_tool(elsewhere, free)
    assert isinstance(started, StartTransfer)
    assert (started.destination.target, started.destination.mode) == ("sip:premium@example.com", "attended")
    (told,) = run_tool(called("transfer_call", '{"target": "http://x"}'), free)
    assert isinstance(told, ReturnResult)
    assert told.result.output.startswith("target: ")


@pytest.mark.parametrize(("name", "accept"), [("accept_transfer", True), ("decline_transfer", False)])
def test_who_briefs_an_operator_says_what_he_decided(name: str, accept: bool) -> None:
    briefer = replace(AGENT, briefs=True)
    assert run_tool(called(name, "{}"), briefer)[-1] == JudgeTransfer(accept=accept)
    (told,) = run_tool(called(name, "{}"), AGENT)
    assert isinstance(told, ReturnResult)
    assert told.result.is_error


# ── the agent's own ──────────────────────────────────────────────────────────────────────────────────────

BOOK = Tool(tool_id="t", name="book", url="https://book.example/", parameters='{"required": ["day", "hour"]}')
BOOKING = replace(AGENT, tools=(BOOK, replace(BOOK, name="ping", parameters="{}"), replace(BOOK, name="end_call")))


def test_a_tool_of_the_agents_own_is_its_servers_business() -> None:
    given = '{"day": "monday", "hour": 9, "more": [1]}'
    assert run_tool(called("book", given), BOOKING) == (AskServer(tool=BOOK, arguments=given),)
    assert run_tool(called("ping", " "), BOOKING) == (AskServer(tool=BOOKING.tools[1], arguments="{}"),)


def test_a_built_in_tool_comes_before_one_of_the_same_name() -> None:
    assert run_tool(called("end_call", "{}"), BOOKING) == (HangUpAfterSpeech(reason=""),)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ('{"day": "monday"}', 'arguments of book: "hour" is a required property'),
        ("", 'arguments of book: "day" is a required property; "hour" is a required property'),
        ("[1]", "arguments of book: Expected `object`, got `array`"),
        ('{"day": ', "arguments of book: Input data was truncated"),
    ],
)
def test_arguments_that_the_server_cannot_use_come_back_to_the_model(arguments: str, problem: str) -> None:
    (returned,) = run_tool(called("book", arguments), BOOKING)
    assert isinstance(returned, ReturnResult)
    assert returned.result.is_error
    assert returned.result.output == problem


def test_an_unknown_name_is_told_what_there_is() -> None:
    (returned,) = run_tool(called("cook", "{}"), BOOKING)
    assert isinstance(returned, ReturnResult)
    assert "'cook'" in returned.result.output
    assert "book" in returned.result.output


def test_who_names_a_destination_all_the_same_gets_it() -> None:
    owner = TransferDestination(name="owner", target="+4930123456", function="transfer_call")
    agent = replace(AGENT, destinations=(owner, SALES))
    assert run_tool(called("transfer_call", '{"destination": "sales"}'), agent) == (StartTransfer(destination=SALES),)


@pytest.mark.parametrize("arguments", ["", "{}", '{"why": "asked for"}', "no json", '{"destination": "elsewhere"}'])
@pytest.mark.parametrize("name", ["call_owner", "transfer_call"])
def test_a_function_of_a_destinations_transfers_there_whatever_its_arguments(name: str, arguments: str) -> None:
    owner = TransferDestination(name="owner", target="+4930123456", function=name)
    agent = replace(AGENT, destinations=(SALES, owner))
    assert run_tool(called(name, arguments), agent) == (StartTransfer(destination=owner),)
    assert is_own(name, agent)


def test_what_is_an_agents_own_is_told_from_what_is_built_in() -> None:
    mine = Tool(tool_id="t", name="mine", url="https://t.example/")
    agent = replace(AGENT, tools=(mine, replace(mine, name="end_call")))
    known = ("mine", "end_call", "transfer_call", "no_such")
    assert [is_own(name, agent) for name in known] == [True, False, False, False]

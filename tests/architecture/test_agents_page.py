"""docs/AGENTS.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from offhook.call import failover, parting, tool_desk
from offhook.call.own_words import PROMPTS
from offhook.call.tool_specs import offered_tools
from offhook.store.forms import BUILT_IN_TOOLS, AgentForm, Catalogue, Known, agent_record, check_agent

PAGE = (Path(__file__).parents[2] / "docs" / "AGENTS.md").read_text()
TEXT = " ".join(PAGE.split())


def test_the_agent_shown_is_one() -> None:
    (shown,) = re.findall(r"```json\n(.*?)```", PAGE, re.S)
    form = msgspec.json.decode(shown, type=AgentForm)
    check_agent("", form, Known())
    agent = agent_record(form, Catalogue())
    assert len(agent.fallbacks) == 3
    assert [tool.name for tool in offered_tools(agent)] == ["end_call", "send_dtmf", "send_text", "transfer_call"]


def test_the_tools_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| (`[a-z_`, ]+`) \|", PAGE, re.M)
    assert {name.strip("` ") for row in rows for name in row.split(",")} == BUILT_IN_TOOLS


def test_the_times_are_those_of_the_code() -> None:
    assert f"not done after {tool_desk.FILLER_AFTER_S:g} s" in TEXT
    assert f"it has {parting.FIRST_WORDS_S:g} s to begin" in TEXT
    assert failover.REPLACING_S < failover.RECONNECTING_S < 2.0
    assert PROMPTS["one_moment"] in TEXT

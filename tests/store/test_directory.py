"""Who answers which number."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import sqlalchemy as sa
from tests.store.world import OTHER, VAULT, World

from offhook.model.records import Agent, Number
from offhook.model.trunks import RegisterTrunk
from offhook.store.config_forms import ConfigForms
from offhook.store.database import Database
from offhook.store.directory import DirectoryFollower, DirectoryState, InMemoryDirectory
from offhook.store.forms import AgentForm, NumberForm
from offhook.store.schema import resources
from offhook.store.trunk_forms import OpenForm

AGENTS = (Agent(agent_id="a", provider="local"), Agent(agent_id="b", provider="local"))

SIGNING = "whsec_" + "hidden00" * 4


def test_a_listed_number_reaches_its_agent_and_others_the_star() -> None:
    directory = InMemoryDirectory(AGENTS, (Number(user="100", agent_id="a"), Number(user="*", agent_id="b")))
    assert [who(directory, user) for user in ("100", "200", "")] == ["a", "b", "b"]


def test_without_a_star_an_unlisted_number_reaches_nobody() -> None:
    assert who(InMemoryDirectory(AGENTS, (Number(user="100", agent_id="a"),)), "101") is None


def test_a_number_of_one_trunk_goes_before_the_same_number_of_all() -> None:
    numbers = (Number(user="100", agent_id="a"), Number(user="100", agent_id="b", trunk_id="pbx"))
    directory = InMemoryDirectory(AGENTS, numbers)
    assert [who(directory, "100", trunk) for trunk in ("pbx", "other", "")] == ["b", "a", "a"]


def who(directory: InMemoryDirectory, user: str, trunk_id: str = "") -> str | None:
    answering = directory.answering(user, trunk_id)
    return answering.agent.agent_id if answering is not None and answering.agent is not None else None


# ── of the database ──

TRUNK: dict[str, Any] = {"kind": "register", "server": "pbx.test", "username": "100"}
SHARED = ConfigForms(
    agents=(AgentForm(id="house"),), numbers=(NumberForm(user="*", agent="house"),), trunks=(OpenForm(id="open"),)
)


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


def test_calls_by_an_accounts_own_trunk_reach_its_numbers_alone(world: World) -> None:
    world.sync(SHARED)
    world.create("agent", id="a", account=OTHER)
    world.create("trunk", id="pbx", account=OTHER, **TRUNK)
    world.create("number", user="100", agent="a", account=OTHER)
    world.create("number", user="200", agent="a", trunk="pbx", account=OTHER)
    directory = InMemoryDirectory(state=world.directory())
    reached = {
        (user, trunk): who(directory, user, trunk) for user in ("100", "200", "300") for trunk in ("pbx", "open")
    }
    assert reached == {
        ("100", "pbx"): "a",
        ("200", "pbx"): "a",
        ("300", "pbx"): None,  # the star is another account's
        ("100", "open"): "a",
        ("200", "open"): "house",
        ("300", "open"): "house",
    }
    found = directory.answering("100", "open")
    assert found is not None
    assert found.account_id == OTHER


def test_agents_of_one_name_are_their_accounts(world: World) -> None:
    world.create("agent", id="a", name="ours")
    world.create("agent", id="a", name="theirs", account=OTHER)
    world.create("number", user="1", agent="a")
    world.create("number", user="2", agent="a", account=OTHER)
    directory = InMemoryDirectory(state=world.directory())
    names = [found.agent.name for user in "12" if (found := directory.answering(user, "")) and found.agent]
    assert names == ["ours", "theirs"]


def test_agents_of_config_json_alone_are_the_operators(world: World) -> None:
    world.sync(SHARED)
    briefed = {"name": "sales", "target": "sip:sales@pbx.test", "mode": "warm", "briefing_agent": "house"}
    world.create("agent", id="mine", destinations=[briefed])
    agents = world.directory().account("default").agents
    assert {name: agent.by_operator for name, agent in agents.items()} == {"house": True, "mine": False}
    (destination,) = agents["mine"].destinations
    assert destination.briefing_agent is not None
    assert destination.briefing_agent.by_operator


def test_the_state_has_every_record_with_its_secrets(world: World) -> None:
    world.create("tool", id="t", name="t", url="https://x.test", headers={"A": "hidden"}, secret=SIGNING)
    world.create("agent", id="a", tools=["t"])
    world.create("squad", id="s", members=[{"agent": "a"}])
    world.create("trunk", id="pbx", password="hidden", **TRUNK)
    world.create("number", user="1", agent="a", ask_url="https://x.test", ask_secret=SIGNING)
    made = world.create("webhook", id="w", url="https://x.test")
    world.create("webhook", id="off", url="https://x.test", enabled=False)
    state = world.directory()
    one = state.account("default")
    trunk = state.trunks["pbx"]
    assert isinstance(trunk, RegisterTrunk)
    assert (trunk.password, one.numbers[0].ask_secret) == ("hidden", SIGNING)
    assert (one.agents["a"].tools, one.tools["t"].headers) == ((one.tools["t"],), (("A", "hidden"),))
    assert [member.agent_id for member in one.squads["s"].members] == ["a"]
    assert {name: webhook.secrets for name, webhook in one.webhooks.items()} == {"w": (made.made_secret,)}
    assert "hidden" not in repr(state)


def test_a_record_that_cannot_be_used_stops_no_other(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.create("agent", id="a")
    world.create("agent", id="b")
    with world.database.write() as connection:
        connection.execute(sa.update(resources).where(resources.c.id == "a").values(form={"id": "a", "gone": 1}))
    assert list(world.directory().account("default").agents) == ["b"]
    assert "the agent 'a' of account 'default' cannot be used" in caplog.text


async def test_the_follower_has_what_was_written_when_it_is_told(world: World) -> None:
    async with following(world) as (follower, states):
        world.create("agent", id="a")
        await asyncio.gather(follower.changed(), follower.changed())
        assert list(follower.state.account("default").agents) == ["a"]
        assert len(states) == 2
        await follower.changed()
        assert len(states) == 2


async def test_the_follower_sees_what_others_write(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("offhook.store.directory.FOLLOW_S", 0.01)
    async with following(world) as (_, states):
        world.create("agent", id="a")
        async with asyncio.timeout(5):
            while len(states) < 2:  # noqa: ASYNC110 (the other process has no event of this loop)
                await asyncio.sleep(0.005)
    assert list(states[-1].account("default").agents) == ["a"]


async def test_the_follower_keeps_what_it_has_while_the_database_is_away(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with following(world) as (follower, _):
        state = follower.state
        with monkeypatch.context() as patched:
            patched.setattr("offhook.store.directory.current_revision", broken)
            follower.look_now()
            async with asyncio.timeout(5):
                while "as they were at revision" not in caplog.text:  # noqa: ASYNC110 (a log has no event)
                    await asyncio.sleep(0.005)
            assert follower.state is state
        world.create("agent", id="a")
        await follower.changed()
        assert follower.state is not state


def broken(_connection: sa.Connection) -> int:
    raise OSError("away")


@contextlib.asynccontextmanager
async def following(world: World) -> AsyncIterator[tuple[DirectoryFollower, list[DirectoryState]]]:
    states: list[DirectoryState] = []
    follower = DirectoryFollower(world.database, VAULT, states.append)
    await follower.start()
    try:
        yield follower, states
    finally:
        await follower.stop()

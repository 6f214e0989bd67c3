"""A call that is asked for becomes the call of one agent, with a task and all that was given along."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from tests.store.stories import ARRIVED

from offhook.api.new_call import MachinesForm, NewCallForm
from offhook.call.dialling import PlaceCall
from offhook.config import DiallingSettings, Settings
from offhook.config.checking import convert
from offhook.model.call_events import CallEvent
from offhook.model.errors import BridgeError, CannotPlaceError, ResourceExhaustedError
from offhook.model.records import Agent, AnsweringMachinePlan, Tool, TransferDestination
from offhook.model.trunks import GatewayTrunk, Trunk
from offhook.server.placing import Placer, PlacingParts, overlaid, speaking_by, usable_trunks
from offhook.server.providers import agent_check
from offhook.store.directory import AccountDirectory, DirectoryState
from offhook.store.function_forms import FunctionForm
from offhook.store.rights import Rights

DEMO = Agent(agent_id="demo", provider="scripted", instructions="You are Ada.", by_operator=True)
BOOK = FunctionForm(name="book", webhook="https://your-app.com/api/book")
SEED = {"provider": "openai", "openai": {"instructions": "You are Bob.", "voice": "alloy"}}


def wanted(**more: Any) -> NewCallForm:
    return NewCallForm(**{"target": "sip:bob@192.0.2.9", "task": "Confirm the appointment", **more})


def gateway(trunk_id: str) -> Trunk:
    return GatewayTrunk(trunk_id=trunk_id, targets=(f"sip:{trunk_id}.example.com",))


@dataclass
class World:
    """What a placer knows, and what it did. ``keeps`` False: nothing is ever on disk."""

    settings: Settings = field(default_factory=Settings)
    accounts: dict[str, AccountDirectory] = field(default_factory=dict)
    shared: frozenset[str] = frozenset()
    placed: list[PlaceCall] = field(default_factory=list)
    readied: list[str] = field(default_factory=list)
    kept_events: list[CallEvent] = field(default_factory=list)
    problem: str | None = None
    unready: bool = False
    full: bool = False
    keeps: bool = True

    def __post_init__(self) -> None:
        self.accounts.setdefault("default", AccountDirectory(account_id="default", agents={"demo": DEMO}))
        rights = Rights(url_problem=lambda url: "" if url.startswith("https://") else "it is not https.")
        parts = PlacingParts(
            settings=lambda: self.settings,
            directory=lambda: DirectoryState(accounts=self.accounts, shared_trunks=self.shared),
            trunk_states=dict,
            calls=self,
            events=self,
            rights=rights,
            refuse=lambda account_id: self.problem,
            check=agent_check(self.settings),
            ready=self.ready,
        )
        self.placer = Placer(parts)

    async def ready(self, agent: Agent) -> None:
        if self.unready:
            raise BridgeError(agent.provider, "is not installed", "fatal")
        self.readied.append(agent.provider)

    def place(self, command: PlaceCall) -> None:
        if self.full:
            raise ResourceExhaustedError("no new call is placed: max_calls")
        self.placed.append(command)
        first = CallEvent(call_id=command.call_id, leg_id="", seq=1, at=1000.0, fact=ARRIVED)
        asyncio.get_running_loop().call_soon(self.placer.note, first)

    def append(self, event: CallEvent) -> None:
        raise AssertionError("a placer states no facts")

    async def kept(self, event: CallEvent) -> None:
        if not self.keeps:
            await asyncio.Event().wait()
        self.kept_events.append(event)

    def save_leg(self, call_id: str, leg_id: str, saved: bytes | None) -> None: ...

    def signal(self, signal: object) -> None: ...

    def agent_of(self, account_id: str = "default", **more: Any) -> Agent:
        return self.placer.plan(account_id, wanted(**more)).agent

    def refused(self, account_id: str = "default", **more: Any) -> CannotPlaceError:
        with pytest.raises(CannotPlaceError) as refused:
            self.placer.plan(account_id, wanted(**more))
        return refused.value


# ── the agent ──


def test_the_agent_gets_its_task_and_how_to_behave_beside_its_own_instructions() -> None:
    agent = World().agent_of(instructions="Be friendly ")
    assert (agent.agent_id, agent.task, agent.by_operator) == ("demo", "Confirm the appointment", True)
    own, this_call = agent.instructions.split("\n\n", 1)
    assert own == "You are Ada."
    assert this_call == "How to behave in this call, in which you have called somebody: Be friendly"


def test_without_further_instructions_the_agents_own_stay() -> None:
    assert World().agent_of(instructions=" ").instructions == "You are Ada."


def test_what_is_given_goes_before_what_the_agent_has() -> None:
    plain = World().agent_of()
    assert (plain.max_call_s, plain.hangs_up_when_done, plain.greeting) == (300, True, "")
    agent = World().agent_of(greeting="Good day!", max_duration_seconds=60, hangup_on_task_complete=False)
    assert (agent.max_call_s, agent.hangs_up_when_done, agent.greeting) == (60, False, "Good day!")


def test_who_picks_up_is_listened_for_unless_somebody_says_no() -> None:
    assert World().agent_of().machines == AnsweringMachinePlan(detect=True)
    own = replace(DEMO, machines=AnsweringMachinePlan(on_voicemail="hang_up"))
    keeps = World(accounts={"default": AccountDirectory(account_id="default", agents={"demo": own})})
    assert keeps.agent_of().machines == AnsweringMachinePlan(detect=True, on_voicemail="hang_up")
    machines = MachinesForm(on_voicemail="leave_message", message="Call us")
    assert World().agent_of(machines=machines).machines == AnsweringMachinePlan(
        detect=True, on_voicemail="leave_message", message="Call us"
    )
    assert World().agent_of(machines=MachinesForm(detect=False)).machines == AnsweringMachinePlan()


def test_functions_are_added_and_take_the_place_of_the_agent_s() -> None:
    old = Tool(tool_id="old", name="book", url="https://old.example")
    other = Tool(tool_id="other", name="cancel", url="https://old.example")
    desk = TransferDestination(name="desk", target="+491", function="to_desk")
    agent = replace(DEMO, tools=(old, other), destinations=(desk,))
    transfer = FunctionForm(name="to_desk", type="transfer", target="+61400000001")

    given = overlaid(agent, wanted(functions=(BOOK, transfer)), DiallingSettings())

    assert [(tool.name, tool.url, tool.dialect) for tool in given.tools] == [
        ("cancel", "https://old.example", "offhook"),
        ("book", "https://your-app.com/api/book", "sip4ai"),
    ]
    assert [(one.function, one.target) for one in given.destinations] == [("to_desk", "+61400000001")]


def test_no_call_lasts_longer_than_the_operator_allows() -> None:
    short = World(settings=Settings(dialling=DiallingSettings(max_call_s=120)))
    assert short.agent_of().max_call_s == 120
    refused = short.refused(max_duration_seconds=121)
    assert (refused.kind, refused.field) == ("invalid", "max_duration_seconds")
    assert "120" in refused.fix


# ── whose agent ──


def two_agents(account_id: str) -> AccountDirectory:
    agents = {name: Agent(agent_id=name, provider="scripted") for name in ("one", "two")}
    return AccountDirectory(account_id=account_id, agents=agents)


def test_an_agent_is_named_or_the_only_one() -> None:
    world = World(accounts={"acme": two_agents("acme")})
    assert world.agent_of("acme", agent_id="two").agent_id == "two"
    unnamed = world.refused("acme")
    assert (unnamed.kind, unnamed.field, unnamed.fix) == ("invalid", "agent_id", "Use one of: one, two")
    assert world.refused("acme", agent_id="demo").field == "agent_id"  # another account's
    assert world.refused("nobody").fix.startswith("Make an agent first")


def test_the_agent_that_config_json_describes_places_the_calls_of_its_account() -> None:
    settings = convert({**SEED, "providers": {"openai": {"api_key": "k"}}})
    accounts = {name: two_agents(name) for name in ("default", "acme")}
    world = World(settings=settings, accounts=accounts)
    agent = world.agent_of()
    assert (agent.agent_id, agent.provider, agent.voice, agent.by_operator) == ("main", "openai", "alloy", True)
    assert agent.instructions.startswith("You are Bob.")
    assert world.agent_of(agent_id="two").agent_id == "two"
    assert world.refused("acme").field == "agent_id"


def test_another_provider_gets_its_own_section_alone() -> None:
    gemini = {"gemini": {"voice": "Puck", "system_prompt": "You are Eve."}}
    keys = {"openai": {"api_key": "k"}, "gemini": {"api_key": "k"}}
    world = World(settings=convert({**SEED, **gemini, "providers": keys}))
    agent = world.agent_of(provider="gemini")
    assert (agent.provider, agent.voice) == ("gemini", "Puck")
    assert agent.instructions.startswith("You are Eve.")
    assert world.agent_of(provider="gemini", agent_id="main") == agent


def test_a_section_describes_an_agent_although_another_is_the_only_one() -> None:
    document = {"gemini": {"voice": "Puck"}, "providers": {"gemini": {"api_key": "k"}}}
    world = World(settings=convert(document))
    assert world.agent_of(provider="gemini").voice == "Puck"
    assert (world.agent_of().agent_id, world.agent_of(provider="gemini").agent_id) == ("demo", "main")


def test_an_agent_s_options_do_not_go_with_it_to_another_provider() -> None:
    agent = replace(DEMO, provider="openai", voice="alloy", options={"api_key": "secret"})
    assert speaking_by(agent, "openai") is agent
    moved = speaking_by(agent, "gemini")
    assert (moved.provider, moved.voice, dict(moved.options)) == ("gemini", "", {})


@pytest.mark.parametrize("settings", [Settings(), convert({**SEED, "providers": {"openai": {"api_key": "k"}}})])
def test_a_provider_without_its_key_is_refused_and_the_variable_named(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("GEMINI_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    refused = World(settings=settings).refused(provider="gemini")
    assert (refused.kind, refused.field) == ("invalid", "provider")
    assert refused.problem.endswith(".api_key is missing")
    assert "GEMINI_API_KEY" in refused.fix
    unknown = World(settings=settings).refused(provider="nobody")
    assert (unknown.kind, unknown.field) == ("invalid", "provider")
    assert "gemini" in unknown.fix


def test_a_mistake_in_a_section_is_told_in_the_words_of_config_json() -> None:
    sections = {**SEED, "gemini": {"voicee": "Puck"}, "providers": {"gemini": {"api_key": "k"}}}
    refused = World(settings=convert({**sections, "openai": {"api_key": "k"}})).refused(provider="gemini")
    assert (refused.field, refused.problem) == ("provider", "gemini.voicee is not known")


# ── URLs and headers ──


def test_webhooks_are_told_once_each() -> None:
    both = {"event_webhook": "https://a.example/", "result_webhook": "https://b.example/"}
    assert World().placer.plan("default", wanted(**both)).event_webhooks == ("https://a.example/", "https://b.example/")
    same = dict.fromkeys(both, "https://a.example/")
    assert World().placer.plan("default", wanted(**same)).event_webhooks == ("https://a.example/",)
    assert World().placer.plan("default", wanted()).event_webhooks == ()


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"event_webhook": "http://10.0.0.1/"}, "event_webhook"),
        ({"result_webhook": "ftp://a.example/"}, "result_webhook"),
        ({"functions": (FunctionForm(name="a", webhook="http://10.0.0.1/"),)}, "functions[0].webhook"),
        (
            {"functions": (BOOK, FunctionForm(name="a", webhook="https://a/", hold_audio_url="http://10.0.0.1/"))},
            "functions[1].hold_audio_url",
        ),
        ({"functions": (BOOK, BOOK)}, "functions[1].name"),
        ({"functions": (FunctionForm(name="a"),)}, "functions[0].webhook"),
        ({"headers": {"Contact": "x"}}, "headers.Contact"),
        ({"headers": {"X-Ticket": "7\r\nVia: x"}}, "headers.X-Ticket"),
        ({"headers": {"X-Ticket": "7\x0bVia: x"}}, "headers.X-Ticket"),
        ({"headers": {"P-Asserted-Identity": "<sip:110@a.example>"}}, "headers.P-Asserted-Identity"),
        ({"headers": {"p-charge-info": "<sip:110@a.example>"}}, "headers.p-charge-info"),
        ({"headers": {"Remote-Party-ID": "<sip:110@a.example>"}}, "headers.Remote-Party-ID"),
        ({"headers": {"Diversion": "<sip:110@a.example>"}}, "headers.Diversion"),
        ({"headers": {f"X-{number}": "7" for number in range(200)}}, "headers"),
        ({"target": "ring me"}, "target"),
        ({"trunk_id": "nobody"}, "trunk_id"),
    ],
)
def test_what_cannot_be_used_is_named(given: Mapping[str, Any], named: str) -> None:
    refused = World().refused(**given)
    assert (refused.kind, refused.field) == ("invalid", named)
    assert refused.fix


def test_headers_and_patience_go_with_the_call() -> None:
    command = World().placer.plan("default", wanted(headers={"X-Ticket": "7"}, ring_timeout_seconds=20), call_id="c9")
    assert (command.headers, command.no_answer_s, command.call_id) == ((("X-Ticket", "7"),), 20.0, "c9")


# ── trunks ──


def test_an_account_calls_by_its_own_trunks_then_by_everybodys() -> None:
    accounts = {
        "default": AccountDirectory(
            account_id="default", trunks={name: gateway(name) for name in ("alpha", "made", "zulu")}
        ),
        "acme": AccountDirectory(account_id="acme", trunks={"own": gateway("own")}),
    }
    state = DirectoryState(accounts=accounts, shared_trunks=frozenset({"alpha", "zulu"}))

    def ids(account_id: str) -> list[str]:
        return [trunk.trunk_id for trunk in usable_trunks(state, account_id, ["zulu", "alpha"])]

    assert ids("default") == ["made", "zulu", "alpha"]
    assert ids("acme") == ["own", "zulu", "alpha"]
    assert ids("nobody") == ["zulu", "alpha"]


# ── the call ──


async def test_it_is_told_once_it_is_on_record() -> None:
    world = World()
    placed = await world.placer.place_now("default", wanted())
    (command,), (event,) = world.placed, world.kept_events
    assert (placed.call_id, placed.status) == (command.call_id, "initiating") == (event.call_id, "initiating")
    assert placed.created_at.timestamp() == event.at
    assert world.readied == ["scripted"]


async def test_twenty_calls_at_once_are_twenty_calls() -> None:
    world = World()
    placed = await asyncio.gather(*(world.placer.place_now("default", wanted()) for _ in range(20)))
    assert len({one.call_id for one in placed}) == len(world.placed) == 20


@pytest.mark.parametrize(
    ("hinder", "kind"),
    [
        ({"problem": "over its minutes"}, "too_many"),
        ({"full": True}, "unavailable"),
        ({"unready": True}, "unavailable"),
    ],
)
async def test_what_hinders_is_told_and_nothing_begun(hinder: dict[str, Any], kind: str) -> None:
    world = World(**hinder)
    with pytest.raises(CannotPlaceError) as refused:
        await world.placer.place_now("default", wanted())
    assert (refused.value.kind, world.placed) == (kind, [])


async def test_a_call_that_is_never_recorded_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("offhook.server.placing.RECORDED_S", 0.01)
    with pytest.raises(CannotPlaceError) as refused:
        await World(keeps=False).placer.place_now("default", wanted())
    assert refused.value.kind == "unavailable"

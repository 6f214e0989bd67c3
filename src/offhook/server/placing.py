"""Calls that somebody asks for by the API: whose agent does the task, what it gets along, by which trunk it goes; then
it is placed, and its first row waited for.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

import msgspec

from offhook.api.new_call import MAX_DURATION_S, NewCallForm, PlacedCall
from offhook.call.dialling import PlaceCall
from offhook.call.first_row import KEPT_DEADLINE_S
from offhook.call.placing import WantedCall, plan_call
from offhook.call.ports import EventSink
from offhook.config import DiallingSettings, Settings, provider_record
from offhook.config.sip4ai import in_their_words
from offhook.delivery.event_documents import utc
from offhook.model.call_events import DEFAULT_ACCOUNT, CallEvent
from offhook.model.errors import BridgeError, CannotPlaceError, ConfigError, ResourceExhaustedError
from offhook.model.records import Agent, AnsweringMachinePlan
from offhook.model.trunks import Trunk, TrunkChanged
from offhook.server.dial_rules import policy_of
from offhook.sip.custom_headers import MOST_HEADERS, is_custom_header, states_identity
from offhook.store.directory import DirectoryState
from offhook.store.forms import machines_record
from offhook.store.function_forms import FunctionForm, check_functions, function_tools
from offhook.store.rights import Rights

RECORDED_S = KEPT_DEADLINE_S + 1.0
"""For the first row. Longer than the call itself waits: who is told that nothing was placed may ask again, and there
must be no call then."""

BEHAVIOUR = "How to behave in this call, in which you have called somebody: {instructions}"


class Calls(Protocol):
    """``CallManager`` implements it."""

    def place(self, command: PlaceCall) -> object:
        """Raises ``ResourceExhaustedError`` while none is placed, ``CannotPlaceError`` over a limit."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class PlacingParts:
    """What a placer needs of the server; everything that may change meanwhile is asked each time.

    ``refuse``: why an account may have no further outbound call, None where it may. ``check``: raises ``ConfigError``
    for an agent that its provider cannot work with. ``ready``: returns once its provider is there; raises
    ``BridgeError``.
    """

    settings: Callable[[], Settings]
    directory: Callable[[], DirectoryState]
    trunk_states: Callable[[], Mapping[str, TrunkChanged]]
    calls: Calls
    events: EventSink
    rights: Rights
    refuse: Callable[[str], str | None]
    check: Callable[[Agent], None]
    ready: Callable[[Agent], Awaitable[None]]


class Placer:
    """Places calls at once, whatever their schedules say. Must ``note`` every fact of every call."""

    def __init__(self, parts: PlacingParts) -> None:
        self._parts = parts
        self._first_facts: dict[str, asyncio.Future[CallEvent]] = {}

    def note(self, event: CallEvent) -> None:
        waiting = self._first_facts.get(event.call_id)
        if waiting is not None and not waiting.done():
            waiting.set_result(event)

    async def place_now(self, account_id: str, wanted: NewCallForm, *, call_id: str = "") -> PlacedCall:
        """Returns once the call is on record. Raises ``CannotPlaceError``."""
        command = self.plan(account_id, wanted, call_id=call_id)
        await self._prepare(command.agent)
        with self._first_fact(command.call_id) as first_fact:
            self._begin(command)
            return await self._kept(command.call_id, first_fact)

    def plan(self, account_id: str, wanted: NewCallForm, *, call_id: str = "") -> PlaceCall:
        """The command, with everything checked that can be without the network. Raises ``CannotPlaceError``."""
        settings, state = self._parts.settings(), self._parts.directory()
        _check_headers(wanted.headers)
        webhooks = self._webhooks(wanted)
        self._check_functions(wanted.functions)
        agent = overlaid(self._agent(account_id, wanted), wanted, settings.dialling)
        states = self._parts.trunk_states()
        return plan_call(
            WantedCall(
                target=wanted.target,
                agent=agent,
                caller_id=wanted.caller_id,
                trunk_id=wanted.trunk_id,
                no_answer_s=float(wanted.ring_timeout_seconds),
                headers=tuple(wanted.headers.items()),
                event_webhooks=webhooks,
                account_id=account_id,
                call_id=call_id or str(uuid.uuid4()),
            ),
            usable_trunks(state, account_id, [trunk.id for trunk in settings.trunks]),
            {trunk_id for trunk_id, changed in states.items() if changed.phase == "online"},
            policy_of(settings.dialling),
        )

    # ── whose agent ──────────────────────────────────────────────────────────────────────────────────────

    def _agent(self, account_id: str, wanted: NewCallForm) -> Agent:
        """Before the task. Raises ``CannotPlaceError``."""
        settings = self._parts.settings()
        agents = self._parts.directory().account(account_id).agents
        main = provider_record(settings, wanted.provider) if account_id == DEFAULT_ACCOUNT else None
        if main is not None and wanted.agent_id in ("", main.agent_id):
            agent = main
        else:
            agent = speaking_by(_chosen(agents, wanted.agent_id), wanted.provider)
        if wanted.provider:
            self._check_provider(agent, settings if agent is main else None)
        return agent

    def _check_provider(self, agent: Agent, settings: Settings | None) -> None:
        """``settings``: of the main agent, whose options stand in a section of their own."""
        try:
            self._parts.check(agent)
        except ConfigError as error:
            if settings is not None:
                error = in_their_words(msgspec.structs.replace(settings, provider=agent.provider), error)
            problem = error.problem if error.key == "provider" else f"{error.key} {error.problem}"
            raise CannotPlaceError("invalid", problem, field="provider", fix=error.fix) from None

    async def _prepare(self, agent: Agent) -> None:
        try:
            await self._parts.ready(agent)
        except BridgeError as error:
            raise CannotPlaceError("unavailable", str(error), field="provider", fix="Name another one") from None

    # ── URLs ─────────────────────────────────────────────────────────────────────────────────────────────

    def _webhooks(self, wanted: NewCallForm) -> tuple[str, ...]:
        given = {"event_webhook": wanted.event_webhook, "result_webhook": wanted.result_webhook}
        for field, url in given.items():
            self._check_url(field, url)
        return tuple(dict.fromkeys(url for url in given.values() if url))

    def _check_functions(self, functions: tuple[FunctionForm, ...]) -> None:
        try:
            check_functions("functions", functions)
        except ConfigError as error:
            raise CannotPlaceError("invalid", error.problem, field=error.key, fix=error.fix) from None
        for index, function in enumerate(functions):
            self._check_url(f"functions[{index}].webhook", function.webhook)
            self._check_url(f"functions[{index}].hold_audio_url", function.hold_audio_url)

    def _check_url(self, field: str, url: str) -> None:
        if url and (problem := self._parts.rights.url_problem(url)):
            fix = "Use a public https address, or ask the operator for security.allowed_targets"
            raise CannotPlaceError("invalid", problem.rstrip("."), field=field, fix=fix)

    # ── the call ─────────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def _first_fact(self, call_id: str) -> Iterator[asyncio.Future[CallEvent]]:
        waiting = self._first_facts[call_id] = asyncio.get_running_loop().create_future()
        try:
            yield waiting
        finally:
            del self._first_facts[call_id]

    def _begin(self, command: PlaceCall) -> None:
        """Raises ``CannotPlaceError``. Of many at a time some may pass ``refuse`` and be refused when they begin,
        on record: an account's calls are counted then. Limits of ``dialling`` are judged and counted at once.
        """
        if problem := self._parts.refuse(command.account_id):
            raise CannotPlaceError("too_many", problem, fix="Wait until calls end, or for the next day (UTC)")
        try:
            self._parts.calls.place(command)
        except ResourceExhaustedError as error:
            raise CannotPlaceError("unavailable", str(error), fix="Try again in a while") from None

    async def _kept(self, call_id: str, first_fact: asyncio.Future[CallEvent]) -> PlacedCall:
        """From here on the call can be read by everybody."""
        try:
            async with asyncio.timeout(RECORDED_S):
                event = await first_fact
                await self._parts.events.kept(event)
        except TimeoutError:
            problem = "the call could not be recorded, and was not placed"
            raise CannotPlaceError("unavailable", problem, fix="Try again in a while") from None
        return PlacedCall(call_id=call_id, created_at=utc(event.at))


# ── the agent of one call ────────────────────────────────────────────────────────────────────────────────


def _chosen(agents: Mapping[str, Agent], agent_id: str) -> Agent:
    """The one of this id, or the only one. Raises ``CannotPlaceError``."""
    if agent_id in agents:
        return agents[agent_id]
    if agent_id:
        raise _which_agent(f"there is no agent {agent_id[:64]!r}", agents)
    if len(agents) == 1:
        return next(iter(agents.values()))
    problem = "is missing: there are several agents" if agents else "is missing: there is no agent that could call"
    raise _which_agent(problem, agents)


def _which_agent(problem: str, known: Mapping[str, Agent]) -> CannotPlaceError:
    choice = ", ".join(sorted(known)[:20])
    fix = f"Use one of: {choice}" if choice else "Make an agent first: POST /api/agents"
    return CannotPlaceError("invalid", problem, field="agent_id", fix=fix)


def speaking_by(agent: Agent, provider: str) -> Agent:
    """The same agent by another provider; options and voice are of the one it had, and do not go with it."""
    if provider in ("", agent.provider):
        return agent
    return replace(agent, provider=provider, options={}, voice="")


def overlaid(agent: Agent, wanted: NewCallForm, dialling: DiallingSettings) -> Agent:
    """The agent of this one call: its task, and what else was given. Raises ``CannotPlaceError``."""
    tools, destinations = function_tools(wanted.functions)
    given = {one.name for one in wanted.functions}
    return replace(
        agent,
        task=wanted.task,
        instructions=behaving(agent.instructions, wanted.instructions),
        greeting=wanted.greeting or agent.greeting,
        max_call_s=_max_call_s(wanted.max_duration_seconds, dialling.max_call_s),
        hangs_up_when_done=_or(wanted.hangup_on_task_complete, agent.hangs_up_when_done),
        machines=_machines(agent, wanted),
        tools=(*(one for one in agent.tools if one.name not in given), *tools),
        destinations=(*(one for one in agent.destinations if one.function not in given), *destinations),
    )


def behaving(own: str, behaviour: str) -> str:
    """The agent's own instructions, then how it is to behave in this call."""
    said = BEHAVIOUR.format(instructions=behaviour.strip()) if behaviour.strip() else ""
    return "\n\n".join(filter(None, (own.strip(), said)))


def _or(given: bool | None, own: bool) -> bool:
    return own if given is None else given


def _max_call_s(wanted: int | None, most: int) -> int:
    if wanted is None:
        return min(MAX_DURATION_S, most)
    if wanted > most:
        problem = f"{wanted} is more than this server's calls may last"
        fix = f"Ask for {most} or less, or raise dialling.max_call_s in config.json"
        raise CannotPlaceError("invalid", problem, field="max_duration_seconds", fix=fix)
    return wanted


def _machines(agent: Agent, wanted: NewCallForm) -> AnsweringMachinePlan:
    """Whoever calls somebody wants to know who picks up, unless he says otherwise."""
    return replace(agent.machines, detect=True) if wanted.machines is None else machines_record(wanted.machines)


# ── trunks ───────────────────────────────────────────────────────────────────────────────────────────────


def usable_trunks(state: DirectoryState, account_id: str, configured: list[str]) -> tuple[Trunk, ...]:
    """The account's own, then those of config.json, which all accounts share, in its order."""
    own = state.account(account_id).trunks
    everybodys = state.trunks
    shared = sorted(state.shared_trunks & everybodys.keys(), key=lambda one: _place_of(one, configured))
    mine = [trunk for trunk_id, trunk in own.items() if trunk_id not in state.shared_trunks]
    return (*mine, *(everybodys[trunk_id] for trunk_id in shared))


def _place_of(trunk_id: str, configured: list[str]) -> tuple[int, str]:
    return (configured.index(trunk_id) if trunk_id in configured else len(configured), trunk_id)


def _check_headers(headers: Mapping[str, str]) -> None:
    if len(headers) > MOST_HEADERS:
        raise CannotPlaceError("invalid", f"more than {MOST_HEADERS}", field="headers", fix="Send fewer")
    for name, value in headers.items():
        if not is_custom_header(name, value):
            fix = "Use a name like X-Ticket, of letters, digits and hyphens, and a value on one line"
            raise CannotPlaceError("invalid", "cannot be sent", field=f"headers.{name[:64]}", fix=fix)
        if states_identity(name):  # a caller id that nobody has verified
            fix = "Name one of the trunk's numbers as caller_id"
            raise CannotPlaceError("invalid", "says who calls", field=f"headers.{name}", fix=fix)

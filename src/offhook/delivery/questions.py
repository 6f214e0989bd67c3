"""Asks other people's servers who answers a call and what a tool says: signed, by a deadline, by the guarded client."""

from __future__ import annotations

import secrets as random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from offhook.call.ports import AgentAnswer, AgentForCall, AgentNamed, NoAnswer, ToolOutput, ToolUse
from offhook.delivery.dialects import SHAPES, SIGNS
from offhook.delivery.outbound_http import OutboundHttp, OutboundRequest, OutboundResponse
from offhook.delivery.questions_wire import NATIVE, AgentById, AgentDescribed, WireRequest, merged_headers
from offhook.delivery.sip4ai_signing import AccountSecret
from offhook.model.errors import ConfigError, OutboundError
from offhook.model.records import Agent, Dialect, TransferDestination
from offhook.store.directory import AccountDirectory, DirectoryState
from offhook.store.forms import AgentForm, Catalogue, Known, agent_record, check_agent

ANSWER_BYTES = 256 * 1024
"""Of an answer: a described agent, or a tool's text of 32,000 characters, is less."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Signing:
    """``secret`` "": it is not signed. ``key``: what the secret is called where it was given."""

    secret: str = field(repr=False)
    key: str
    dialect: Dialect = "offhook"


class HttpQuestions:
    """Implements the call's ``Questions``. ``state``: the newest copy of the directory.

    ``allow``: whether an agent may be as a server describes it; raises ``ConfigError``. ``account_secret``: what an
    account's functions of the dialect ``sip4ai`` are signed with; other tools have secrets of their own.
    """

    def __init__(
        self,
        http: OutboundHttp,
        state: Callable[[], DirectoryState],
        *,
        allow: Callable[[AgentForm], None] = lambda form: None,
        account_secret: AccountSecret = lambda account_id: "",
        now: Callable[[], float] = time.time,
    ) -> None:
        self._http = http
        self._state = state
        self._allow = allow
        self._account_secret = account_secret
        self._now = now

    async def agent_for_call(self, question: AgentForCall, deadline_s: float) -> AgentAnswer:
        asked = NATIVE.render_call(question)
        response = await self._ask(asked, _Signing(secret=question.secret, key="ask_secret"), deadline_s)
        if isinstance(response, NoAnswer):
            return response
        answer = NATIVE.read_call(response)
        if not isinstance(answer, AgentById | AgentDescribed):
            return answer
        state = self._state()
        try:
            if isinstance(answer, AgentDescribed):
                self._allow(answer.form)
        except ConfigError as error:
            return NoAnswer(reason=f"the answer cannot be used: agent.{error}")
        return find_agent(answer, state.account(question.account_id), state.shared_trunks)

    async def use_tool(self, question: ToolUse, deadline_s: float) -> ToolOutput | NoAnswer:
        shape = SHAPES[question.tool.dialect]
        response = await self._ask(shape.render_tool(question), self._signing(question), deadline_s)
        return response if isinstance(response, NoAnswer) else shape.read_tool(question, response)

    def _signing(self, question: ToolUse) -> _Signing:
        tool = question.tool
        if tool.dialect == "sip4ai":
            secret = self._account_secret(question.account_id)
            return _Signing(secret=secret, key="webhook_secret", dialect=tool.dialect)
        return _Signing(secret=tool.secret, key="secret", dialect=tool.dialect)

    async def _ask(self, asked: WireRequest, signing: _Signing, deadline_s: float) -> OutboundResponse | NoAnswer:
        try:
            signed = self._signed(asked, signing)
            return await self._http.send(
                OutboundRequest(
                    method=asked.method,
                    url=asked.url,
                    headers=merged_headers(asked.headers, signed),
                    body=asked.body,
                    deadline_s=deadline_s,
                    max_response_bytes=ANSWER_BYTES,
                )
            )
        except OutboundError as error:
            return NoAnswer(reason=error.problem)
        except ConfigError as error:
            return NoAnswer(reason=f"the question cannot be signed: {signing.key}: {error.problem}")

    def _signed(self, asked: WireRequest, signing: _Signing) -> dict[str, str]:
        """Raises ``ConfigError`` for a secret that is none. A question is asked once, so its id is anything new."""
        if not signing.secret:
            return {}
        message_id = f"msg_{random.token_hex(16)}"
        sign = SIGNS[signing.dialect]
        return sign(message_id=message_id, at=int(self._now()), body=asked.body, secrets=(signing.secret,))


def find_agent(
    answer: AgentById | AgentDescribed, account: AccountDirectory, shared_trunks: frozenset[str]
) -> AgentNamed | NoAnswer:
    """The agent that a server named or described; it refers to nothing but what is its account's, or shared."""
    if isinstance(answer, AgentDescribed):
        return _described(answer.form, account, shared_trunks)
    agent = account.agents.get(answer.agent_id)
    if agent is None:
        return NoAnswer(reason=f"agent_id: there is no agent {answer.agent_id[:80]!r}")
    return AgentNamed(agent=agent)


def _described(form: AgentForm, account: AccountDirectory, shared_trunks: frozenset[str]) -> AgentNamed | NoAnswer:
    trunks = shared_trunks.union(account.trunks)
    try:
        check_agent("agent", form, Known(agents=account.agents, trunks=trunks, tools=account.tools))
    except ConfigError as error:
        return NoAnswer(reason=f"the answer cannot be used: {error}")
    agent = agent_record(form, Catalogue())
    places = zip(agent.destinations, form.destinations, strict=True)
    return AgentNamed(
        agent=replace(
            agent,
            tools=tuple(account.tools[name] for name in form.tools),
            destinations=tuple(_briefed(made, account.agents.get(said.briefing_agent)) for made, said in places),
        )
    )


def _briefed(destination: TransferDestination, briefer: Agent | None) -> TransferDestination:
    """Who briefs an operator transfers nobody, as for any other agent."""
    return replace(destination, briefing_agent=None if briefer is None else replace(briefer, destinations=()))

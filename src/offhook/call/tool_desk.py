"""Carries out what the model's tool calls ask for, and lets the caller hear something while one runs."""

from __future__ import annotations

from typing import Protocol, assert_never

from offhook.bridge.codec import BridgeInput, Say, ToolCall, ToolResult
from offhook.call.controls import CallControls
from offhook.call.inbox import BriefingJudged, ToolAnswered, TransferCaller
from offhook.call.tool_runs import ToolRuns
from offhook.call.tools import (
    AskServer,
    CompleteTask,
    HangUpAfterSpeech,
    JudgeTransfer,
    ReturnResult,
    SendDigits,
    SendText,
    StartTransfer,
    ToolCommand,
    is_own,
    run_tool,
)
from offhook.call.wiring import Wiring
from offhook.model.call_events import CallFact, TaskCompleted, ToolCalled, ToolReturned
from offhook.model.records import Agent, Tool

FILLER_AFTER_S = 0.6
"""A tool that answers sooner needs none: the agent's own answer comes about then."""

MOST_CALLS = 1000
"""In a call, by one agent: one every few seconds for an hour. Each is kept with the call."""

MOST_CHARACTERS = 64_000
"""Of one call: name, arguments and id."""

TASK_DONE = "Noted. Say goodbye in one short sentence; then the call ends."

TALK_GOES_ON = "Noted. The call goes on: say what is left to say, and call end_call once you have said goodbye."


class ToolUser(Protocol):
    """The conduct, as its tools need it."""

    @property
    def agent(self) -> Agent: ...

    @property
    def silent(self) -> bool:
        """The agent says nothing, and is about to say nothing."""
        ...

    def record(self, fact: CallFact) -> None: ...

    def tell(self, command: BridgeInput) -> None: ...

    def hang_up_after_speech(self, reason: str, *, after_words: bool = False) -> None: ...

    def press(self, digits: str) -> bool:
        """Whether the remote party takes digits."""
        ...

    def write(self, text: str) -> None: ...


class ToolDesk:
    """Those of one agent. ``agent_key``: how its facts are told from another agent's."""

    def __init__(self, call: CallControls, agent_key: str, wiring: Wiring, user: ToolUser) -> None:
        self._call = call
        self._key = agent_key
        self._user = user
        self._runs = ToolRuns(call, user.agent.agent_id, agent_key)
        self._waiting = WaitingAudio(wiring)
        self._calls = 0
        for tool in user.agent.tools:
            call.equipment.hold_audio.want(tool.hold_audio)

    @property
    def running(self) -> bool:
        return bool(self._runs.running)

    def use(self, call: ToolCall) -> None:
        """What is too much is refused, and not recorded: a model that runs wild fills no disk."""
        self._calls += 1
        problem = _excess(call, self._calls)
        if problem:
            self._user.tell(ToolResult(tool_call_id=call.tool_call_id, output=problem, is_error=True))
            return
        own = is_own(call.name, self._user.agent)
        called = ToolCalled(tool=call.name, arguments=call.arguments, tool_call_id=call.tool_call_id, own=own)
        self._user.record(called)
        for command in run_tool(call, self._user.agent):
            self._carry_out(command, call)

    def _carry_out(self, command: ToolCommand, call: ToolCall) -> None:
        match command:
            case HangUpAfterSpeech(reason=reason):
                self._user.hang_up_after_speech(reason)
            case CompleteTask(outcome=outcome, summary=summary):
                self._complete(call, TaskCompleted(outcome=outcome, summary=summary))
            case SendDigits(digits=digits):
                self._send_digits(call.tool_call_id, digits)
            case SendText(text=text):
                self._user.write(text)
            case ReturnResult(result=result) if is_own(call.name, self._user.agent):
                self._refuse(call, result.output)
            case ReturnResult(result=result):
                self._user.tell(result)
            case StartTransfer(destination=destination):
                self._call.deliver(TransferCaller(destination=destination, tool_call_id=call.tool_call_id))
            case JudgeTransfer(accept=accept):
                self._call.deliver(BriefingJudged(accept=accept))
            case AskServer(tool=tool, arguments=arguments):
                self._ask_server(tool, call, arguments)
            case _:
                assert_never(command)

    def _complete(self, call: ToolCall, completed: TaskCompleted) -> None:
        self._user.record(completed)
        hangs_up = self._user.agent.hangs_up_when_done
        output = TASK_DONE if hangs_up else TALK_GOES_ON
        self._user.tell(ToolResult(tool_call_id=call.tool_call_id, output=output))
        if hangs_up:
            self._user.hang_up_after_speech(f"the task is done: {completed.outcome}", after_words=True)

    def _send_digits(self, tool_call_id: str, digits: str) -> None:
        sent = self._user.press(digits)
        output = f"sent {digits}" if sent else "not sent: the other side takes no digits, or too many wait already"
        self._user.tell(ToolResult(tool_call_id=tool_call_id, output=output, is_error=not sent))

    def _ask_server(self, tool: Tool, call: ToolCall, arguments: str) -> None:
        problem = self._runs.begin(tool, call, arguments)
        if problem:
            self._refuse(call, problem)
        elif tool.filler:
            self._call.arm("filler", FILLER_AFTER_S, self._key)

    def _refuse(self, call: ToolCall, problem: str) -> None:
        """A function of the agent's own is not run; the record says so, too."""
        told = ToolReturned(tool=call.name, output=problem, is_error=True, tool_call_id=call.tool_call_id)
        self._user.record(told)
        self._user.tell(ToolResult(tool_call_id=told.tool_call_id, output=told.output, is_error=True))

    def answered(self, fact: ToolAnswered) -> None:
        """A tool's server is done; nobody may wait for it any more."""
        if self._runs.answered(fact):
            told = fact.told
            self._user.record(told)
            self._user.tell(ToolResult(tool_call_id=told.tool_call_id, output=told.output, is_error=told.is_error))

    def cancel(self, tool_call_id: str) -> None:
        self._runs.cancel(tool_call_id)

    def fill(self) -> None:
        """A tool runs for a while now: the agent says so, unless it speaks already."""
        filler = next((tool.filler for tool in self._runs.running if tool.filler), "")
        if filler and self._user.silent:
            self._user.tell(Say(text=filler))

    def settle(self) -> None:
        """Something changed in the call: the caller hears the audio of a tool that runs while nobody speaks."""
        audio = next((tool.hold_audio for tool in self._runs.running if tool.hold_audio), "")
        self._waiting.play(audio if self._user.silent else "")

    def stop(self) -> None:
        """Nobody waits for a result any more."""
        self._runs.stop()
        self._call.disarm("filler", self._key)
        self._waiting.play("")


def _excess(call: ToolCall, calls: int) -> str:
    """What is wrong with it; "" for nothing."""
    if len(call.name) + len(call.arguments) + len(call.tool_call_id) > MOST_CHARACTERS:
        return f"more than {MOST_CHARACTERS} characters were given. Give less"
    if calls > MOST_CALLS and call.name != "end_call":
        return f"{MOST_CALLS} tools were called already. Call none any more"
    return ""


class WaitingAudio:
    """What the caller hears while a tool runs."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self._playing = ""

    def play(self, name: str) -> None:
        """From now on; "" is nothing."""
        if name != self._playing:
            self._playing = name
            self._wiring.play_while_waiting(name)

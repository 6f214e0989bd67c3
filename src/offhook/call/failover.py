"""What becomes of a talk whose AI provider failed: the agent's fallbacks one after the other, and that nobody hears
nothing meanwhile."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol, assert_never

from offhook.bridge.codec import TextInput, Utterance
from offhook.call.agent_session import AgentSession
from offhook.call.controls import CallControls
from offhook.call.inbox import TransferCaller
from offhook.model.errors import BridgeError
from offhook.model.records import Agent, PromptFallback, ProviderFallback, TransferDestination, TransferFallback

RECONNECTING_S = 1.2
"""Of silence, while the provider is reached again by itself: most times that takes half a second, unnoticed."""

REPLACING_S = 0.9
"""Of silence, while another provider is opened; with what is said then the caller hears something within two."""

REPLACED_IN_S = 5.0
"""A second provider that is not ready by then has failed as well: the caller has waited long enough."""

MOST_QUOTED = 500
"""Characters of the last utterance."""


class Talk(Protocol):
    """The agent's seat, as its failover needs it."""

    @property
    def is_answered(self) -> bool:
        """Somebody can hear us."""
        ...

    def change_provider(self, agent: Agent) -> None:
        """Open another provider, as this agent. Raises ``BridgeError`` where it cannot be had."""
        ...

    def play_recorded(self, audio: str, then: Callable[[], None]) -> None:
        """And do that when it was heard."""
        ...

    def pick_up_without_provider(self) -> None:
        """Nobody has answered the call yet; that is to be done now."""
        ...

    def give_up(self, problem: str, *, apologise: bool) -> None: ...

    def provider_failed(self, error: BridgeError) -> None:
        """Record it."""
        ...


class Failover:
    """The fallbacks of one agent; each is tried once in a call. ``failed``: whose place is to be taken; "" for none."""

    def __init__(self, call: CallControls, agent: Agent, talk: Talk) -> None:
        self._call = call
        self._agent = agent
        self._talk = talk
        self._left = deque(agent.fallbacks)
        self._tries = False
        self._prompted = False
        self.failed = ""
        self.problem = ""

    @property
    def stranded(self) -> bool:
        """The provider failed, and nothing is being done about it yet."""
        return bool(self.failed) and not self._tries

    def first(self, make: Callable[[Agent], AgentSession]) -> AgentSession:
        """The agent's own provider, or the next one where that cannot even be tried. Raises ``BridgeError``."""
        agent = self._agent
        while True:
            try:
                return make(agent)
            except BridgeError as error:
                if not self._left or not isinstance(fallback := self._left[0], ProviderFallback):
                    raise
                self._left.popleft()
                self._talk.provider_failed(error)
                self.lost(error.provider, error.problem)
                self._tries = True
                agent = as_agent(self._agent, fallback)

    def lost(self, failed: str, problem: str) -> None:
        """This provider is gone, and why."""
        self.failed, self.problem = failed, problem
        self._tries = False

    def succeeded(self) -> None:
        """Somebody talks with the caller again."""
        self.failed = self.problem = ""
        self._tries = False

    def next(self) -> None:
        if not self._left:
            self._tries = True
            self._talk.give_up(self.problem, apologise=not self._prompted)
        elif isinstance(self._left[0], ProviderFallback) or self._talk.is_answered:
            self._tries = True
            self._try(self._left.popleft())
        else:
            self._talk.pick_up_without_provider()

    def _try(self, fallback: ProviderFallback | PromptFallback | TransferFallback) -> None:
        match fallback:
            case ProviderFallback():
                self._change_provider(fallback)
            case PromptFallback(audio=audio):
                self._prompted = True
                self._talk.play_recorded(audio, self.next)
            case TransferFallback(destination=name):
                self._hand_over(name)
            case _:
                assert_never(fallback)

    def _change_provider(self, fallback: ProviderFallback) -> None:
        try:
            self._talk.change_provider(as_agent(self._agent, fallback))
        except BridgeError as error:
            self._talk.provider_failed(error)
            self.next()

    def _hand_over(self, name: str) -> None:
        destination = next((one for one in self._agent.destinations if one.name.lower() == name.lower()), None)
        if destination is None:
            self.next()
        else:
            self._tries = False  # who comes back from there is stranded again
            self._call.deliver(TransferCaller(destination=_without_agent(destination, self.failed)))


def as_agent(agent: Agent, fallback: ProviderFallback) -> Agent:
    """The same agent, at another provider."""
    return replace(agent, provider=fallback.provider, voice=fallback.voice, options=fallback.options)


def _without_agent(destination: TransferDestination, failed: str) -> TransferDestination:
    """There is no agent to stay in the talk, and none to brief the operator whose own provider failed."""
    briefer = destination.briefing_agent
    if destination.mode == "warm" and (briefer is None or briefer.provider == failed):
        destination = replace(destination, mode="bridge")
    return replace(destination, after_briefing="hand_over")


def taking_over(history: Sequence[Utterance]) -> TextInput:
    """What an agent is told that goes on where another provider failed."""
    text = "You take over this telephone call in the middle: the connection was lost for a moment. Do not greet again."
    if history and history[-1].speaker == "caller":
        text += f" The caller said last: “{history[-1].text[:MOST_QUOTED]}”. Answer that."
    elif history:
        text += f" You said last: “{history[-1].text[:MOST_QUOTED]}”. Go on from there, in one short sentence."
    return TextInput(role="system", text=text, respond=True)


def reconnected(history: Sequence[Utterance]) -> TextInput:
    """What an agent is told whose own connection broke while it had something to say, or to hear."""
    text = "The connection was lost for a moment: the caller may not have heard you, nor you what he was saying."
    if history and history[-1].speaker == "caller":
        text += f" The last you know of him is: “{history[-1].text[:MOST_QUOTED]}”."
    return TextInput(role="system", text=f"{text} Go on, or ask him to say it again.", respond=True)


class Reassurance:
    """One word to a caller who hears nothing since the provider failed. ``say`` says it.

    However often it fails, and is reached again, before anything is heard: his silence began with the first time.
    """

    def __init__(self, call: CallControls, key: str, say: Callable[[], None]) -> None:
        self._call = call
        self._key = key
        self._say = say
        self._after_s: float | None = None
        self._armed = False
        self._said = False

    def begin(self, after_s: float) -> None:
        """If nobody is heard for ``after_s``."""
        if not self._armed and not self._said:
            self._after_s = after_s

    def end(self) -> None:
        """There is somebody to speak."""
        self._after_s = None
        self._said = False
        self._disarm()

    def settle(self, *, silent: bool) -> None:
        """Something changed: whether the caller hears nothing now, and should."""
        if not silent:
            self._disarm()
        elif self._after_s is not None and not self._armed:
            self._armed = True
            self._call.arm("reassure", self._after_s, self._key)

    def due(self) -> None:
        self._armed = False
        if self._after_s is not None:
            self._after_s = None
            self._said = True
            self._say()

    def _disarm(self) -> None:
        if self._armed:
            self._armed = False
            self._call.disarm("reassure", self._key)

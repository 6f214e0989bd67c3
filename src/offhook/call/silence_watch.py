"""When nobody speaks: what is said then, and when the call is over. Pure; times are monotonic seconds."""

from __future__ import annotations

from dataclasses import dataclass

from offhook.model.records import Agent


@dataclass(frozen=True, kw_only=True, slots=True)
class SayPrompt:
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class GiveUpCaller:
    """Nobody has spoken for long enough."""


SilenceCommand = SayPrompt | GiveUpCaller


class SilenceWatch:
    """``quiet``: nobody is heard from here on; ``noise``: somebody is; ``sign_of_life``: and it is no prompt of ours.

    Prompts come after ``silence_prompt_s`` of quiet each; when all were said, the same time ends the call. And so does
    ``silence_timeout_s`` since the last sign of life, prompts or not.
    """

    def __init__(self, agent: Agent) -> None:
        self._prompts = agent.silence_prompts if agent.silence_prompt_s else ()
        self._prompt_s = agent.silence_prompt_s
        self._timeout_s = agent.silence_timeout_s
        self._said = 0
        self._dead_since: float | None = None
        self._quiet_since: float | None = None
        self._prompting = False

    @property
    def watches(self) -> bool:
        return bool(self._prompts or self._timeout_s)

    def sign_of_life(self) -> None:
        """The caller did something, or the agent spoke without our asking."""
        self._said = 0
        self._dead_since = None

    def agent_began(self) -> None:
        """An answer of the agent's begins; after a prompt of ours it is that one."""
        if not self._prompting:
            self.sign_of_life()
        self._prompting = False

    def noise(self) -> None:
        self._quiet_since = None

    def quiet(self, now: float) -> float | None:
        """From when nobody is heard. Returns when to ask ``passed``; None where nothing is to come."""
        if self._quiet_since is None:
            self._quiet_since = now
        if self._dead_since is None:
            self._dead_since = now
        due = [self._dead_since + self._timeout_s] if self._timeout_s else []
        if self._prompts:
            due.append(self._quiet_since + self._prompt_s)
        return min(due, default=None)

    def passed(self, now: float) -> SilenceCommand | None:
        """What is due; None where somebody was heard meanwhile."""
        if self._quiet_since is None or self._dead_since is None:
            return None
        if self._timeout_s and now >= self._dead_since + self._timeout_s:
            return GiveUpCaller()
        if not self._prompts or now < self._quiet_since + self._prompt_s:
            return None
        if self._said == len(self._prompts):
            return GiveUpCaller()
        self._said += 1
        self._prompting = True
        self._quiet_since = None
        return SayPrompt(text=self._prompts[self._said - 1])

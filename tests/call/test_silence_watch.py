"""Nobody speaks: prompts come one by one, then the end."""

from __future__ import annotations

from offhook.call.silence_watch import GiveUpCaller, SayPrompt, SilenceWatch
from offhook.model.records import Agent


def watch(*prompts: str, prompt_s: float = 0.0, timeout_s: float = 0.0) -> SilenceWatch:
    agent = Agent(
        agent_id="a",
        provider="toy",
        silence_prompt_s=prompt_s,
        silence_prompts=prompts,
        silence_timeout_s=timeout_s,
    )
    return SilenceWatch(agent)


def test_without_settings_nothing_is_watched() -> None:
    assert not watch().watches
    assert not watch(prompt_s=5).watches  # and nothing to be said
    assert watch().quiet(1.0) is None


def test_each_prompt_comes_after_its_own_silence_and_the_end_after_the_last() -> None:
    silence = watch("hello?", "still there?", prompt_s=5)
    assert silence.quiet(10.0) == 15.0
    assert silence.passed(14.9) is None
    assert silence.passed(15.0) == SayPrompt(text="hello?")
    silence.agent_began()  # it says so
    silence.noise()
    assert silence.quiet(17.0) == 22.0
    assert silence.quiet(18.0) == 22.0  # still the same silence
    assert silence.passed(22.0) == SayPrompt(text="still there?")
    silence.agent_began()
    silence.noise()
    assert silence.quiet(24.0) == 29.0
    assert silence.passed(29.0) == GiveUpCaller()


def test_who_speaks_is_asked_from_the_first_prompt_on_again() -> None:
    silence = watch("hello?", prompt_s=5)
    silence.quiet(0.0)
    assert silence.passed(5.0) == SayPrompt(text="hello?")
    silence.agent_began()
    silence.noise()
    silence.sign_of_life()
    assert silence.quiet(20.0) == 25.0
    assert silence.passed(25.0) == SayPrompt(text="hello?")


def test_prompts_do_not_put_off_the_end() -> None:
    silence = watch("hello?", "hello again?", prompt_s=4, timeout_s=10)
    assert silence.quiet(0.0) == 4.0
    assert silence.passed(4.0) == SayPrompt(text="hello?")
    silence.agent_began()
    silence.noise()
    assert silence.quiet(6.0) == 10.0
    assert silence.passed(10.0) == GiveUpCaller()


def test_what_the_agent_says_by_itself_puts_off_the_end() -> None:
    silence = watch(timeout_s=10)
    assert silence.quiet(0.0) == 10.0
    silence.agent_began()
    silence.noise()
    assert silence.passed(11.0) is None  # somebody speaks
    assert silence.quiet(12.0) == 22.0

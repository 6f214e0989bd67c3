"""What the composition root reads before anything listens."""

from __future__ import annotations

from pathlib import Path

import pytest

from offhook.audio.tones import tone
from offhook.audio.wav import write_wav
from offhook.call.hold_audio import HoldAudio
from offhook.config import Settings
from offhook.config.settings import ProviderSettings, ProvidersSettings
from offhook.model.audio import PCMU_8K, Encoding
from offhook.model.errors import ConfigError
from offhook.server.providers import provider_check, provider_problems
from offhook.server.service import add_hold_audio
from offhook.store.forms import AgentForm, FallbackForm, ToolForm


class Leg:
    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def relay(self, frame: bytes) -> None:
        self.frames.append(frame)


def with_hold_audio(path: Path) -> Settings:
    return Settings(agents=(AgentForm(id="a"), AgentForm(id="b", hold_audio=str(path))))


def test_an_agent_s_hold_audio_is_read_at_start(tmp_path: Path) -> None:
    sound = tone(440, 20, -10, Encoding.PCMU)
    path = tmp_path / "hold.wav"
    path.write_bytes(write_wav(PCMU_8K, sound))
    leg = Leg()
    audio = HoldAudio()
    add_hold_audio(audio, with_hold_audio(path))
    audio.player(str(path), PCMU_8K, leg).feed(b"")
    assert leg.frames == [sound]


def test_the_audio_of_tools_and_of_fallbacks_is_read_at_start(tmp_path: Path) -> None:
    sound = tone(440, 20, -10, Encoding.PCMU)
    path = tmp_path / "wait.wav"
    path.write_bytes(write_wav(PCMU_8K, sound))
    tool = ToolForm(id="t", name="t", url="https://t.example/", hold_audio=str(path))
    fallback = FallbackForm(prompt=str(path))
    for settings in (Settings(tools=(tool,)), Settings(agents=(AgentForm(id="a", fallbacks=(fallback,)),))):
        audio = HoldAudio()
        add_hold_audio(audio, settings)
        assert audio.audio(str(path), PCMU_8K) == sound


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        (Settings(tools=(ToolForm(id="t", name="t", url="https://t.example/", hold_audio="no.wav"),)), "tools[0]"),
        (Settings(agents=(AgentForm(id="a", fallbacks=(FallbackForm(prompt="no.wav"),)),)), "agents[0].fallbacks[0]"),
    ],
)
def test_audio_that_is_not_there_is_named(settings: Settings, key: str) -> None:
    with pytest.raises(ConfigError) as refused:
        add_hold_audio(HoldAudio(), settings)
    assert refused.value.key.startswith(key)


def test_a_fallback_whose_provider_nobody_knows_is_named() -> None:
    agent = AgentForm(id="a", provider="scripted", fallbacks=(FallbackForm(provider="nobody"),))
    (problem,) = provider_problems(Settings(agents=(agent,)))
    assert problem.key == "agents[0].fallbacks[0].provider"


@pytest.mark.parametrize(
    ("form", "key"),
    [
        (AgentForm(id="a", provider="nobody"), "provider"),
        (AgentForm(id="a", provider="openai"), "options.api_key"),
        (AgentForm(id="a", provider="openai", options={"api_key": "k", "modle": "m"}), "options.modle"),
        (AgentForm(id="a", fallbacks=(FallbackForm(provider="gemini"),)), "fallbacks[0].options.api_key"),
    ],
)
def test_an_agent_made_elsewhere_is_refused_for_what_would_be_a_problem_in_the_file(form: AgentForm, key: str) -> None:
    with pytest.raises(ConfigError) as refused:
        provider_check(Settings())(form)
    assert refused.value.key == key


def test_an_agent_made_elsewhere_may_bring_its_key_or_use_the_server_s() -> None:
    provider_check(Settings())(AgentForm(id="a", provider="openai", options={"api_key": "k"}))
    settings = Settings(providers=ProvidersSettings(openai=ProviderSettings(api_key="k")))
    provider_check(settings)(AgentForm(id="a", provider="openai"))


@pytest.mark.parametrize("content", [None, b"no wav"])
def test_hold_audio_that_cannot_be_played_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "hold.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"agents\[1\]\.hold_audio.*hold\.wav"):
        add_hold_audio(HoldAudio(), with_hold_audio(path))

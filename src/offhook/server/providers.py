"""The AI providers of this server: each begins when the first agent needs it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

import msgspec

from offhook.bridge import audio_file, deepgram_agent, elevenlabs_agent, gemini_live, openai_realtime, ultravox
from offhook.bridge.cascade import provider as cascade
from offhook.bridge.codec import BridgeConnection, BridgeProfile, BridgeRequest, Provider
from offhook.bridge.guard import Guard
from offhook.bridge.local.engine import LocalEngine, available
from offhook.bridge.local.judging import tells
from offhook.bridge.local.messages import Synthesised
from offhook.bridge.local.provider import local_provider
from offhook.bridge.local.worker_pool import WorkerError
from offhook.bridge.options import UNKNOWN_OPTION, ProviderAccess
from offhook.bridge.outside import LocalVoice, Outside
from offhook.bridge.provider_http import ProviderHttp
from offhook.bridge.registry import SCRIPTED, BridgeRegistry
from offhook.call.agent_session import Judge
from offhook.call.failover import as_agent
from offhook.call.ports import Spotter
from offhook.config import Settings, agents_of, provider_agent
from offhook.config.settings import ProviderSettings
from offhook.config.sip4ai import in_their_words
from offhook.model.audio import AudioFormat
from offhook.model.errors import BridgeError, ConfigError
from offhook.model.records import Agent, ProviderFallback
from offhook.store.forms import AgentForm, Catalogue, agent_record

HOSTED: Mapping[str, Callable[[Outside], Provider]] = {
    "deepgram": deepgram_agent.provider,
    "elevenlabs": elevenlabs_agent.provider,
    "ultravox": ultravox.provider,
    "gemini": gemini_live.provider,
    "openai": openai_realtime.provider,
    "pipeline": cascade.pipeline,
    "cartesia": cascade.cartesia,
}
"""Those of other companies, and what speaks like them: made when the server is, reached when a call is."""

OWN: Mapping[str, Provider] = {"scripted": SCRIPTED, "audio_file": audio_file.AUDIO_FILE}
"""Those that need nobody else."""

_log = logging.getLogger(__name__)

PROVIDERS = ("local", *OWN, *HOSTED)
"""Names that ``agents[].provider`` may have."""


def provider_problems(settings: Settings) -> Iterator[ConfigError]:
    """One for each agent or fallback of config.json whose provider nobody knows, or cannot do with what it has."""
    registry = _registry_of(settings)
    main = provider_agent(settings)
    for index, agent in enumerate(agents_of(settings)):
        if main is not None and agent.agent_id == main.id:
            yield from (in_their_words(settings, problem) for problem in _problems(registry, agent, ""))
        else:
            yield from _problems(registry, agent, f"agents[{index}].")


def provider_check(settings: Settings) -> Callable[[AgentForm], None]:
    """Raises ``ConfigError`` for an agent made elsewhere that would be a problem in config.json."""
    check_record = agent_check(settings)
    return lambda form: check_record(agent_record(form, Catalogue()))


def agent_check(settings: Settings) -> Callable[[Agent], None]:
    """The same for an agent that is a record already, the operator's or another's."""
    registry = _registry_of(settings)

    def check(agent: Agent) -> None:
        for problem in _problems(registry, agent, ""):
            raise problem

    return check


def _registry_of(settings: Settings) -> BridgeRegistry:
    return BridgeRegistry({**OWN, **_hosted(outside_of(settings, ProviderHttp()))})


def _problems(registry: BridgeRegistry, agent: Agent, key: str) -> Iterator[ConfigError]:
    """``key``: what comes before the names of the agent's fields."""
    yield from _own_problems(registry, agent, key)
    for place, fallback in enumerate(agent.fallbacks):
        if isinstance(fallback, ProviderFallback):
            yield from _own_problems(registry, as_agent(agent, fallback), f"{key}fallbacks[{place}].")


def _own_problems(registry: BridgeRegistry, agent: Agent, key: str) -> Iterator[ConfigError]:
    """All options that are not known; then the first of what else is wrong."""
    if agent.provider not in PROVIDERS:
        fix = f"Use one of: {', '.join(PROVIDERS)}"
        yield ConfigError(f"{key}provider", f"there is no {agent.provider!r}", fix)
    elif agent.provider in registry.names:
        try:
            registry.check(agent)
        except ConfigError as error:
            yield ConfigError(f"{key}{error.key}", error.problem, error.fix)
            option = error.key.removeprefix("options.").partition(".")[0]
            if error.problem == UNKNOWN_OPTION and option in agent.options:
                others = {name: value for name, value in agent.options.items() if name != option}
                yield from _own_problems(registry, replace(agent, options=others), key)


def check_providers(settings: Settings) -> None:
    """Raises the first of ``provider_problems``."""
    for problem in provider_problems(settings):
        raise problem


def outside_of(settings: Settings, http: ProviderHttp, speak: LocalVoice | None = None) -> Outside:
    """``speak``: the local voice; without it one is promised where it is installed."""
    vendors: Mapping[str, ProviderSettings] = msgspec.structs.asdict(settings.providers)
    accesses = {
        name: ProviderAccess(api_key=vendor.api_key, base_url=vendor.base_url) for name, vendor in vendors.items()
    }
    voice = (speak or _unstarted) if available() is None else None
    return Outside(http=http, accesses=accesses, local_voice=voice)


async def _unstarted(text: str, audio_format: AudioFormat) -> Synthesised:
    raise BridgeError("local", "its voice was not started", "fall_over")


def _needs_engine(agent: Agent) -> bool:
    """It speaks by the local voice, or may have to when its own provider fails."""
    others = (as_agent(agent, fallback) for fallback in agent.fallbacks if isinstance(fallback, ProviderFallback))
    return any(one.provider == "local" or one.options.get("tts_provider") == "local" for one in (agent, *others))


class Providers:
    """Implements the call's ``Bridges`` and ``Voice``. An agent's call is refused while its provider is not there."""

    def __init__(self, settings: Settings, *, guard: Guard) -> None:
        """``guard``: judges where URLs of tenants lead."""
        self.engine: LocalEngine | None = None
        self._voice: LocalEngine | None = None
        self._ear: LocalEngine | None = None
        self._ear_task: asyncio.Task[None] | None = None
        self._http, self._guarded = ProviderHttp(), ProviderHttp(guard=guard)
        self._there: dict[str, Provider] = {
            **OWN,
            **_hosted(replace(outside_of(settings, self._http, self._speak), guarded=self._guarded)),
        }
        self._registry = BridgeRegistry(self._there)
        self._turn = asyncio.Lock()

    async def serve(self, agents: Iterable[Agent]) -> None:
        """Start what these agents need. Raises ``BridgeError``."""
        agents = tuple(agents)
        if any((agent.provider in HOSTED and agent.interruptible) or agent.machines.detect for agent in agents):
            self._begin_to_judge()
        async with self._turn:
            if self.engine is None and any(_needs_engine(agent) for agent in agents):
                engine = LocalEngine()
                await engine.start()
                self.engine = engine
                self._there["local"] = local_provider(engine)
                self._registry = BridgeRegistry(self._there)

    def profile(self, name: str) -> BridgeProfile:
        return self._registry.profile(name)

    def open_bridge(self, request: BridgeRequest) -> BridgeConnection:
        return self._registry.open_bridge(request)

    async def speak(self, text: str, audio_format: AudioFormat) -> bytes:
        """By the local voice, which alone is begun where no agent needs more of it. Raises ``BridgeError``."""
        async with self._turn:
            if self.engine is None and self._voice is None:
                voice = LocalEngine(recognisers=0)
                await voice.start()
                self._voice = voice
            engine = self.engine or self._voice
        assert engine is not None
        return await engine.speak(text, audio_format)

    @property
    def judge(self) -> Judge | None:
        """Tells "mm-hm" from "stop" for agents of other companies' providers, where the extra ``local`` is installed.

        One recogniser process (140 MB) is begun for the first such agent; until it runs it knows nothing.
        """
        if available() is not None:
            return None
        self._begin_to_judge()
        return self._judge

    def _begin_to_judge(self) -> None:
        if available() is None and self.engine is None and self._ear_task is None:
            self._ear_task = asyncio.get_running_loop().create_task(self._start_ear())

    async def _start_ear(self) -> None:
        ear = LocalEngine(recognisers=1, voices=0)
        try:
            await ear.start()
        except BridgeError as error:
            _log.warning("nobody but the providers judges interruptions: %s", error)
        else:
            self._ear = ear

    async def _judge(self, audio: bytes, audio_format: AudioFormat, speech_ms: int) -> bool | None:
        engine = self.engine or self._ear
        if engine is None:
            return None
        try:
            return tells(await engine.understand(audio, audio_format), speech_ms)
        except WorkerError:
            return None

    def spotter(self) -> Spotter | None:
        """Hears what voicemail and call screeners say, by the same processes as ``judge``; None without the extra."""
        if available() is not None:
            return None
        self._begin_to_judge()
        return self._spot

    async def _spot(self, audio: bytes, audio_format: AudioFormat) -> tuple[str, ...]:
        engine = self.engine or self._ear
        if engine is None:
            return ()
        try:
            return await engine.spot(audio, audio_format)
        except WorkerError:
            return ()

    async def _speak(self, text: str, audio_format: AudioFormat) -> Synthesised:
        if self.engine is None:
            return await _unstarted(text, audio_format)
        try:
            return await self.engine.synthesise(text, audio_format)
        except WorkerError as error:
            raise BridgeError("local", str(error), "retry") from error

    async def close(self) -> None:
        await self._http.close()
        await self._guarded.close()
        if self._ear_task is not None:
            self._ear_task.cancel()
            await asyncio.gather(self._ear_task, return_exceptions=True)
        for engine in (self.engine, self._voice, self._ear):
            if engine is not None:
                await engine.close()


def _hosted(outside: Outside) -> dict[str, Provider]:
    return {name: make(outside) for name, make in HOSTED.items()}

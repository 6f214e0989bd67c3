"""The cascades as the registry knows them: ``pipeline``, of any parts, and ``cartesia``, whose voice is Cartesia's."""

from __future__ import annotations

from collections.abc import Callable

from offhook.bridge.cascade.llm_chat import ChatModel
from offhook.bridge.cascade.options import CascadeOptions, Plan, cartesia_options, pipeline_options, plan_of
from offhook.bridge.cascade.pipeline import Parts, PipelineConnection
from offhook.bridge.cascade.ports import Recogniser, SttEvent, SttVendor, TtsListener, TtsVendor, Voice
from offhook.bridge.cascade.socket_recogniser import SocketRecogniser
from offhook.bridge.cascade.socket_voice import SocketVoice
from offhook.bridge.cascade.stt_http import HttpRecogniser
from offhook.bridge.cascade.tts_http import HttpVoice
from offhook.bridge.cascade.tts_local import SpokenHere
from offhook.bridge.codec import BridgeProfile, BridgeRequest, Provider
from offhook.bridge.outside import Outside
from offhook.model.audio import L16_16K, PCMA_8K, PCMU_8K, AudioFormat
from offhook.model.records import Agent

FORMATS = (PCMU_8K, PCMA_8K, L16_16K)
"""Whatever a leg has; where a vendor does not take it, it is converted here."""


def pipeline(outside: Outside) -> Provider:
    """Any recogniser, language model and voice; servers of one's own above all."""
    return _provider("pipeline", pipeline_options, outside)


def cartesia(outside: Outside) -> Provider:
    """Cartesia's voice with a recogniser and a model of choice."""
    return _provider("cartesia", cartesia_options, outside)


def _provider(name: str, read: Callable[[Agent], CascadeOptions], outside: Outside) -> Provider:
    profile = BridgeProfile(provider=name, input_formats=FORMATS, output_formats=FORMATS, exact_say=True)

    def factory(request: BridgeRequest) -> PipelineConnection:
        plan = plan_of(request.agent, read(request.agent), outside)
        return PipelineConnection(request, profile, _parts(request, plan, outside))

    def check(agent: Agent) -> None:
        plan_of(agent, read(agent), outside)

    return Provider(factory=factory, profile=profile, check=check)


def _parts(request: BridgeRequest, plan: Plan, outside: Outside) -> Parts:
    return Parts(
        recogniser=lambda tell: _recogniser(request, plan, outside, tell),
        model=ChatModel(outside.client(judged=plan.llm.judged), plan.llm),
        voice=lambda listener: _voice(request, plan, outside, listener),
        names=plan.names,
    )


def _recogniser(request: BridgeRequest, plan: Plan, outside: Outside, tell: Callable[[SttEvent], None]) -> Recogniser:
    vendor, heard = plan.stt_vendor, request.input_format
    http = outside.client(judged=plan.stt.judged)
    if not isinstance(vendor, SttVendor):
        return HttpRecogniser(http, plan.stt, tell, input_format=heard, transcribing=plan.transcribing)
    codec_format = nearest(vendor.formats, heard)
    return SocketRecogniser(
        lambda: vendor.make(plan.stt, codec_format),
        tell,
        input_format=heard,
        codec_format=codec_format,
        tls=http.tls,
        guard=http.guard,
    )


def _voice(request: BridgeRequest, plan: Plan, outside: Outside, listener: TtsListener) -> Voice:
    vendor, wanted = plan.tts_vendor, request.output_format
    http = outside.client(judged=plan.tts.judged)
    if isinstance(vendor, TtsVendor):
        codec_format = nearest(vendor.formats, wanted)
        return SocketVoice(
            lambda: vendor.make(plan.tts, codec_format),
            listener,
            codec_format=codec_format,
            output_format=wanted,
            aligns=vendor.aligns,
            tls=http.tls,
            guard=http.guard,
        )
    if vendor.name == "local":
        assert outside.local_voice is not None  # checked with the options
        return SpokenHere(outside.local_voice, listener, wanted)
    return HttpVoice(http, plan.tts, listener, output_format=wanted, rate_hz=plan.tts_rate_hz)


def nearest(formats: tuple[AudioFormat, ...], wanted: AudioFormat) -> AudioFormat:
    """``wanted`` where the vendor has it, else what is converted with the least loss and work."""

    def cost(candidate: AudioFormat) -> tuple[bool, int, bool]:
        beyond_hz = candidate.sample_rate_hz - wanted.sample_rate_hz
        return beyond_hz < 0, abs(beyond_hz), candidate.encoding is not wanted.encoding

    return min(formats, key=cost)

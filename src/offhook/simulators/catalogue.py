"""Which simulated providers there are, by name. One line each."""

from __future__ import annotations

from collections.abc import Mapping

from offhook.simulators.cartesia import CartesiaSimulator
from offhook.simulators.deepgram import DeepgramSimulator
from offhook.simulators.elevenlabs_agent import ElevenlabsSimulator
from offhook.simulators.elevenlabs_tts import ElevenLabsTtsSimulator
from offhook.simulators.gemini_live import GeminiSimulator
from offhook.simulators.openai_realtime import OpenAiSimulator
from offhook.simulators.self_hosted import SelfHostedSimulator
from offhook.simulators.stage import SimulatorFactory
from offhook.simulators.ultravox import UltravoxSimulator

SIMULATORS: Mapping[str, SimulatorFactory] = {
    "cartesia": CartesiaSimulator,
    "deepgram": DeepgramSimulator,
    "openai": OpenAiSimulator,
    "elevenlabs": ElevenlabsSimulator,
    "ultravox": UltravoxSimulator,
    "elevenlabs_tts": ElevenLabsTtsSimulator,
    "gemini": GeminiSimulator,
    "self_hosted": SelfHostedSimulator,
}

BASE_PATHS: Mapping[str, str] = {"openai": "/v1", "self_hosted": "/v1"}
"""What follows host and port in the provider's base URL, as its own tools and offhook read it; none for the others."""

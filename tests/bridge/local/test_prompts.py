from __future__ import annotations

import sys

import pytest
from tests.bridge.recording_listener import RecordingListener, request_for

from offhook.audio.level import frame_level_db
from offhook.bridge.codec import AudioDone, Ready, ResponseDone, ResponseStarted, Say, ToolCall
from offhook.bridge.local.engine import LocalEngine, available
from offhook.bridge.local.prompts import PROMPTS, PromptConnection, prompt
from offhook.bridge.local.provider import local_provider
from offhook.model.audio import PCMA_8K, PCMU_8K, Encoding
from offhook.model.errors import BridgeError


@pytest.fixture
def without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)


@pytest.mark.usefixtures("without_the_extra")
def test_says_in_one_sentence_what_to_install() -> None:
    sentence = available()
    assert sentence is not None
    assert "pip install 'offhook[local]'" in sentence
    assert "pocketsphinx" in sentence
    assert sentence.count(".") == 1


@pytest.mark.usefixtures("without_the_extra")
async def test_without_the_extra_a_call_hears_the_prompts_and_ends() -> None:
    engine = LocalEngine()
    await engine.start()
    assert engine.pids == ()
    listener = RecordingListener()
    connection = local_provider(engine).factory(request_for(listener, provider="local"))
    assert isinstance(connection, PromptConnection)
    await connection.open()
    connection.send_audio(b"\xff" * 160)
    connection.send(Say(text="nothing"))
    assert list(listener.audio) == ["greeting", "install", "goodbye"]
    assert listener.said() == [text for _, text in PROMPTS]
    assert listener.events[:2] == [Ready(), ResponseStarted()]
    assert [event.item for event in listener.of(AudioDone)] == ["greeting", "install", "goodbye"]
    assert listener.events[-2:] == [
        ResponseDone(),
        ToolCall(tool_call_id="goodbye", name="end_call", arguments="{}"),
    ]
    await connection.close()
    await engine.close()


@pytest.mark.usefixtures("without_the_extra")
async def test_without_the_extra_the_engine_refuses_to_speak() -> None:
    with pytest.raises(BridgeError, match="pip install"):
        await LocalEngine().speak("hello", PCMU_8K)


@pytest.mark.parametrize("name", [name for name, _ in PROMPTS])
def test_every_prompt_is_speech_in_both_encodings(name: str) -> None:
    for audio_format in (PCMU_8K, PCMA_8K):
        audio = prompt(name, audio_format)
        assert 500 * 8 <= len(audio) <= 10_000 * 8
        assert -26 < frame_level_db(audio_format.encoding, audio) < -16
    assert prompt(name, PCMU_8K) != prompt(name, PCMA_8K)


def test_prompts_are_rendered_in_the_format_asked_for() -> None:
    assert frame_level_db(Encoding.PCMA, prompt("greeting", PCMA_8K)) == pytest.approx(
        frame_level_db(Encoding.PCMU, prompt("greeting", PCMU_8K)), abs=0.5
    )

"""The voice process, the only one that loads espeak-ng: ``python -m offhook.bridge.local.voice_worker``."""

from __future__ import annotations

from offhook.bridge.local.messages import Answer, Failed, Request, Synthesise, Synthesised
from offhook.bridge.local.voice import Voice
from offhook.bridge.local.worker import Task, serve
from offhook.model.audio import AudioFormat, Encoding


def load() -> Task:
    voice = Voice()

    def task(request: Request) -> Answer:
        if not isinstance(request, Synthesise):
            return Failed(problem="a voice does not listen")
        audio_format = AudioFormat(encoding=Encoding(request.encoding), sample_rate_hz=request.sample_rate_hz)
        speech = voice.speak(request.text, audio_format)
        return Synthesised(audio=speech.audio, word_ms=speech.word_ms)

    return task


if __name__ == "__main__":
    serve(load)

"""The recogniser process: ``python -m offhook.bridge.local.recogniser_worker``."""

from __future__ import annotations

from offhook.audio.convert import converter
from offhook.bridge.local.messages import Answer, Failed, Recognise, Recognised, Request, Spot, Spotted
from offhook.bridge.local.recogniser import Recogniser
from offhook.bridge.local.worker import Task, serve
from offhook.model.audio import L16_8K, AudioFormat, Encoding


def load() -> Task:
    recogniser = Recogniser()

    def task(request: Request) -> Answer:
        if not isinstance(request, Recognise | Spot):
            return Failed(problem="a recogniser does not speak")
        audio_format = AudioFormat(encoding=Encoding(request.encoding), sample_rate_hz=request.sample_rate_hz)
        convert = converter(audio_format, L16_8K)
        audio = convert(request.audio) if convert else request.audio
        if isinstance(request, Spot):
            return Spotted(phrases=recogniser.spot(audio))
        return Recognised(text=recogniser.recognise(audio, request.vocabulary, request.names))

    return task


if __name__ == "__main__":
    serve(load)

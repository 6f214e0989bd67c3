"""OpenAI Realtime as lean as it goes, for measuring us and not the provider: sessions, appends in, audio out.

``python -m tests.bench.openai_peer [CERTIFICATE]`` prints its port as JSON and streams audio in real time to every
session that asks for a response. What a provider does besides is in ``offhook.simulators``.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import sys
from collections.abc import Callable

import msgspec
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

from offhook.audio.tones import tone
from offhook.model.audio import Encoding

CHUNK_MS = 200
"""Of audio in one message: what providers send."""

CHUNK = base64.b64encode(tone(650, CHUNK_MS, -18.0, Encoding.PCMU)).decode()
"""Another pitch than the caller's: the same would be an echo."""

WORDS = "An answer of the bench."

_APPEND = b'"input_audio_buffer.append"'

_CREATED = {
    "type": "session.created",
    "event_id": "e1",
    "session": {"type": "realtime", "object": "realtime.session", "id": "sess_1", "model": "gpt-realtime-2.1"},
}


class Session(WSListener):
    """One websocket. ``heard`` gets each append, ``asked`` is called for each response.create."""

    def __init__(self, heard: Callable[[Session, bytes], None], asked: Callable[[Session], None]) -> None:
        super().__init__()
        self._heard = heard
        self._asked = asked
        self._transport: WSTransport | None = None
        self.responses = 0
        self._utterances = 0

    def tell(self, message: dict[str, object]) -> None:
        if self._transport is not None:
            self._transport.send(
                WSMsgType.TEXT, json.dumps({"type": message["type"], "event_id": "e", **message}).encode()
            )

    def hear_speech(self) -> None:
        """The caller begins to speak, as far as this provider is concerned."""
        self._utterances += 1
        self.tell({"type": "input_audio_buffer.speech_started", "audio_start_ms": 0, "item_id": self._utterance})

    def hear_silence(self) -> None:
        """He has spoken; his turn is complete."""
        self.tell({"type": "input_audio_buffer.speech_stopped", "audio_end_ms": 0, "item_id": self._utterance})
        self.tell({"type": "input_audio_buffer.committed", "previous_item_id": None, "item_id": self._utterance})
        item = {"id": self._utterance, "type": "message", "role": "user", "status": "completed", "content": []}
        self.tell({"type": "conversation.item.added", "previous_item_id": None, "item": item})

    def begin_response(self) -> None:
        self.responses += 1
        response = {"id": f"resp_{self.responses}", "object": "realtime.response", "status": "in_progress"}
        self.tell({"type": "response.created", "response": response})
        item = {"id": self.item, "type": "message", "role": "assistant", "status": "in_progress", "content": []}
        self.tell({**self._place, "type": "response.output_item.added", "item": item})
        place = {**self._place, "item_id": self.item, "content_index": 0}
        self.tell({**place, "type": "response.output_audio_transcript.delta", "delta": WORDS})

    def speak(self, audio: str = CHUNK) -> None:
        """Audio of the present response, as base64."""
        place = {**self._place, "item_id": self.item, "content_index": 0}
        self.tell({**place, "type": "response.output_audio.delta", "delta": audio})

    def end_response(self, status: str = "completed") -> None:
        place = {**self._place, "item_id": self.item, "content_index": 0}
        self.tell({**place, "type": "response.output_audio.done"})
        self.tell({**place, "type": "response.output_audio_transcript.done", "transcript": WORDS})
        response = {"id": f"resp_{self.responses}", "object": "realtime.response", "status": status, "output": []}
        self.tell({"type": "response.done", "response": response})

    @property
    def _utterance(self) -> str:
        return f"said_{self._utterances}"

    @property
    def item(self) -> str:
        return f"item_{self.responses}"

    @property
    def _place(self) -> dict[str, object]:
        return {"response_id": f"resp_{self.responses}", "output_index": 0}

    # ── WSListener ───────────────────────────────────────────────────────────────────────────────────────

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        self.tell(dict(_CREATED))

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._transport = None

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()
            return
        message = frame.get_payload_as_bytes()
        if _APPEND in message[:64]:
            self._heard(self, message)
            return
        told = msgspec.json.decode(message)
        if told["type"] == "session.update":
            self.tell({"type": "session.updated", "session": told["session"]})
        elif told["type"] == "response.create":
            self._asked(self)


async def listen(
    heard: Callable[[Session, bytes], None], asked: Callable[[Session], None], tls: ssl.SSLContext | None = None
) -> tuple[asyncio.Server, int]:
    """Returns the server and its port."""

    def accept(_: WSUpgradeRequest) -> Session:
        return Session(heard, asked)

    server = await ws_create_server(accept, "127.0.0.1", 0, ssl=tls, max_frame_size=1 << 20)
    return server, server.sockets[0].getsockname()[1]


async def _stream(tls: ssl.SSLContext | None) -> None:
    """Every session speaks without end, each at its own time."""
    loop = asyncio.get_running_loop()

    def go_on(session: Session) -> None:
        session.speak()
        loop.call_later(CHUNK_MS / 1000, go_on, session)

    def begin(session: Session) -> None:
        session.begin_response()
        session.speak()
        go_on(session)

    _, port = await listen(lambda session, message: None, begin, tls)
    print(json.dumps(port), flush=True)
    await asyncio.Event().wait()


def main() -> None:
    tls = None
    if len(sys.argv) > 1:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(sys.argv[1])
    uvloop.run(_stream(tls))


if __name__ == "__main__":
    main()

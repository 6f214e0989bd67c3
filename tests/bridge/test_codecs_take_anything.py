"""Whatever a provider sends, its codec raises nothing and holds no more than a conversation needs."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Iterable, Mapping
from random import Random
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.bridge.provider_samples import SAMPLES, Message
from tests.bridge.provider_talk import Output
from tests.bridge.recording_listener import RecordingListener

from offhook.bridge.codec import (
    Begin,
    BridgeFault,
    BridgeInput,
    BridgeRequest,
    Digits,
    EndOfInput,
    Interrupt,
    Provider,
    Ready,
    Say,
    TextInput,
    ToolCall,
    ToolResult,
    ToolSpec,
    UpdateAgent,
    Utterance,
)
from offhook.bridge.connection import ProviderConnection
from offhook.bridge.options import ProviderAccess
from offhook.bridge.outside import Outside
from offhook.bridge.provider_http import ProviderHttp
from offhook.bridge.wire import HttpAnswer, ProviderCodec
from offhook.model.errors import BridgeError
from offhook.model.records import Agent
from offhook.server.providers import HOSTED

OPTIONS: Mapping[str, Mapping[str, Any]] = {"elevenlabs": {"agent_id": "agent_1"}}
"""What a provider cannot do without."""

CASCADES = {"cartesia", "pipeline"}
"""Of several connections, whose parts have tests of their own."""

WELCOMES = {"deepgram": 2}
"""So many of the first samples make a session ready; one as a rule."""

WELCOMED = 0.9
"""Of sessions, begin as they should: what comes then is looked at by other code than what comes before."""

ENDINGS = ("error", "Error")
"""Types of messages that end a session, and with it what its codec holds."""

STEPS = 60

MANY: Final = 1000

LARGE: Final[Any] = {"text_bytes": 2000, "audio_bytes": 1920, "name_bytes": 500}
"""So that what is kept a thousand times weighs half a megabyte at least."""

MOST_BYTES = 256 << 10
"""Some history, some audio that waits, what is still open: a codec has no need of more."""

ODD: tuple[Any, ...] = (
    None,
    True,
    False,
    -1,
    0,
    2**70,
    1e308,
    "",
    "x",
    "\u0000",
    "é" * 9,
    [],
    {},
    [[]],
    {"a": {}},
    [None],
)

GOOD_STATUS = {"ultravox": 201}

HTTP_BODIES = (
    b'{"joinUrl": "wss://there/x", "callId": "c", "signed_url": "wss://there/x"}',
    b'{"joinUrl": 3}',
    b'{"signed_url": "http://elsewhere"}',
    b"[]",
    b"\xff",
    b"",
)

HISTORY = (Utterance(speaker="caller", text="Hello."), Utterance(speaker="agent", text="Good day."))


def hosted(name: str) -> Provider:
    access = ProviderAccess(api_key="key")
    return HOSTED[name](Outside(http=ProviderHttp(), accesses=dict.fromkeys(HOSTED, access)))


def codec_of(name: str, number: int) -> ProviderCodec:
    """``number`` chooses among its formats."""
    provider = hosted(name)
    inputs, outputs = provider.profile.input_formats, provider.profile.output_formats
    request = BridgeRequest(
        call_id="c",
        agent=Agent(agent_id="a", provider=name, greeting="Hello.", options=OPTIONS.get(name, {})),
        input_format=inputs[number % len(inputs)],
        output_format=outputs[number % len(outputs)],
        listener=RecordingListener(),
        tools=(ToolSpec(name="f", description="", parameters="{}"),),
        history=lambda: HISTORY,
    )
    connection = provider.factory(request)
    assert isinstance(connection, ProviderConnection)
    codec: ProviderCodec = vars(connection)["_session"].codec
    return codec


def test_every_provider_of_one_websocket_is_shaken() -> None:
    assert set(HOSTED) - CASCADES == set(SAMPLES)


class Shaker:
    """Makes messages of samples: as they are, or with something missing, odd or doubled."""

    def __init__(
        self, name: str, random: Random, *, text_bytes: int = 12, audio_bytes: int = 60, name_bytes: int = 0
    ) -> None:
        self._samples = SAMPLES[name]
        self._random = random
        self._text = "word " * (text_bytes // 5)
        self._audio = "AAEC" * (audio_bytes // 3)
        self._padding = "x" * name_bytes
        self._count = 0

    def filled(self, sample: Message) -> bytes:
        """As a service would send it."""
        return msgspec.json.encode(self._shaken(sample, 0.0))

    def message(self, *, oddly: bool) -> bytes:
        sample = self._random.choice(self._samples)
        made: Message = self._shaken(sample, 0.15 if oddly and self._random.random() < 0.7 else 0.0)
        if oddly and self._random.random() < 0.2:
            made |= self._shaken(self._random.choice(self._samples), 0.1)
        return msgspec.json.encode(made)

    def _shaken(self, value: Any, share: float) -> Any:
        if self._random.random() < share:
            return self._random.choice(ODD) if not isinstance(value, dict) else dict(list(value.items())[1:])
        match value:
            case dict():
                return {key: self._shaken(one, share) for key, one in value.items()}
            case list():
                return [self._shaken(one, share) for one in value] * (2 if self._random.random() < share else 1)
            case _:
                return self._filled(value)

    def _filled(self, value: Any) -> Any:
        match value:
            case "ID":
                self._count += 1
                again = not self._padding and self._random.random() < 0.5
                return f"id-{self._random.randint(0, 5) if again else self._count}{self._padding}"
            case "TEXT":
                return self._text
            case "AUDIO":
                return self._audio
            case "CODE":
                return self._random.choice(["server_error", "session_expired", "", "INTERNAL_SERVER_ERROR", "x"])
            case int() if not isinstance(value, bool):
                return self._random.randint(0, 9)
            case _:
                return value


class Talk:
    """A conversation as the pump would hold it: nothing but what a codec's contract allows."""

    def __init__(self, name: str, random: Random, number: int = 0, *, welcomed: float = WELCOMED) -> None:
        self._welcomed = welcomed
        self._name = name
        self.codec = codec_of(name, number)
        self._random = random
        self.out = Output()
        self.faults = 0
        self._open()

    def receive(self, message: bytes, *, is_text: bool) -> None:
        self.codec.receive(message, self.out, is_text=is_text)
        self._renew_after_a_fault()

    def other_step(self) -> None:
        match self._random.randint(0, 7):
            case 0:
                self._checked(self.codec.closed(self._random.choice([1000, 1006, 1007, 1008, 1011, 4999]), "why"))
                self._renew()
            case 1:
                self._checked(self.codec.refused(self._random.choice([0, 200, 401, 404, 429, 503]), b"\xff{"))
            case 2 | 3 if self._ready:
                self.codec.command(self._command(), self.out)
            case _ if self._ready:
                self.speak()
        self._renew_after_a_fault()

    def speak(self) -> None:
        frame = bytes(self.codec.profile.input_formats[0].frame_bytes)
        assert isinstance(self.codec.audio(frame, self.out), bytes | None)

    def forget(self) -> None:
        self.out = Output(events=[Ready()] if self._ready else [])

    @property
    def _ready(self) -> bool:
        return Ready() in self.out.events

    def _open(self) -> None:
        if self.codec.preparation() is not None:
            body = self._random.choice(HTTP_BODIES)
            try:
                self.codec.prepared(HttpAnswer(status=self._random.choice([200, 201, 401, 500]), body=body))
            except BridgeError:
                self.codec.prepared(HttpAnswer(status=GOOD_STATUS.get(self._name, 200), body=HTTP_BODIES[0]))
        assert self.codec.target().url.startswith(("ws://", "wss://"))
        self.codec.opened(self.out)
        if self._random.random() < self._welcomed:
            for message in SAMPLES[self._name][: WELCOMES.get(self._name, 1)]:
                self.codec.receive(msgspec.json.encode(message), self.out, is_text=True)

    def _renew(self) -> None:
        self.faults += 1
        self.codec = self.codec.renewed(HISTORY)
        self.out = Output()
        self._open()

    def _renew_after_a_fault(self) -> None:
        if any(isinstance(event, BridgeFault) for event in self.out.events):
            self._renew()

    def _command(self) -> BridgeInput:
        calls = [event.tool_call_id for event in self.out.events if isinstance(event, ToolCall)]
        items = [*self.out.audio, "nobody"]
        choices: list[BridgeInput] = [
            Begin(),
            TextInput(role="system", text="note"),
            TextInput(role="user", text="hello", respond=True),
            Say(text="Hello."),
            Digits(digits="1#"),
            Interrupt(item=self._random.choice(items), played_ms=self._random.randint(0, 90_000)),
            ToolResult(tool_call_id=self._random.choice([*calls, "nobody"]), output="", is_error=True),
            UpdateAgent(agent=Agent(agent_id="b", provider="x", instructions="Other.")),
            EndOfInput(),
        ]
        return self._random.choice(choices)

    @staticmethod
    def _checked(fault: BridgeFault | None) -> None:
        assert fault is None or fault.problem


@pytest.mark.parametrize("name", SAMPLES)
@settings(max_examples=60)
@given(seed=st.integers(0, 2**32))
def test_no_codec_raises(name: str, seed: int) -> None:
    random = Random(seed)
    talk, shaker = Talk(name, random, seed), Shaker(name, random)
    for _ in range(STEPS):
        choice = random.random()
        if choice < 0.6:
            talk.receive(shaker.message(oddly=choice < 0.4), is_text=random.random() < 0.9)
        elif choice < 0.66:
            talk.receive(random.randbytes(random.randint(0, 400)), is_text=random.random() < 0.5)
        else:
            talk.other_step()


@pytest.mark.parametrize("name", SAMPLES)
def test_json_without_end_breaks_no_codec(name: str) -> None:
    for head in (b"", b'{"type":', b'{"type":"x","item":', b'{"serverContent":'):
        talk = Talk(name, Random(1))
        talk.receive(head + b"[" * 200_000, is_text=True)


@pytest.mark.parametrize("name", SAMPLES)
def test_no_codec_keeps_all_it_was_told(name: str) -> None:
    """One kind of message over and over, each with new names in it, and nothing that would end what it began."""
    samples = SAMPLES[name][WELCOMES.get(name, 1) :]
    heavy = {str(sample): weight_after(name, sample) for sample in samples if sample.get("type") not in ENDINGS}
    assert {sample: kept for sample, kept in heavy.items() if kept > MOST_BYTES} == {}


def weight_after(name: str, sample: Message) -> int:
    random = Random(7)
    talk, shaker = Talk(name, random, welcomed=1.0), Shaker(name, random, **LARGE)
    for _ in range(MANY):
        talk.receive(shaker.filled(sample), is_text=True)
        talk.forget()
    assert talk.faults <= 1, f"a codec that begins anew holds nothing: {sample}"
    return weight(talk.codec)


def weight(root: object) -> int:
    """Bytes of all strings, audio and entries that hang on an object, but not of code and of what was handed in."""
    seen: set[int] = set()
    waiting, total = [root], 0
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, _CODE):
            continue
        seen.add(id(one))
        total += len(one) if isinstance(one, str | bytes | bytearray) else 16
        waiting += _parts(one)
    return total


_CODE = (type, FunctionType, MethodType, BuiltinFunctionType, ModuleType, Output, RecordingListener)


def _parts(one: object) -> Iterable[object]:
    """The collector passes over keys that are strings, and over containers of what cannot refer back."""
    match one:
        case dict():
            return [*one.keys(), *one.values()]
        case list() | tuple() | set() | frozenset() | deque():
            return one
        case _:
            return gc.get_referents(one)

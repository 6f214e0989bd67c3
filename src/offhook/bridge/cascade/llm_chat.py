"""Language models that speak OpenAI's chat completions, streamed: OpenAI, Anthropic, Groq, Ollama, vLLM and more.

``POST {base}/chat/completions``; closing the response stops the model. A request that fails before the first word is
made once more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from offhook.bridge.cascade.chat_chunks import ChatAnswer, ChatStreamError
from offhook.bridge.cascade.ports import LlmEvent, TextPiece, ToolUse
from offhook.bridge.cascade.sse import EventTooLongError, SseParser
from offhook.bridge.codec import BridgeFault, ToolSpec
from offhook.bridge.endings import failure, problem_of
from offhook.bridge.options import as_json
from offhook.bridge.provider_http import HttpStream, ProviderHttp
from offhook.bridge.wire import HttpRequest
from offhook.model.errors import BridgeError, Verdict

FIRST_WORD_S = 8.0
"""A model that says nothing for so long is not waited for; a caller asks "Hello?" after four seconds."""

NEXT_WORD_S = 8.0

RETRY_S = 0.2

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSettings:
    """``fields`` are put into each request: ``temperature``, ``reasoning_effort``, whatever the server takes.

    ``judged``: as ``ProviderAccess`` has it.
    """

    base_url: str = field(repr=False)
    model: str
    api_key: str = field(default="", repr=False)
    judged: bool = False
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    max_tokens: int = 0
    fields: Mapping[str, Any] = field(default_factory=dict)
    first_word_s: float = FIRST_WORD_S


class ChatModel:
    """Implements ``LanguageModel``. It learns what its server does not take, and leaves it out from then on."""

    def __init__(self, http: ProviderHttp, settings: ModelSettings) -> None:
        self._http = http
        self._settings = settings
        self._wants_usage = True
        self._max_tokens_field = "max_tokens"

    async def stream(self, messages: bytes, tools: Sequence[ToolSpec]) -> AsyncGenerator[LlmEvent, None]:
        """See ``LanguageModel``."""
        for attempt in (1, 2):
            spoken = False
            try:
                async with aclosing(self._attempt(messages, tools)) as events:
                    async for event in events:
                        spoken = spoken or isinstance(event, TextPiece | ToolUse)
                        yield event
                if not spoken:
                    raise self._error("answered nothing", retry=True)
                return
            except BridgeError as error:
                if error.verdict != "retry" or spoken or attempt == 2:
                    raise BridgeError(error.provider, error.problem, _given_up(error)) from error
                fault = BridgeFault(problem=error.problem, verdict="retry")
            yield fault
            await asyncio.sleep(RETRY_S)

    async def open(self) -> None:
        """Reach the server before it is needed: it then takes 100 ms less. Raises ``BridgeError``.

        Not all servers list their models; only what says that they will not answer either counts.
        """
        request = HttpRequest(method="GET", url=f"{self._settings.base_url}/models", headers=self._headers())
        try:
            answer = await self._http.ask(request, self._settings.first_word_s)
        except OSError as error:
            raise self._error(f"cannot be reached: {str(error) or type(error).__name__}", retry=False) from error
        if answer.status in (401, 402, 429) or (answer.status >= 500 and answer.status != 501):
            raise failure("language model", answer.status, answer.body)
        if answer.status == 200 and not is_json(answer.body):
            raise self._error("its list of models is no JSON: this is no such server", retry=False)

    async def _attempt(self, messages: bytes, tools: Sequence[ToolSpec]) -> AsyncGenerator[LlmEvent, None]:
        try:
            async with AsyncExitStack() as stack:
                answered = self._http.stream(self._request(messages, tools))
                response = await _within(self._settings.first_word_s, stack.enter_async_context(answered))
                if response.status != 200:
                    raise self._refusal(response.status, await response.read())
                answer = ChatAnswer()
                events = await stack.enter_async_context(aclosing(self._data(response)))
                async for data in events:
                    for event in answer.feed(data):
                        yield event
                    if answer.cut_short:
                        break
                for event in answer.end():
                    yield event
                if not answer.finished and not answer.cut_short:
                    raise self._error("the answer broke off", retry=True)
        except (OSError, EventTooLongError, ChatStreamError) as error:
            raise self._error(str(error) or type(error).__name__, retry=not isinstance(error, TimeoutError)) from error

    async def _data(self, response: HttpStream) -> AsyncGenerator[bytes, None]:
        """The data of each event. A server that does not stream sends one JSON document."""
        if response.content_type == "application/json":
            yield (await response.read()).strip()
            return
        parser = SseParser()
        pieces = response.chunks()
        limit_s = self._settings.first_word_s
        while (piece := await _within(limit_s, anext(pieces, None))) is not None:
            limit_s = NEXT_WORD_S
            for data in parser.feed(piece):
                yield data
        for data in parser.end():
            yield data

    def _request(self, messages: bytes, tools: Sequence[ToolSpec]) -> HttpRequest:
        body: dict[str, Any] = {"model": self._settings.model, "messages": msgspec.Raw(messages), "stream": True}
        if self._wants_usage:
            body["stream_options"] = {"include_usage": True}
        if tools:
            body["tools"] = [_declared(tool) for tool in tools]
        if self._settings.max_tokens:
            body[self._max_tokens_field] = self._settings.max_tokens
        body.update(self._settings.fields)
        url = f"{self._settings.base_url}/chat/completions"
        return HttpRequest(method="POST", url=url, headers=self._headers(), body=_encode(body))

    def _headers(self) -> tuple[tuple[str, str], ...]:
        key = self._settings.api_key
        authorization = (("Authorization", f"Bearer {key}"),) if key else ()
        return ("Content-Type", "application/json"), *authorization, *self._settings.headers.items()

    def _refusal(self, status: int, body: bytes) -> BridgeError:
        """Some servers do not know ``stream_options``, some want the newer name of ``max_tokens``."""
        if status in (400, 422):
            if self._wants_usage and b"stream_options" in body:
                self._wants_usage = False
                return self._error(problem_of(status, body), retry=True)
            if self._max_tokens_field == "max_tokens" and b"max_completion_tokens" in body:
                self._max_tokens_field = "max_completion_tokens"
                return self._error(problem_of(status, body), retry=True)
        return failure("language model", status, body)

    def _error(self, problem: str, *, retry: bool) -> BridgeError:
        return BridgeError("language model", problem, "retry" if retry else "fall_over")


def is_json(body: bytes) -> bool:
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError):
        return False
    return True


def _declared(tool: ToolSpec) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": as_json(tool.parameters)}
    return {"type": "function", "function": function}


async def _within(limit_s: float, work: Awaitable[T]) -> T:
    """Raises ``TimeoutError``."""
    try:
        async with asyncio.timeout(limit_s):
            return await work
    except TimeoutError:
        raise TimeoutError(f"said nothing for {limit_s:g} s") from None


def _given_up(error: BridgeError) -> Verdict:
    return "fall_over" if error.verdict == "retry" else error.verdict

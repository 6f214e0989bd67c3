"""The receiver of ``offhook webhooks listen``: what it says of each message, and what it answers."""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import aiohttp
import pytest

from offhook.cli.webhook_listener import Listener, Received, Reply, json_of, line_of, listening
from offhook.delivery import sip4ai_signing
from offhook.delivery.signing import sign
from offhook.model.errors import ListenError

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_AAKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"event": "call.ended", "call_id": "9f0c1de24b7a", "seq": 12, "data": {"cause": "hangup"}}'


class Sender:
    """Sends to a listener, and knows what it showed."""

    def __init__(self, url: str, shown: list[Received], client: aiohttp.ClientSession) -> None:
        self._url = url
        self._client = client
        self.shown = shown

    async def post(self, body: bytes = BODY, *, headers: Mapping[str, str] | None = None) -> tuple[int, str]:
        async with self._client.post(self._url, data=body, headers=headers) as answer:
            return answer.status, await answer.text()


@asynccontextmanager
async def sending(*secrets: str, reply: Reply | None = None) -> AsyncIterator[Sender]:
    shown: list[Received] = []
    urls: list[str] = []
    listener = Listener(secrets=secrets, reply=reply or Reply(), show=shown.append)
    runner = await listening(listener, "127.0.0.1", 0, urls.append)
    try:
        async with aiohttp.ClientSession() as client:
            yield Sender(urls[0], shown, client)
    finally:
        await runner.cleanup()


def signed(body: bytes = BODY, *, secret: str = SECRET, ago_s: int = 0, message_id: str = "msg_1") -> dict[str, str]:
    return sign(message_id=message_id, at=int(time.time()) - ago_s, body=body, secrets=(secret,))


async def test_a_message_that_is_signed_is_told_with_its_call() -> None:
    async with sending(SECRET) as sender:
        assert await sender.post(headers=signed()) == (204, "")
    (one,) = sender.shown
    assert (one.verdict, one.problem, one.message_id, one.repeated) == ("signed", "", "msg_1", False)
    line = line_of(one)
    assert "✓" in line
    assert "call.ended" in line
    assert '{"cause":"hangup"}' in line
    assert json_of(one)["body"]["call_id"] == "9f0c1de24b7a"


@pytest.mark.parametrize(
    ("secrets", "sign_it", "verdict", "problem"),
    [
        ((SECRET,), dict, "unsigned", "so nobody signed it"),
        ((), dict, "unsigned", "so nobody signed it"),
        ((), signed, "unchecked", "give --secret"),
        ((SECRET,), partial(signed, secret=OTHER), "wrong", "another secret signed it, or it was changed on the way"),
        ((SECRET,), partial(signed, b"{}"), "wrong", "changed on the way"),
        ((SECRET,), partial(signed, ago_s=900), "wrong", "s old; 300 s are allowed"),
        ((SECRET,), partial(signed, ago_s=-900), "wrong", "ahead of this machine's clock"),
        ((SECRET,), partial(dict, {"webhook-signature": "v1,x"}), "wrong", "has no webhook-id header"),
        ((OTHER, SECRET), signed, "signed", ""),
    ],
)
async def test_what_is_wrong_with_a_signature_is_told(
    secrets: tuple[str, ...], sign_it: Callable[[], dict[str, str]], verdict: str, problem: str
) -> None:
    """Signed when it is sent, and not when pytest collects: that may be minutes before."""
    async with sending(*secrets) as sender:
        await sender.post(headers=sign_it())
    (one,) = sender.shown
    assert one.verdict == verdict
    assert problem in one.problem
    assert one.problem in line_of(one)


async def test_what_comes_again_is_told() -> None:
    async with sending(SECRET) as sender:
        for name in ("msg_1", "msg_2", "msg_1"):
            await sender.post(headers=signed(message_id=name))
    assert [one.repeated for one in sender.shown] == [False, False, True]
    assert "again: msg_1" in line_of(sender.shown[2])


async def test_it_answers_as_it_is_told_and_in_its_time() -> None:
    async with sending(reply=Reply(status=503, delay_s=0.05)) as sender:
        began = time.monotonic()
        assert await sender.post() == (503, "")
        assert time.monotonic() - began >= 0.05
    async with sending(reply=Reply(status=200, body='{"agent_id": "demo"}')) as sender:
        assert await sender.post() == (200, '{"agent_id": "demo"}')


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"[1]", b'"text"', b'{"event": 7, "data": "\\u001b[2J"}', b'{"event": "\\u001b]0;x\\u0007"}']
)
async def test_whatever_comes_is_shown_and_commands_no_terminal(body: bytes) -> None:
    async with sending(SECRET) as sender:
        assert (await sender.post(body))[0] == 204
    (one,) = sender.shown
    without_colours = line_of(one).replace("\x1b[31m", "").replace("\x1b[1m", "").replace("\x1b[0m", "")
    assert without_colours.isprintable()


async def test_a_long_message_is_one_line() -> None:
    document: dict[str, Any] = {"event": "x.y", "data": {"text": "a" * 10_000}}
    one = Received(at=0.0, message_id="m", verdict="signed", problem="", repeated=False, document=document)
    assert len(line_of(one)) < 250


async def test_a_port_that_is_taken_is_told_with_the_way_out() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listener = Listener(secrets=(), reply=Reply(), show=print)
        with pytest.raises(ListenError, match="Choose another --port"):
            await listening(listener, "127.0.0.1", taken.getsockname()[1], print)


@pytest.mark.parametrize(
    ("secrets", "verdict"),
    [((OTHER, "of this installation"), "signed"), (("of another one yet",), "wrong"), ((), "unchecked")],
)
async def test_what_is_signed_as_sip4ai_has_it_is_checked_too(secrets: tuple[str, ...], verdict: str) -> None:
    body = b'{"call_id": "9f0c1de24b7a", "function": "book_appointment", "arguments": {"date": "2024-01-16"}}'
    headers = sip4ai_signing.sign(message_id="msg_7", at=1, body=body, secrets=("of this installation",))
    async with sending(*secrets) as sender:
        await sender.post(body, headers=headers)
        await sender.post(headers=signed())
    one, other = sender.shown
    assert (one.verdict, one.message_id) == (verdict, "msg_7")
    assert "book_appointment" in line_of(one)
    assert other.verdict != "signed"

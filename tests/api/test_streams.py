"""Server-sent events: history and then life, once and in order; and no reader holds anybody up."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from tests.api.served import Served, of_account
from tests.store.stories import ANSWERED, ARRIVED, DIGIT, ENDED, RINGING, TURN, WHOLE, event, kept, story

from offhook.api import live, streams
from offhook.api.live import LiveFeed
from offhook.api.parts import ApiLimits
from offhook.api.problems import ApiError
from offhook.model.call_events import CallEvent, InterimTranscript, SpeechStateChanged
from offhook.store.database import Database


def commit(served: Served, *events: CallEvent) -> None:
    """As the journal does: written, then told."""
    kept(served.database, events)
    served.feed.publish(events)


async def test_history_comes_first_then_what_happens_then_the_end(served: Served) -> None:
    commit(served, *story(ARRIVED, RINGING))
    async with served.stream("/api/calls/c1/events") as stream:
        assert await stream.ids(2) == [1, 2]
        commit(served, event(ANSWERED, 3))
        answered = await stream.next()
        commit(served, event(DIGIT, 4), event(ENDED, 5))

        assert (answered["id"], answered["event"]) == ("3", "call.answered")
        assert '"codec":"PCMU"' in answered["data"]
        assert await stream.ids(2) == [4, 5]
        with pytest.raises(EOFError):
            await stream.next()
    assert stream.response.headers["Content-Type"] == "text/event-stream"


async def test_a_reader_that_comes_again_gets_what_it_missed(served: Served) -> None:
    commit(served, *story(*WHOLE))

    async with served.stream("/api/calls/c1/events", Last_Event_ID="6") as stream:
        assert await stream.ids(3) == [7, 8, 9]
    async with served.stream("/api/calls/c1/events?after=8") as stream:
        assert await stream.ids(1) == [9]


async def test_who_had_everything_of_a_call_that_is_over_need_not_come_again(served: Served) -> None:
    commit(served, *story(*WHOLE))
    headers = {"Accept": "text/event-stream", "Last-Event-ID": "9"}

    assert (await served.get("/api/calls/c1/events", headers=headers)).status == 204
    headers["Last-Event-ID"] = "nine"
    assert (await served.get("/api/calls/c1/events", headers=headers)).json["field"] == "Last-Event-ID"


async def test_only_what_is_committed_is_shown(served: Served) -> None:
    commit(served, *story(ARRIVED))
    async with served.stream("/api/calls/c1/events") as stream:
        await stream.ids(1)
        kept(served.database, [event(RINGING, 2)])  # committed, and not yet told: shown with the next one, in place
        commit(served, event(ANSWERED, 3))

        assert await stream.ids(2) == [2, 3]


async def test_what_is_told_while_the_history_is_read_comes_once(served: Served) -> None:
    commit(served, *story(ARRIVED, RINGING))
    async with served.stream("/api/calls/c1/events") as stream:
        served.feed.publish(story(ARRIVED, RINGING))
        commit(served, event(ENDED, 3))

        assert await stream.ids(3) == [1, 2, 3]


async def test_a_long_history_comes_page_by_page(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "HISTORY_PAGE", 4)
    commit(served, *story(*WHOLE))

    async with served.stream("/api/calls/c1/events") as stream:
        assert await stream.ids(9) == list(range(1, 10))


async def test_live_signals_come_to_those_who_want_them(served: Served) -> None:
    commit(served, *story(ARRIVED))
    async with (
        served.stream("/api/calls/c1/events?signals=true") as all_of_it,
        served.stream("/api/calls/c1/events") as facts,
    ):
        await all_of_it.ids(1)
        await facts.ids(1)
        served.feed.signal(InterimTranscript(call_id="c1", speaker="caller", text="what ti"))
        served.feed.signal(SpeechStateChanged(call_id="c2", speaker="caller", speaking=True))
        commit(served, event(RINGING, 2))

        interim = await all_of_it.next()
        assert (interim["event"], "id" in interim) == ("transcript.interim", False)
        assert (await all_of_it.next())["id"] == "2"
        assert (await facts.next())["id"] == "2"


async def test_an_account_follows_all_its_calls_and_no_others(served: Served) -> None:
    mine, theirs = await served.key(), await served.account("other")
    async with served.stream("/api/events", **mine) as stream, served.stream("/api/events", **theirs) as other:
        commit(served, *story(ARRIVED, RINGING, call_id="a1"))
        commit(served, *story(of_account("other"), RINGING, call_id="b1"))
        commit(served, *story(ENDED, call_id="a1", after=2))

        seen = [(await stream.next())["data"] for _ in range(3)]
        assert ['"call_id":"a1"' in data for data in seen] == [True] * 3
        assert '"call_id":"b1"' in (await other.next())["data"]


async def test_a_stream_shows_signs_of_life(database: Database, tmp_path: Path) -> None:
    async with (
        Served(database, tmp_path, limits=ApiLimits(heartbeat_s=0.01)) as served,
        served.client.get("/api/events") as response,
    ):
        assert await response.content.readuntil(b"\n\n") == b"retry: 2000\n\n"
        assert await response.content.readuntil(b"\n\n") == b":\n\n"


async def test_streams_end_when_the_server_stops(served: Served) -> None:
    commit(served, *story(ARRIVED))
    async with served.stream("/api/calls/c1/events") as call, served.stream("/api/events") as account:
        await call.ids(1)
        async with asyncio.timeout(4):
            await served.listener.close()
        for stream in (call, account):
            with pytest.raises(EOFError):
                await stream.next()


async def test_a_reader_that_takes_nothing_is_cut_off(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "WAITING", 50)
    commit(served, *story(ARRIVED))
    long_turn = replace(TURN, text="and so on " * 2_000)
    reader = socket.create_connection(("127.0.0.1", served.listener.port))
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.sendall(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    async with asyncio.timeout(5), served.stream("/api/calls/c1/events") as good:
        await good.ids(1)
        assert (await asyncio.to_thread(reader.recv, 15)).startswith(b"HTTP/1.1 200")
        seq = 1
        while served.feed.followers == 2:  # 20 KB each: what the kernel buffers is full after some hundreds
            seq += 1
            served.feed.publish([event(long_turn, seq)])
            assert await good.ids(1) == [seq]  # who reads is not held up
    reader.close()
    assert seq > 50


# ── the feed itself ──


def overflown() -> None:
    raise AssertionError


async def test_a_queue_that_is_full_ends_its_reader_and_drops_signals() -> None:
    feed = LiveFeed()
    cut: list[str] = []
    with feed.follow("default", call_id="c1", signals=True, on_overflow=lambda: cut.append("c1")) as following:
        for number in range(1, live.WAITING + 1):
            feed.publish([event(DIGIT, number)])
        feed.signal(SpeechStateChanged(call_id="c1", speaker="caller", speaking=True))
        assert (cut, following.over) == ([], False)
        feed.publish([event(DIGIT, live.WAITING + 1)])
        assert (cut, following.over) == (["c1"], True)
        assert len(await following.next(0)) == live.WAITING
        assert await following.next(0) == ()
    assert feed.followers == 0


async def test_an_account_has_so_many_streams_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "FOLLOWERS", 2)
    feed = LiveFeed()
    with feed.follow("a", on_overflow=overflown), feed.follow("a", call_id="c1", on_overflow=overflown):
        with pytest.raises(ApiError, match="2 streams"):
            feed.follow("a", on_overflow=overflown)
        with feed.follow("b", on_overflow=overflown):
            assert feed.followers == 3
    with feed.follow("a", on_overflow=overflown):
        assert feed.followers == 1


async def test_who_comes_after_the_end_is_told_so() -> None:
    feed = LiveFeed()
    feed.close()
    with feed.follow("a", on_overflow=overflown) as following:
        assert following.over

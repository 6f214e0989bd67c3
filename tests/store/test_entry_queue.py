"""The queue gives what belongs together, soon, and in order."""

from __future__ import annotations

import threading
import time

import pytest
from tests.store.stories import ARRIVED, DIGIT, event, story

from offhook.store import entry_queue
from offhook.store.entry_queue import EntryQueue

LONG_S = 30.0


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> EntryQueue:
    """It would gather for ever."""
    monkeypatch.setattr(entry_queue, "GATHER_S", LONG_S)
    return EntryQueue()


def test_entries_are_taken_in_their_order_and_once(queue: EntryQueue) -> None:
    entries = story(ARRIVED, DIGIT, DIGIT)
    for one in entries:
        queue.put(one, urgent=False)
    queue.hurry()
    assert queue.take(wait=True) == entries
    assert queue.take(wait=False) == []


@pytest.mark.parametrize("ends", ["urgent", "hurry", "close"])
def test_gathering_ends_when_somebody_waits(queue: EntryQueue, ends: str) -> None:
    taken: list[object] = []
    taker = threading.Thread(target=lambda: taken.extend(queue.take(wait=True)))
    taker.start()
    queue.put(event(DIGIT, 1), urgent=False)
    if ends == "urgent":
        queue.put(event(DIGIT, 2), urgent=True)
    else:
        queue.put(event(DIGIT, 2), urgent=False)
        getattr(queue, ends)()
    taker.join(5)
    assert taken == [event(DIGIT, 1), event(DIGIT, 2)]


def test_gathering_ends_by_itself_with_the_time_of_the_first_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry_queue, "GATHER_S", 0.1)
    queue = EntryQueue()
    began = time.monotonic()
    queue.put(event(DIGIT, 1), urgent=False)
    time.sleep(0.05)
    queue.put(event(DIGIT, 2), urgent=False)
    assert len(queue.take(wait=True)) == 2
    assert time.monotonic() - began >= 0.1


def test_a_batch_has_an_end_and_the_rest_does_not_wait(queue: EntryQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry_queue, "BATCH_ENTRIES", 3)
    for seq in range(1, 6):
        queue.put(event(DIGIT, seq), urgent=False)
    assert queue.take(wait=True) == [event(DIGIT, seq) for seq in (1, 2, 3)]
    assert queue.take(wait=True) == [event(DIGIT, seq) for seq in (4, 5)]


def test_a_woken_taker_goes_without_entries(queue: EntryQueue) -> None:
    queue.wake()
    assert queue.take(wait=True) == []
    queue.close()
    assert queue.take(wait=True) == []
    assert queue.closed

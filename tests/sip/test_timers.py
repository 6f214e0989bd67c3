from __future__ import annotations

from offhook.sip.timers import TimerHeap


def test_timers_fire_in_order_with_the_time_it_is() -> None:
    heap, fired = TimerHeap(), list[tuple[str, float]]()
    heap.start(3.0, lambda now: fired.append(("late", now)))
    heap.start(1.0, lambda now: fired.append(("first", now)))
    heap.start(1.0, lambda now: fired.append(("second", now)))
    assert heap.next_at() == 1.0
    heap.run_due(0.999)
    assert fired == []
    heap.run_due(1.5)
    assert fired == [("first", 1.5), ("second", 1.5)]
    assert heap.next_at() == 3.0
    assert len(heap) == 1


def test_a_cancelled_timer_neither_fires_nor_counts() -> None:
    heap, fired = TimerHeap(), list[str]()
    timer = heap.start(1.0, lambda now: fired.append("never"))
    heap.start(2.0, lambda now: fired.append("later"))
    heap.cancel(timer)
    heap.cancel(timer)
    assert len(heap) == 1
    assert heap.next_at() == 2.0
    heap.run_due(5.0)
    assert fired == ["later"]
    assert heap.next_at() is None
    assert len(heap) == 0


def test_cancelling_a_fired_timer_changes_nothing() -> None:
    heap = TimerHeap()
    timer = heap.start(1.0, lambda now: None)
    heap.start(2.0, lambda now: None)
    heap.run_due(1.0)
    heap.cancel(timer)
    assert len(heap) == 1


def test_what_a_timer_starts_for_now_fires_in_the_same_run() -> None:
    heap, fired = TimerHeap(), list[float]()

    def start_another(now: float) -> None:
        heap.start(now, fired.append)

    heap.start(1.0, start_another)
    heap.run_due(1.0)
    assert fired == [1.0]


def test_a_timer_may_cancel_one_that_is_due_with_it() -> None:
    heap, fired = TimerHeap(), list[str]()
    victim = heap.start(1.5, lambda now: fired.append("victim"))
    heap.start(1.0, lambda now: heap.cancel(victim))
    heap.run_due(2.0)
    assert fired == []


def test_cancelled_timers_do_not_pile_up() -> None:
    heap = TimerHeap()
    kept = [heap.start(1e9 + n, lambda now: None) for n in range(10)]
    most = 0
    for n in range(10_000):
        heap.cancel(heap.start(1000.0 + n, lambda now: None))
        most = max(most, len(heap._heap))
    assert len(heap) == len(kept)
    assert most <= 2 * len(kept) + 65

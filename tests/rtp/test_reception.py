from __future__ import annotations

from collections.abc import Iterable

import pytest

from offhook.rtp.reception import MAX_DROPOUT, MAX_MISORDER, Admission, Reception

SSRC = 0xABCD
FRESH, DUPLICATE, SUSPECT, RESTART = Admission.FRESH, Admission.DUPLICATE, Admission.SUSPECT, Admission.RESTART


def admit(reception: Reception, sequences: Iterable[int], ssrc: int = SSRC) -> list[Admission]:
    return [reception.admit(ssrc, sequence & 0xFFFF) for sequence in sequences]


def test_the_first_packet_begins_the_stream() -> None:
    reception = Reception()
    assert admit(reception, [10, 11, 12]) == [RESTART, FRESH, FRESH]
    assert (reception.received, reception.expected, reception.lost, reception.restarts) == (3, 3, 0, 0)
    assert reception.ssrc == SSRC


def test_a_gap_is_loss_and_numbers_wrap() -> None:
    reception = Reception()
    assert admit(reception, [65_533, 65_534, 65_537, 65_538]) == [RESTART, FRESH, FRESH, FRESH]
    assert (reception.expected, reception.lost) == (6, 2)
    assert reception.extended_highest == 65_538


def test_a_packet_overtaken_is_no_loss() -> None:
    reception = Reception()
    assert admit(reception, [65_535, 65_537, 65_536, 65_538]) == [RESTART, FRESH, FRESH, FRESH]
    assert (reception.lost, reception.reordered) == (0, 1)


def test_a_doubled_packet_is_counted_and_dropped() -> None:
    reception = Reception()
    assert admit(reception, [1, 2, 2, 4, 3, 3, 1]) == [RESTART, FRESH, DUPLICATE, FRESH, FRESH, DUPLICATE, DUPLICATE]
    assert (reception.duplicates, reception.received, reception.lost) == (3, 4, 0)


def test_the_first_to_arrive_need_not_be_the_first_sent() -> None:
    reception = Reception()
    assert admit(reception, [2, 0, 1, 1, 3]) == [RESTART, FRESH, FRESH, DUPLICATE, FRESH]
    assert (reception.received, reception.expected) == (4, 4)


@pytest.mark.parametrize("jump", [MAX_DROPOUT + 1, -MAX_MISORDER - 2, 30_000])
def test_a_far_jump_is_believed_at_the_second_packet(jump: int) -> None:
    reception = Reception()
    admit(reception, range(1000, 1010))
    assert admit(reception, [1009 + jump, 1010 + jump, 1011 + jump]) == [SUSPECT, RESTART, FRESH]
    assert (reception.restarts, reception.suspects) == (1, 1)
    assert reception.lost == 0


def test_one_stray_packet_changes_nothing() -> None:
    reception = Reception()
    admit(reception, range(1000, 1010))
    assert admit(reception, [40_000, 1010, 20_000, 1011]) == [SUSPECT, FRESH, SUSPECT, FRESH]
    assert reception.lost == 0


def test_the_widest_dropout_is_loss() -> None:
    reception = Reception()
    assert admit(reception, [0, MAX_DROPOUT - 1]) == [RESTART, FRESH]
    assert reception.lost == MAX_DROPOUT - 2


def test_another_source_takes_over_at_its_second_packet_in_a_row() -> None:
    reception = Reception()
    admit(reception, range(5))
    assert admit(reception, [700, 701, 702], ssrc=2) == [SUSPECT, RESTART, FRESH]
    assert (reception.ssrc, reception.restarts) == (2, 1)


def test_two_sources_that_alternate_do_not_throw_each_other_out() -> None:
    reception = Reception()
    admit(reception, range(5))
    for step in range(5, 50):
        assert admit(reception, [step * 7], ssrc=2) == [SUSPECT]
        assert admit(reception, [step]) == [FRESH]


def test_loss_adds_up_over_restarts() -> None:
    reception = Reception()
    admit(reception, [0, 1, 3])
    admit(reception, [500, 501, 503], ssrc=2)
    assert reception.lost == 2
    assert reception.received == 5


def test_the_fraction_is_of_the_time_since_the_last_report() -> None:
    reception = Reception()
    admit(reception, [*range(75), 99])
    assert reception.fraction_lost() == 24 * 256 // 100
    assert reception.fraction_lost() == 0
    admit(reception, range(100, 150))
    assert reception.fraction_lost() == 0
    admit(reception, [199])
    assert reception.fraction_lost() == 49 * 256 // 50


def test_a_fraction_is_never_negative() -> None:
    reception = Reception()
    admit(reception, [0, 9])
    assert reception.fraction_lost() > 0
    admit(reception, [*range(1, 9), 10])
    assert reception.fraction_lost() == 0


def test_numbers_used_before_may_be_believed_again() -> None:
    reception = Reception()
    assert admit(reception, [10, 11, 12, 10]) == [RESTART, FRESH, FRESH, DUPLICATE]
    reception.renumber(10)
    assert admit(reception, [11, 12]) == [FRESH, FRESH]
    assert (reception.received, reception.expected, reception.duplicates, reception.restarts) == (6, 6, 0, 1)

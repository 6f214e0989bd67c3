from __future__ import annotations

from array import array

import pytest
from tests.bench.rtp_line import PACKET_BYTES, VOICE, RtpLine


@pytest.mark.parametrize(
    ("sequences", "lost"),
    [([], 0), ([7], 0), ([7, 8, 9], 0), ([7, 9], 1), ([65_534, 65_535, 0, 1], 0), ([65_535, 2], 2)],
)
def test_loss_is_what_the_numbers_leave_out(sequences: list[int], lost: int) -> None:
    line = RtpLine(1)
    line.sequences = array("H", sequences)
    line.socket.close()
    assert line.lost == lost


def test_what_one_line_sends_another_notes() -> None:
    here, there = RtpLine(1), RtpLine(2)
    here.connect(("127.0.0.1", there.port))
    for _ in range(3):
        here.send()
        there.receive()
    assert (here.sent, here.refused) == (3, 0)
    assert list(there.sequences) == [0, 1, 2]
    assert (there.lost, there.silent) == (0, 0)
    assert len(there.gaps_ms()) == 2
    assert min(there.gaps_ms()) > 0
    here.socket.close()
    there.socket.close()


def test_a_packet_is_20_ms_of_voice() -> None:
    assert len(VOICE) == PACKET_BYTES - 12 == 160

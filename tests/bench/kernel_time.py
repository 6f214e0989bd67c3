"""The kernel's own receive time of a datagram: exact however late it is read (Linux, socket(7))."""

from __future__ import annotations

import socket
import struct
import time
from typing import Any

SO_TIMESTAMPNS = 35
"""asm-generic/socket.h; Python names it only from 3.15 on. The control message has the same number."""

ANCILLARY_BYTES = 64
"""Room for one control message with a timespec."""

_TIMESPEC = struct.Struct("@qq")


def ask_for_times(receiver: socket.socket) -> None:
    """Have every datagram carry its arrival."""
    receiver.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)


def arrived_ns(ancillary: list[Any]) -> int:
    """Nanoseconds since the epoch; of now, where the kernel said nothing."""
    if not ancillary:
        return time.time_ns()
    seconds, nanoseconds = _TIMESPEC.unpack_from(ancillary[0][2])
    arrival: int = seconds * 1_000_000_000 + nanoseconds
    return arrival

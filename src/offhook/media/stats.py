"""A leg's figures, as numbers now."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamStats:
    """Both directions of one leg's audio since its start.

    ``packets_lost`` and ``jitter_ms`` are of what we receive (RFC 3550 A.3, A.8), ``remote_loss_percent``
    is what the remote side reports of what we send, ``round_trip_ms`` is measured by RTCP; both None
    until a report came.
    """

    packets_sent: int
    octets_sent: int
    packets_received: int
    packets_lost: int
    loss_percent: float
    jitter_ms: float
    remote_loss_percent: float | None
    remote_jitter_ms: float | None
    round_trip_ms: float | None
    concealed_frames: int
    playout_delay_ms: float
    target_delay_ms: float
    packets_late: int
    packets_duplicate: int
    packets_reordered: int
    packets_malformed: int
    packets_unexpected: int
    """With a payload type that was not agreed."""
    packets_from_strangers: int
    """From an address the latch does not take (rule 4)."""
    packets_unauthentic: int
    """Under SRTP, RTCP included: forged, in clear, or protected with another key."""
    packets_replayed: int
    stream_restarts: int
    late_ticks: int
    skipped_ticks: int
    send_failures: int
    starved_frames: int
    """Silence sent in the middle of an item because its audio had not come yet."""

"""The 2xx and its ACK, both ways: ours repeated until the ACK comes (RFC 3261 §13.3.1.4), theirs acknowledged
as often as it comes (§13.2.2.4)."""

from __future__ import annotations

from functools import partial

from offhook.sip import bye
from offhook.sip.dialog import DialogState
from offhook.sip.events import AckReceived, Outbound, UsageEnded
from offhook.sip.message import Request, Response
from offhook.sip.parts import Parts
from offhook.sip.transaction import GIVE_UP_S, T1_S, T2_S
from offhook.sip.usage import Acknowledged, Unacknowledged, Usage, UsageInput, UsageState

# ── our 2xx ──────────────────────────────────────────────────────────────────────────────────────────────


def await_ack(parts: Parts, usage: Usage, *, number: int, packet: Outbound, carries_offer: bool, now: float) -> None:
    """Our 2xx to INVITE ``number`` was sent as ``packet``: repeat it until its ACK comes.

    §13.3.1.4: over a reliable transport too, for a hop further on may not be one. ``carries_offer``: the INVITE had
    none, so the 2xx has it and the ACK must bring the answer.
    """
    usage.unacknowledged = Unacknowledged(
        number=number,
        packet=packet,
        carries_offer=carries_offer,
        give_up_at=now + GIVE_UP_S,
        interval_s=T1_S,
        timer=parts.timers.start(now + T1_S, partial(_repeat, parts, usage)),
    )


def _repeat(parts: Parts, usage: Usage, now: float) -> None:
    """§13.3.1.4: "an interval that starts at T1 seconds and doubles for each retransmission until it reaches T2"."""
    answer = usage.unacknowledged
    if answer is None:
        return
    if now >= answer.give_up_at:
        _give_up(parts, usage, now)
        return
    parts.outbox.append(answer.packet)
    answer.interval_s = min(2 * answer.interval_s, T2_S)
    answer.timer = parts.timers.start(min(now + answer.interval_s, answer.give_up_at), partial(_repeat, parts, usage))


def _give_up(parts: Parts, usage: Usage, now: float) -> None:
    """§13.3.1.4: no ACK in 64*T1, so "the UAS SHOULD generate a BYE request within the dialog"."""
    usage.advance(UsageInput.ACK_MISSING)
    bye.refuse_pending(parts, usage, now)
    bye.send_unattended(parts, usage, usage.settled, now)
    parts.drop_usage(usage, now)
    parts.emit(UsageEnded(usage_id=usage.usage_id, cause="ack_missing"))


def receive(parts: Parts, usage: Usage, ack: Request, now: float) -> None:
    """An ACK in the usage's dialog. One that no 2xx waits for is a copy, or late."""
    answer = usage.unacknowledged
    if answer is not None and ack.cseq.number == answer.number:
        settle(parts, usage, ack.body, now)


def settle(parts: Parts, usage: Usage, body: bytes, now: float) -> None:
    """Our 2xx has arrived: the ACK says so, or a request the peer would not send otherwise."""
    parts.cancel_repetition(usage)
    if usage.state is not UsageState.CONFIRMED:
        usage.advance(UsageInput.ACK_CAME)
    if usage.state is UsageState.ENDING:
        bye.send_awaited(parts, usage, now)
    else:
        parts.emit(AckReceived(usage_id=usage.usage_id, body=body))


# ── their 2xx ────────────────────────────────────────────────────────────────────────────────────────────


def acknowledge(parts: Parts, usage: Usage, number: int, body: bytes) -> None:
    """Send the ACK of the 2xx to our INVITE ``number`` and keep it for the 2xx's copies."""
    packet = parts.ack_packet(usage, usage.settled, number, body)
    usage.acknowledged = Acknowledged(number=number, packet=packet)
    parts.outbox.append(packet)


def repeat(parts: Parts, usage: Usage, response: Response) -> None:
    """A copy of a 2xx: its ACK was lost."""
    if usage.acknowledged is not None and usage.acknowledged.number == response.cseq.number:
        parts.outbox.append(usage.acknowledged.packet)


def receive_stray(parts: Parts, response: Response) -> bool:
    """A 2xx to an INVITE of which no transaction knows: after a restore, it still needs its ACK.

    False: it belongs to no dialog of ours either.
    """
    usage = parts.usage_of(response.sip_call_id, response.from_.tag)
    dialog = None if usage is None else usage.dialog
    if usage is None or dialog is None or dialog.state is not DialogState.CONFIRMED:
        return False
    if (response.to.tag or "") != dialog.remote_tag or response.cseq.number > dialog.local_cseq:
        return False
    if usage.acknowledged is None or usage.acknowledged.number != response.cseq.number:
        acknowledge(parts, usage, response.cseq.number, b"")
    else:
        repeat(parts, usage, response)
    return True

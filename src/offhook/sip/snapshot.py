"""An answered usage as plain data, and back: so that another process can go on with the call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias, cast

import msgspec

from offhook.model.errors import LocalProtocolError
from offhook.sip import acknowledge, session_timer
from offhook.sip.dialog import Dialog, DialogState
from offhook.sip.events import Flow, Outbound
from offhook.sip.inspection import EXTENSIONS, METHODS
from offhook.sip.message import serialize
from offhook.sip.parser import parse_message
from offhook.sip.parts import Parts
from offhook.sip.session_interval import LEAST_INTERVAL_S, LEAST_MIN_SE_S, SessionTimerRules
from offhook.sip.usage import Acknowledged, Usage, UsageState

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"

CSEQ_GAP = 100
"""Added to our CSeq by ``restore``: requests may have been sent after the snapshot was taken (RFC 3261 §12.2.1.1)."""

_PROOFS = ("Authorization", "Proxy-Authorization")


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedDialog:
    """The fields of ``Dialog`` that outlive a process.

    Text stands here with one character for each of its octets: a peer's need not be UTF-8, what JSON holds is.
    """

    sip_call_id: str
    local: str
    remote: str
    local_tag: str
    remote_tag: str
    local_cseq: int
    remote_cseq: int | None
    remote_target: str
    route_set: tuple[str, ...]
    contact_user: str | None
    owns_call_id: bool
    nat_source: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedPacket:
    """Our 2xx that waits for its ACK, or our ACK of the peer's latest 2xx. ``number`` is the INVITE's CSeq."""

    number: int
    data: bytes
    carries_offer: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedTimer:
    """The session timer as it was agreed on, and what we want of the next one (RFC 4028)."""

    interval_s: int
    is_ours: bool
    is_agreed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedSession:
    """What a refresh needs: ``local`` is our session description, ``allows`` the methods that the peer takes."""

    local: bytes = b""
    allows: tuple[str, ...] = ()
    supports: tuple[str, ...] = ()
    session_expires_s: int = 0
    min_se_s: int = LEAST_MIN_SE_S
    heard_min_se_s: int = LEAST_MIN_SE_S
    timer: SavedTimer | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedUsage:
    version: Literal[1]
    state: Literal["ANSWERED", "CONFIRMED"]
    dialog: SavedDialog
    answer: SavedPacket | None
    ack: SavedPacket | None
    session: SavedSession = SavedSession()


def snapshot(usage: Usage, *, bodies: bool = True) -> dict[str, Json]:
    """Raises ``LocalProtocolError`` for a usage that is not answered, or that is being ended.

    Answers to challenges are left out: who reads them can try passwords on them. So is, without ``bodies``, every
    session description: it may hold the keys of the media (RFC 4568).
    """
    if usage.state not in (UsageState.ANSWERED, UsageState.CONFIRMED):
        raise LocalProtocolError(f"usage {usage.usage_id} is {usage.state.name}: only an answered one can be saved")
    dialog, answer, ack = usage.settled, usage.unacknowledged, usage.acknowledged
    saved = SavedUsage(
        version=1,
        state="ANSWERED" if usage.state is UsageState.ANSWERED else "CONFIRMED",
        dialog=SavedDialog(**{field.name: _octets(getattr(dialog, field.name)) for field in fields(SavedDialog)}),
        answer=None
        if answer is None
        else SavedPacket(
            number=answer.number, data=_kept_of(answer.packet.data, bodies), carries_offer=answer.carries_offer
        ),
        ack=None if ack is None else SavedPacket(number=ack.number, data=_kept_of(ack.packet.data, bodies)),
        session=_saved_session(usage, bodies),
    )
    return cast("dict[str, Json]", msgspec.to_builtins(saved))


def _octets(value: Any) -> Any:
    """The text in a field's value, one character for each octet as it was on the wire."""
    match value:
        case str():
            return value.encode("utf-8", "surrogateescape").decode("latin-1")
        case tuple():
            return tuple(_octets(each) for each in value)
        case _:
            return value


def _text(value: Any) -> Any:
    """What ``_octets`` was given. Raises ``ValueError`` for a character that is no octet."""
    match value:
        case str():
            return value.encode("latin-1").decode("utf-8", "surrogateescape")
        case tuple():
            return tuple(_text(each) for each in value)
        case _:
            return value


def _kept_of(packet: bytes, bodies: bool) -> bytes:
    if bodies and b"uthorization:" not in packet:
        return packet
    message = parse_message(packet)
    for name in _PROOFS:
        message.headers.remove(name)
    if not bodies:
        message.body = b""
        message.headers.remove("Content-Type")
    return serialize(message)


def _saved_session(usage: Usage, bodies: bool) -> SavedSession:
    running = usage.session_timer
    return SavedSession(
        local=usage.local_session if bodies else b"",
        allows=tuple(sorted(usage.peer_allows)),
        supports=tuple(sorted(usage.peer_supports)),
        session_expires_s=usage.timer_rules.session_expires_s,
        min_se_s=usage.timer_rules.min_se_s,
        heard_min_se_s=usage.min_se_s,
        timer=None
        if running is None
        else SavedTimer(interval_s=running.interval_s, is_ours=running.is_ours, is_agreed=running.is_agreed),
    )


def restore(parts: Parts, data: Mapping[str, Json], flow: Flow, now: float) -> int:
    """A usage that goes on where ``data`` was taken; returns its id. Raises ``LocalProtocolError``: no snapshot."""
    try:
        saved = msgspec.convert(data, SavedUsage)
        rules = SessionTimerRules(session_expires_s=saved.session.session_expires_s, min_se_s=saved.session.min_se_s)
        dialog = _dialog(saved.dialog, flow)
    except (msgspec.ValidationError, ValueError) as error:
        raise LocalProtocolError(f"not a snapshot of a usage: {error}") from None
    usage = parts.add_usage(UsageState[saved.state], dialog.sip_call_id, dialog.local_tag, dialog)
    usage.known_hosts.add(flow.remote.host)
    if saved.ack is not None:
        way, hop = dialog.way(parts.live_connections)
        packet = Outbound(data=saved.ack.data, flow=way, next_hop=hop)
        usage.acknowledged = Acknowledged(number=saved.ack.number, packet=packet)
    usage.timer_rules = rules
    _resume_session(parts, usage, saved.session, now)
    if saved.answer is not None:
        _resume_answer(parts, usage, saved.answer, now)
    return usage.usage_id


def _resume_session(parts: Parts, usage: Usage, saved: SavedSession, now: float) -> None:
    usage.local_session, usage.min_se_s = saved.local, saved.heard_min_se_s
    usage.peer_allows = frozenset(saved.allows).intersection(METHODS)
    usage.peer_supports = frozenset(saved.supports).intersection(EXTENSIONS)
    if saved.timer is not None:
        session_timer.resume(
            parts,
            usage,
            now,
            interval_s=max(saved.timer.interval_s, LEAST_INTERVAL_S),
            is_ours=saved.timer.is_ours,
            is_agreed=saved.timer.is_agreed,
        )


def _dialog(saved: SavedDialog, flow: Flow) -> Dialog:
    values = {field.name: _text(getattr(saved, field.name)) for field in fields(SavedDialog)}
    values["local_cseq"] += CSEQ_GAP
    return Dialog(**values, flow=flow, state=DialogState.CONFIRMED)


def _resume_answer(parts: Parts, usage: Usage, saved: SavedPacket, now: float) -> None:
    """Our 2xx was not acknowledged yet: it is repeated from here, naming us as its Contact."""
    response = parse_message(saved.data)
    response.headers.set("Contact", usage.settled.contact)
    packet = Outbound(data=serialize(response), flow=usage.settled.flow)
    acknowledge.await_ack(parts, usage, number=saved.number, packet=packet, carries_offer=saved.carries_offer, now=now)
    parts.outbox.append(packet)

"""What another process needs to end or take over a call's answered legs: saved as they change, until they are over."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import msgspec

from offhook.call.inbox import InboxFact, SipFact
from offhook.call.leg import Leg
from offhook.call.ports import EventSink
from offhook.model.call_events import Direction
from offhook.model.errors import LocalProtocolError
from offhook.sip.events import Transport

NUMBERS_BETWEEN = 50
"""Requests of ours (digits by INFO, refreshes) before a leg is saved anew: half of the gap of a restored one."""

_log = logging.getLogger("offhook.call")


class LegSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """An answered leg. ``dialog`` is ``UserAgent.snapshot``'s; its peer signals from ``remote_host:remote_port``.

    ``trunk_id`` names its rules. ``secure``: its media is encrypted, and stays so; keys are never written down.
    ``answered_at``: Unix seconds.
    """

    direction: Direction
    dialog: dict[str, Any]
    transport: Transport
    remote_host: str
    remote_port: int
    session_id: int
    version: int
    trunk_id: str = ""
    secure: bool = False
    answered_at: float = 0.0


def leg_snapshot(leg: Leg, *, bodies: bool = True) -> LegSnapshot:
    """Raises ``LocalProtocolError`` for a leg that is not answered, or is being ended.

    ``bodies``: with our session description, which who takes the leg over replaces by his own at once.
    """
    capabilities = leg.negotiation.capabilities
    return LegSnapshot(
        direction=leg.direction,
        dialog=leg.dialog_snapshot(bodies=bodies),
        transport=leg.flow.transport,
        remote_host=leg.flow.remote.host,
        remote_port=leg.flow.remote.port,
        session_id=capabilities.session_id,
        version=capabilities.version,
        trunk_id=leg.trunk_id,
        secure=leg.negotiation.secure,
        answered_at=leg.answered_at or 0.0,
    )


class SavedLegs:
    """Of one call. Looks at its legs after each fact, and at a leg's dialog after each fact of that dialog."""

    def __init__(self, call_id: str, events: EventSink) -> None:
        self._call_id = call_id
        self._events = events
        self._saved: dict[str, LegSnapshot] = {}

    def follow(self, legs: Iterable[Leg], fact: InboxFact) -> None:
        """A fact was handled: save what it changed."""
        for leg in legs:
            if leg.is_up:
                if leg.leg_id not in self._saved or (isinstance(fact, SipFact) and leg.is_told_of(fact.event)):
                    self._save(leg)
            elif leg.state == "ended":
                self._drop(leg.leg_id)

    def close(self) -> None:
        """The call is over."""
        for leg_id in tuple(self._saved):
            self._drop(leg_id)

    def _save(self, leg: Leg) -> None:
        try:
            new = leg_snapshot(leg, bodies=False)
        except LocalProtocolError as error:  # our 200 waits for a PRACK, or the end is on its way to us
            _log.debug("leg %s is not saved: %s", leg.leg_id, error)
            return
        if _differs(self._saved.get(leg.leg_id), new):
            self._saved[leg.leg_id] = new
            self._events.save_leg(self._call_id, leg.leg_id, msgspec.json.encode(new))

    def _drop(self, leg_id: str) -> None:
        if self._saved.pop(leg_id, None) is not None:
            self._events.save_leg(self._call_id, leg_id, None)


def _differs(old: LegSnapshot | None, new: LegSnapshot) -> bool:
    """Whether a process that has the old one could not end or take over the leg as well."""
    if old is None:
        return True
    before, after = old.dialog["dialog"], new.dialog["dialog"]
    if after["local_cseq"] - before["local_cseq"] >= NUMBERS_BETWEEN:
        return True
    numbers = {name: before[name] for name in ("local_cseq", "remote_cseq")}
    alike = {**new.dialog, "dialog": {**after, **numbers}}
    return msgspec.structs.replace(new, dialog=alike) != old

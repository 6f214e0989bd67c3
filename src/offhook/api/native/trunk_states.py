"""Whether trunks are registered, and why not. Of this process alone: states are not stored."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from offhook.api.endpoints import Answer, Asked, Endpoint, Form, Page
from offhook.api.native.fields import PAGING, Time
from offhook.api.native.resources import stored
from offhook.delivery.event_documents import utc
from offhook.model.trunks import TrunkChanged, TrunkPhase
from offhook.store.resources import Resource, ResourceQuery


class TrunkState(msgspec.Struct, frozen=True, kw_only=True):
    """``phase`` null: it does not register (a gateway), or has not begun. ``fix``: what to change where it failed."""

    trunk_id: str
    phase: TrunkPhase | None
    at: Time | None
    sip_code: int | None
    reason: str
    fix: str
    refreshed_at: Time | None
    expires_at: Time | None
    retry_at: Time | None
    server: str


async def list_states(asked: Asked) -> Answer:
    page = {"limit": asked.query["limit"], "offset": asked.query["offset"]}
    look = asked.parts.database.look
    found = await look(stored(asked).page, asked.account_id, "trunk", ResourceQuery(**page))
    states = [_state(trunk, asked.parts.trunk_states()) for trunk in found.records]
    return Answer(body={"trunk_states": states, "total": found.total, **page})


async def get_state(asked: Asked) -> Answer:
    look = asked.parts.database.look
    trunk = await look(stored(asked).get, asked.account_id, "trunk", asked.path["id"])
    return Answer(body=_state(trunk, asked.parts.trunk_states()))


def _state(trunk: Resource, states: Mapping[str, TrunkChanged]) -> TrunkState:
    changed = states.get(trunk.id)
    if changed is None:
        return TrunkState(trunk_id=trunk.id, phase=None, **_UNKNOWN)
    times = {name: _maybe(getattr(changed, name)) for name in ("refreshed_at", "expires_at", "retry_at")}
    return TrunkState(
        trunk_id=trunk.id,
        phase=changed.phase,
        at=utc(changed.at),
        sip_code=changed.sip_code,
        reason=changed.reason,
        fix=changed.fix,
        server=changed.server,
        **times,
    )


_UNKNOWN: Mapping[str, Any] = {
    "at": None,
    "sip_code": None,
    "reason": "",
    "fix": "",
    "refreshed_at": None,
    "expires_at": None,
    "retry_at": None,
    "server": "",
}


def _maybe(at: float | None) -> datetime | None:
    return None if at is None else utc(at)


_EXAMPLE = {
    "trunk_id": "office",
    "phase": "failed",
    "at": "2026-11-21T11:52:00Z",
    "sip_code": 403,
    "reason": "Forbidden",
    "fix": "Check username and password",
    "refreshed_at": None,
    "expires_at": None,
    "retry_at": "2026-11-21T11:57:00Z",
    "server": "192.0.2.10:5060/UDP",
}

ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/api/trunk-states",
        operation="listTrunkStates",
        tag="trunks",
        summary="Whether the trunks are registered",
        handler=list_states,
        scope="trunks:read",
        query=PAGING,
        answers=(
            Form(
                type=Page(key="trunk_states", of=TrunkState),
                example={"trunk_states": [_EXAMPLE], "total": 1, "limit": 20, "offset": 0},
            ),
        ),
    ),
    Endpoint(
        method="GET",
        path="/api/trunks/{id}/state",
        operation="getTrunkState",
        tag="trunks",
        summary="Whether a trunk is registered, and if not, why",
        handler=get_state,
        scope="trunks:read",
        answers=(Form(type=TrunkState, example=_EXAMPLE),),
    ),
)

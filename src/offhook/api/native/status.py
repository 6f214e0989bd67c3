"""``/status``: what SIP4AI's users look at first. Whether we are registered, which calls there are, and since when."""

from __future__ import annotations

import msgspec

from offhook.api.endpoints import Answer, Asked, Endpoint, Form
from offhook.model.trunks import RegisterTrunk
from offhook.store.calls import RUNNING, CallStatus


class ActiveCall(msgspec.Struct, frozen=True, kw_only=True):
    """``duration``: whole seconds since the answer; 0 before."""

    id: str
    status: CallStatus
    duration: int


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Of this process. ``sip_registered``: every trunk that registers is online, and there is one. ``uptime``: as Go
    writes durations, ``2h15m30s``.
    """

    sip_registered: bool
    active_calls: int
    calls: tuple[ActiveCall, ...]
    uptime: str


async def get_status(asked: Asked) -> Answer:
    parts = asked.parts
    calls = tuple(_active_calls(asked))
    return Answer(
        body=Status(
            sip_registered=_is_registered(asked),
            active_calls=len(calls),
            calls=calls,
            uptime=go_duration(parts.clock() - parts.up_since),
        )
    )


def _active_calls(asked: Asked) -> list[ActiveCall]:
    """Of the account, newest last."""
    return [
        ActiveCall(id=call_id, status=RUNNING[call.phase], duration=int(call.up_s))
        for call_id, call in asked.parts.calls.calls.items()
        if call.account_id == asked.account_id and call.phase in RUNNING
    ]


def _is_registered(asked: Asked) -> bool:
    """By the account's trunks, and those of config.json, which all accounts share."""
    state, phases = asked.parts.directory(), asked.parts.trunk_states()
    usable = state.trunks_for(asked.account_id)
    registering = [
        trunk_id for trunk_id, trunk in state.trunks.items() if isinstance(trunk, RegisterTrunk) and trunk_id in usable
    ]
    return bool(registering) and all(
        trunk_id in phases and phases[trunk_id].phase == "online" for trunk_id in registering
    )


def go_duration(seconds: float) -> str:
    """Whole seconds as Go's ``time.Duration`` prints them: ``45s``, ``2m0s``, ``1h0m5s``."""
    minutes, second = divmod(max(0, int(seconds)), 60)
    hours, minute = divmod(minutes, 60)
    shown = [f"{hours}h"] if hours else []
    if minutes:
        shown.append(f"{minute}m")
    return "".join((*shown, f"{second}s"))


_EXAMPLE = {
    "sip_registered": True,
    "active_calls": 1,
    "calls": [{"id": "9f0c1de24b7a", "status": "in_progress", "duration": 45}],
    "uptime": "2h15m30s",
}

ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/status",
        operation="getStatus",
        tag="service",
        summary="Whether SIP is registered, and the calls of this server that are not over",
        handler=get_status,
        scope="calls:read",
        answers=(Form(type=Status, example=_EXAMPLE),),
    ),
)

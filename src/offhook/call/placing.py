"""From what somebody wants to call to the command that does it: number, trunk, caller id, limits. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import assert_never

from offhook.call.destination_policy import DestinationPolicy, judge
from offhook.call.dialling import PlaceCall
from offhook.call.numbers import read_target, region_of
from offhook.call.ways import caller_id_of, caller_ids_of, identity_of, target_of, trunk_towards
from offhook.model.call_events import DEFAULT_ACCOUNT
from offhook.model.errors import CannotPlaceError, SipParseError
from offhook.model.records import Agent
from offhook.model.trunks import GatewayTrunk, OpenTrunk, RegisterTrunk, Trunk
from offhook.sip.targets import HOW_TO_WRITE
from offhook.sip.uri import SipUri

_MOST_NAMED = 20
"""Of a list that an error shows."""

_NO_TRUNK = "Configure a trunk: SIP_USERNAME, SIP_PASSWORD and SIP_SERVER, or trunks in config.json; or call a sip: URI"


@dataclass(frozen=True, kw_only=True, slots=True)
class WantedCall:
    """``target``: a number in any writing, a ``tel:`` or ``sip:`` URI. ``trunk_id`` "": whichever can.

    ``caller_id`` "": the trunk's first. ``event_webhooks``: URLs that are told of this call.
    """

    target: str
    agent: Agent
    caller_id: str = ""
    trunk_id: str = ""
    no_answer_s: float = 60.0
    headers: tuple[tuple[str, str], ...] = ()
    event_webhooks: tuple[str, ...] = ()
    account_id: str = DEFAULT_ACCOUNT
    call_id: str = ""


def plan_call(
    wanted: WantedCall, trunks: Sequence[Trunk], online: Container[str], policy: DestinationPolicy
) -> PlaceCall:
    """``trunks``: those the account may use, in their order; ``online``: ids of registrations that stand.

    A number goes by the trunk that is named; else by one that has the caller id, of those by one that is online; else
    by the first. A SIP URI goes by the trunk whose host it has, else by DNS and the open network.
    Raises ``CannotPlaceError`` naming the field: ``target``, ``caller_id``, ``trunk_id``.
    """
    try:
        trunk = _trunk_for(wanted, read_target(wanted.target), trunks, online)
        target = target_of(wanted.target, trunk)
    except SipParseError as error:
        raise CannotPlaceError("invalid", error.problem, field="target", fix=HOW_TO_WRITE) from None
    region = "" if trunk is None else region_of(trunk.rules)
    caller_id = _caller_id(wanted.caller_id, trunk, trunks)
    refused = judge(target, region, policy)
    if refused is not None:
        raise CannotPlaceError("forbidden", f"{refused.rule}: {refused.evidence}", field="target", fix=refused.fix)
    return PlaceCall(
        target=target,
        agent=wanted.agent,
        trunk=trunk,
        from_user=identity_of(trunk, "offhook", caller_id).user,
        no_answer_s=wanted.no_answer_s,
        headers=wanted.headers,
        account_id=wanted.account_id,
        caller_id=caller_id,
        event_webhooks=wanted.event_webhooks,
        call_id=wanted.call_id,
    )


# ── the trunk ────────────────────────────────────────────────────────────────────────────────────────────


def _trunk_for(wanted: WantedCall, read: SipUri | str, trunks: Sequence[Trunk], online: Container[str]) -> Trunk | None:
    able = [trunk for trunk in trunks if calls_out(trunk)]
    if wanted.trunk_id:
        named = next((trunk for trunk in able if trunk.trunk_id == wanted.trunk_id), None)
        if named is None:
            fix = f"Use one of: {_listed(trunk.trunk_id for trunk in able)}"
            problem = f"there is no trunk {wanted.trunk_id[:64]!r} that calls out"
            raise CannotPlaceError("invalid", problem, field="trunk_id", fix=fix)
        return named
    if isinstance(read, SipUri):
        return next((trunk for trunk in able if trunk_towards(str(read), trunk) is not None), None)
    if not able:
        problem = f"{wanted.target[:40]!r} is no SIP URI, and there is no trunk that a number can be dialled by"
        raise CannotPlaceError("invalid", problem, field="target", fix=_NO_TRUNK)
    return min(able, key=lambda trunk: (_lacks(trunk, wanted.caller_id), not _is_up(trunk, online)))


def calls_out(trunk: Trunk) -> bool:
    """Whether numbers can be dialled by it."""
    match trunk:
        case RegisterTrunk():
            return True
        case GatewayTrunk():
            return bool(trunk.targets)
        case OpenTrunk():
            return False
        case _:
            assert_never(trunk)


def _is_up(trunk: Trunk, online: Container[str]) -> bool:
    return not isinstance(trunk, RegisterTrunk) or trunk.trunk_id in online


# ── the caller id ────────────────────────────────────────────────────────────────────────────────────────


def _caller_id(asked: str, trunk: Trunk | None, trunks: Sequence[Trunk]) -> str:
    """What is shown: one of the trunk's, E.164 or a register trunk's own user name; "" where it has none.

    By the open network, one that any trunk has: it is verified all the same.
    """
    by = trunks if trunk is None else (trunk,)
    if not asked:
        return "" if trunk is None else next(iter(trunk.rules.caller_ids), "")
    for one in by:
        if shown := caller_id_of(one, asked):
            return shown
    allowed = _listed(dict.fromkeys(shown for one in by for shown in caller_ids_of(one)))
    whose = "any trunk" if trunk is None else f"trunk {trunk.trunk_id}"
    fix = f"Use one of: {allowed}; or add it to caller_ids of the trunk, where the number is yours"
    raise CannotPlaceError("invalid", f"{asked[:40]!r} is no caller id of {whose}", field="caller_id", fix=fix)


def _lacks(trunk: Trunk, asked: str) -> bool:
    return bool(asked) and not caller_id_of(trunk, asked)


def _listed(names: Iterable[str]) -> str:
    shown = list(names)
    more = f" and {len(shown) - _MOST_NAMED} more" if len(shown) > _MOST_NAMED else ""
    return (", ".join(shown[:_MOST_NAMED]) or "none is configured") + more

"""From what somebody wants to call to the command that does it: number, trunk, caller id, limits. Pure."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

from offhook.call.destination_policy import DestinationPolicy
from offhook.call.dialling import PlaceCall
from offhook.model.call_events import DEFAULT_ACCOUNT
from offhook.model.records import Agent
from offhook.model.trunks import Trunk


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

    Raises ``CannotPlaceError`` naming the field: ``target``, ``caller_id``, ``trunk``.
    """
    raise NotImplementedError

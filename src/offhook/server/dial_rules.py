"""What config.json says of calls of ours, as the calls take it."""

from __future__ import annotations

from offhook.call.clearance import CallingHours, DialRules
from offhook.call.destination_policy import DestinationPolicy
from offhook.config import DiallingSettings


def dial_rules(dialling: DiallingSettings) -> DialRules:
    return DialRules(
        policy=policy_of(dialling),
        max_calls=dialling.max_calls,
        calls_per_min=dialling.calls_per_min,
        max_call_s=dialling.max_call_s,
        hours=CallingHours.parse(dialling.hours, dialling.time_zone) if dialling.hours else None,
    )


def policy_of(dialling: DiallingSettings) -> DestinationPolicy:
    return DestinationPolicy(allow=dialling.allow, deny=dialling.deny, permit=frozenset(dialling.permit))

"""Whom calls of ours may reach: (number or URI, policy) -> why not. Pure.

The one judgement for calls by the API, for transfers, and for REFER in both directions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from offhook.sip.uri import SipUri

RangeKind = Literal["premium", "shared_cost", "satellite", "emergency"]
"""What is refused unless the operator permits it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DestinationPolicy:
    """``allow``: only numbers that begin with one of these; empty: all. ``deny``: none of these. Both as E.164."""

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    permit: frozenset[RangeKind] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class NotAllowed:
    """Why nobody calls there: the rule, what it was applied to, and what the operator would have to change."""

    rule: str
    evidence: str
    fix: str


def judge(target: SipUri | str, region: str, policy: DestinationPolicy) -> NotAllowed | None:
    """``target``: a URI or a user part, as it would be dialled. ``region``: whose national numbers it may be (``DE``).

    None: it may be called. Whatever is no telephone number (a name, an extension of a PBX) may.
    """
    return None

"""How long a session lasts without refresh, and who refreshes it (RFC 4028): headers as values, rules as tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from offhook.model.errors import SipParseError
from offhook.model.trunks import CallRules
from offhook.sip.grammar import param_value, parse_params
from offhook.sip.headers import Headers
from offhook.sip.inspection import Refusal
from offhook.sip.message import Request, Response

OPTION = "timer"

LEAST_MIN_SE_S = 90
"""§5: Min-SE "MUST NOT be less than 90 seconds", and that is what its absence means."""
LEAST_INTERVAL_S = 10
"""Of a session that the peer makes us refresh, against §4's 90 s: it says when it will hang up, and means it."""
SECONDS_MAX = 2**31 - 1
"""RFC 3261 §20.19, of delta-seconds; whatever is above is taken for this."""

Role = Literal["uac", "uas"]
_ROLES: Mapping[str, Role] = {"uac": "uac", "uas": "uas"}

REFRESHER: Mapping[tuple[bool, Role | None], Role] = {
    # §9, table 2: whether the caller supports the extension, whom it asks for -> who refreshes
    (False, None): "uas",
    (False, "uac"): "uas",  # not allowed there; a UAC that does not know of this can do nothing
    (False, "uas"): "uas",
    (True, None): "uas",  # "uas or uac": ours to choose, and who refreshes knows soonest that the other is gone
    (True, "uac"): "uac",
    (True, "uas"): "uas",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionTimerRules:
    """What we want of a session. ``session_expires_s`` 0: no timer of our own, yet one that the peer wants is kept.

    ``min_se_s``: who asks for less gets 422. Raises ValueError for values that RFC 4028 does not allow.
    """

    session_expires_s: int = 0
    min_se_s: int = LEAST_MIN_SE_S

    @classmethod
    def of(cls, rules: CallRules) -> SessionTimerRules:
        """What a trunk's rules say of it."""
        return cls(session_expires_s=rules.session_expires_s, min_se_s=rules.min_se_s)

    def __post_init__(self) -> None:
        if not LEAST_MIN_SE_S <= self.min_se_s <= SECONDS_MAX:
            raise ValueError(f"min_se_s is {self.min_se_s}, not {LEAST_MIN_SE_S} or more (RFC 4028 §5)")
        if self.session_expires_s and not self.min_se_s <= self.session_expires_s <= SECONDS_MAX:
            raise ValueError(f"session_expires_s is {self.session_expires_s}, neither 0 nor {self.min_se_s} or more")


DEFAULT_SESSION_TIMER = SessionTimerRules()


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionExpires:
    """The Session-Expires header (§4). ``refresher`` None: left to the other side."""

    interval_s: int
    refresher: Role | None = None

    @classmethod
    def of(cls, headers: Headers) -> SessionExpires | None:
        """None: it is absent, or nonsense, which is the same to us."""
        text, _, params = (headers.get("Session-Expires") or "").partition(";")
        seconds = _seconds(text)
        if seconds is None:
            return None
        try:
            refresher = param_value(parse_params(f";{params}" if params else "", "Session-Expires"), "refresher")
        except SipParseError:
            refresher = None
        return cls(interval_s=seconds, refresher=_ROLES.get((refresher or "").lower()))

    def __str__(self) -> str:
        return str(self.interval_s) if self.refresher is None else f"{self.interval_s};refresher={self.refresher}"


_DIGITS = re.compile(r"[ \t]*([0-9]+)[ \t]*")


def _seconds(text: str) -> int | None:
    match = _DIGITS.fullmatch(text)
    if match is None:
        return None
    digits = match[1].lstrip("0")
    return SECONDS_MAX if len(digits) > len(str(SECONDS_MAX)) else min(int(digits or "0"), SECONDS_MAX)


def min_se(headers: Headers) -> int:
    """The Min-SE header (§5), in seconds; parameters mean nothing, nonsense is the same as none."""
    seconds = _seconds((headers.get("Min-SE") or "").partition(";")[0])
    return max(LEAST_MIN_SE_S, seconds or 0)


def supports(message: Request | Response) -> bool:
    """Whether its sender knows of session timers."""
    return OPTION in {tag.lower() for name in ("Supported", "Require") for tag in message.headers.values(name)}


# ── the UAS ──────────────────────────────────────────────────────────────────────────────────────────────


def judge(request: Request, rules: SessionTimerRules) -> Refusal | None:
    """§9: 422 for an interval below our minimum, but only to who could ask again with a larger one."""
    asked = SessionExpires.of(request.headers)
    if asked is None or asked.interval_s >= rules.min_se_s or not supports(request):
        return None
    return Refusal(
        status=422,
        rule="Session-Expires too small",
        evidence=f"Session-Expires: {asked}",
        fix=f"ask for {rules.min_se_s} s or more, or let min_se_s of the trunk be smaller",
        headers=(("Min-SE", str(rules.min_se_s)),),
    )


def agree(request: Request, rules: SessionTimerRules, current: Role | None) -> SessionExpires | None:
    """What our 2xx says (§9); None: no timer. ``current``: who refreshes until now, as seen in this request.

    "The UAS MUST NOT increase the value", and must not go below the request's Min-SE.
    """
    asked, floor_s = SessionExpires.of(request.headers), min_se(request.headers)
    if asked is not None:
        lowered_s = max(min(asked.interval_s, rules.session_expires_s or asked.interval_s), floor_s)
        interval_s = max(min(lowered_s, asked.interval_s), LEAST_MIN_SE_S)
        wants = asked.refresher
    elif rules.session_expires_s:
        interval_s, wants = max(rules.session_expires_s, floor_s), None
    else:
        return None
    known = supports(request)
    return SessionExpires(interval_s=interval_s, refresher=REFRESHER[known, wants or (current if known else None)])


# ── the UAC ──────────────────────────────────────────────────────────────────────────────────────────────


def agreed(response: Response) -> SessionExpires | None:
    """What a 2xx says (§7.2); None: its sender wants no timer. Without a refresher it is us: somebody must."""
    told = SessionExpires.of(response.headers)
    if told is None:
        return None
    refresher = told.refresher or "uac"
    least_s = LEAST_INTERVAL_S if refresher == "uac" else LEAST_MIN_SE_S
    return SessionExpires(interval_s=max(told.interval_s, least_s), refresher=refresher)

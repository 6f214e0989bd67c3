"""Replaces (RFC 3891): an INVITE that takes the place of a call we have, and our word for a peer's call."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from offhook.model.errors import LocalProtocolError, SipParseError
from offhook.sip.headers import NameAddr
from offhook.sip.inspection import Refusal
from offhook.sip.message import Request
from offhook.sip.parts import Parts
from offhook.sip.replaces_value import Replaces
from offhook.sip.uri import SipUri, escape
from offhook.sip.usage import Usage, UsageState

NO_TAG = "0"
"""§3: stands for the tag of an RFC 2543 peer, which has none."""

ReplacingUri = Literal["contact", "address"]
"""Where the INVITE with Replaces shall go: to the very device of the dialog, or to the address it was reached by."""


# ── an INVITE that replaces ──────────────────────────────────────────────────────────────────────────────

_SETTLED = frozenset({UsageState.ANSWERED, UsageState.CONFIRMED, UsageState.OFFERED})
_ASKING = frozenset({UsageState.CALLING, UsageState.PROCEEDING})
_NO_MATCH = "the call to be replaced is over, or the tags are swapped: to-tag is ours, from-tag that of our peer"


def replaced_by(parts: Parts, request: Request, trunk_id: str) -> Usage | Refusal | None:
    """The usage that a new INVITE, let in by ``trunk_id``, wants to replace (§3); None: it wants none."""
    values = request.headers.get_all("Replaces")
    if not values:
        return None
    try:
        if len(values) > 1 or "Join" in request.headers:
            # §3: 400 for several, and for another header "with contradictory semantics"
            raise SipParseError("Replaces", "more than one, or Join as well")
        wanted = Replaces.parse(values[0])
    except SipParseError as error:
        return _refusal(400, values[0], error.problem, "send one Replaces: call-id;to-tag=...;from-tag=...")
    usage = _usage_of(parts, wanted)
    if usage is None:
        return _refusal(481, values[0], "matches no call", _NO_MATCH)
    return _hindrance(usage, wanted, values[0], trunk_id) or usage


def _usage_of(parts: Parts, wanted: Replaces) -> Usage | None:
    """§3: to-tag is compared with our tag, from-tag with the peer's; "0" matches none as well."""
    usage = parts.usage_of(wanted.sip_call_id, wanted.to_tag)
    if usage is None:
        return None
    tags = (wanted.from_tag, "") if wanted.from_tag == NO_TAG else (wanted.from_tag,)
    return usage if any(usage.dialog_with(tag) is not None for tag in tags) else None


def _hindrance(usage: Usage, wanted: Replaces, value: str, trunk_id: str) -> Refusal | None:
    if usage.trunk_id != trunk_id:
        # §3: "the UA MUST verify that the initiator of the new INVITE is authorized to replace the matched dialog"
        fix = "let who takes the call over call by the trunk that the call came by"
        return _refusal(403, value, f"the call is one of trunk {usage.trunk_id!r}, the INVITE of {trunk_id!r}", fix)
    if usage.state in _SETTLED:
        # §3: a confirmed dialog "and the 'early-only' flag is present": 486
        fix = "the call is answered already: drop early-only to replace it all the same"
        return _refusal(486, value, "early-only, and the call is answered", fix) if wanted.early_only else None
    if usage.unanswered:
        # §3: "an early dialog that was not initiated by this UA, it returns a 481"
        return _refusal(481, value, "the call is ringing here and not answered", "replace it once it is answered")
    # §3: "a dialog which has already terminated, the UA SHOULD decline the request with a 603"
    return None if usage.state in _ASKING else _refusal(603, value, "the call is being ended", _NO_MATCH)


def _refusal(status: int, value: str, problem: str, fix: str) -> Refusal:
    return Refusal(status=status, rule="Replaces", evidence=f"Replaces: {value[:80]}: {problem}", fix=fix)


# ── our word for a peer's call ───────────────────────────────────────────────────────────────────────────


def replaces_value(usage: Usage) -> Replaces:
    """For the peer of ``usage``, which will receive the INVITE: its tag is the to-tag, ours the from-tag.

    Raises ``LocalProtocolError`` where there is no dialog yet.
    """
    dialog = usage.settled
    return Replaces(
        sip_call_id=dialog.sip_call_id, to_tag=dialog.remote_tag or NO_TAG, from_tag=dialog.local_tag or NO_TAG
    )


def replacing_uri(usage: Usage, goes_to: ReplacingUri) -> str:
    """``sip:…?Replaces=…``: the Refer-To of an attended transfer to the peer of ``usage`` (RFC 5589 §7.3).

    Raises ``LocalProtocolError`` where there is no dialog yet, or where its peer has no SIP URI.
    """
    dialog = usage.settled
    text = dialog.remote_target if goes_to == "contact" else NameAddr.parse(dialog.remote).uri
    try:
        uri = SipUri.parse(text)
    except SipParseError as error:
        raise LocalProtocolError(f"no transfer to {text!r}: {error.problem}") from None
    return str(replace(uri, headers=f"Replaces={escape(str(replaces_value(usage)))}"))

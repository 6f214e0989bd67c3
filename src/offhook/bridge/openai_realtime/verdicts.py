"""What to do about a failure of OpenAI Realtime: one verdict an error, by its code, its type or its status.

https://platform.openai.com/docs/guides/error-codes and .../realtime-websocket.
"""

from __future__ import annotations

from offhook.bridge.codec import BridgeFault
from offhook.bridge.endings import closing
from offhook.bridge.openai_realtime.events import ErrorDetails

FATAL = (
    "insufficient_quota",
    "credit_balance_exhausted",
    "billing_hard_limit_reached",
    "invalid_api_key",
    "account_deactivated",
    "model_not_found",
)
"""Nothing that is tried again with this key and model goes better."""

IGNORED = frozenset(
    {
        "input_audio_buffer_commit_empty",
        "response_cancel_not_active",
        "item_create_duplicate_item_id",
        "item_delete_invalid_item_id",
        "item_truncate_invalid_item_id",
        "conversation_already_has_active_response",
    }
)
"""Both sides acted at once, and nothing is wrong."""

MAX_PROBLEM = 300
"""Characters of what a provider says about itself."""

FATAL_STATUS = frozenset({400, 401, 403, 404})

NORMAL, GOING_AWAY, PROTOCOL_ERROR, POLICY = 1000, 1001, 1002, 1008


def of_error(error: ErrorDetails | None) -> BridgeFault:
    if error is None:
        return BridgeFault(problem="an error without a reason", verdict="retry")
    named = error.code or error.type or "error"
    problem = f"{named}: {error.message or 'no reason given'}"[:MAX_PROBLEM]
    return BridgeFault(problem=problem, verdict="fatal" if {error.code, error.type} & set(FATAL) else "retry")


def is_conflict(error: ErrorDetails) -> bool:
    return error.code == "conversation_already_has_active_response"


def of_refusal(status: int, body: bytes) -> BridgeFault:
    """``body`` may be cut or chunked: it is searched, not parsed."""
    text = body.decode("utf-8", "replace")
    reason = next((code for code in FATAL if code in text), "")
    problem = f"refused the connection with HTTP {status}{': ' + reason if reason else ''}"
    if status in FATAL_STATUS or reason:
        return BridgeFault(problem=problem, verdict="fatal")
    return BridgeFault(problem=problem, verdict="retry")


def of_close(code: int, reason: str) -> BridgeFault:
    """It never hangs up for the agent: the agent does, by a tool."""
    problem = closing(code, reason)
    if code == POLICY or any(known in reason for known in FATAL):
        return BridgeFault(problem=problem, verdict="fatal")
    return BridgeFault(problem=problem, verdict="retry")

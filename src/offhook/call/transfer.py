"""Handing the caller to somebody else: the table of it, and what is decided without doing.

A transfer always ends: connected, or the caller is back with the agent, or the caller is gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from offhook.call.dial import NotReached
from offhook.call.leg import Abilities
from offhook.call.states import Machine
from offhook.model.call_events import TransferMode, TransferOutcome
from offhook.model.records import TransferDestination

TransferState = Literal[
    "finishing",  # the agent finishes its sentence
    "referring",  # REFER is sent (RFC 3515)
    "referred",  # the caller's side took it, and tells by NOTIFY how it goes
    "parting",  # the caller's side hung up meanwhile; its last NOTIFY may still come (RFC 5057 §4.1)
    "dialing",  # we call the target
    "briefing",  # an agent tells the operator what it is about
    "replacing",  # REFER with Replaces is sent: the caller's side takes our call to the target over
    "handed_over",  # caller and operator talk through us, the agent is gone
    "three_way",  # all of them talk
    "over",
]
TransferInput = Literal[
    "refer",
    "dial",
    "accepted",
    "connected",
    "fall_back",  # the caller's side does not do it: we do it ourselves
    "brief",
    "replace",
    "hand_over",
    "join",
    "fail",
    "caller_gone",
    "target_gone",
]


TRANSFER: Mapping[tuple[TransferState, TransferInput], TransferState] = {
    ("finishing", "refer"): "referring",
    ("finishing", "dial"): "dialing",
    ("finishing", "fail"): "over",
    ("finishing", "caller_gone"): "over",
    # blind: the caller's side calls the target
    ("referring", "accepted"): "referred",
    ("referring", "connected"): "over",  # the NOTIFY overtook the 202
    ("referring", "fall_back"): "dialing",
    ("referring", "fail"): "over",
    ("referring", "caller_gone"): "parting",
    ("referred", "accepted"): "referred",
    ("referred", "connected"): "over",
    ("referred", "fail"): "over",
    ("referred", "caller_gone"): "parting",
    ("parting", "accepted"): "parting",
    ("parting", "connected"): "over",
    ("parting", "fail"): "over",
    # we call the target
    ("dialing", "hand_over"): "handed_over",
    ("dialing", "brief"): "briefing",
    ("dialing", "replace"): "replacing",
    ("dialing", "fail"): "over",
    ("dialing", "caller_gone"): "over",
    ("briefing", "hand_over"): "handed_over",
    ("briefing", "join"): "three_way",
    ("briefing", "fail"): "over",
    ("briefing", "caller_gone"): "over",
    # attended: the target's end of our call to it is replaced, so it hangs up on us when all goes well
    ("replacing", "accepted"): "replacing",
    ("replacing", "target_gone"): "replacing",
    ("replacing", "connected"): "over",
    ("replacing", "fall_back"): "handed_over",
    ("replacing", "fail"): "over",
    ("replacing", "caller_gone"): "parting",
    ("parting", "target_gone"): "parting",
    # afterwards
    ("handed_over", "target_gone"): "over",
    ("handed_over", "caller_gone"): "over",
    ("three_way", "target_gone"): "over",
    ("three_way", "caller_gone"): "over",
}


def transfer_machine() -> Machine[TransferState, TransferInput]:
    return Machine("transfer", TRANSFER, "finishing")


def first_step(destination: TransferDestination, abilities: Abilities) -> Literal["refer", "dial"]:
    """A side that takes no REFER is not asked, where we may go on by ourselves."""
    if destination.mode != "blind" or (destination.fallback and abilities.refer is False):
        return "dial"
    return "refer"


def next_step(destination: TransferDestination, abilities: Abilities) -> Literal["hand_over", "brief", "replace"]:
    """The target picked up."""
    if destination.mode == "warm":
        return "brief"
    if destination.mode != "attended" or not abilities.replaces or abilities.refer is False:
        return "hand_over"
    return "replace"


def mode_of(state: TransferState, destination: TransferDestination) -> TransferMode:
    """The way it went in the end."""
    if destination.mode == "warm":
        return "warm"
    if state in ("dialing", "handed_over") and destination.mode == "blind":
        return "bridge"
    return "bridge" if state == "handed_over" else destination.mode


_OUTCOMES: Mapping[int, TransferOutcome] = {
    404: "failed",
    408: "no_answer",
    410: "failed",
    480: "no_answer",
    484: "failed",
    486: "busy",
    487: "no_answer",  # given up before it was answered
    600: "busy",
    604: "failed",
}
"""RFC 3261 §21. Other 4xx and 6xx say no; 3xx and 5xx, and no status at all, that nobody could be asked."""


def outcome_of(status: int | None) -> TransferOutcome:
    """What a final status to the call to the target means for the transfer."""
    if status is None:
        return "failed"
    if 200 <= status < 300:
        return "connected"
    return _OUTCOMES.get(status, "refused" if status // 100 in (4, 6) else "failed")


def outcome_of_refer(status: int | None) -> TransferOutcome:
    """What a final status to our REFER itself means: the caller's side does not do it, or could not be asked."""
    unheard = status is None or status in (408, 481) or status // 100 == 5
    return "failed" if unheard else "refused"


def outcome_of_call(failure: NotReached) -> TransferOutcome:
    """What became of our own call to the target."""
    outcomes: dict[str, TransferOutcome] = {"no_answer": "no_answer", "not_allowed": "refused"}
    return outcomes.get(failure.cause) or outcome_of(failure.status)


_SAID: Mapping[TransferOutcome, str] = {
    "connected": "the caller is connected",
    "busy": "the line is busy",
    "no_answer": "nobody answered",
    "refused": "the call was declined",
    "failed": "nobody could be reached",
    "abandoned": "the caller hung up",
}


def say_outcome(outcome: TransferOutcome, name: str, reason: str) -> str:
    """For the agent, in words it can pass on."""
    detail = f" ({reason})" if reason else ""
    return f"transfer to {name}: {_SAID[outcome]}{detail}"

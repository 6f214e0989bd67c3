"""Reliable provisional responses and PRACK, both roles (RFC 3262): what rings is told for certain, and may agree on
media before anybody answers."""

from __future__ import annotations

import re
from functools import partial

from offhook.model.errors import LocalProtocolError, SipParseError
from offhook.model.trunks import ReliableProvisional
from offhook.sip.authentication import Proof
from offhook.sip.dialog import DialogInput
from offhook.sip.events import Flow, Outbound, PrackReceived, UsageEnded
from offhook.sip.grammar import parse_number
from offhook.sip.in_dialog import Outcome, ask
from offhook.sip.inspection import Refusal
from offhook.sip.message import Request, Response
from offhook.sip.offers import refuse_offer
from offhook.sip.parts import HeaderLines, Parts
from offhook.sip.transaction import GIVE_UP_S, T1_S
from offhook.sip.usage import EarlyDialog, Progress, Ring, Unpracked, Usage, UsageInput, UsageState, forming

OPTION = "100rel"

FIRST_RSEQ_MAX = 2**31 - 1
"""§3: the first "is chosen uniformly between 1 and 2**31 - 1"."""
RSEQ_MAX = 2**32 - 1
"""§7.1."""
WAITING_RINGS_MAX = 8
"""Of a call that rings, is forwarded and queued before the first PRACK is there."""
PRACKS_MAX = 4
"""Of ours under way in one early dialog; more reliable responses than that wait, for their sender repeats them."""

_RACK = re.compile(r"([0-9]{1,10})[ \t]+([0-9]{1,10})[ \t]+INVITE")
"""§7.2: RSeq, then the CSeq of what it stood in."""

_EXTENSION_REQUIRED = Refusal(
    status=421,
    rule="no reliable provisional responses",
    evidence="",
    fix=f"let the caller support {OPTION}, or set reliable_provisional of the trunk to supported",
    headers=(("Require", OPTION),),
)
"""RFC 3261 §21.4.15."""
_NOTHING_TO_ACKNOWLEDGE = Refusal(
    status=481,
    rule="PRACK that matches no provisional response",
    evidence="",
    fix="copy RSeq and CSeq of the latest reliable response into RAck (RFC 3262 §7.2)",
)

# ── the UAS ──────────────────────────────────────────────────────────────────────────────────────────────


def is_required(invite: Request) -> bool:
    """Whether the caller wants every provisional response reliable (§3)."""
    return OPTION in {tag.lower() for tag in invite.headers.values("Require")}


def judge(parts: Parts, invite: Request, trunk_id: str) -> Refusal | None:
    """421 for a caller that does not know of this, where its trunk wants nothing else."""
    return _EXTENSION_REQUIRED if trunk_id in parts.reliable_trunks and not _is_known(invite) else None


def _is_known(invite: Request) -> bool:
    """Whether the caller supports this, at least."""
    return OPTION in {tag.lower() for name in ("Supported", "Require") for tag in invite.headers.values(name)}


def ring(parts: Parts, usage: Usage, wanted: Ring, now: float) -> None:
    """Send a provisional response and repeat it until its PRACK comes; one that is not the first waits for the PRACKs
    of those before it.

    Raises ``LocalProtocolError``: the peer does not know of this (§3), or must first be given an offer.
    """
    usage.check(UsageInput.RING)
    if not _is_known(usage.pending.request):
        raise LocalProtocolError(f"the peer of usage {usage.usage_id} does not support {OPTION}")
    if usage.progress is None:
        usage.progress = Progress(rseq=int(parts.new_fraction() * FIRST_RSEQ_MAX))
    progress = usage.progress
    offers = bool(wanted.body) or any(ring.body for ring in progress.waiting)
    if not (usage.pending.request.body or progress.offered or offers):
        # RFC 3261 §13.2.1: "the offer MUST be in the first reliable non-failure message from the UAS"
        raise LocalProtocolError("the INVITE had no offer: the first reliable response must make one")
    if progress.unpracked is None and usage.pracked is None:
        _send(parts, usage, progress, wanted, now)
    elif len(progress.waiting) < WAITING_RINGS_MAX:
        progress.waiting.append(wanted)
    else:
        raise LocalProtocolError(f"{WAITING_RINGS_MAX} provisional responses wait for a PRACK already")


def _send(parts: Parts, usage: Usage, progress: Progress, wanted: Ring, now: float) -> None:
    transaction = usage.pending
    request = transaction.request
    # RFC 3261 §13.2.1: once an answer is given, "the UAS MUST NOT generate subsequent answers" to that INVITE.
    body = b"" if progress.settled or progress.offered else wanted.body
    progress.rseq += 1
    headers = [*forming(usage, request), ("Require", OPTION), ("RSeq", str(progress.rseq)), *wanted.headers]
    parts.respond(transaction, wanted.status, now, headers=headers, body=body)
    if body:
        usage.local_session = body
        progress.offered, progress.settled = not request.body, bool(request.body)
    progress.unpracked = Unpracked(
        rseq=progress.rseq,
        number=request.cseq.number,
        packet=Outbound(data=transaction.latest, flow=transaction.flow),
        carries_session=bool(body),
        give_up_at=now + GIVE_UP_S,
        interval_s=T1_S,
        timer=parts.timers.start(now + T1_S, partial(_repeat, parts, usage)),
    )


def _repeat(parts: Parts, usage: Usage, now: float) -> None:
    """§3: "an interval that starts at T1 seconds and doubles for each retransmission"."""
    unpracked = None if usage.progress is None else usage.progress.unpracked
    if unpracked is None:
        return
    if now >= unpracked.give_up_at:
        _give_up(parts, usage, now)
        return
    parts.outbox.append(unpracked.packet)
    unpracked.interval_s *= 2
    again_at = min(now + unpracked.interval_s, unpracked.give_up_at)
    unpracked.timer = parts.timers.start(again_at, partial(_repeat, parts, usage))


def _give_up(parts: Parts, usage: Usage, now: float) -> None:
    """§3: no PRACK in 64*T1, so "the UAS SHOULD reject the original request with a 5xx response"."""
    parts.respond(usage.pending, 504, now)
    usage.served = None
    usage.advance(UsageInput.PRACK_MISSING)
    usage.settled.advance(DialogInput.FAILURE)
    parts.drop_usage(usage, now)
    parts.emit(UsageEnded(usage_id=usage.usage_id, cause="prack_missing"))


def receive(parts: Parts, usage: Usage, request: Request, flow: Flow, now: float) -> None:
    """A PRACK in the usage's dialog, in order (§3)."""
    progress = usage.progress
    unpracked = None if progress is None else progress.unpracked
    if progress is None or unpracked is None or _acknowledged(request) != (unpracked.rseq, unpracked.number):
        parts.refuse(request, flow, _NOTHING_TO_ACKNOWLEDGE, now)
        return
    parts.timers.cancel(unpracked.timer)
    progress.unpracked = None
    if progress.offered and not progress.settled:
        progress.settled = True
        parts.respond(parts.serve(request, flow, now), 200, now)
        parts.emit(PrackReceived(usage_id=usage.usage_id, request=request, is_offer=False))
    elif request.body:
        _take_offer(parts, usage, request, flow, now)
    else:
        parts.respond(parts.serve(request, flow, now), 200, now)
    _go_on(parts, usage, now)


def _take_offer(parts: Parts, usage: Usage, request: Request, flow: Flow, now: float) -> None:
    """§5: a PRACK may bring an offer once there was an answer; RFC 3311 §5.2's rules for a second one hold here too."""
    refusal = refuse_offer(parts, usage)
    if refusal is not None:
        parts.refuse(request, flow, refusal, now)
        return
    usage.pracked = parts.serve(request, flow, now)
    parts.emit(PrackReceived(usage_id=usage.usage_id, request=request, is_offer=True))


def _acknowledged(request: Request) -> tuple[int, int] | None:
    """What RAck names: (RSeq, CSeq number of the INVITE)."""
    match = _RACK.fullmatch(request.headers.get("RAck") or "")
    return None if match is None else (int(match[1]), int(match[2]))


def answer(parts: Parts, usage: Usage, now: float, *, body: bytes, headers: HeaderLines) -> None:
    """200 to the PRACK that brought an offer, with the answer. Raises ``LocalProtocolError`` where none waits."""
    _finish(parts, usage, 200, now, body=body, headers=headers)
    usage.local_session = body or usage.local_session
    _go_on(parts, usage, now)


def reject(parts: Parts, usage: Usage, now: float, *, status: int, headers: HeaderLines) -> None:
    """Refuse the PRACK's offer; what it acknowledged stays acknowledged. Raises ``LocalProtocolError``."""
    if not 400 <= status <= 699:
        raise LocalProtocolError(f"{status} refuses no PRACK")
    _finish(parts, usage, status, now, headers=headers)
    _go_on(parts, usage, now)


def _finish(
    parts: Parts, usage: Usage, status: int, now: float, *, body: bytes = b"", headers: HeaderLines = ()
) -> None:
    transaction = usage.pracked
    if transaction is None:
        raise LocalProtocolError(f"usage {usage.usage_id} has no PRACK that waits for an answer")
    usage.pracked = None
    parts.respond(transaction, status, now, headers=headers, body=body)


def _go_on(parts: Parts, usage: Usage, now: float) -> None:
    """What waited for the PRACK: the next provisional response, or the 2xx."""
    progress = usage.progress
    if progress is None or progress.unpracked is not None or usage.pracked is not None:
        return
    if usage.state is UsageState.INVITED and progress.waiting:
        _send(parts, usage, progress, progress.waiting.popleft(), now)
    elif usage.state is UsageState.ANSWER_WANTED and progress.answer is not None:
        send, progress.answer = progress.answer, None
        usage.advance(UsageInput.PRACK_CAME)
        send(now)


# ── the UAC ──────────────────────────────────────────────────────────────────────────────────────────────


def announce(invite: Request, wanted: ReliableProvisional) -> None:
    """Say in our INVITE whether provisional responses may or must be reliable (§4)."""
    if wanted == "off":
        rest = [tag for tag in invite.headers.values("Supported") if tag.lower() != OPTION]
        invite.headers.set("Supported", ", ".join(rest))
    elif wanted == "required":
        invite.headers.add("Require", OPTION)


def is_reliable(response: Response) -> bool:
    return _rseq(response) is not None


def _rseq(response: Response) -> int | None:
    """The RSeq of a reliable provisional response; None: it is not reliable, or its RSeq is nonsense."""
    if OPTION not in {tag.lower() for tag in response.headers.values("Require")}:
        return None
    try:
        number = parse_number(response.headers.get("RSeq") or "", "RSeq", RSEQ_MAX)
    except SipParseError:
        return None
    return number or None


def observe(parts: Parts, usage: Usage, early: EarlyDialog, response: Response, now: float) -> bool:
    """A provisional response (§4): acknowledged where it is reliable. False: a copy, or its turn has not come.

    §4: one whose RSeq "is not one higher than the value of the sequence number" of the last "MUST NOT be
    acknowledged with a PRACK, and MUST NOT be processed further by the UAC".
    """
    rseq = _rseq(response)
    if rseq is None:
        return True
    if (early.rseq is not None and rseq != early.rseq + 1) or early.pracks >= PRACKS_MAX:
        return False
    early.rseq = rseq
    offered = usage.asked is not None and usage.asked.request.body
    if response.body and not offered and not early.session:
        early.owed = response
    else:
        send(parts, usage, early, response, now)
    early.session = early.session or response.body
    return True


def prack(parts: Parts, usage: Usage, now: float, *, remote_tag: str, body: bytes, headers: HeaderLines) -> None:
    """Acknowledge the reliable response that brought an offer; ``body`` is the answer. Raises LocalProtocolError."""
    early = usage.early.get(remote_tag) if usage.dialog is None else None
    if early is None or early.owed is None:
        raise LocalProtocolError(f"usage {usage.usage_id}: no offer in a provisional response waits for an answer")
    response, early.owed = early.owed, None
    usage.local_session = body
    send(parts, usage, early, response, now, body=body, headers=headers)


def send(
    parts: Parts,
    usage: Usage,
    early: EarlyDialog,
    response: Response,
    now: float,
    *,
    body: bytes = b"",
    headers: HeaderLines = (),
) -> None:
    """The PRACK of a reliable response (§7.2); what answers it, means nothing to us."""
    request = early.dialog.request("PRACK")
    request.headers.add("RAck", f"{_rseq(response)} {response.cseq.number} INVITE")
    parts.finish(request, headers=headers, body=body)
    early.pracks += 1
    proof = Proof.of(usage.credentials, usage.known_hosts)
    ask(parts, early.dialog, request, proof=proof, tell=partial(_over, early), now=now)


def _over(early: EarlyDialog, outcome: Outcome, now: float) -> None:
    early.pracks -= 1

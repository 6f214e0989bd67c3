"""UPDATE, both roles (RFC 3311): changing a session without ringing, before the answer and after it."""

from __future__ import annotations

from functools import partial

from offhook.model.errors import LocalProtocolError
from offhook.sip import bye, session_timer
from offhook.sip.authentication import Proof
from offhook.sip.dialog import Dialog
from offhook.sip.events import DialogRefreshed, Flow, UpdateAnswered, UpdateFailed, UpdateReceived
from offhook.sip.in_dialog import Outcome, ask
from offhook.sip.inspection import ALLOW, SUPPORTED, Refusal
from offhook.sip.message import Request, Response
from offhook.sip.offers import glare_delay_s, open_offer, overlapping, refuse_offer
from offhook.sip.parts import HeaderLines, Parts
from offhook.sip.session_interval import judge
from offhook.sip.transaction_layer import ServerTransaction
from offhook.sip.usage import EarlyDialog, Update, Usage, UsageState

UNKNOWN_METHOD = (405, 501)

_OPEN_STATES = frozenset(
    {
        UsageState.INVITED,
        UsageState.ANSWER_WANTED,
        UsageState.ANSWERED,
        UsageState.CALLING,
        UsageState.PROCEEDING,
        UsageState.OFFERED,
        UsageState.CONFIRMED,
    }
)
"""Nobody is hanging up."""

_ENDING = Refusal(status=481, rule="UPDATE of a call that ends", evidence="", fix="nothing: the call is over here")

# ── the UAS ──────────────────────────────────────────────────────────────────────────────────────────────


def receive(parts: Parts, usage: Usage, request: Request, flow: Flow, now: float) -> None:
    """An UPDATE in a dialog of the usage, in order (§5.2). Without an offer it moves the target and the timer only."""
    remote_tag = request.from_.tag or ""
    refusal = _hindrance(parts, usage, request, usage.branch(remote_tag))
    if refusal is not None:
        parts.refuse(request, flow, refusal, now)
        return
    usage.note_peer(request)
    usage.updated = parts.serve(request, flow, now)
    if request.body:
        parts.emit(UpdateReceived(usage_id=usage.usage_id, request=request, remote_tag=remote_tag))
    else:
        answer(parts, usage, now, body=b"", headers=())
        if session_timer.is_up(usage):
            parts.emit(DialogRefreshed(usage_id=usage.usage_id))


def _hindrance(parts: Parts, usage: Usage, request: Request, early: EarlyDialog | None) -> Refusal | None:
    if usage.state not in _OPEN_STATES:
        return _ENDING
    if usage.updated is not None:
        # §5.2: "before it has generated a final response to a previous UPDATE on the same dialog MUST return a 500"
        return overlapping(parts, "UPDATE before the last one is answered")
    refusal = refuse_offer(parts, usage, early) if request.body else None
    return refusal or judge(request, usage.timer_rules)


def answer(parts: Parts, usage: Usage, now: float, *, body: bytes, headers: HeaderLines) -> None:
    """200 to the pending UPDATE. Raises ``LocalProtocolError`` where none waits."""
    transaction = _take(usage)
    request, flow = transaction.request, transaction.flow
    remote_tag = request.from_.tag or ""
    dialog, early = usage.dialog_with(remote_tag) or usage.settled, usage.branch(remote_tag)
    dialog.refresh_target(request, flow)
    timer = session_timer.accept(parts, usage, request, now) if session_timer.is_up(usage) else []
    lines = [("Contact", dialog.contact), ALLOW, SUPPORTED, *timer, *headers]
    parts.respond(transaction, 200, now, headers=lines, body=body)
    usage.local_session = body or usage.local_session
    if early is not None:
        early.session = request.body or early.session


def reject(parts: Parts, usage: Usage, now: float, *, status: int, headers: HeaderLines) -> None:
    """Refuse the pending UPDATE; the session stays as it was. Raises ``LocalProtocolError``."""
    if not 400 <= status <= 699:
        raise LocalProtocolError(f"{status} refuses no UPDATE")
    parts.respond(_take(usage), status, now, headers=headers)


def _take(usage: Usage) -> ServerTransaction:
    transaction, usage.updated = usage.updated, None
    if transaction is None:
        raise LocalProtocolError(f"usage {usage.usage_id} has no UPDATE that waits for an answer")
    return transaction


def forget_others(parts: Parts, usage: Usage, now: float) -> None:
    """One branch of our INVITE was answered: what the others asked, or were asked, means nothing any more."""
    served, asked = usage.updated, usage.updating
    if served is not None and usage.dialog_with(served.request.from_.tag or "") is None:
        usage.updated = None
        parts.respond(served, 487, now)
    if asked is not None and asked.dialog is not usage.dialog:
        usage.updating = None


# ── the UAC ──────────────────────────────────────────────────────────────────────────────────────────────


def update(
    parts: Parts, usage: Usage, now: float, *, offer: bytes, headers: HeaderLines, remote_tag: str | None
) -> None:
    """Send an UPDATE (§5.1). Raises ``LocalProtocolError`` while another is under way, or another offer open."""
    if not is_idle(usage):
        raise LocalProtocolError(f"usage {usage.usage_id} is {usage.state.name} or has an UPDATE under way")
    dialog, early = _dialog(usage, remote_tag)
    if offer and not _may_offer(usage, early):
        raise LocalProtocolError(f"usage {usage.usage_id}: an offer is open; wait for its answer")
    _send(parts, usage, Update(dialog=dialog, offer=offer, headers=tuple(headers)), now)


def refresh(parts: Parts, usage: Usage, now: float) -> None:
    """An UPDATE that says nothing but that we are here (RFC 4028 §7.4)."""
    _send(parts, usage, Update(dialog=usage.settled, offer=b"", headers=(), is_refresh=True), now)


def is_idle(usage: Usage) -> bool:
    """§5.1: no UPDATE "while it has already generated" one that has no final response yet."""
    under_way = (usage.updating, usage.update_retry)
    return usage.state in _OPEN_STATES and all(item is None for item in under_way)


def _dialog(usage: Usage, remote_tag: str | None) -> tuple[Dialog, EarlyDialog | None]:
    """Where it goes. As callee before the first tagged response there is none, as caller there may be several."""
    if usage.dialog is not None:
        if usage.state is UsageState.INVITED and usage.ring_timer is None:
            raise LocalProtocolError(f"usage {usage.usage_id} has no early dialog: ring first")
        return usage.dialog, None
    tags = tuple(usage.early) if remote_tag is None else (remote_tag,)
    early = usage.early.get(tags[0]) if len(tags) == 1 else None
    if early is None:
        raise LocalProtocolError(f"usage {usage.usage_id} has {len(usage.early)} early dialogs: name one of them")
    return early.dialog, early


def _may_offer(usage: Usage, early: EarlyDialog | None) -> bool:
    """§5.1: every offer is answered, and as callee the PRACK has shown that the caller knows the answer."""
    return open_offer(usage, early) is None and not (usage.progress is not None and usage.progress.delays_answer)


def _send(parts: Parts, usage: Usage, wanted: Update, now: float) -> None:
    request = wanted.dialog.request("UPDATE")
    request.headers.add("Contact", wanted.dialog.contact)
    timer = session_timer.request_lines(usage) if session_timer.is_up(usage) else []
    parts.finish(request, headers=[*timer, *wanted.headers], body=wanted.offer)
    usage.updating = wanted
    proof = Proof.of(usage.credentials, usage.known_hosts)
    ask(parts, wanted.dialog, request, proof=proof, tell=partial(_over, parts, usage, wanted), now=now)


def _over(parts: Parts, usage: Usage, wanted: Update, outcome: Outcome, now: float) -> None:
    if usage.updating is not wanted:
        return  # the usage is gone
    usage.updating = None
    response = outcome.response
    if not _lives(usage, wanted):
        return
    if response is not None and outcome.success:
        _succeed(parts, usage, wanted, response, now)
    elif response is not None and session_timer.raised(usage, response):
        _send(parts, usage, wanted, now)
    elif outcome.status == 491 and not wanted.is_again:
        _wait(parts, usage, wanted, now)
    else:
        _fail(parts, usage, wanted, outcome, now)


def _lives(usage: Usage, wanted: Update) -> bool:
    """Whether its dialog is still one of the usage, and nobody is hanging up."""
    return usage.dialog_with(wanted.dialog.remote_tag) is wanted.dialog and usage.state in _OPEN_STATES


def _succeed(parts: Parts, usage: Usage, wanted: Update, response: Response, now: float) -> None:
    wanted.dialog.refresh_target(response, wanted.dialog.flow)
    usage.note_peer(response)
    usage.local_session = wanted.offer or usage.local_session
    early = usage.branch(wanted.dialog.remote_tag)
    if early is not None:
        early.session = response.body or early.session
    if session_timer.is_up(usage):
        session_timer.settle(parts, usage, response, now)
    told = UpdateAnswered(usage_id=usage.usage_id, response=response)
    parts.emit(DialogRefreshed(usage_id=usage.usage_id) if wanted.is_refresh else told)


def _wait(parts: Parts, usage: Usage, wanted: Update, now: float) -> None:
    """§5.3: after a 491 it is tried again as a re-INVITE would be (RFC 3261 §14.1)."""
    wanted.is_again = True
    at = now + glare_delay_s(parts, wanted.dialog)
    usage.update_retry = parts.timers.start(at, partial(_try_again, parts, usage, wanted))


def _try_again(parts: Parts, usage: Usage, wanted: Update, now: float) -> None:
    usage.update_retry = None
    if not _lives(usage, wanted):
        return
    if wanted.offer and not _may_offer(usage, usage.branch(wanted.dialog.remote_tag)):
        _fail(parts, usage, wanted, Outcome(status=491, reason="Request Pending"), now)
    else:
        _send(parts, usage, wanted, now)


def _fail(parts: Parts, usage: Usage, wanted: Update, outcome: Outcome, now: float) -> None:
    if wanted.is_refresh:
        if outcome.status in UNKNOWN_METHOD:
            usage.peer_allows -= {"UPDATE"}
            session_timer.fire_at(parts, usage, now)
        else:
            session_timer.refresh_failed(parts, usage, outcome.status, now)
        return
    parts.emit(UpdateFailed(usage_id=usage.usage_id, status=outcome.status, reason=outcome.reason))
    if outcome.status in (408, 481) and usage.state is UsageState.CONFIRMED:
        # RFC 3261 §12.2.1.2: "the UAC SHOULD terminate the dialog"
        bye.hang_up(parts, usage, now)

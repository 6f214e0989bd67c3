"""Whatever exchanges the people of a call: transfers of ours, REFERs from outside, INVITEs with Replaces."""

from __future__ import annotations

from offhook.bridge.codec import ToolResult
from offhook.call.conduct import Conduct
from offhook.call.inbox import BriefingJudged, Hold, InboxFact, Replaced, SipFact, TransferCaller
from offhook.call.leg import Leg, refuse_invite
from offhook.call.redirection import Redirection, Succession, change_party
from offhook.call.session import CallSession
from offhook.call.transferring import Transferring
from offhook.model.call_events import CallRefused, ToolReturned
from offhook.sip.events import ReferReceived

BUSY_WITH_IT = 491
"""RFC 3261 §21.4.27, request pending: to be tried again."""

DECLINE = 603
"""RFC 3515 §2.4.2."""


class TransferDesk:
    """One exchange at a time; facts are shown to whichever goes on."""

    def __init__(self, call: CallSession) -> None:
        self._call = call
        self._transfers: list[Transferring] = []
        self._early: TransferCaller | None = None
        self._redirection: Redirection | None = None
        self._succession: Succession | None = None

    def command(self, fact: TransferCaller | BriefingJudged | Replaced) -> None:
        match fact:
            case TransferCaller():
                self._begin(fact)
            case BriefingJudged(accept=accept):
                for transfer in self._transfers:
                    transfer.judged(accept=accept)
            case Replaced(invite=invite) if self._seats_change:
                refuse_invite(self._call.equipment.endpoint, invite.usage_id, BUSY_WITH_IT)
            case Replaced(invite=invite):
                self._succession = Succession(self._call, invite, self._replace)
                self._succession.begin()

    def _begin(self, wanted: TransferCaller) -> None:
        call = self._call
        if call.phase in ("arrived", "resolving", "ringing") or (call.conduct is not None and not call.conduct.talking):
            self._early = wanted  # asked for before the talk has begun
            return
        problem = self._hindrance()
        if problem or call.leg is None or call.conduct is None:
            if call.conduct is not None and wanted.tool_call_id:
                self._refuse(call.conduct, wanted, problem)
            elif call.conduct is not None:
                call.conduct.fall_back()
            return
        transfer = Transferring(call, call.leg, call.conduct, wanted.destination, wanted.tool_call_id)
        self._transfers.append(transfer)
        transfer.begin()

    def _refuse(self, conduct: Conduct, wanted: TransferCaller, problem: str) -> None:
        """The model is told; and so is the record, where it was a function of the agent's own."""
        if wanted.destination.function:
            told = ToolReturned(
                tool=wanted.destination.function, output=problem, is_error=True, tool_call_id=wanted.tool_call_id
            )
            self._call.emit(told)
        conduct.tell(ToolResult(tool_call_id=wanted.tool_call_id, output=problem, is_error=True))

    def _hindrance(self) -> str:
        """Why no transfer can begin now; "" where one can."""
        if self._call.phase != "up" or self._call.conduct is None:
            return "the call is over"
        if self._busy:
            return "a transfer is under way"
        return ""

    @property
    def busy(self) -> bool:
        """An exchange goes on, or waits for the talk to begin."""
        return self._busy or self._early is not None

    @property
    def _busy(self) -> bool:
        going_on = any(not transfer.over for transfer in self._transfers)
        return going_on or self._redirected or self._succeeded

    @property
    def _redirected(self) -> bool:
        """We are on our way to whom a REFER sent us."""
        return self._redirection is not None and not self._redirection.over

    @property
    def _succeeded(self) -> bool:
        """Somebody else is taking a seat."""
        return self._succession is not None and not self._succession.over

    @property
    def _seats_change(self) -> bool:
        """An exchange is on its way with whom the call is with: he must not be another meanwhile."""
        moving = any(not transfer.over and not transfer.joined for transfer in self._transfers)
        return moving or self._redirected or self._succeeded

    def talk_begins(self) -> None:
        """What was asked for before that is done now; nothing, as long as nobody talks."""
        if self._early is not None and self._call.conduct is not None and self._call.conduct.talking:
            early, self._early = self._early, None
            self._begin(early)

    def absorbs(self, fact: InboxFact) -> bool:
        if isinstance(fact, SipFact) and isinstance(fact.event, ReferReceived):
            self._referred(fact.event)
            return True
        if isinstance(fact, Hold) and self._busy:
            return True  # who waits, and who hears whom, is the exchange's business until it is over
        exchanges = (*self._transfers, self._redirection, self._succession)
        return any(exchange.absorbs(fact) for exchange in exchanges if exchange is not None)

    def _referred(self, event: ReferReceived) -> None:
        """The peer wants us to call somebody else: by its trunk's rule only, and not in the middle of a transfer."""
        leg = self._call.leg
        if leg is None or self._call.conduct is None:
            return
        if leg.usage_id != event.usage_id or self._busy or leg.rules.refer != "accept":
            leg.reject_refer(event, DECLINE)
            fix = 'set "refer": "accept" on the trunk to let its peers transfer our calls'
            if leg.rules.refer == "accept":
                fix = "nothing: a transfer is under way already"
            evidence = f"Refer-To: {event.refer_to[:80]}"
            self._call.emit(CallRefused(status=DECLINE, rule="REFER from outside", evidence=evidence, fix=fix))
            return
        if self._redirection is not None:
            self._redirection.dismiss()
        self._redirection = Redirection(self._call, leg, self._call.conduct, event)
        self._redirection.begin()

    def _replace(self, old: Leg, new: Leg) -> None:
        """Whoever sat there is let go, and the new one takes the seat."""
        if old is self._call.leg and self._call.conduct is not None:
            change_party(self._call, self._call.conduct, new, "replaces")
        elif not any(transfer.replace_operator(old, new) for transfer in self._transfers):
            new.hang_up()
            return
        old.hang_up()

    def stop(self) -> None:
        for transfer in self._transfers:
            transfer.stop()
        if self._redirection is not None:
            self._redirection.stop()

    async def close(self) -> None:
        for transfer in self._transfers:
            await transfer.close()

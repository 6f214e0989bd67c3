"""One transfer of the caller, carried out: the agent falls silent, somebody is called, and it ends in a known state."""

from __future__ import annotations

from typing import assert_never

from offhook.bridge.codec import TextInput, ToolResult
from offhook.call.briefing import BRIEFING_S, DECLINES, TAKES, briefing_agent
from offhook.call.conduct import Conduct
from offhook.call.dial import NotReached, Party
from offhook.call.inbox import InboxFact, SipFact, TimerFired
from offhook.call.leg import Leg
from offhook.call.numbers import read_target
from offhook.call.second_party import SecondParty
from offhook.call.session import CallSession
from offhook.call.transfer import (
    TransferInput,
    first_step,
    mode_of,
    next_step,
    outcome_of,
    outcome_of_call,
    outcome_of_refer,
    say_outcome,
    transfer_machine,
)
from offhook.call.ways import target_of, trunk_towards
from offhook.model.call_events import (
    EndCause,
    EndedBy,
    TransferEnded,
    TransferOutcome,
    TransferStarted,
)
from offhook.model.errors import BridgeError, OffhookError, SipParseError
from offhook.model.records import TransferDestination
from offhook.model.trunks import Trunk
from offhook.rtp.telephone_event import DigitPressed
from offhook.sip.events import Address, ByeReceived, ReferAnswered, ReferProgress
from offhook.sip.uri import SipUri

PARTING_S = 4.0
"""A PBX may hang up before its last NOTIFY; one that did not come by then does not come."""

REPORT_S = 10.0
"""Longer than the target may ring: for the caller's side to find out that nobody answers, and to tell us."""


class Transferring:
    """Facts come by ``absorbs``. ``over``: another transfer may begin; a party that joined may still be there."""

    def __init__(
        self, call: CallSession, caller: Leg, conduct: Conduct, wanted: TransferDestination, asked: str
    ) -> None:
        """``asked``: the tool call that asked for it; "" where nobody waits for a result."""
        self._call = call
        self._caller = caller
        self._conduct = conduct
        self._wanted = wanted
        self._asked = asked
        self._machine = transfer_machine()
        find_trunk = call.equipment.find_trunk
        self._trunk = find_trunk(wanted.trunk_id) or find_trunk(call.trunk_id)
        self._target: SipUri | None = None
        self._refer_id: int | None = None
        self._operator = SecondParty(call, self)
        self._told = False

    @property
    def over(self) -> bool:
        return self._machine.state == "over"

    @property
    def joined(self) -> bool:
        """Caller and operator talk."""
        return self._machine.state in ("handed_over", "three_way")

    # ── the beginning ────────────────────────────────────────────────────────────────────────────────────

    def begin(self) -> None:
        wanted = self._wanted
        self._call.emit(TransferStarted(mode=wanted.mode, target=wanted.target, destination=wanted.name))
        self._conduct.hold(False)
        try:
            if not self._wanted.trunk_id:
                self._trunk = trunk_towards(wanted.target, self._trunk)
            self._target = _resolved(wanted.target, self._trunk, self._caller.flow.remote)
        except SipParseError as error:
            self._fail("failed", None, error.problem)
            return
        if not self._is_refused(self._target):
            self._conduct.after_speech(self._go)

    def _is_refused(self, target: SipUri) -> bool:
        """By the destination policy: for a REFER, too, by which the caller's side dials for us."""
        equipment = self._call.equipment
        refused = equipment.clearance.judge(target, self._trunk or equipment.find_trunk(self._call.trunk_id))
        if refused is None:
            return False
        self._call.emit(refused)
        self._fail("refused", refused.status, f"{refused.rule}: {refused.evidence}")
        return True

    def _go(self) -> None:
        if self._machine.state != "finishing":
            return
        self._seat("waiting")
        if first_step(self._wanted, self._caller.abilities) == "refer" and self._target is not None:
            self._machine.command("refer")
            self._refer(str(self._target))
        else:
            self._machine.command("dial")
            self._call_target()

    # ── REFER ────────────────────────────────────────────────────────────────────────────────────────────

    def _refer(self, refer_to: str) -> None:
        try:
            self._refer_id = self._caller.refer(refer_to, self._wanted.headers)
        except OffhookError as error:
            self._not_referred(None, str(error))
            return
        self._call.arm("transfer", self._wanted.no_answer_s + REPORT_S)

    def _refer_to_operator(self, leg: Leg) -> None:
        """The caller's side is to take our place with him; he may have hung up already."""
        try:
            refer_to = leg.replacing_uri()
        except OffhookError as error:
            self._not_referred(None, str(error))
        else:
            self._refer(refer_to)

    def _not_referred(self, status: int | None, reason: str) -> None:
        """The caller's side does not do it."""
        if self._machine.state == "replacing" and self._operator.is_up:
            self._join("fall_back")
        elif self._machine.state == "referring" and self._wanted.fallback:
            self._machine.command("fall_back")
            self._call_target()
        else:
            self._fail(outcome_of_refer(status), status, reason)

    def _on_refer(self, event: ReferAnswered | ReferProgress) -> None:
        status = event.status
        if isinstance(event, ReferAnswered) and (status is None or status >= 300):
            self._not_referred(status, event.reason)
        elif isinstance(event, ReferAnswered):
            self._machine.observe("accepted")
            if not event.subscribed:
                self._connected(status, "the caller's side took it, and tells no more (RFC 4488)")
        elif status is not None and 200 <= status < 300:
            self._connected(status, event.reason)
        elif event.terminated or (status is not None and status >= 300):
            self._not_connected(status, event.reason)

    def _connected(self, status: int | None, reason: str) -> None:
        """The caller talks with the target and does not need us any more: whoever was referred waits for our BYE."""
        self._tell_end("connected", status, reason)
        self._machine.command("connected")
        self._call.end(by="agent", cause="transferred", reason=reason)

    def _not_connected(self, status: int | None, reason: str) -> None:
        if self._machine.state == "replacing" and self._operator.is_up:
            self._join("fall_back")
        else:
            self._fail(outcome_of(status), status, reason)

    # ── a call of ours ───────────────────────────────────────────────────────────────────────────────────

    def _call_target(self) -> None:
        if self._target is None:
            return
        self._operator.call(
            Party(
                target=self._target,
                trunk=self._trunk,
                from_user=self._caller.local_user,
                no_answer_s=self._wanted.no_answer_s,
                headers=(*self._wanted.headers, ("Referred-By", f"<{self._caller.remote_uri}>")),
                beside=self._caller.media,
            )
        )

    def plays_early(self) -> None:
        self._seat("early")

    def answered(self, leg: Leg) -> None:
        step = next_step(self._wanted, self._caller.abilities)
        match step:
            case "hand_over":
                self._join("hand_over")
            case "brief":
                self._machine.command("brief")
                self._brief(leg)
            case "replace":
                self._machine.command("replace")
                self._seat("waiting")
                self._refer_to_operator(leg)
            case _:
                assert_never(step)

    def not_reached(self, failure: NotReached) -> None:
        self._fail(outcome_of_call(failure), failure.status, failure.reason)

    def lost(self, *, by: EndedBy, cause: EndCause, reason: str) -> None:
        """Whom the caller's side is to take over, its NOTIFY tells more of."""
        state = self._machine.state
        if state == "briefing":
            self._fail("refused", None, reason)
        elif self._machine.observe("target_gone") and state == "three_way":
            self._seat("talking", operator=None)
            self._conduct.take_back(TextInput(role="system", text="the operator has left the call"))
        elif state == "handed_over":
            self._call.end(by=by, cause=cause, reason=reason)

    def pressed(self, key: DigitPressed) -> None:
        """A key of the operator: his answer to the briefing, or one for the caller."""
        if self._machine.state == "briefing" and key.digit in (TAKES, DECLINES):
            self.judged(accept=key.digit == TAKES)
        elif self._machine.state == "handed_over":
            self._conduct.press(key.digit)

    def _pass_to_operator(self, key: DigitPressed) -> None:
        if self._machine.state == "handed_over":
            self._operator.press(key)

    # ── the briefing ─────────────────────────────────────────────────────────────────────────────────────

    def _brief(self, leg: Leg) -> None:
        try:
            self._operator.brief(leg, briefing_agent(self._conduct.agent, self._wanted))
        except BridgeError:
            self.judged(accept=True)
        else:
            self._call.arm("transfer", BRIEFING_S)

    def judged(self, *, accept: bool) -> None:
        """The operator said whether he takes the caller."""
        if self._machine.state != "briefing":
            return
        if not accept:
            self._fail("refused", None, "the operator does not take the call")
        elif self._wanted.after_briefing == "three_way":
            self._join("join")
        else:
            self._join("hand_over")

    # ── the end of it ────────────────────────────────────────────────────────────────────────────────────

    def _join(self, given: TransferInput) -> None:
        """The caller hears the operator from here on."""
        self._call.disarm("transfer")
        state = self._machine.command(given)
        self._operator.end_briefing()
        self._tell_end("connected", None, "")
        if state == "three_way":
            self._seat("three_way", briefer=None)
            self._tell_agent("connected", "the operator has joined the call")
        else:
            self._conduct.leave("handed over")
            self._conduct.pass_keys(self._pass_to_operator)
            self._seat("handed_over", briefer=None)

    def _fail(self, outcome: TransferOutcome, status: int | None, reason: str) -> None:
        """Nobody took the caller: back to the agent, which is told why; unless he hung up before that."""
        if self._machine.state == "parting":
            outcome = "abandoned"
        self._tell_end(outcome, status, reason)
        self._let_go()
        self._tell_agent(outcome, reason)

    def _let_go(self) -> None:
        """Nothing of the transfer is left; caller and agent talk."""
        parted = self._machine.state == "parting"
        self._machine.command("fail")
        self._call.disarm("transfer")
        self._operator.let_go()
        self._seat("talking", operator=None, briefer=None)
        if parted:
            self._call.end(by="caller", cause="hangup")

    def _tell_end(self, outcome: TransferOutcome, status: int | None, reason: str) -> None:
        if not self._told:
            self._told = True
            mode = mode_of(self._machine.state, self._wanted)
            self._call.emit(
                TransferEnded(
                    mode=mode,
                    target=self._wanted.target,
                    outcome=outcome,
                    sip_code=status,
                    reason=reason,
                    tool_call_id=self._asked,
                )
            )

    def _tell_agent(self, outcome: TransferOutcome, reason: str) -> None:
        text = say_outcome(outcome, self._wanted.name or self._wanted.target, reason)
        if self._asked:
            failed = outcome != "connected"
            self._conduct.take_back(ToolResult(tool_call_id=self._asked, output=text, is_error=failed))
        else:
            self._conduct.take_back(TextInput(role="system", text=text, respond=True))

    def _seat(self, stage: str, **changes: object) -> None:
        if self._call.wiring is not None:
            self._call.wiring.seat(stage=stage, **changes)

    def stop(self) -> None:
        """The call ends: what was not decided by now never will be."""
        if not self.over:
            self._tell_end("abandoned", None, "the call ended")
            self._machine.observe("caller_gone")
        self._operator.stop()

    async def close(self) -> None:
        await self._operator.close()

    # ── facts ────────────────────────────────────────────────────────────────────────────────────────────

    def absorbs(self, fact: InboxFact) -> bool:
        """Whether the fact is the transfer's alone."""
        if self._operator.absorbs(fact):
            return True
        match fact:
            case SipFact(event=ReferAnswered() | ReferProgress() as event) if event.refer_id == self._refer_id:
                self._follow(event)
                return True
            case SipFact(event=ByeReceived(usage_id=self._caller.usage_id)):
                return self._caller_gone()
            case TimerFired(timer="transfer", leg_id="") if not self.over:
                self._out_of_time()
                return True
            case _:
                return False

    def _follow(self, event: ReferAnswered | ReferProgress) -> None:
        if self._machine.state in ("referring", "referred", "replacing", "parting"):
            self._on_refer(event)
        elif event.status is not None and 200 <= event.status < 300 and isinstance(event, ReferProgress):
            # We had given up waiting; but now the caller talks with the target, and not with us.
            self._call.end(by="agent", cause="transferred", reason=event.reason)

    def _caller_gone(self) -> bool:
        """Whether the call waits for the last NOTIFY before it ends."""
        if self._machine.state not in ("referring", "referred", "replacing"):
            return False
        self._machine.command("caller_gone")
        self._caller.gone()
        self._conduct.cut()
        self._call.arm("transfer", PARTING_S)
        return True

    def _out_of_time(self) -> None:
        match self._machine.state:
            case "parting":
                self._fail("abandoned", None, "the caller's side hung up and told no outcome")
            case "referring" | "referred":
                self._fail("no_answer", None, "the caller's side told no outcome in time")
            case "replacing":
                self._not_connected(None, "the caller's side told no outcome in time")
            case "briefing":
                self._fail("refused", None, "the operator did not decide in time")
            case _:
                pass

    def replace_operator(self, old: Leg, new: Leg) -> bool:
        """Somebody came in the place of the operator, who may hang up now; False where that was not ours."""
        if old is not self._operator.leg or not self.joined:
            return False
        self._operator.become(new)
        return True


def _resolved(target: str, trunk: Trunk | None, remote: Address) -> SipUri:
    """A number without a trunk is one of the system that the caller came from. Raises ``SipParseError``."""
    try:
        return target_of(target, trunk)
    except SipParseError:
        user = read_target(target)
        if isinstance(user, SipUri):
            raise
        return SipUri(user=user, host=remote.host, port=remote.port)

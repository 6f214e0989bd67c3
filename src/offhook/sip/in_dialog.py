"""Our requests inside a dialog, INVITE apart: sent, proved where they are challenged, and told of once they are over.

One way for all of them: BYE, INFO, MESSAGE, REFER, NOTIFY … differ in what they say and in what their answer means.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from offhook.sip.authentication import Proof, answer_challenge
from offhook.sip.dialog import Dialog
from offhook.sip.events import Flow
from offhook.sip.message import Request, Response
from offhook.sip.parts import Parts
from offhook.sip.transaction_layer import ClientTransaction, FailureCause


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How a request of ours ended.

    ``status`` is the final response's; 408 with ``response`` None for a time-out (RFC 3261 §8.1.3.1); None where the
    transport failed, and ``reason`` says how.
    """

    status: int | None
    reason: str
    response: Response | None = None
    cause: FailureCause | None = None

    @property
    def success(self) -> bool:
        return self.response is not None and self.response.status < 300


Tell = Callable[[Outcome, float], None]
"""Told once, with the time."""


def ask(parts: Parts, dialog: Dialog, request: Request, *, proof: Proof | None, tell: Tell, now: float) -> Asked:
    """Send ``request``, of ``dialog`` and without Via, and ``tell`` how it ended. ``proof`` answers its challenges."""
    asked = Asked(parts, dialog, request.cseq.number, proof, tell)
    asked.transaction = parts.send_in_dialog(dialog, request, asked, now)
    return asked


class Asked:
    """One request of ours through all its attempts. ``number`` is the CSeq of the latest."""

    def __init__(self, parts: Parts, dialog: Dialog, number: int, proof: Proof | None, tell: Tell) -> None:
        self.number = number
        self.transaction: ClientTransaction | None = None
        self._parts = parts
        self._dialog = dialog
        self._proof = proof
        self._tell = tell

    def responded(self, response: Response, flow: Flow, now: float) -> None:
        if response.status < 200:
            return
        again = answer_challenge(
            self._parts, self.transaction, response, flow, proof=self._proof, user=self, now=now, dialog=self._dialog
        )
        if again is not None:
            self.transaction, self.number = again, again.request.cseq.number
        else:
            self._tell(Outcome(status=response.status, reason=response.reason, response=response), now)

    def failed(self, cause: FailureCause, now: float) -> None:
        if cause == "timeout":
            self._tell(Outcome(status=408, reason="Request Timeout", cause=cause), now)
        else:
            problem = "" if self.transaction is None else self.transaction.problem
            self._tell(Outcome(status=None, reason=problem, cause=cause), now)

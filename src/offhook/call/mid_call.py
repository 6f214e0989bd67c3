"""What a leg's party does to a running call: it holds, changes codec or address, sends digits or text by SIP."""

from __future__ import annotations

from typing import Protocol

from offhook.call.controls import CallControls
from offhook.call.keypad import Keypad
from offhook.call.leg import Leg
from offhook.call.negotiation import Unacceptable
from offhook.call.routing import leg_port
from offhook.call.wiring import Wiring
from offhook.media.events import DtmfReceived
from offhook.model.call_events import CallRefused, HoldChanged, SipMessageReceived
from offhook.rtp.telephone_event import DigitPressed
from offhook.sip.events import (
    AckReceived,
    InfoReceived,
    MessageReceived,
    PrackReceived,
    ReinviteAnswered,
    ReinviteReceived,
    RequestAnswered,
    SipEvent,
    UpdateAnswered,
    UpdateReceived,
)

MAX_TEXT = 4000
"""Characters of a MESSAGE that are kept; its longest body (64 KB) would be a book."""


class MidCallListener(Protocol):
    def format_changed(self) -> None:
        """The leg's audio is of another format from here on."""
        ...

    def pressed(self, key: DigitPressed) -> None:
        """A key, once, whatever way it came."""
        ...

    def wrote(self, text: str) -> None:
        """A MESSAGE in the call."""
        ...


class MidCall:
    """Keeps one leg in step with its party; who is away is left out of the talk."""

    def __init__(self, call: CallControls, leg: Leg, wiring: Wiring, listener: MidCallListener) -> None:
        self._call = call
        self._leg = leg
        self._wiring = wiring
        self._listener = listener
        self._answer_follows = False
        self.keypad = Keypad(call, leg)

    def heard(self, event: DtmfReceived) -> None:
        self._pressed(self.keypad.heard(event))

    def observe(self, event: SipEvent) -> None:
        """What happened in the leg's dialog; other legs' events are left alone."""
        if not self._leg.is_told_of(event):
            return
        match event:
            case ReinviteReceived(request=request):
                refused = self._leg.answer_offer(event)
                self._answer_follows = not request.body and refused is None
                self._changed(refused)
            case AckReceived(body=body) if self._answer_follows:
                self._answer_follows = False
                self._answered(body)
            case UpdateReceived() | PrackReceived(is_offer=True):
                self._changed(self._leg.answer_offer(event))
            case ReinviteAnswered(response=response, is_refresh=False) | UpdateAnswered(response=response):
                self._answered(response.body)
            case InfoReceived():
                self._read(event)
            case MessageReceived(request=request):
                self._wrote("MESSAGE", request.headers.get("Content-Type") or "", request.body)
            case RequestAnswered(method="INFO"):
                self.keypad.answered(event)
            case _:
                pass
        self._leg.reoffer()

    def _answered(self, body: bytes) -> None:
        """The party's answer to our re-offer, in a 2xx or, where it asked us to offer, in its ACK (RFC 3264 §4).

        The session stays as it was where it cannot be used.
        """
        if not self._leg.negotiation.offering:
            return
        accepted = self._leg.negotiation.accept(body)
        if isinstance(accepted, Unacceptable):
            self._changed(accepted)
        else:
            self._leg.apply_agreement()
            self._changed(None)

    def _changed(self, refused: Unacceptable | None) -> None:
        """Something was agreed anew, or refused and nothing changed."""
        leg, port = self._leg, leg_port(self._leg.leg_id)
        if refused is not None:
            told = CallRefused(status=refused.status, rule="RFC 3264", evidence=refused.why, fix=refused.fix)
            self._call.emit(told, leg.leg_id)
            return
        if leg.format_changed():
            self._wiring.follow(port)
            self._listener.format_changed()
        away = self._wiring.seating.away
        if (leg.state == "held") != (port in away):
            held = leg.state == "held"
            self._wiring.seat(away=away | {port} if held else away - {port})
            self._call.emit(HoldChanged(held=held), leg.leg_id)

    def _read(self, event: InfoReceived) -> None:
        request = event.request
        content_type = request.headers.get("Content-Type") or ""
        if content_type.partition(";")[0].strip().lower() == "text/plain":
            self._wrote("INFO", content_type, request.body)
        else:
            self._pressed(self.keypad.read(event))

    def _pressed(self, key: DigitPressed | None) -> None:
        if key is not None:
            self._listener.pressed(key)

    def _wrote(self, method: str, content_type: str, body: bytes) -> None:
        text = body.decode("utf-8", "replace")[:MAX_TEXT]
        self._call.emit(SipMessageReceived(method=method, content_type=content_type, text=text), self._leg.leg_id)
        if method == "MESSAGE" and text.strip():
            self._listener.wrote(text.strip())

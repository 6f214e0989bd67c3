"""The keys of one leg: each press of its party once, whatever way it came; and ours, by the way it understands."""

from __future__ import annotations

import logging
import time
from contextlib import suppress

from offhook.call.controls import CallControls
from offhook.call.digits import DigitGate, InfoDialler, choose_way, is_digits, parse_info
from offhook.call.leg import Leg
from offhook.media.events import DtmfReceived
from offhook.model.errors import LocalProtocolError, OffhookError
from offhook.rtp.telephone_event import DEFAULT_DURATION_MS, DigitPressed
from offhook.sip.events import InfoReceived, RequestAnswered

_log = logging.getLogger("offhook.call")


class Keypad:
    """Digits by INFO are paced by the timer ``digits`` of the leg: ``on_timer`` when it fires."""

    def __init__(self, call: CallControls, leg: Leg) -> None:
        self._call = call
        self._leg = leg
        self._gate = DigitGate()
        self._info = InfoDialler()
        self._token: int | None = None

    # ── the party's ──────────────────────────────────────────────────────────────────────────────────────

    def heard(self, event: DtmfReceived) -> DigitPressed | None:
        """A key in the media; None where it was told before by another way."""
        pressed = DigitPressed(digit=event.digit, duration_ms=event.duration_ms)
        new = self._gate.admit(event.digit, event.source, at=time.monotonic(), duration_ms=event.duration_ms)
        return pressed if new else None

    def read(self, event: InfoReceived) -> DigitPressed | None:
        """A key in an INFO; None where there is none, or it was told before by another way."""
        request = event.request
        if not is_digits(request.headers.get("Content-Type") or ""):
            return None
        pressed = parse_info(request.body)
        if pressed is None:
            return None
        new = self._gate.admit(pressed.digit, "info", at=time.monotonic(), duration_ms=pressed.duration_ms)
        return pressed if new else None

    # ── ours ─────────────────────────────────────────────────────────────────────────────────────────────

    def press(self, digits: str, duration_ms: int = DEFAULT_DURATION_MS) -> bool:
        """Send digits; False where the party takes none by any way we may use, or not now: too many wait already."""
        agreement = self._leg.negotiation.agreement
        payload_type = None if agreement is None else agreement.dtmf_payload_type
        way = choose_way(
            self._leg.rules.dtmf,
            dtmf_payload_type=payload_type,
            allows_info=not self._info.refused and self._leg.allows("INFO"),
        )
        try:
            if way == "info":
                self._info.queue(digits, duration_ms)
                self.on_timer()
                return True
            return way is not None and self._leg.media.send_dtmf(digits, duration_ms, way=way)
        except (ValueError, LocalProtocolError) as error:
            _log.warning("leg %s: digits are not sent: %s", self._leg.leg_id, error)
            return False

    def on_timer(self) -> None:
        """Send the INFO that is due."""
        now = time.monotonic()
        due = self._info.next_request(now)
        if due is not None:
            try:
                self._token = self._leg.send_info(due.content_type, due.body)
            except OffhookError as error:
                _log.debug("leg %s: %s", self._leg.leg_id, error)
                self._undelivered(self._info.answered(None))
        at = self._info.get_timer()
        if at is not None:
            self._call.arm("digits", at - now, self._leg.leg_id)

    def answered(self, event: RequestAnswered) -> None:
        """What came back on an INFO of ours."""
        if event.token == self._token:
            self._token = None
            self._undelivered(self._info.answered(event.status))
            self.on_timer()

    def _undelivered(self, digits: str) -> None:
        """The party takes no INFO: they go as tones, which everybody hears."""
        if digits and self._leg.state == "up":
            with suppress(ValueError):  # more tones wait than anybody listens to
                self._leg.media.send_dtmf(digits, way="inband")

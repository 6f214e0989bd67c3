"""What a dialect brings: how its requests are signed, and how tools are asked in it."""

from __future__ import annotations

from collections.abc import Mapping

from offhook.delivery import signing, sip4ai_signing
from offhook.delivery.questions_wire import NATIVE, WireShape
from offhook.delivery.signing import Sign
from offhook.delivery.sip4ai_wire import SIP4AI
from offhook.model.records import Dialect

SIGNS: Mapping[Dialect, Sign] = {"offhook": signing.sign, "sip4ai": sip4ai_signing.sign}

SHAPES: Mapping[Dialect, WireShape] = {"offhook": NATIVE, "sip4ai": SIP4AI}

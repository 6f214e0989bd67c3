"""Was it a turn? Verdicts on what the caller said, pure."""

from __future__ import annotations

from enum import Enum

from offhook.bridge.local.phrases import Intent, RepeatAfter, TransferTo, meaning

SURELY_A_TURN_MS = 1500
"""So long nobody says "mm-hm" or coughs (a synthetic caller spells it, in 1.2 s). The agent is silent
meanwhile, so waiting costs nothing that can be heard."""

LEAST_SPEECH_MS = 400
"""Unknown words shorter than this are more likely a cough or a breath than a sentence."""

LEAST_WORDS = 2


class Verdict(Enum):
    NOISE = "noise"
    BACKCHANNEL = "backchannel"
    TURN = "turn"


def judge(text: str | None, speech_ms: int) -> Verdict:
    """``text`` as the recogniser gives it: None for no speech, "" for speech without known words."""
    if text is None:
        return Verdict.NOISE
    found = meaning(text)
    if found is Intent.BACKCHANNEL:
        return Verdict.BACKCHANNEL
    if found is not None:
        return Verdict.TURN
    return Verdict.TURN if speech_ms >= _least_ms(text) else Verdict.NOISE


def interrupts(text: str | None, speech_ms: int) -> bool:
    """Over the agent's voice the bar is higher: "yes" and "hello" are said along with it, an unclear word is not
    worth a sentence."""
    found = meaning(text or "")
    if isinstance(found, RepeatAfter | TransferTo) or (found is not None and found not in _SAID_ALONG):
        return True
    if found is not None:
        return False
    long_enough = len((text or "").split()) >= LEAST_WORDS and speech_ms >= LEAST_SPEECH_MS
    return long_enough or speech_ms >= SURELY_A_TURN_MS


def tells(text: str | None, speech_ms: int) -> bool | None:
    """For whoever else wants to know whether the agent was interrupted: as ``interrupts``, None where words of no
    phrase that is known here are too few to tell."""
    if text is None or meaning(text) is not None or interrupts(text, speech_ms):
        return interrupts(text, speech_ms)
    return None


_SAID_ALONG = frozenset({Intent.BACKCHANNEL, Intent.YES, Intent.THANKS})


def _least_ms(text: str) -> int:
    return LEAST_SPEECH_MS if text else 2 * LEAST_SPEECH_MS

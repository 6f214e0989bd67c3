"""What the model is told in words: Gemini has no message for a greeting, for keys, for a note in mid-call.

Role "system" is an error outside Vertex AI; square brackets set apart what the caller did not say.
"""

from __future__ import annotations

from collections.abc import Sequence

from offhook.bridge.codec import ToolResult
from offhook.model.records import Agent

NO_OUTPUT = "Done; there is no output."
"""A model that gets an empty result calls the tool again and again."""

GO_ON = "[The line broke off while you spoke. Go on where you stopped.]"


def greeting(agent: Agent) -> str:
    if agent.greeting:
        return f'[The call is connected. Greet the caller with exactly these words: "{agent.greeting}"]'
    return "[The call is connected. Greet the caller.]"


def saying(text: str, *, exact: bool) -> str:
    if exact:
        return f'[Say exactly these words to the caller, and nothing else: "{text}"]'
    return f"[Tell the caller this, in your own words: {text}]"


def note(text: str) -> str:
    return f"[system: {text}]"


def result_told_later(name: str, result: ToolResult) -> str:
    """For a session that does not know of the call."""
    return f"[{name} {'failed' if result.is_error else 'returned'}: {result.output or NO_OUTPUT}]"


def instructions(agent: Agent, notes: Sequence[str]) -> str:
    """The system instruction, with what was added in the call."""
    added = [f"Added during the call: {one}" for one in notes]
    return "\n\n".join([one for one in (agent.instructions, *added) if one])

"""Functions as SIP4AI's users write them, in config.json and with a call: a webhook of theirs, or a transfer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec

from offhook.model.records import TOOL_TIMEOUT_S, Tool, ToolMethod, TransferDestination
from offhook.store.forms import Form, ToolName


class FunctionForm(Form, frozen=True):
    """What the model may call: ``webhook`` runs it (``type`` webhook), or the caller goes to ``target`` (transfer).

    ``hold_audio_url``: an https URL of a WAV file that is heard meanwhile.
    """

    name: ToolName
    description: str = ""
    type: Literal["webhook", "transfer"] = "webhook"
    webhook: str = ""
    method: ToolMethod = "POST"
    parameters: dict[str, Any] = msgspec.field(default_factory=dict)
    hold_audio_url: str = ""
    timeout_s: Annotated[float, msgspec.Meta(ge=1, le=120)] = TOOL_TIMEOUT_S
    target: str = ""


def check_functions(key: str, functions: Sequence[FunctionForm]) -> None:
    """Raises ``ConfigError`` naming ``{key}[index].field``."""


def function_tools(functions: Sequence[FunctionForm]) -> tuple[tuple[Tool, ...], tuple[TransferDestination, ...]]:
    """What an agent gets of them: tools of the dialect ``sip4ai``, and destinations with a function of their own."""
    return (), ()

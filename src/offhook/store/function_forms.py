"""Functions as SIP4AI's users write them, in config.json and with a call: a webhook of theirs, or a transfer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec

from offhook.model.errors import ConfigError
from offhook.model.records import TOOL_TIMEOUT_S, Tool, ToolMethod, TransferDestination
from offhook.sip.targets import HOW_TO_WRITE
from offhook.store.form_parts import Form, check_target, check_url
from offhook.store.forms import (
    DestinationForm,
    ToolForm,
    ToolName,
    check_tool,
    check_transfer_name,
    destination_record,
    tool_record,
)


class FunctionForm(Form, frozen=True):
    """What the model may call: ``webhook`` runs it (``type`` webhook), or the caller goes to ``target`` (transfer).

    ``hold_audio_url``: the URL of a WAV file that is heard meanwhile.
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


_FIELDS = {"url": "webhook", "hold_audio": "hold_audio_url"}
"""Fields of a tool that a function calls otherwise."""


def check_functions(key: str, functions: Sequence[FunctionForm]) -> None:
    """Raises ``ConfigError`` naming ``{key}[index].field``."""
    for index in range(len(functions)):
        check_function(key, functions, index)


def check_function(key: str, functions: Sequence[FunctionForm], index: int) -> None:
    """One of them, beside those before it. Raises as ``check_functions``."""
    function, here = functions[index], f"{key}[{index}]"
    if function.name in [before.name for before in functions[:index]]:
        raise ConfigError(f"{here}.name", f"{function.name!r} is used twice", "Give each function its own name")
    if function.type == "transfer":
        _check_transfer(here, function)
    else:
        _check_webhook(here, function)


def _check_webhook(here: str, function: FunctionForm) -> None:
    if not function.webhook:
        fix = 'Give the URL of your server, or "type": "transfer" and a target'
        raise ConfigError(f"{here}.webhook", "is missing: nobody runs this function", fix)
    if function.target:
        fix = 'Leave it out, or set "type": "transfer" and leave out the webhook'
        raise ConfigError(f"{here}.target", "is only for functions that transfer the caller", fix)
    if function.hold_audio_url:
        check_url(f"{here}.hold_audio_url", function.hold_audio_url)
    try:
        check_tool("", _tool_form(function))
    except ConfigError as error:
        name, dot, rest = error.key.partition(".")
        raise ConfigError(f"{here}.{_FIELDS.get(name, name)}{dot}{rest}", error.problem, error.fix) from None


def _check_transfer(here: str, function: FunctionForm) -> None:
    check_transfer_name(f"{here}.name", function.name)
    if not function.target:
        raise ConfigError(f"{here}.target", "is missing: nobody knows where the caller shall go", HOW_TO_WRITE)
    check_target(f"{here}.target", function.target)
    for name in ("webhook", "hold_audio_url"):
        if getattr(function, name):
            raise ConfigError(f"{here}.{name}", "is not used by a transfer", 'Leave it out, or set "type": "webhook"')
    if function.parameters.get("properties"):
        raise ConfigError(f"{here}.parameters", "is not used by a transfer, which takes no arguments", "Leave it out")


def function_forms(functions: Sequence[FunctionForm]) -> tuple[tuple[ToolForm, ...], tuple[DestinationForm, ...]]:
    """The same as forms, for agents that are kept: tools of the dialect ``sip4ai``, whose ids are the functions' names,
    and destinations with a function of their own."""
    tools = tuple(_tool_form(one) for one in functions if one.type == "webhook")
    destinations = tuple(_destination_form(one) for one in functions if one.type == "transfer")
    return tools, destinations


def function_tools(functions: Sequence[FunctionForm]) -> tuple[tuple[Tool, ...], tuple[TransferDestination, ...]]:
    """What an agent gets of them: tools of the dialect ``sip4ai``, and destinations with a function of their own."""
    tools, destinations = function_forms(functions)
    return tuple(map(tool_record, tools)), tuple(map(destination_record, destinations))


def _tool_form(function: FunctionForm) -> ToolForm:
    return ToolForm(
        id=function.name,
        name=function.name,
        url=function.webhook,
        description=function.description,
        parameters=function.parameters,
        method=function.method,
        hold_audio=function.hold_audio_url,
        timeout_s=function.timeout_s,
        dialect="sip4ai",
    )


def _destination_form(function: FunctionForm) -> DestinationForm:
    """We call there ourselves and stay between: most carriers take no REFER, and many do not even answer one."""
    return DestinationForm(
        name=function.name,
        target=function.target,
        mode="bridge",
        function=function.name,
        description=function.description,
    )

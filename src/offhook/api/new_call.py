"""A call that somebody asks for: what SIP4AI's users send, and a few keys of ours."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec

from offhook.api.native.fields import Time
from offhook.store.forms import AnsweringMachineForm
from offhook.store.function_forms import FunctionForm

MAX_DURATION_S = 300
"""SIP4AI: "Maximum call duration. Default: 300 (5 minutes)"."""

NOT_BLANK = r"\S"

Long = Annotated[str, msgspec.Meta(max_length=20_000)]
Short = Annotated[str, msgspec.Meta(max_length=512)]
Target = Annotated[str, msgspec.Meta(min_length=1, max_length=512, pattern=NOT_BLANK)]
Task = Annotated[str, msgspec.Meta(min_length=1, max_length=20_000, pattern=NOT_BLANK)]


class ScheduleForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``earliest_at``: not before; ``latest_at``: not after, even if the line was never free."""

    earliest_at: Time | None = None
    latest_at: Time | None = None


class MachinesForm(AnsweringMachineForm, frozen=True):
    """What happens when no person picks up; ``detect`` false: it is not listened for."""

    detect: bool = True


class NewCallForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``target`` and ``task`` are SIP4AI's, as are all keys up to ``functions``; those below are offhook's own.

    ``provider``: instead of the configured one. ``caller_id``: one of the trunk's. ``agent_id``: an agent of the
    account that does the task, instead of the configured one. ``max_duration_seconds`` null: 300, or what the operator
    allows where that is less. ``hangup_on_task_complete`` null: as the agent has it, which is true unless somebody said
    otherwise.
    """

    target: Target
    task: Task
    instructions: Long = ""
    provider: Short = ""
    caller_id: Short = ""
    max_duration_seconds: Annotated[int, msgspec.Meta(ge=1, le=86_400)] | None = None
    event_webhook: Annotated[str, msgspec.Meta(max_length=2000)] = ""
    functions: Annotated[tuple[FunctionForm, ...], msgspec.Meta(max_length=64)] = ()
    agent_id: Short = ""
    trunk_id: Short = ""
    greeting: Long = ""
    ring_timeout_seconds: Annotated[int, msgspec.Meta(ge=5, le=180)] = 60
    result_webhook: Annotated[str, msgspec.Meta(max_length=2000)] = ""
    hangup_on_task_complete: bool | None = None
    machines: MachinesForm | None = None
    schedule: ScheduleForm | None = None
    headers: dict[str, str] = {}


class PlacedCall(msgspec.Struct, frozen=True, kw_only=True):
    """It is on its way, or will be."""

    call_id: str
    created_at: datetime
    status: Literal["initiating"] = "initiating"

"""What many endpoints have alike: parameters of lists, and types of values."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec

from offhook.api.endpoints import Query

Time = Annotated[datetime, msgspec.Meta(tz=True)]
"""ISO 8601 with a time zone."""

LIMIT = 100
"""Of one page: a hundred agents with long instructions are 2 MB."""

OFFSET = 10_000_000
"""Databases walk over what is left out; further back one searches by time."""

PAGING = (
    Query(
        name="limit",
        type=Annotated[int, msgspec.Meta(ge=1, le=LIMIT)],
        default=20,
        summary=f"At most so many, 1 to {LIMIT}",
    ),
    Query(
        name="offset", type=Annotated[int, msgspec.Meta(ge=0, le=OFFSET)], default=0, summary="Leave out the first ones"
    ),
)

FREE_TEXT = Annotated[str, msgspec.Meta(max_length=200)]
"""What is looked for: longer texts stand in no name."""


class Deleted(msgspec.Struct, frozen=True, kw_only=True):
    """It is gone."""

    id: str
    deleted: bool

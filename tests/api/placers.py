"""Who places calls for the API in tests: all of them, or none."""

from __future__ import annotations

from datetime import UTC, datetime

from offhook.api.new_call import NewCallForm, PlacedCall
from offhook.model.errors import CannotPlaceError

CREATED_AT = datetime(2026, 11, 21, 10, 30, tzinfo=UTC)


class Placing:
    """Implements ``CallPlacer``. ``wanted``: what it was asked for, and by which account; ``problem`` is raised."""

    def __init__(self) -> None:
        self.wanted: list[tuple[str, NewCallForm]] = []
        self.problem: CannotPlaceError | None = None

    async def place(self, account_id: str, wanted: NewCallForm) -> PlacedCall:
        if self.problem is not None:
            raise self.problem
        self.wanted.append((account_id, wanted))
        return PlacedCall(call_id=f"new-{len(self.wanted)}", created_at=CREATED_AT)

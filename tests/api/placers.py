"""Who places calls for the API in tests: all of them, or none."""

from __future__ import annotations

from datetime import UTC, datetime

from offhook.api.new_call import NewCallForm, PlacedCall
from offhook.model.errors import CannotPlaceError
from offhook.store.database import Database
from offhook.store.scheduled_calls import remove, take

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

    async def cancel(self, account_id: str, call_id: str) -> bool:
        return False


class Keeping(Placing):
    """Cancels as a server does that has nothing to record."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._database = database

    async def cancel(self, account_id: str, call_id: str) -> bool:
        taken = await self._database.run(take, account_id, call_id, 0.0)
        if taken is not None:
            await self._database.run(remove, call_id)
        return taken is not None

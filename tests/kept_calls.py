"""What a server's data folder has of its calls, as one document each: the record's fields, and its ``events``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from offhook.store.calls import CallFilter, call_events_of, get_call, list_calls
from offhook.store.database import Database

ACCOUNT = "default"
MANY = 100_000


def kept_calls(folder: Path, url: str = "") -> list[Mapping[str, Any]]:
    """Oldest first. Each event has its fact's name as ``type``; times are Unix seconds. None before the first start.

    ``url``: of the database, where it is not in the folder.
    """
    if not url and not (folder / "offhook.db").exists():
        return []
    database = Database.open(url, data_dir=folder)
    try:
        with database.read() as connection:
            records, _ = list_calls(connection, ACCOUNT, CallFilter(), limit=MANY)
            return [_document(connection, record.call_id) for record in reversed(records)]
    finally:
        database.close()


def _document(connection: Any, call_id: str) -> Mapping[str, Any]:
    record = get_call(connection, ACCOUNT, call_id)
    assert record is not None
    events = [
        {
            "seq": event.seq,
            "at": event.at,
            "leg_id": event.leg_id,
            "type": type(event.fact).__name__,
            **msgspec.to_builtins(event.fact),
        }
        for event in call_events_of(connection, ACCOUNT, call_id, limit=MANY)
    ]
    return {**msgspec.to_builtins(record), "events": events}

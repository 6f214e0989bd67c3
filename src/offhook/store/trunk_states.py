"""The states of trunks as a file for other processes (``offhook trunks``); written by a thread, whole each time."""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from offhook.model.trunks import TrunkChanged

FILE = "trunks.json"

WRITE_AFTER_S = 0.1
"""Several changes at once make one write."""

_log = logging.getLogger("offhook.store")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrunkReport:
    """What is in the file: of which process, and the latest state of each trunk."""

    pid: int
    trunks: tuple[TrunkChanged, ...]


class TrunkStates:
    """Keeps the latest state of each trunk on disk. A disk that fails costs the file, not the calls."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE
        self._states: dict[str, TrunkChanged] = {}
        self._changed = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._complained = False

    def start(self) -> None:
        """Begin to write, an empty file first and at once: what an earlier process wrote is over."""
        self._writer = asyncio.create_task(self._write_on())
        try:
            _replace(self._file, self._encoded())
        except OSError as error:
            self._complain(error)

    def put(self, changed: TrunkChanged) -> None:
        self._states[changed.trunk_id] = changed
        self._changed.set()

    def drop(self, trunk_id: str) -> None:
        """The trunk was removed."""
        if self._states.pop(trunk_id, None) is not None:
            self._changed.set()

    async def stop(self) -> None:
        """Write what is new, and end."""
        if self._writer is None:
            return
        self._writer.cancel()
        await asyncio.gather(self._writer, return_exceptions=True)
        if self._states or self._changed.is_set():
            await self._write()

    async def _write_on(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self._write()
            await asyncio.sleep(WRITE_AFTER_S)

    async def _write(self) -> None:
        try:
            await asyncio.to_thread(_replace, self._file, self._encoded())
        except OSError as error:
            self._complain(error)

    def _encoded(self) -> bytes:
        return msgspec.json.encode(TrunkReport(pid=os.getpid(), trunks=tuple(self._states.values())))

    def _complain(self, error: OSError) -> None:
        if not self._complained:
            self._complained = True
            _log.warning("%s cannot be written (%s): `offhook trunks` shows old states", self._file, error.strerror)


def read_trunk_states(folder: Path) -> TrunkReport | None:
    """What the server on that data folder wrote last; None where none ever ran there, or the file is unreadable."""
    try:
        return msgspec.json.decode((folder / FILE).read_bytes(), type=TrunkReport)
    except (OSError, msgspec.MsgspecError):
        return None


def _replace(file: Path, data: bytes) -> None:
    """Whole or not at all: a reader never sees half of it."""
    fresh = file.with_suffix(".new")
    fresh.write_bytes(data)
    fresh.replace(file)

"""Which server runs on a data folder: a file for other commands, and a lock that dies with the process.

The lock says that the process lives: a process id alone may be another's by now, and SIGHUP would end it.
"""

from __future__ import annotations

import errno
import fcntl
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

import msgspec

from offhook.model.errors import ConfigError

REPORT_FILE = "server.json"
LOCK_FILE = "server.lock"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunningServer:
    """``reloads``: how often it read its configuration again; ``problem``: why it did not take it the last time.

    ``config``: the file it reads, "" for none. ``http``: where it serves HTTP, "" for nowhere.
    """

    pid: int
    config: str = ""
    http: str = ""
    reloads: int = 0
    problem: str = ""
    waits_for_restart: tuple[str, ...] = field(default=())


class ServerFile:
    """Held by ``serve`` as long as it runs."""

    def __init__(self, folder: Path) -> None:
        """Raises ``ConfigError`` where another server holds it, or the folder cannot be written."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(folder / LOCK_FILE)
        except OSError as error:
            raise _unusable(folder, error) from None
        self._file = folder / REPORT_FILE
        self._report = RunningServer(pid=os.getpid())

    def tell(self, **changed: str | int | tuple[str, ...]) -> None:
        """Change what others read; blocks for a small file."""
        self._report = replace(self._report, **changed)  # type: ignore[arg-type]
        fresh = self._file.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(self._report))
        fresh.replace(self._file)

    @property
    def config(self) -> str:
        return self._report.config

    @property
    def reloads(self) -> int:
        return self._report.reloads

    def close(self) -> None:
        self._file.unlink(missing_ok=True)
        self._lock.close()


def running_server(folder: Path) -> RunningServer | None:
    """The server that runs on that data folder; None where none does."""
    try:
        with (folder / LOCK_FILE).open("r+b") as lock:
            os.lockf(lock.fileno(), os.F_TEST, 0)
    except OSError as error:
        return _report(folder) if error.errno in (errno.EAGAIN, errno.EACCES) else None
    return None


def _report(folder: Path) -> RunningServer | None:
    try:
        return msgspec.json.decode((folder / REPORT_FILE).read_bytes(), type=RunningServer)
    except (OSError, msgspec.MsgspecError):
        return None


def _locked(path: Path) -> BinaryIO:
    """POSIX locks are not inherited by children: those that outlive us do not hold it."""
    lock = path.open("a+b")
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise
    return lock


def _unusable(folder: Path, error: OSError) -> ConfigError:
    if error.errno in (errno.EAGAIN, errno.EACCES) and (other := _report(folder)) is not None:
        fix = "Stop it, or give each server its own data_dir"
        return ConfigError("data_dir", f"process {other.pid} already serves on {folder}", fix)
    fix = "Choose a folder you may write to, with data_dir or --data"
    return ConfigError("data_dir", f"{folder} cannot be used ({error.strerror})", fix)

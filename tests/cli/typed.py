"""A command as an operator types it, run in this process: its start costs a second of CPU in one of its own.

For what is said and done without a server, and without signals; see ``test_commands`` for those in real processes.
"""

from __future__ import annotations

import io
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from unittest import mock

from offhook.cli.main import main


def typed(*arguments: str, program: str = "offhook") -> subprocess.CompletedProcess[str]:
    """Must not be called while a loop runs: the command runs its own. ``program``: as what it is called."""
    out, err = io.StringIO(), io.StringIO()
    command, code = [program, *arguments], 0
    with mock.patch.object(sys, "argv", command), redirect_stdout(out), redirect_stderr(err), logging_restored():
        try:
            main()
        except SystemExit as exit_:
            code = int(exit_.code or 0)
    return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())


@contextmanager
def logging_restored() -> Iterator[None]:
    """A command sets up the logging of its process; the tests after it have their own."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers

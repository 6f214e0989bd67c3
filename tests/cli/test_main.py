"""The command itself: colours where a person looks, and none where they are not wanted."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stdout, suppress
from pathlib import Path

import pytest
from tests.cli.typed import logging_restored

from offhook.cli.main import main


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("screen", "no_color", "coloured"), [(Terminal(), "", True), (Terminal(), "1", False), (io.StringIO(), "", False)]
)
def test_colours_are_for_terminals_and_for_who_wants_them(
    screen: io.StringIO, no_color: str, coloured: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config.json"
    file.write_text('{"foo": 1}')
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setattr(sys, "argv", ["offhook", "config", "check", str(file)])
    with redirect_stdout(screen), logging_restored(), suppress(SystemExit):
        main()
    assert "is no key offhook knows" in screen.getvalue()
    assert ("\x1b[" in screen.getvalue()) == coloured

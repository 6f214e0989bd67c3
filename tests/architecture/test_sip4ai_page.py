"""docs/SIP4AI.md, "What is proven": every point of the checklist has its row, and every test that it names is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROVEN = (ROOT / "docs" / "SIP4AI.md").read_text().partition("\n## What is proven\n")[2].partition("\n## ")[0]
POINTS = 51


def points_of(cell: str) -> list[int]:
    """``S7–S10, S20`` is 7, 8, 9, 10, 20."""
    found: list[int] = []
    for part in cell.split(", "):
        first, _, last = part.partition("–")
        found += range(int(first[1:]), int((last or first)[1:]) + 1)
    return found


def test_every_point_has_one_row() -> None:
    cells = re.findall(r"^\| (S[^|]+) \|", PROVEN, re.MULTILINE)
    assert sorted(point for cell in cells for point in points_of(cell)) == list(range(1, POINTS + 1))


def test_every_test_it_names_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PROVEN)
    assert len(named) > POINTS // 2
    missing = [
        (path, test)
        for path, test in named
        if not (ROOT / path).exists() or (test and f"def {test}(" not in (ROOT / path).read_text())
    ]
    assert missing == []

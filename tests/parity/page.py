"""The parity matrix: behaviours by providers. A run writes build/PROVIDERS.md; ``python -m tests.parity.page`` compares
it with the committed docs/PROVIDERS.md, cell by cell, by pass and fail alone.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec
from tests.interop.cells import ROOT, verdicts
from tests.parity.behaviours import BEHAVIOURS
from tests.parity.columns import COLUMNS

from offhook.bridge.outside import Outside
from offhook.bridge.provider_http import ProviderHttp
from offhook.server.providers import HOSTED

BUILT = ROOT / "build" / "PROVIDERS.md"
COMMITTED = ROOT / "docs" / "PROVIDERS.md"
RESULTS = ROOT / "build" / "parity"

INTRODUCTION = """# Providers

What each AI provider does on the phone. Made by `make interop`: each ✓ is a SIP call through a simulator of the
provider that its vendor's own SDK accepts; CI compares the cells with this copy. How to set one up: `docs/providers/`.
✓ passed, ✗ failed, – the provider's protocol does not allow it, with the reason below.
"""


class Cells(msgspec.Struct, kw_only=True):
    passed: dict[str, bool]


def cannot(provider: str) -> Mapping[str, str]:
    """By behaviour, and why: what the provider's profile says."""
    return HOSTED[provider](Outside(http=ProviderHttp())).profile.cannot


def keep(provider: str, cells: Cells) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{provider}.json").write_bytes(msgspec.json.encode(cells))


def page() -> str:
    columns = {provider: _cells(RESULTS / f"{provider}.json") for provider in COLUMNS}
    reasons: dict[str, int] = {}
    lines = [INTRODUCTION, f"| | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    for key, one in BEHAVIOURS.items():
        cells = [_cell(provider, key, passed, reasons) for provider, passed in columns.items()]
        lines.append(f"| {one.name} | {' | '.join(cells)} |")
    lines += ["", *(f"{number}. {reason}" for reason, number in reasons.items())]
    return "\n".join(lines) + "\n"


def _cells(file: Path) -> dict[str, bool]:
    return msgspec.json.decode(file.read_bytes(), type=Cells).passed if file.exists() else {}


def _cell(provider: str, key: str, passed: Mapping[str, bool], reasons: dict[str, int]) -> str:
    if key in passed:
        return "✓" if passed[key] else "✗"
    reason = cannot(provider).get(key, "not run")
    return f"– {reasons.setdefault(reason, len(reasons) + 1)}"


def main() -> None:
    BUILT.parent.mkdir(exist_ok=True)
    BUILT.write_text(page())
    now = verdicts(BUILT.read_text())
    before = verdicts(COMMITTED.read_text()) if COMMITTED.exists() else {}
    names = list(COLUMNS)
    different = [key for key in sorted(now.keys() | before.keys()) if now.get(key) != before.get(key)]
    for row, column in different:
        print(f"{names[int(column)]}, {row}: {before.get((row, column))} before, {now.get((row, column))} now")
    if different:
        sys.exit(f"docs/PROVIDERS.md is not what the run found: look why, then cp {BUILT.relative_to(ROOT)} docs/")


if __name__ == "__main__":
    main()

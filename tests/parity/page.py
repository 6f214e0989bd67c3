"""The parity matrix: behaviours by providers. A run writes build/PROVIDERS.md; ``python -m tests.parity.page`` compares
it with the committed docs/PROVIDERS.md, cell by cell, by pass and fail alone.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

import msgspec
from tests.interop.cells import ROOT, differences
from tests.parity.behaviours import BEHAVIOURS
from tests.parity.columns import COLUMNS

from offhook.bridge.outside import Outside
from offhook.bridge.provider_http import ProviderHttp
from offhook.server.providers import HOSTED

BUILT = ROOT / "build" / "PROVIDERS.md"
COMMITTED = ROOT / "docs" / "PROVIDERS.md"
RESULTS = ROOT / "build" / "parity"

LAWS = ("PCMU", "PCMA")

MORE_ROWS = {
    **{law: f"{law}, both ways" for law in LAWS},
    "faults": "twenty faults",
}
"""Beside the behaviours: each is a test of its own, which keeps its result by itself."""

INTRODUCTION = """# Providers

What each AI provider does on the phone. Made by `make interop`: each ✓ is a SIP call through a simulator of the
provider that its vendor's own SDK accepts, the last row twenty of them; CI compares the cells with this copy. How to
set one up: [HOW_TO_PROVIDERS.md](HOW_TO_PROVIDERS.md).
✓ passed, ✗ failed, – the provider's protocol does not allow it, with the reason below.

`local` has no other side to simulate: real phones talk with its own models in `tests/interop`.
"""

EXPLANATION = """
- **barge-in**: the caller speaks into a story and has silence at once, also where audio of it still comes;
  **truncation**: the provider is told the milliseconds that he heard, or only the words.
- **cancelled tool**: the caller goes on while a tool runs. Where the provider takes the call back it is told no result;
  elsewhere it is, and the caller is answered.
- **resume**: the connection breaks in mid-call and the talk goes on; **failover**: the next of `fallbacks` goes on.
- **PCMU, PCMA, both ways**: byte for byte where the provider takes the law or a table makes one of the other, alike
  where its audio is resampled; from the caller's first packet on.
- **twenty faults**: refused, lost, closed, stuck or noisy at any moment; the caller never waits in silence for two
  seconds.
"""


def cannot(provider: str) -> Mapping[str, str]:
    """By behaviour, and why: what the provider's profile says."""
    return HOSTED[provider](Outside(http=ProviderHttp())).profile.cannot


def keep(provider: str, part: str, passed: Mapping[str, bool]) -> None:
    """The results of one test, which may run in a process of its own; those of the last run are laid over."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{provider}.{part}.json").write_bytes(msgspec.json.encode(passed))


def page() -> str:
    columns = {provider: _kept(provider) for provider in COLUMNS}
    reasons: dict[str, int] = {}
    lines = [INTRODUCTION, f"| | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    for key, name in {**{key: one.name for key, one in BEHAVIOURS.items()}, **MORE_ROWS}.items():
        cells = [_cell(provider, key, passed, reasons) for provider, passed in columns.items()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", *(f"{number}. {reason}" for reason, number in reasons.items()), EXPLANATION.rstrip()]
    return "\n".join(lines) + "\n"


def _kept(provider: str) -> dict[str, bool]:
    cells: dict[str, bool] = {}
    for file in RESULTS.glob(f"{provider}.*.json"):
        cells |= msgspec.json.decode(file.read_bytes(), type=dict[str, bool])
    return cells


def _cell(provider: str, key: str, passed: Mapping[str, bool], reasons: dict[str, int]) -> str:
    if key in passed:
        return "✓" if passed[key] else "✗"
    reason = cannot(provider).get(key, "not run")
    return f"– {reasons.setdefault(reason, len(reasons) + 1)}"


def main() -> None:
    BUILT.parent.mkdir(exist_ok=True)
    BUILT.write_text(page())
    committed = COMMITTED.read_text() if COMMITTED.exists() else ""
    found = list(differences(BUILT.read_text(), committed, tuple(COLUMNS)))
    for line in found:
        print(line)
    if found:
        sys.exit(f"docs/PROVIDERS.md is not what the run found: look why, then cp {BUILT.relative_to(ROOT)} docs/")


if __name__ == "__main__":
    main()

"""The compatibility table: each test of a (peer, feature) fills a cell; the run writes build/INTEROP.md.

    @pytest.mark.cell("baresip", "digest of an inbound INVITE")

A parametrized test names its variant by ``cell.note("TCP", "IPv6")``. ``python -m tests.interop.cells`` compares the
page of the last run with the committed docs/INTEROP.md, cell by cell, by pass and fail alone.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILT = ROOT / "build" / "INTEROP.md"
RESULTS = ROOT / "build" / "cells.json"
COMMITTED = ROOT / "docs" / "INTEROP.md"

PEERS = ("Kamailio", "baresip", "linphone", "SIPp", "baresip-python")
FEATURES = (
    "registers us",
    "registers us with digest",
    "inbound call",
    "outbound call",
    "we challenge, it proves itself",
    "it challenges, we prove ourselves",
    "routes by Record-Route",
    "TLS",
    "IPv6",
    "G.722",
    "Opus",
    "SRTP",
    "DTMF",
    "CANCEL",
    "OPTIONS",
    "holds and resumes",
    "changes codec and address",
    "late offer",
    "glare",
    "session timer, it refreshes",
    "session timer, we refresh",
    "session interval too small (422)",
    "UPDATE",
    "PRACK",
    "is transferred: blind",
    "is transferred: attended",
    "is transferred: bridge",
    "is the target: attended",
    "transfers us",
    "may not transfer us",
    "replaces a caller",
    "hangs up",
    "is hung up on",
    "behind NAT",
    "refusal explained",
)

_NO_REGISTRAR = "a phone, no registrar"
_NO_PROXY = "a phone, no proxy"
_RELAYS = "relays what others do"
CANNOT = {
    **{(peer, feature): _NO_REGISTRAR for peer in PEERS[1:] for feature in FEATURES[:2]},
    **{(peer, "routes by Record-Route"): _NO_PROXY for peer in PEERS[1:]},
    ("Kamailio", "we challenge, it proves itself"): "a proxy has no credentials of its own",
    ("Kamailio", "DTMF"): _RELAYS,
    ("Kamailio", "hangs up"): _RELAYS,
    ("Kamailio", "holds and resumes"): _RELAYS,
    **{("Kamailio", feature): _RELAYS for feature in FEATURES if "transfer" in feature or "target" in feature},
    **{("baresip", f"is {what}: attended"): "baresip 1.0 knows no Replaces" for what in ("transferred", "the target")},
    ("baresip", "it challenges, we prove ourselves"): "a phone challenges nobody",
    ("baresip-python", "it challenges, we prove ourselves"): "a phone challenges nobody",
    ("linphone", "it challenges, we prove ourselves"): "a phone challenges nobody",
    ("SIPp", "TLS"): "Debian builds it without TLS",
    ("SIPp", "SRTP"): "its scenarios cannot answer a key",
    **{("SIPp", codec): "it plays captures and has no codecs" for codec in ("G.722", "Opus")},
    **{("Kamailio", codec): _RELAYS for codec in ("G.722", "Opus")},
    ("Kamailio", "SRTP"): _RELAYS,
}

INTRODUCTION = """# Interoperability

Made by `make interop`, which runs each of these programs as a real peer; CI compares the cells with this copy.
✓ passed, ✗ failed, – a cell that the peer cannot fill or no test fills, with the reason below.
"""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "cell(peer, feature): the cell of docs/INTEROP.md that the test fills")
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Collector(again=config.getoption("lf")), "offhook-cells")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("cell"):
        item.user_properties.append(("cell", json.dumps(mark.args)))


class Cell:
    """For tests whose cell depends on their parameters."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._item = request.node

    def fills(self, peer: str, *features: str) -> None:
        for feature in features:
            assert peer in PEERS, peer
            assert feature in FEATURES, feature
            self._item.user_properties.append(("cell", json.dumps((peer, feature))))

    def note(self, *variant: str) -> None:
        """Transport and IP version, for the table's notes."""
        self._item.user_properties.append(("variant", ", ".join(variant)))


class _Filled(msgspec.Struct, kw_only=True):
    """What one test told: the cells it fills, and how."""

    passed: bool
    cells: tuple[tuple[str, str], ...]
    variants: tuple[str, ...] = ()


class _Collector:
    """In the process that sees every report. A run of what failed last only is laid over the run before it."""

    def __init__(self, *, again: bool) -> None:
        self._tests: dict[str, _Filled] = {}
        if again and RESULTS.exists():
            self._tests = msgspec.json.decode(RESULTS.read_bytes(), type=dict[str, _Filled])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped or (report.when != "call" and report.passed):
            return
        cells = [json.loads(str(value)) for name, value in report.user_properties if name == "cell"]
        variants = [str(value) for name, value in report.user_properties if name == "variant"]
        if cells:
            filled = tuple((str(peer), str(feature)) for peer, feature in cells)
            self._tests[report.nodeid] = _Filled(passed=report.passed, cells=filled, variants=tuple(variants))

    def pytest_sessionfinish(self) -> None:
        if not self._tests:
            return
        passed: dict[tuple[str, str], bool] = {}
        variants: dict[tuple[str, str], set[str]] = {}
        for test in self._tests.values():
            for key in test.cells:
                passed[key] = passed.get(key, True) and test.passed
                variants.setdefault(key, set()).update(test.variants)
        BUILT.parent.mkdir(exist_ok=True)
        BUILT.write_text(page(passed, variants))
        RESULTS.write_bytes(msgspec.json.encode(self._tests))


def page(passed: dict[tuple[str, str], bool], variants: dict[tuple[str, str], set[str]]) -> str:
    reasons: dict[str, int] = {}
    lines = [INTRODUCTION, f"| | {' | '.join(PEERS)} |", f"|---|{'---|' * len(PEERS)}"]
    for feature in FEATURES:
        cells = [_cell((peer, feature), passed, variants, reasons) for peer in PEERS]
        lines.append(f"| {feature} | {' | '.join(cells)} |")
    lines += ["", *(f"{number}. {reason}" for reason, number in reasons.items())]
    return "\n".join(lines) + "\n"


def _cell(
    key: tuple[str, str],
    passed: dict[tuple[str, str], bool],
    variants: dict[tuple[str, str], set[str]],
    reasons: dict[str, int],
) -> str:
    if key in passed:
        how = "; ".join(sorted(variants.get(key, ())))
        return ("✓" if passed[key] else "✗") + (f" {how}" if how else "")
    reason = CANNOT.get(key, "no test yet")
    return f"– {reasons.setdefault(reason, len(reasons) + 1)}"


def verdicts(text: str) -> dict[tuple[str, str], str]:
    """(feature, column) -> ✓, ✗ or –."""
    rows = [re.split(r"\s*\|\s*", line)[1:-1] for line in text.splitlines() if line.startswith("| ")]
    return {(row[0], str(column)): cell[:1] for row in rows[1:] for column, cell in enumerate(row[1:])}


def differences(built: str, committed: str, columns: Sequence[str] = PEERS) -> Iterable[str]:
    """Cell by cell, by pass and fail alone."""
    now, before = verdicts(built), verdicts(committed)
    for key in sorted(now.keys() | before.keys()):
        if now.get(key) != before.get(key):
            column = columns[int(key[1])]
            yield f"{column}, {key[0]}: {before.get(key, 'nothing')} before, {now.get(key, 'nothing')} now"


def main() -> None:
    if not BUILT.exists():
        sys.exit(f"{BUILT} is missing: run make interop")
    found = list(differences(BUILT.read_text(), COMMITTED.read_text() if COMMITTED.exists() else ""))
    for line in found:
        print(line)
    if found:
        sys.exit(f"docs/INTEROP.md is not what the run found: look why, then cp {BUILT.relative_to(ROOT)} docs/")


if __name__ == "__main__":
    main()

"""Where the test vectors lie: beside the repository, never inside it (they are GPL and ITU material)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_BESIDE = Path(__file__).resolve().parents[2].parent / "shared" / "vectors"
ROOT = Path(os.environ.get("OFFHOOK_VECTORS", _BESIDE))


def vectors(*parts: str) -> Path:
    """The path of a vector; skips the calling test, saying so, where the vectors are absent."""
    path = ROOT.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"vectors absent: {'/'.join(parts)} (set OFFHOOK_VECTORS to their folder)")
    return path

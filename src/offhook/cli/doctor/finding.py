"""What the doctor says: of one thing looked at, that it is well, or what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """``why`` it matters and the ``fix`` stand only where something is wrong (``well`` False)."""

    area: str
    what: str
    well: bool = True
    why: str = ""
    fix: str = ""


def fault(area: str, what: str, *, why: str, fix: str) -> Finding:
    return Finding(area=area, what=what, well=False, why=why, fix=fix)

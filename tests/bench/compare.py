"""Two commits measured in turn, old, new, old, new …: what drifts on the machine hits both alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from tests.bench.bench import Plan, run
from tests.bench.figures import MediaRun, Report
from tests.bench.subject import BUILD, ROOT, SOURCE, git
from tests.bench.table import columns

FIGURES: tuple[tuple[str, Callable[[MediaRun], float]], ...] = (
    ("CPU %/call", lambda one: one.cpu.percent_per_call),
    ("µs/pair", lambda one: one.cpu.us_per_packet_pair),
    ("kB/call", lambda one: one.memory.kb_per_call),
    ("gap p99 ms", lambda one: one.gap_ms.p99),
    ("gap max ms", lambda one: one.gap_ms.max),
    ("set-up p50 ms", lambda one: one.setups.ms.p50 if one.setups is not None else 0.0),
    ("set-up p99 ms", lambda one: one.setups.ms.p99 if one.setups is not None else 0.0),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """Medians of one figure at one number of calls."""

    calls: int
    figure: str
    old: float
    new: float

    @property
    def change_percent(self) -> float:
        return round(100 * (self.new / self.old - 1), 1) if self.old else 0.0


def compare(old_commit: str, plan: Plan, runs: int, note: Callable[[str], None] = lambda _: None) -> list[Difference]:
    """The working tree against ``old_commit``, ``runs`` times each, both under the present generator.

    Raises ``RuntimeError`` when git does not know the commit or a run fails.
    """
    sha = git("rev-parse", "--short", "--verify", f"{old_commit}^{{commit}}")
    with worktree(sha) as tree:
        reports: dict[str, list[Report]] = {"old": [], "new": []}
        for turn in range(1, runs + 1):
            for which, source in (("old", tree / "src"), ("new", SOURCE)):
                named = replace(plan, name=f"{plan.name}-{which}-{turn}", source=source)
                note(f"{which}, run {turn} of {runs}")
                reports[which].append(run(named, note))
    return differences(reports["old"], reports["new"])


@contextmanager
def worktree(sha: str) -> Iterator[Path]:
    """A checkout of ``sha`` under build/, removed afterwards."""
    path = BUILD / f"worktree-{sha}"
    path.parent.mkdir(parents=True, exist_ok=True)
    git("worktree", "add", "--force", "--detach", str(path), sha, cwd=ROOT)
    try:
        yield path
    finally:
        git("worktree", "remove", "--force", str(path), cwd=ROOT)


def differences(old: Sequence[Report], new: Sequence[Report]) -> list[Difference]:
    """Medians over the reports of each side, figure by figure."""
    return [
        Difference(calls=calls, figure=name, old=_median(old, calls, read), new=_median(new, calls, read))
        for calls in sorted({one.calls for one in old[0].media})
        for name, read in FIGURES
    ]


def _median(reports: Sequence[Report], calls: int, read: Callable[[MediaRun], float]) -> float:
    return round(median(read(one) for report in reports for one in report.media if one.calls == calls), 4)


def comparison_table(rows: Sequence[Difference]) -> str:
    head = ("calls", "figure", "old", "new", "change %")
    return columns(head, ([row.calls, row.figure, row.old, row.new, f"{row.change_percent:+}"] for row in rows))

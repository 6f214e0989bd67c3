"""``python -m tests.bench``: see ``--help``. Needs Linux (/proc, epoll, CPU affinity)."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click
import msgspec
from tests.bench.bench import API_REQUESTS, BRIDGED, FLOORS, GROUND_RATES, SETUP_RATES, TURNS, Plan, run
from tests.bench.compare import compare, comparison_table
from tests.bench.subject import BUILD, commit_of
from tests.bench.table import table

COMPARED_CALLS = "50,200"


def _numbers(_: click.Context, __: click.Parameter, text: str) -> tuple[int, ...]:
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise click.BadParameter("whole numbers above 0, separated by commas: 1,50,200")
    return numbers


def _note(text: str) -> None:
    click.echo(f"  {text} …", err=True)


@click.group(invoke_without_command=True)
@click.option("--calls", default="1,50,200,400", callback=_numbers, show_default=True, help="Concurrent calls.")
@click.option("--seconds", default=10.0, type=click.FloatRange(0.5), show_default=True, help="Window of each run.")
@click.option("--name", help="Of the JSON file in build/bench; the commit by default.")
@click.option("--floor/--no-floor", default=True, help="Measure the machine's floor beside it.")
@click.option("--rates/--no-rates", default=True, help="Measure set-ups per second.")
@click.option("--ground/--no-ground", default=True, help="Measure it with webhooks, and with an API that is asked.")
@click.option("--bridged/--no-bridged", default=True, help="Measure calls bridged to an AI provider.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.pass_context
def bench(
    context: click.Context,
    *,
    calls: tuple[int, ...],
    seconds: float,
    name: str | None,
    floor: bool,
    rates: bool,
    ground: bool,
    bridged: bool,
    as_json: bool,
) -> None:
    """Load the server with calls and measure what they cost."""
    if context.invoked_subcommand is not None:
        return
    plan = Plan(
        name=name or commit_of(),
        calls=calls,
        seconds=seconds,
        floors=FLOORS if floor else (),
        setup_rates=SETUP_RATES if rates else (),
        ground_rates=GROUND_RATES if ground else (),
        api_requests=API_REQUESTS if ground else (),
        bridged=BRIDGED if bridged else (),
        turns=TURNS if bridged else (),
    )
    BUILD.mkdir(parents=True, exist_ok=True)
    report = run(plan, _note)
    if as_json:
        click.echo(msgspec.json.encode(report))
    else:
        click.echo(table(report))
        click.echo(f"\nwritten to build/bench/{plan.name}.json")


@bench.command("compare")
@click.argument("old_commit")
@click.option("--calls", default=COMPARED_CALLS, callback=_numbers, show_default=True, help="Concurrent calls.")
@click.option("--seconds", default=10.0, type=click.FloatRange(0.5), show_default=True, help="Window of each run.")
@click.option("--runs", default=3, type=click.IntRange(1), show_default=True, help="Of each side; medians are shown.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def compare_command(*, old_commit: str, calls: tuple[int, ...], seconds: float, runs: int, as_json: bool) -> None:
    """Measure OLD_COMMIT and the working tree in turn."""
    plan = Plan(
        name="compare",
        calls=calls,
        seconds=seconds,
        floors=(),
        setup_rates=(),
        ground_rates=(),
        api_requests=(),
        bridged=(),
        turns=(),
    )
    rows = compare(old_commit, plan, runs, _note)
    if as_json:
        click.echo(msgspec.json.encode([{**asdict(row), "change_percent": row.change_percent} for row in rows]))
    else:
        click.echo(comparison_table(rows))


if __name__ == "__main__":
    try:
        bench(prog_name="python -m tests.bench")
    except RuntimeError as error:
        sys.exit(str(error))

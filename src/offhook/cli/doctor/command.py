"""The command: every examination in order, a line for what is well, what and why and how for what is not."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path

import click
import msgspec

from offhook.cli.doctor.certificates import examine_certificates
from offhook.cli.doctor.finding import Finding, fault
from offhook.cli.doctor.loopback import examine_loopback
from offhook.cli.doctor.machine import examine_machine
from offhook.cli.doctor.peers import examine_peers
from offhook.cli.event_loop import run
from offhook.cli.trunks import is_running
from offhook.config import Settings, agents_of, load_settings
from offhook.model.errors import ConfigError, OffhookError
from offhook.model.records import ProviderFallback
from offhook.observability import configure_logging
from offhook.server.providers import provider_problems
from offhook.store.trunk_states import read_trunk_states


@click.command()
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), help="config.json to examine.")
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="Folder of the server's records.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array instead of lines.")
def doctor(*, config: Path | None, data: Path | None, as_json: bool) -> None:
    """Look at ports, addresses, certificates, DNS and trunks, make a call on this machine, and explain what is wrong.

    Exit code: 0 when all is well, 1 otherwise.
    """
    configure_logging("error")
    findings = run(examine(config, data, quiet=as_json))
    faults = [finding for finding in findings if not finding.well]
    if as_json:
        click.echo(msgspec.json.encode([asdict(finding) for finding in findings]).decode())
    else:
        click.echo(f"{len(faults)} of {len(findings)} things need care" if faults else f"all {len(findings)} are well")
    sys.exit(1 if faults else 0)


async def examine(config: Path | None, data: Path | None, *, quiet: bool) -> list[Finding]:
    """Everything that is looked at, in order; each is printed as soon as it is known, unless ``quiet``."""
    findings: list[Finding] = []
    async for finding in _findings(config, data):
        findings.append(finding)
        if not quiet:
            print_finding(finding)
    return findings


async def _findings(config: Path | None, data: Path | None) -> AsyncIterator[Finding]:
    try:
        settings = load_settings(config, flags={"data_dir": str(data) if data is not None else None})
    except ConfigError as error:
        yield fault("config", f"{error.key} {error.problem}", why="offhook will not start with it", fix=error.fix)
        return
    yield Finding(area="config", what="is read and consistent")
    for finding in _providers(settings):
        yield finding
    report = read_trunk_states(settings.data_folder)
    serving = report if report is not None and report.pid != os.getpid() and is_running(report) else None
    for finding in examine_machine(settings, None if serving is None else serving.pid):
        yield finding
    for finding in examine_certificates(settings):
        yield finding
    states = None if serving is None else {one.trunk_id: one for one in serving.trunks}
    try:
        async for finding in examine_peers(settings, states):
            yield finding
    except ConfigError:
        pass  # told by the certificates
    except OffhookError as error:
        yield fault("trunks", str(error), why="the trunks could not be examined", fix="see the findings above")
    yield await examine_loopback(settings)


def _providers(settings: Settings) -> list[Finding]:
    """Whether each agent's provider, and its fallbacks', has the options and the key it needs; they are not asked."""
    faults = [
        fault(
            "agents",
            f"{problem.key}: {problem.problem}",
            why="offhook will not start with it",
            fix=problem.fix[:1].lower() + problem.fix[1:],
        )
        for problem in provider_problems(settings)
    ]
    if faults:
        return faults
    agents = agents_of(settings)
    fallbacks = (one for agent in agents for one in agent.fallbacks if isinstance(one, ProviderFallback))
    names = sorted({agent.provider for agent in agents} | {one.provider for one in fallbacks})
    return [Finding(area="agents", what=f"have what their providers need: {', '.join(names)}")]


def print_finding(finding: Finding) -> None:
    if finding.well:
        click.echo(f"{click.style('ok   ', fg='green')} {finding.area}: {finding.what}")
        return
    click.echo(f"{click.style('FAULT', fg='red')} {finding.area}: {finding.what}")
    click.echo(f"      why: {finding.why}")
    click.echo(f"      fix: {finding.fix}")

"""The self-check of ``serve --self-check``: a real call to ourselves, from a process of its own."""

from __future__ import annotations

import asyncio
import sys
from importlib import resources

import click

from offhook.delivery.bus import Bus
from offhook.model.call_events import CallEvent, TurnSpoken

PROMPTS = ("what_time_is_it.wav", "goodbye.wav")
"""Our own text, rendered once with flite's voice slt (a voice the recogniser understands)."""

LONGEST_S = 60


class SelfCheck:
    """One call to ourselves; passed when it was answered, heard, and what it asked was understood."""

    def __init__(self, bus: Bus) -> None:
        self._turns: list[TurnSpoken] = []
        bus.watch(events=self._note)

    async def run(self, uri: str) -> bool:
        """Dial, ask for the time, say goodbye; print what was recognised and answered."""
        folder = resources.files("offhook.cli") / "selfcheck"
        arguments = ["-m", "offhook", "call", uri, "--max-duration", str(LONGEST_S), "--no-transcript"]
        for prompt in PROMPTS:
            arguments += ["--play", str(folder / prompt)]
        click.echo(f"self-check: calling {uri}, asking “what time is it”, then “goodbye”")
        process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, stdout=asyncio.subprocess.DEVNULL, start_new_session=True
        )
        try:
            heard = await process.wait() == 0
        except asyncio.CancelledError:
            process.terminate()
            await process.wait()
            raise
        self._print()
        return heard and self._understood()

    def _note(self, event: CallEvent) -> None:
        if isinstance(event.fact, TurnSpoken):
            self._turns.append(event.fact)

    def _print(self) -> None:
        """What was recognised, and what was answered to it."""
        for caller, agent in zip(self._turns, self._turns[1:], strict=False):
            if (caller.speaker, agent.speaker) == ("caller", "agent"):
                latency = f" after {agent.latency_ms} ms" if agent.latency_ms is not None else ""
                click.echo(f"self-check: recognised “{caller.text}”, answered “{agent.text}”{latency}")

    def _understood(self) -> bool:
        said = " ".join(turn.text.lower() for turn in self._turns if turn.speaker == "caller")
        return "time" in said and "bye" in said

"""The self-check of ``serve --self-check``: a real call to ourselves, from a process of its own."""

from __future__ import annotations

import asyncio
import sys
from importlib import resources

import click

PROMPTS = ("what_time_is_it.wav", "goodbye.wav")
"""Our own text, rendered once with flite's voice slt (a voice the recogniser understands)."""

LONGEST_S = 60


async def call_ourselves(uri: str) -> bool:
    """Dial, ask for the time, say goodbye; True when the call was answered and heard."""
    folder = resources.files("offhook.cli") / "selfcheck"
    arguments = ["-m", "offhook", "call", uri, "--max-duration", str(LONGEST_S), "--no-transcript"]
    for prompt in PROMPTS:
        arguments += ["--play", str(folder / prompt)]
    click.echo(f"self-check: calling {uri}, asking “what time is it”, then “goodbye”")
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, start_new_session=True)
    try:
        return await process.wait() == 0
    except asyncio.CancelledError:
        process.terminate()
        await process.wait()
        raise

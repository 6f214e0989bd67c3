"""The document that SIP4AI's users have, read as it is: its snippets, its JSON and its commands. Nothing of it is here.

It lies beside the repository; ``OFFHOOK_SEEDS`` names another folder. Where it is absent the calling test skips.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from tests.interop.tools import needs

_BESIDE = Path(__file__).resolve().parents[2].parent / "shared" / "seeds"
SEEDS = Path(os.environ.get("OFFHOOK_SEEDS", _BESIDE))

Language = Literal["curl", "requests", "fetch"]

LOCAL_BASE = "http://localhost:8080"
INSTANCE_BASE = "https://your-instance.com"
SHORT_ID = "550e8400..."
SHORT_KEY = "sk_live_..."

_HEADING = re.compile(r"^(?:GET|POST|DELETE) /\S+$")
_LAST_LINE = "console.log(data);"
_FIRST_LINES: Mapping[Language, str] = {"curl": "curl ", "requests": "import requests", "fetch": "const "}


FULL_EXAMPLE = "config.json — Full example"

KEYS = {
    "OPENAI_API_KEY": "sk-1",
    "ELEVEN_LABS_API_KEY": "el-1",
    "GEMINI_API_KEY": "gm-1",
    "DEEPGRAM_API_KEY": "dg-1",
    "CARTESIA_API_KEY": "ca-1",
}
OTHER_NAMES = {"GEMINI_API_KEY": "GOOGLE_API_KEY", "CARTESIA_API_KEY": "CARTESIA_KEY"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Snippet:
    """``endpoint``: the heading above it, ``GET /status``."""

    endpoint: str
    language: Language
    text: str

    def pointed_at(self, base: str, *, call_id: str, key: str) -> str:
        """With the four things exchanged that a reader has to exchange; everything else as it was printed."""
        exchanged = {LOCAL_BASE: base, INSTANCE_BASE: base, SHORT_ID: call_id, SHORT_KEY: key}
        text = self.text
        for printed, ours in exchanged.items():
            text = text.replace(printed, ours)
        return text


class Seed:
    """The document of SIP4AI."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._lines = text.splitlines()

    def snippets(self) -> list[Snippet]:
        """Every one that asks the API, in the document's order."""
        found: list[Snippet] = []
        endpoint = ""
        for number, line in enumerate(self._lines):
            if _HEADING.match(line):
                endpoint = line
            elif line == "Request":
                end = self._lines.index(_LAST_LINE, number) + 1
                found += _parted(endpoint, self._lines[number + 1 : end])
        return found

    def snippet(self, endpoint: str, language: Language) -> Snippet:
        [one] = [one for one in self.snippets() if (one.endpoint, one.language) == (endpoint, language)]
        return one

    def document(self, heading: str, number: int = 0) -> Any:
        """The JSON below the ``number``-th line that is ``heading``."""
        document, _ = json.JSONDecoder().raw_decode(self._from_brace(heading, number))
        return document

    def source(self, heading: str) -> str:
        """The text of it, comments and all."""
        lines = self._from_brace(heading, 0).splitlines()
        return "\n".join(lines[: lines.index("}") + 1]) + "\n"

    def response(self, endpoint: str) -> Any:
        """What the document says ``endpoint`` answers."""
        start = self._lines.index(endpoint)
        status = next(line for line in self._lines[start:] if line.endswith(" Response"))
        here = "\n".join(self._lines[start:])
        document, _ = json.JSONDecoder().raw_decode(here[here.index("{", here.index(f"\n{status}\n")) :])
        return document

    def full_example(self, provider: str = "openai", mode: str = "inbound") -> str:
        """The configuration with everything in it, with another one of its providers and modes."""
        text = self.source(FULL_EXAMPLE)
        for name, printed, wanted in (("provider", "openai", provider), ("mode", "inbound", mode)):
            assert text.count(f'"{name}": "{printed}"') == 1, name
            text = text.replace(f'"{name}": "{printed}"', f'"{name}": "{wanted}"')
        return text

    def command(self, heading: str) -> str:
        """The shell command below a heading: up to the next empty line but one."""
        start = self._lines.index(heading) + 1
        lines = self._lines[start:]
        while not lines[0]:
            lines = lines[1:]
        return "\n".join(lines[: lines.index("")])

    def _from_brace(self, heading: str, number: int) -> str:
        at = [index for index, line in enumerate(self._lines) if line == heading][number]
        here = "\n".join(self._lines[at:])
        return here[here.index("{") :]


async def run_snippet(language: Language, text: str) -> str:
    """Execute it, whatever it asks for; what it printed."""
    match language:
        case "curl":
            needs("curl")
            command = ["bash", "-c", text]
        case "requests":
            command = [sys.executable, "-c", text]
        case "fetch":
            needs("node")
            command = ["node", "-e", f"(async () => {{\n{text}\n}})();"]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, problems = await process.communicate()
    assert process.returncode == 0, f"{text}\n{problems.decode()}"
    return output.decode()


def seed() -> Seed:
    """Skips the calling test, saying so, where the document is absent."""
    found = sorted(SEEDS.glob("004*"))
    if not found:
        pytest.skip(f"the document SIP4AI is absent from {SEEDS.name}/ (set OFFHOOK_SEEDS to its folder)")
    return Seed(found[0].read_text())


def _parted(endpoint: str, lines: list[str]) -> list[Snippet]:
    """A block has all three, one after the other."""
    starts = [0, lines.index("import requests"), _fetch_starts(lines), len(lines)]
    languages: tuple[Language, ...] = ("curl", "requests", "fetch")
    parts = ["\n".join(lines[one:other]) for one, other in itertools.pairwise(starts)]
    for language, part in zip(languages, parts, strict=True):
        assert part.startswith(_FIRST_LINES[language]), (endpoint, language, part)
    return [Snippet(endpoint=endpoint, language=one, text=part) for one, part in zip(languages, parts, strict=True)]


def _fetch_starts(lines: list[str]) -> int:
    return next(number for number, line in enumerate(lines) if line.startswith("const "))

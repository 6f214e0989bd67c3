"""docs/SIP4AI.md, "Configuration": its keys, variables and sentences are the program's."""

from __future__ import annotations

import re
from pathlib import Path

import json5
import msgspec
from tests.config.loading import ACCOUNT, VENDOR_KEYS, load, problems_of

from offhook.config import OutboundSettings, Settings
from offhook.config.reading import VENDOR_VARIABLES
from offhook.config.sip4ai_environment import ACCOUNT as ACCOUNT_VARIABLES
from offhook.config.sip4ai_keys import ALL_WORDS
from offhook.store.function_forms import FunctionForm

PAGE = (Path(__file__).parents[2] / "docs" / "SIP4AI.md").read_text()
CONFIGURATION = PAGE.partition("## Configuration\n")[2].partition("\n## ")[0]
(EXAMPLE,) = re.findall(r"```json5\n(.*?)```", CONFIGURATION, re.S)
(SENTENCES,) = re.findall(r"\n```\n(openai.*?)```", CONFIGURATION, re.S)

OTHER_VARIABLES = {"SIP_AUTH_ID", "SIP_OUTBOUND_PROXY", "SIP_TRANSPORT", "CONFIG_FILE"}
PORTS_AND_FILES = {"API_PORT", "DEBUG_FORCE_PORT", "AUDIO_FILE"}


def first_column(heading: str) -> set[str]:
    """What stands in backticks in the first column of the first table below a heading."""
    table = CONFIGURATION.partition(f"\n{heading}\n")[2] if heading else CONFIGURATION
    rows = re.search(r"\n\|[^\n]*\n\|-[^\n]*\n((?:\|[^\n]*\n)+)", table)
    assert rows is not None
    return set(re.findall(r"`(\w+)`", " ".join(row.split(" | ")[0] for row in rows[1].splitlines())))


def test_its_example_is_taken(tmp_path: Path) -> None:
    assert problems_of(tmp_path, EXAMPLE, VENDOR_KEYS | ACCOUNT) == []


def test_it_tells_every_key_that_came_with_sip4ai() -> None:
    keys = [field.name for field in msgspec.structs.fields(Settings)]
    told = first_column("")
    assert told <= set(keys)
    assert set(keys[: keys.index("sip")]) - told == {
        "gemini", "deepgram", "cartesia", "ultravox", "pipeline", "local", "scripted"
    }  # fmt: skip
    for struct in (OutboundSettings, FunctionForm):
        assert all(f"`{field.name}`" in CONFIGURATION for field in msgspec.structs.fields(struct))


def test_it_tells_every_word_of_a_section() -> None:
    assert first_column("### What a section may say") == set(ALL_WORDS)


def test_it_tells_every_variable() -> None:
    keys = {name for name, (_, what) in VENDOR_VARIABLES.items() if what == "api_key"}
    others = keys - {"ULTRAVOX_API_KEY", "ANTHROPIC_API_KEY", "GROQ_API_KEY"}
    assert first_column("### Variables") == others | set(ACCOUNT_VARIABLES) | OTHER_VARIABLES | PORTS_AND_FILES


def test_its_sentences_are_what_is_said(tmp_path: Path) -> None:
    section = problems_of(tmp_path, {"provider": "openai", "openai": {"voicee": "x"}}, VENDOR_KEYS)
    ours = json5.loads(EXAMPLE)["functions"][0]
    function = problems_of(tmp_path, {"functions": [ours, {"name": "b"}]})
    account = {name: text for name, text in ACCOUNT.items() if name != "SIP_PASSWORD"}
    variable = problems_of(tmp_path, "{}", account)
    assert [str(problem) for problem in (*section, *function, *variable)] == SENTENCES.splitlines()


def test_the_variables_of_ours_that_it_shows_are_there(tmp_path: Path) -> None:
    environment = {
        "OFFHOOK_MODE": "outbound",
        "OFFHOOK_OUTBOUND_TARGET_NUMBER": "+4930123456",
        "OFFHOOK_WEBHOOK_SECRET": "0123456789abcdef",
    }
    assert all(name in CONFIGURATION for name in environment)
    settings = load(tmp_path, {"outbound": {"task_description": "Ask."}}, environment)
    said = (settings.mode, settings.outbound.target_number, settings.webhook_secret)
    assert said == tuple(environment.values())

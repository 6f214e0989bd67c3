"""docs/HOW_TO_PROVIDERS.md and docs/providers: what they show works, and they show all there is."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from offhook.bridge.cascade.options import CartesiaOptions, CascadeOptions
from offhook.bridge.deepgram_settings import DeepgramOptions
from offhook.bridge.elevenlabs_agent import ElevenlabsOptions
from offhook.bridge.gemini_live.options import GeminiOptions
from offhook.bridge.openai_realtime.options import OpenAiOptions
from offhook.bridge.options import ProviderOptions
from offhook.bridge.ultravox import UltravoxOptions
from offhook.config import Settings, all_problems, load_settings
from offhook.config.reading import VENDOR_VARIABLES
from offhook.server.providers import HOSTED, PROVIDERS, provider_problems
from offhook.simulators.catalogue import SIMULATORS
from offhook.simulators.script import FaultKind, FaultMoment, Script, parse_script

DOCS = Path(__file__).parents[2] / "docs"
HOW_TO = (DOCS / "HOW_TO_PROVIDERS.md").read_text()
PAGES = {path.stem: path.read_text() for path in sorted((DOCS / "providers").glob("*.md"))}

OPTIONS: Mapping[str, type[ProviderOptions]] = {
    "cartesia": CartesiaOptions,
    "deepgram": DeepgramOptions,
    "elevenlabs": ElevenlabsOptions,
    "gemini": GeminiOptions,
    "openai": OpenAiOptions,
    "pipeline": CascadeOptions,
    "ultravox": UltravoxOptions,
}

HEADINGS = ["Before the first call", "Options", "In a call", "What it cannot", "Old names"]

TOLD_ELSEWHERE = {
    "pipeline": {"model"},  # another word for llm_model
    "cartesia": {field.name for field in msgspec.structs.fields(CascadeOptions)},  # as the page says
}
SHARED = {"api_key", "base_url", "headers"}


def examples(page: str) -> list[str]:
    return re.findall(r"```json\n(.*?)```", page, re.S)


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key for each vendor, and nothing else that the machine's environment may say of them."""
    for name in [name for name in os.environ if name.startswith("OFFHOOK_")]:
        monkeypatch.delenv(name)
    for variable, (_, what) in VENDOR_VARIABLES.items():
        if what == "api_key":
            monkeypatch.setenv(variable, "test")
        else:
            monkeypatch.delenv(variable, raising=False)


def problems(config: bytes, folder: Path) -> list[str]:
    file = folder / "config.json"
    file.write_bytes(config)
    found = all_problems(file)
    return [str(one) for one in (found or provider_problems(settings_of(file)))]


def settings_of(file: Path) -> Settings:
    return load_settings(file)


def test_there_is_a_page_for_each_provider() -> None:
    assert set(PAGES) == set(HOSTED) == set(OPTIONS)


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.usefixtures("keys")
def test_the_agent_a_page_shows_is_taken_by_its_provider(name: str, tmp_path: Path) -> None:
    (shown,) = examples(PAGES[name])
    agent = msgspec.json.decode(shown)
    assert agent["provider"] == name
    assert problems(msgspec.json.encode({"agents": [agent]}), tmp_path) == []


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_the_headings_of_all_in_their_order(name: str) -> None:
    assert re.findall(r"^## (.*)$", PAGES[name], re.M) == HEADINGS


@pytest.mark.parametrize("name", PAGES)
def test_a_page_tells_every_option_and_none_that_is_not_there(name: str) -> None:
    table = PAGES[name].partition("## Options")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`[a-z_`, ]+`) \|", table, re.M)
    told = {option.strip("` ") for row in rows for option in row.split(",")}
    there = {field.name for field in msgspec.structs.fields(OPTIONS[name])}
    assert told <= there
    assert there - told - SHARED <= TOLD_ELSEWHERE.get(name, set())


def variables(text: str) -> set[str]:
    return set(re.findall(r"`([A-Z_]+_(?:KEY|URL))`", text))


@pytest.mark.parametrize("name", PAGES)
def test_a_page_names_variables_and_simulators_that_there_are(name: str) -> None:
    where = PAGES[name].partition(f"## {HEADINGS[0]}")[2]
    key, simulator = re.search(r"Key: (.*?\.)\s", where, re.S), re.search(r"Simulator: `(\w+)`", where)
    assert key is not None
    assert simulator is not None
    assert variables(key[1])
    assert variables(key[1]) <= set(VENDOR_VARIABLES)
    assert simulator[1] in SIMULATORS


def rows() -> Iterator[tuple[str, set[str], str, str]]:
    """Of the how-to's table of providers: name, variables, simulator, page."""
    for line in HOW_TO.partition("\n## ")[0].splitlines():
        if "| `provider` |" not in line and (found := re.match(r"\| `(\w+)` \|", line)):
            _, _, *named, simulator, page, _ = line.split("|")
            yield found[1], variables(" ".join(named)), simulator.strip(" `"), page


def test_the_how_to_names_every_provider_its_variables_and_its_simulator() -> None:
    assert {name for name, *_ in rows()} == set(PROVIDERS) - {"scripted"}
    for name, told, simulator, page in rows():
        nobody_s = name in ("local", "audio_file")
        assert told == {variable for variable, (vendor, _) in VENDOR_VARIABLES.items() if vendor == name}
        assert simulator in SIMULATORS or nobody_s
        assert f"providers/{name}.md" in page or nobody_s


@pytest.mark.usefixtures("keys")
def test_the_configurations_the_readme_shows_are_taken(tmp_path: Path) -> None:
    readme = (DOCS.parent / "README.md").read_text()
    (typed,) = re.findall(r"echo '(.*?)' > config.json", readme, re.S)
    (whole,) = re.findall(r"```json5\n(.*?)```", readme, re.S)
    assert problems(typed.encode(), tmp_path) == []
    assert problems(whole.encode(), tmp_path) == []


@pytest.mark.usefixtures("keys")
def test_the_configurations_the_how_to_shows_are_taken(tmp_path: Path) -> None:
    configurations = [shown for shown in examples(HOW_TO) if '"agents"' in shown]
    assert len(configurations) == 2
    for shown in configurations:
        assert problems(shown.encode(), tmp_path) == []


def test_the_script_the_how_to_shows_is_one_and_its_words_are_those_of_scripts() -> None:
    (shown,) = [shown for shown in examples(HOW_TO) if '"turns"' in shown]
    assert len(parse_script(shown).turns) == 2
    words = set(re.findall(r"`([a-z_]+)`", HOW_TO))
    assert {*get_args(FaultKind), *get_args(FaultMoment)} <= words
    assert {field.name for field in msgspec.structs.fields(Script)} - {"turns", "faults"} <= words

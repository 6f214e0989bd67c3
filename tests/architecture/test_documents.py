"""What the documents show is what the code has."""

from __future__ import annotations

import itertools
import re
import tomllib
from pathlib import Path

import pytest
from tests.architecture.machines import PAGE, page

ROOT = PAGE.parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_drawn_state_machines_are_those_of_the_tables() -> None:
    assert PAGE.read_text() == page(), "run: python -m tests.architecture.machines"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_path_a_document_names_exists(document: Path) -> None:
    named = re.findall(
        r"`((?:src|tests|docs|\.ci)/[\w./-]+)`|\]\((?!https?:)([\w./-]+)(?:#[\w-]+)?\)", document.read_text()
    )
    missing = [
        path
        for in_code, in_link in named
        if not ((ROOT / (path := in_code or in_link)).exists() or (document.parent / path).exists())
    ]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_heading_a_document_links_to_exists(document: Path) -> None:
    linked = re.findall(r"\]\((?!https?:)([\w./-]*)#([\w-]+)\)", document.read_text())
    missing = [
        f"{path}#{heading}" for path, heading in linked if heading not in headings(document.parent / path, document)
    ]
    assert missing == []


def headings(page: Path, here: Path) -> list[str]:
    """As GitHub names them in links."""
    titles = re.findall(r"^#+ (.*)$", (here if page.is_dir() else page).read_text(), re.M)
    return [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]


def test_every_dependency_is_explained() -> None:
    explained = (ROOT / "docs" / "DEPENDENCIES.md").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [
        *project["project"]["dependencies"],
        *itertools.chain(*project["project"]["optional-dependencies"].values()),
        *project["dependency-groups"]["dev"],
    ]
    names = [re.split(r"[<>=;\[ ]", line)[0] for line in wanted]
    assert [name for name in names if f"`{name}`" not in explained] == []

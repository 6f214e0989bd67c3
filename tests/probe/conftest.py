"""One live server for each module of probes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.probe.programs import Server, serving
from tests.probe.wire import Peer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server")) as one:
        yield one


@pytest.fixture
def peer() -> Iterator[Peer]:
    one = Peer()
    yield one
    one.close()

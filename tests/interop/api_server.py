"""A whole server with its API, and calls and questions to it from outside, one after the other."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.probe.programs import Server
from tests.probe.wire import HOST, PATIENCE_S

_API = re.compile(r"API http://[^ ]*:(\d+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """``headers`` by lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


class ApiServer(Server):
    """``offhook serve``; ``ask`` asks its API."""

    def __init__(self, folder: Path, *, agents: tuple[dict[str, object], ...], **more: Any) -> None:
        super().__init__(folder, agents=agents, **more)
        found = _API.search(self.output)
        assert found is not None, self.output
        self.http_port = int(found[1])
        self.data_dir = folder / "data"

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        key: str = "",
        headers: Mapping[str, str] | None = None,
        most_bytes: int = 10_000_000,
    ) -> Reply:
        """``most_bytes``: of an answer without end, no more is waited for."""
        sent = {"Content-Type": "application/json", **(headers or {})}
        if key:
            sent["Authorization"] = f"Bearer {key}"
        with closing(http.client.HTTPConnection(HOST, self.http_port, timeout=PATIENCE_S)) as connection:
            connection.request(method, path, None if body is None else json.dumps(body), sent)
            answer = connection.getresponse()
            fields = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(status=answer.status, headers=fields, body=answer.read(most_bytes))

    def get(self, path: str, **options: Any) -> Any:
        """The document of an answer that is 200."""
        reply = self.ask("GET", path, **options)
        assert reply.status == 200, (path, reply)
        return reply.document


@contextmanager
def api_server(folder: Path, *, agents: tuple[dict[str, object], ...], **more: Any) -> Iterator[ApiServer]:
    """Until the end of the block; it must have lived until then, without a traceback in its log."""
    server = ApiServer(folder, agents=agents, **more)
    try:
        yield server
        assert server.running, f"the server died:\n{server.output}"
        server.interrupt()
        assert server.ends() == 0, server.output
        assert "Traceback" not in server.output, server.output
    finally:
        if server.running:
            server.kill()

"""Secrets of every kind are given to a whole server, which uses them; then they are looked for everywhere.

In the database and all other files of its data folder, in its log at debug level, in answers of the API, in what the
command line shows, in what webhooks told. A secret counts as found in any spelling: as it is, in hex, in base64.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from tests.interop import postgres
from tests.interop.api_server import ApiServer, Reply, api_server
from tests.interop.tools import free_port
from tests.interop.webhook_receiver import WebhookReceiver, receiving
from tests.kept_calls import kept_calls
from tests.probe.drafts import Dialog, new_request
from tests.probe.wire import HOST, Message, Peer, unique

from offhook.api.native.table import NATIVE
from offhook.delivery.signing import new_secret
from offhook.store.vault import VARIABLE

SETTLED_WITHIN_S = 20.0
LOOK_S = 0.2


EXCUSED = {"file offhook.db-wal": {"password in From"}, "file offhook.db": {"password in From"}}
"""While a call is up its saved dialog is on disk, as the BYE after a crash needs it: with both names as they were."""


class Planted:
    """``plant`` makes a secret and remembers it; ``found_in`` tells those that are in some text or bytes."""

    def __init__(self) -> None:
        self.secrets: dict[str, bytes] = {}

    def plant(self, name: str, secret: str = "") -> str:
        secret = secret or f"planted-{secrets.token_hex(8)}"
        assert name not in self.secrets
        self.secrets[name] = secret.removeprefix("whsec_").encode()
        return secret

    def found_in(self, where: bytes) -> list[str]:
        lower = where.lower()
        return [name for name, one in self.secrets.items() if any(spelling in lower for spelling in _spellings(one))]


def _spellings(secret: bytes) -> Iterator[bytes]:
    """In lower case. Of base64 what does not depend on its place in a longer text."""
    yield secret.lower()
    yield secret.hex().encode()
    yield quote(secret.decode(), safe="").lower().encode()
    for shift in range(3):
        coded = base64.b64encode(b"\0" * shift + secret)
        yield coded[4 if shift else 0 : len(coded) // 4 * 4 - 4].lower()


def config(planted: Planted, receiver: WebhookReceiver, closed_port: int) -> dict[str, Any]:
    """Trunks, tools, numbers and webhooks with secrets. The tool ``broken`` and the question fail."""
    nobody = f"http://{HOST}:{closed_port}"
    tool = {"parameters": {"type": "object"}, "timeout_s": 2}
    return {
        "trunks": [
            {
                "id": "digest",
                "kind": "gateway",
                "peers": [HOST],
                "require_digest": True,
                "digest_algorithms": ["MD5"],
                "srtp": "optional",
                "srtp_without_tls": True,
                "username": "caller",
                "password": planted.plant("password of the gateway"),
            },
            {
                "id": "pbx",
                "kind": "register",
                "server": "127.0.0.2",  # else its calls were those of the other trunk
                "port": closed_port,
                "transport": "udp",
                "username": "200",
                "password": planted.plant("password of the registration"),
            },
        ],
        "tools": [
            {
                "id": "works",
                "name": "works",
                "url": receiver.url,
                "headers": {"Authorization": f"Bearer {planted.plant('bearer of a tool')}"},
                "secret": planted.plant("signing secret of a tool", new_secret()),
                **tool,
            },
            {
                "id": "broken",
                "name": "broken",
                "url": f"{nobody}/tool",
                "headers": {"X-Api-Key": planted.plant("key of a broken tool")},
                "secret": planted.plant("signing secret of a broken tool", new_secret()),
                **tool,
            },
        ],
        "webhooks": [
            {
                **receiver.form,
                "secret": planted.plant("secret of a webhook", receiver.secret),
                "previous_secret": planted.plant("previous secret of a webhook", new_secret()),
            },
            {
                "id": "broken",
                "url": f"{nobody}/hook",
                "secret": planted.plant("secret of a broken webhook", new_secret()),
            },
        ],
        "numbers": [
            {
                "user": "100",
                "agent": "agent",
                "ask_url": f"{nobody}/ask",
                "ask_secret": planted.plant("secret of a question", new_secret()),
            }
        ],
        "log": {"level": "debug"},
        "security": {"allowed_targets": ["127.0.0.0/8"], "allow_http": True},  # with API keys, too
    }


def agent(planted: Planted) -> dict[str, object]:
    """It greets, uses both tools, and has a key of a provider's."""
    uses: list[dict[str, Any]] = [{"do": "use_tool", "name": name, "arguments": {}} for name in ("works", "broken")]
    script = {"greeting_text": "hello", "greeting_tone_hz": 440, "steps": [{"on": "ready", "do": uses}]}
    options = {"script": json.dumps(script), "api_key": planted.plant("provider key of an agent")}
    return {"id": "agent", "provider": "scripted", "tools": ["works", "broken"], "options": options}


# ── what is done with them ───────────────────────────────────────────────────────────────────────────────


def call(planted: Planted, server: ApiServer, password: str) -> None:
    """A digest call that offers SRTP keys and old-fashioned ones, with passwords wherever SIP has room for them."""
    with closing(Peer()) as peer:
        key = base64.b64encode(planted.plant("SRTP key in SDP", secrets.token_hex(15)).encode()).decode()
        body = (
            f"v=0\no=- 1 1 IN IP4 {HOST}\ns=-\nc=IN IP4 {HOST}\nt=0 0\nk=clear:{planted.plant('k= in SDP')}\n"
            f"m=audio {peer.media_port} RTP/AVP 0\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{key}\n"
            f"a=ice-pwd:{planted.plant('ICE password in SDP')}\n"
        )
        invite = new_request(peer, server.address, user="100").with_(
            body=body,
            from_=f"<sip:probe:{planted.plant('password in From')}@{peer.host_port}>;tag={unique('f')}",
            extra=f"Proxy-Authorization: Basic {planted.plant('Basic credentials')}\n",
        )
        peer.send(server.address, str(invite))
        challenge = peer.final()
        assert challenge.status == 401, challenge
        peer.send(server.address, str(invite.companion("ACK").with_(to=challenge.get("to"))))
        credentials = _credentials(planted, challenge, invite.uri, password)
        again = invite.with_(
            number=2, via=(f"{invite.via[0]}2",), extra=f"{invite.extra}Authorization: {credentials}\n"
        )
        peer.send(server.address, str(again))
        answer = peer.final()
        assert answer.status == 200, answer
        dialog = Dialog(peer, again, answer)
        peer.send(server.address, str(dialog.ack()))
        peer.hears_rtp()
        time.sleep(1)  # both tools return
        peer.send(server.address, str(dialog.next("BYE", extra=f"Authorization: {credentials}\n")))
        while (farewell := peer.receive()).method != "BYE":
            pass
        assert farewell.status == 200, farewell
    _plant_keys_of(planted, answer)


def _credentials(planted: Planted, challenge: Message, uri: str, password: str) -> str:
    """RFC 2617 without qop, or with. What can be attacked offline is a secret as well."""
    field = challenge.get("www-authenticate")
    realm, nonce = (re.findall(rf'{name}="([^"]*)"', field)[0] for name in ("realm", "nonce"))
    ha1 = hashlib.md5(f"caller:{realm}:{password}".encode()).hexdigest()
    ha2 = hashlib.md5(f"INVITE:{uri}".encode()).hexdigest()
    qop = "qop=" in field
    middle = f"{nonce}:00000001:c0ffee:auth" if qop else nonce
    answer = hashlib.md5(f"{ha1}:{middle}:{ha2}".encode()).hexdigest()
    planted.plant("HA1 of the gateway", ha1)
    planted.plant("SHA-256 HA1 of the gateway", hashlib.sha256(f"caller:{realm}:{password}".encode()).hexdigest())
    planted.plant("answer to a challenge", answer)
    extra = ', qop=auth, nc=00000001, cnonce="c0ffee"' if qop else ""
    return f'Digest username="caller", realm="{realm}", nonce="{nonce}", uri="{uri}", response="{answer}"{extra}'


def _plant_keys_of(planted: Planted, answer: Message) -> None:
    """Those that offhook made, where it took SRTP."""
    for number, key in enumerate(re.findall(r"inline:([^|\s]+)", answer.body)):
        planted.plant(f"SRTP key {number} of our own", key)


def records_by_the_api(planted: Planted, server: ApiServer, key: str) -> None:
    """Made, changed and refused: a refusal shows nothing of what was sent."""

    def send(method: str, path: str, body: object) -> Reply:
        reply = server.ask(method, path, body, key=key)
        assert not planted.found_in(reply.body), (method, path, planted.found_in(reply.body), reply.body)
        return reply

    made = planted.plant("password of a trunk of the API")
    trunk = {"id": "api", "kind": "gateway", "targets": ["sip:192.0.2.1"], "username": "u", "password": made}
    assert send("POST", "/api/trunks", trunk).status == 201
    assert send("PATCH", "/api/trunks/api", {"password": planted.plant("new password of a trunk")}).status == 200
    refused = {**trunk, "id": "no", "targets": ["nonsense"], "password": planted.plant("password of a trunk refused")}
    assert send("POST", "/api/trunks", refused).status == 422
    assert send("POST", "/api/trunks", {**refused, "password": [planted.plant("password as a list")]}).status == 422
    tool = {
        "id": "api",
        "name": "api",
        "url": "https://example.com/",
        "headers": {"Authorization": planted.plant("header of a tool of the API")},
        "secret": planted.plant("secret of a tool of the API", new_secret()),
    }
    assert send("POST", "/api/tools", tool).status == 201
    bad = {**tool, "id": "no", "headers": {"X": planted.plant("header refused") + "\n"}}
    assert send("POST", "/api/tools", bad).status == 422
    hook = {"id": "api", "url": "https://example.com/", "secret": planted.plant("secret of the API's", new_secret())}
    assert send("POST", "/api/webhooks", hook).status == 201
    bad = {**hook, "id": "no", "secret": planted.plant("webhook secret refused")}
    assert send("POST", "/api/webhooks", bad).status == 422
    options = {"api_key": planted.plant("provider key of an agent of the API")}
    assert send("POST", "/api/agents", {"id": "api", "provider": "scripted", "options": options}).status == 201
    number = {"user": "7", "agent": "api", "ask_url": "https://example.com/"}
    number["ask_secret"] = planted.plant("secret of a question of the API", new_secret())
    assert send("POST", "/api/numbers", number).status == 201
    wrong = planted.plant("wrong key", "ohk_" + secrets.token_urlsafe(24))
    assert server.ask("GET", "/api/calls", key=wrong).status == 401
    assert server.ask("GET", "/api/calls", headers={"X-API-Key": wrong}).status == 401


def shown_once(planted: Planted, server: ApiServer) -> str:
    """Keys and a webhook's secret that offhook makes itself. Returns a key that may do everything."""
    key = planted.plant("API key", server.ask("POST", "/api/keys", {"name": "all"}).document["key"])
    second = server.ask("POST", "/api/keys", {"name": "second", "scopes": ["calls:read"]}, key=key)
    planted.plant("API key of few scopes", second.document["key"])
    hook = server.ask("POST", "/api/webhooks", {"id": "made", "url": "https://example.com/"}, key=key)
    planted.plant("secret that was made", hook.document["secret"])
    rotated = server.ask("POST", "/api/webhooks/made/rotate-secret", {}, key=key)
    planted.plant("secret that was rotated", rotated.document["secret"])
    return key


# ── where they are looked for ────────────────────────────────────────────────────────────────────────────


def answers(server: ApiServer, key: str) -> Iterator[tuple[str, bytes]]:
    """Every GET of the API with every id there is, the streams' beginnings, and what two of them say in other forms."""
    lists = ("agents", "trunks", "numbers", "tools", "squads", "webhooks", "keys", "calls")
    ids = {name: [one["id"] for one in server.get(f"/api/{name}?limit=100", key=key)[name]] for name in lists}
    assert ids["calls"]
    for endpoint in NATIVE:
        if endpoint.method != "GET" or endpoint.stream:
            continue
        kind = endpoint.path.split("/")[2] if endpoint.path.startswith("/api/") else ""
        for one in ids[kind] if "{id}" in endpoint.path else [""]:
            path = endpoint.path.replace("{id}", quote(one, safe=""))
            reply = server.ask("GET", path, key=key)
            assert reply.status < 500, (path, reply)
            yield f"GET {path}", reply.body + repr(dict(reply.headers)).encode()
    for call_id in ids["calls"]:
        plain = server.ask("GET", f"/api/calls/{call_id}/trace", key=key, headers={"Accept": "text/plain"})
        assert plain.status == 200, plain
        yield f"trace of {call_id} as text", plain.body
        live = server.ask("GET", f"/api/calls/{call_id}/events", key=key, headers={"Accept": "text/event-stream"})
        yield f"stream of {call_id}", live.body


def commands(server: ApiServer, folder: Path, environment: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
    """What the command line shows of it all."""
    [call_id, *_] = [record["call_id"] for record in kept_calls(server.data_dir, environment["OFFHOOK_DATABASE_URL"])]
    at = ("--data", str(server.data_dir), "--config", str(folder / "config.json"))
    for words in (
        ("calls", "list", *at),
        ("calls", "list", "--json", *at),
        ("calls", "show", call_id, *at),
        ("calls", "show", call_id, "--json", *at),
        ("trace", call_id, "--data", str(server.data_dir)),
        ("keys", "list", *at),
        ("secrets", "status", *at),
        ("config", "check", str(folder / "config.json")),
        ("trunks", "--data", str(server.data_dir)),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "offhook", *words], capture_output=True, env=environment, check=False
        )
        assert done.returncode == 0, (words, done)
        yield "offhook " + " ".join(words[:2]), done.stdout + done.stderr


def files(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield f"file {path.relative_to(folder)}", path.read_bytes()


def dumped(url: str) -> bytes:
    at = sa.make_url(url)
    command = ["pg_dump", "--inserts", "--host", HOST, "--port", str(at.port), "--username", str(at.username)]
    environment = {**os.environ, "PGPASSWORD": str(at.password)}
    return subprocess.run([*command, str(at.database)], capture_output=True, check=True, env=environment).stdout


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "sqlite":
        yield ""
        return
    with postgres.running() as cluster:
        yield cluster.database()


def test_planted_secrets_are_found_nowhere(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = Planted()
    master_key = base64.b64encode(planted.plant("master key", secrets.token_hex(16)).encode()).decode()
    monkeypatch.setenv(VARIABLE, f"one:{master_key}")
    monkeypatch.setenv("OFFHOOK_DATABASE_URL", database_url)
    if database_url:
        planted.plant("password of the database", postgres.PASSWORD)
    places: list[tuple[str, bytes]] = []
    with receiving(tmp_path / "received.jsonl") as receiver:
        more = config(planted, receiver, free_port("tcp"))
        with api_server(tmp_path, agents=(agent(planted),), **more) as server:
            call(planted, server, more["trunks"][0]["password"])
            key = shown_once(planted, server)
            records_by_the_api(planted, server, key)
            wait_until_told(receiver)
            places += answers(server, key)
            places += commands(server, tmp_path, os.environ)
            places += files(server.data_dir)  # while it runs: with the WAL
        places += files(server.data_dir)
        places += [("log", server.output.encode()), ("webhooks", receiver.file.read_bytes())]
        if database_url:
            places.append(("pg_dump", dumped(database_url)))
    assert len(planted.secrets) >= 30, len(planted.secrets)
    found = {where: names for where, octets in places if (names := planted.found_in(octets))}
    assert not {where: names for where, names in found.items() if set(names) - EXCUSED.get(where, set())}, found
    print(f"{len(planted.secrets)} secrets, {len(places)} places, {sum(len(one) for _, one in places)} octets")


def wait_until_told(receiver: WebhookReceiver) -> None:
    end = time.monotonic() + SETTLED_WITHIN_S
    while "call.ended" not in {message.document.get("event") for message in receiver.received}:
        assert time.monotonic() < end, [message.document for message in receiver.received]
        time.sleep(LOOK_S)

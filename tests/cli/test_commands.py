"""The commands as an operator types them: what they print, and how they exit. Whatever serves is a real process."""

from __future__ import annotations

import json
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.cli.typed import typed
from tests.interop.tools import free_sip_port
from tests.kept_calls import kept_calls
from tests.signaling.certificates import Authority

from offhook import __version__

SCRIPT = json.dumps({"greeting_tone_hz": 700, "greeting_ms": 500, "greeting_text": "hello", "vad": True})
CONFIG = {"agents": [{"id": "demo", "provider": "scripted", "options": {"script": SCRIPT}}]}


def offhook(*arguments: str, timeout_s: float = 40) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "offhook", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)


@contextmanager
def serving(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server process with a scripted agent; yields it and the URI it announces."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps(CONFIG))
    arguments = ["serve", "--config", str(config), "--host", "127.0.0.1", "--port", "0", "--data", str(tmp_path)]
    with started(*arguments) as process:
        announced = line_with("listens on", process)
        uri = re.search(r"call (\S+)", announced)
        assert uri is not None, announced
        yield process, uri.group(1)


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A command that goes on by itself, until the block is left."""
    command = [sys.executable, "-m", "offhook", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def line_with(words: str, process: subprocess.Popen[str]) -> str:
    """The next one that says so."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return line
    raise AssertionError(f"no line with {words!r}: {lines}")


def stop(process: subprocess.Popen[str]) -> str:
    """Ctrl-C; returns what was still printed."""
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    return out


@pytest.mark.parametrize("header", ["Via: x", "no colon", "X-A"])
def test_a_header_that_cannot_be_sent_is_told(header: str) -> None:
    done = typed("call", "sip:demo@127.0.0.1", "--header", header)
    assert done.returncode == 2
    assert "--header" in done.stderr
    assert "X-Ticket: 7" in done.stderr


def test_version() -> None:
    assert offhook("--version").stdout == f"offhook {__version__}\n"


def test_a_call_is_served_logged_recorded_and_ended_politely(tmp_path: Path) -> None:
    with serving(tmp_path) as (server, uri):
        called = offhook("call", uri, "--dtmf", "42#", "--no-transcript", "--json", "--max-duration", "4")
        log = stop(server)
    report = json.loads(called.stdout)
    assert called.returncode == 0, called.stderr
    assert server.returncode == 0
    assert called.stderr == ""
    assert report["answered"] is True
    assert report["end"]["cause"] in {"hangup", "duration_limit"}
    (record,) = kept_calls(tmp_path)
    assert (record["digits"], record["codec"], record["phase"]) == ("42#", "G722", "ended")
    assert [turn["text"] for turn in record["transcript"]] == ["hello"]
    assert Path(record["recording"]).stat().st_size > 8000
    assert "answered after" in log
    assert "hello" not in log, "speech is private by default"
    assert "42#" not in log


def test_ctrl_c_ends_running_calls_with_a_bye(tmp_path: Path) -> None:
    with (
        serving(tmp_path) as (server, uri),
        started("call", uri, "--no-transcript", "--max-duration", "30") as caller,
    ):
        assert line_with("answered", caller)
        log = stop(server)
        rest, _ = caller.communicate(timeout=20)
    assert server.returncode == 0
    assert "ending 1 call" in log
    assert "ended by the far end" in rest


def test_a_busy_port_is_one_sentence_that_says_what_to_do(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        failed = offhook("serve", "--host", "127.0.0.1", "--port", str(port), "--data", str(tmp_path))
    assert failed.returncode == 1
    assert failed.stderr.count("\n") == 1
    assert f"port {port} is in use" in failed.stderr
    assert "choose another port" in failed.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["serve", "--port", "many"], 2, "--port"),
        (["serve", "--config", "/nonexistent/config.json"], 1, "cannot be read"),
        (["call", "nobody"], 2, "write it as sip:user@host"),
        (["call", "tel:+4930"], 2, "write it as sip:user@host"),
        (["call", "sip:a@127.0.0.1", "--dtmf", "12x"], 2, "--dtmf"),
        (["call", "sip:a@127.0.0.1", "--play", "/nonexistent.wav"], 2, "--play"),
        (["call", "sip:a@127.0.0.1", "--save", "/nonexistent/call.wav"], 2, "no folder you may write to"),
        (["call", "sip:a@127.0.0.1", "--from", "a b"], 2, "--from"),
        (["dial"], 2, "No such command"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(arguments: list[str], code: int, says: str) -> None:
    failed = typed(*arguments)
    assert failed.returncode == code
    assert says in failed.stderr
    assert "Traceback" not in failed.stderr


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("sip:demo@nosuchhost.invalid", "nosuchhost.invalid"),
        ("sip:demo@127.0.0.1;transport=sctp", "use udp, tcp or tls"),
        ("sip:demo@127.0.0.1:9;transport=tcp", "unreachable"),
    ],
)
def test_a_target_that_cannot_be_reached_exits_with_1_and_says_why(uri: str, says: str) -> None:
    failed = typed("call", uri, "--no-transcript", "--ring-timeout", "5")
    assert failed.returncode == 1
    assert says in failed.stdout


def test_a_refused_connection_says_so() -> None:
    failed = typed("call", "sip:demo@127.0.0.1:9;transport=tcp", "--no-transcript")
    assert "refused" in failed.stdout


# ── trunks and traces ────────────────────────────────────────────────────────────────────────────────────


def test_trunks_without_a_server_or_without_any_says_so(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text("{}")
    none = typed("trunks", "--config", str(config), "--data", str(tmp_path))
    assert (none.returncode, "no trunks are configured" in none.stdout) == (0, True)
    config.write_text('{"trunks": [{"id": "any", "kind": "open"}]}')
    stopped = typed("trunks", "--config", str(config), "--data", str(tmp_path))
    assert (stopped.returncode, "no server runs" in stopped.stdout) == (1, True)


def test_a_call_s_messages_are_shown_as_a_ladder_and_a_pcap(tmp_path: Path) -> None:
    with serving(tmp_path) as (server, uri):
        called = offhook("call", uri, "--no-transcript", "--max-duration", "2")
        assert called.returncode == 0
        stop(server)
    (record,) = kept_calls(tmp_path)
    shown = typed("trace", record["call_id"][:8], "--data", str(tmp_path)).stdout
    wanted = ["INVITE audio", "180 Ringing", "200 OK (INVITE)", "ACK", "BYE", "200 OK (BYE)"]
    pattern = "|".join([r"\bACK", *(re.escape(text) for text in wanted if text != "ACK")])
    ladder = shown.split("── 1:")[0]
    assert re.findall(pattern, ladder) == wanted
    assert len(re.findall(r"PRACK", ladder)) == 2  # it and its 200; they may cross the 200 of the INVITE
    assert "call.ended: by caller" in shown
    sip_call_id = record["sip_call_id"]
    assert typed("trace", sip_call_id, "--data", str(tmp_path)).stdout.count("── ") >= 7
    target = tmp_path / "call.pcap"
    written = typed("trace", record["call_id"], "--data", str(tmp_path), "--pcap", str(target))
    assert written.stdout == f"9 messages written to {target}\n"
    assert target.read_bytes()[:4] == b"\xd4\xc3\xb2\xa1"


def test_a_folder_without_calls_says_how_another_one_is_named(tmp_path: Path) -> None:
    unknown = typed("trace", "4711", "--data", str(tmp_path))
    assert unknown.returncode == 1
    assert "there is no database in" in unknown.stderr
    assert "--data" in unknown.stderr


def test_an_unknown_trunk_is_refused_with_those_there_are(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"trunks": [{"id": "any", "kind": "open"}]}')
    refused = typed("call", "4711", "--trunk", "pbx", "--config", str(config))
    assert refused.returncode == 2
    assert "there are: any" in refused.stderr


def test_certificates_are_read_again_on_sighup(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("old.example", into="server")
    config = tmp_path / "config.json"
    tls = {"certificate": str(certificate), "private_key": str(key)}
    port = free_sip_port()
    sip = {"host": "127.0.0.1", "port": 0, "tls_port": port, "transports": ["udp", "tls"]}
    config.write_text(json.dumps({**CONFIG, "sip": sip, "tls": tls, "data_dir": str(tmp_path)}))
    with started("serve", "--config", str(config)) as process:
        assert f"TLS 127.0.0.1:{port}" in line_with("listens on", process)
        assert "old.example" in _names_shown(port, authority)
        authority.issue("new.example", into="server")
        process.send_signal(signal.SIGHUP)
        assert line_with("read again", process)
        assert "new.example" in _names_shown(port, authority)
        assert process.stdout is not None
        process.stdout.close()  # who read it is gone
        assert typed("reload", "--data", str(tmp_path)).returncode == 0


def _names_shown(port: int, authority: Authority) -> str:
    """Those of the certificate that a caller by TLS gets to see."""
    context = ssl.create_default_context(cafile=str(authority.file))
    context.check_hostname = False
    with socket.create_connection(("127.0.0.1", port), timeout=5) as plain, context.wrap_socket(plain) as secured:
        return str(secured.getpeercert())

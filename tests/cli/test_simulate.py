"""``offhook simulate``: which provider, which script, and what its clients are told to set."""

from __future__ import annotations

import re
import signal
import ssl
import subprocess
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from tests.cli.typed import typed

from offhook.cli.simulate import script_of, variables_of
from offhook.model.errors import ConfigError
from offhook.simulators.script import Script, Turn

SCRIPT = '{"turns": [{"hears": "hello", "says": "Good day."}]}'
READ = Script(turns=(Turn(hears="hello", says="Good day."),))


def test_a_script_is_json_or_a_file_of_it(tmp_path: Path) -> None:
    file = tmp_path / "script.json"
    file.write_text(SCRIPT)
    assert script_of("") == Script()
    assert script_of(SCRIPT) == READ
    assert script_of(str(file)) == READ


@pytest.mark.parametrize(("text", "problem"), [("no-such-file", "cannot be read"), ('{"turn": []}', "unknown field")])
def test_a_script_that_cannot_be_used_is_told(text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        script_of(text)


def test_each_provider_has_one_variable_for_its_key_and_one_for_its_url() -> None:
    assert dict(variables_of("elevenlabs", "http://h:1")) == {
        "ELEVENLABS_API_KEY": "simulated",
        "ELEVENLABS_BASE_URL": "http://h:1",
    }
    assert dict(variables_of("openai", "http://h:1"))["OPENAI_BASE_URL"] == "http://h:1/v1"


def test_a_provider_nobody_simulates_is_told() -> None:
    done = typed("simulate", "nobody")
    assert done.returncode == 2
    assert "PROVIDER" in done.stderr


def test_it_serves_until_ctrl_c_and_tells_what_clients_did_wrong() -> None:
    command = [sys.executable, "-m", "offhook", "simulate", "deepgram", "--port", "0", "--tls"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(4)]
            exported = dict(re.findall(r"export (\w+)=(\S+)", "".join(lines)))
            context = ssl.create_default_context(cafile=exported["SSL_CERT_FILE"])
            url = f"{exported['DEEPGRAM_BASE_URL']}/v1/agent/converse"
            with pytest.raises(HTTPError, match="401") as refused, urlopen(url, context=context):
                pass
            refused.value.close()
            assert "no Authorization" in process.stdout.readline()
            process.send_signal(signal.SIGINT)
            rest, _ = process.communicate(timeout=20)
        finally:
            process.kill()
    assert exported["DEEPGRAM_API_KEY"] == "simulated"
    assert rest == "1 connections, 1 problems\n"
    assert process.returncode == 0
    assert not Path(exported["SSL_CERT_FILE"]).exists()

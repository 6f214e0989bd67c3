"""``offhook doctor``: a healthy system has no fault, and each planted one is named.

What an operator runs is tested once for each exit code. The others examine in this process, and without the call to
ourselves where that is not what they are about: it lasts two seconds.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from tests.call.registrar import Registrar
from tests.interop.tools import free_sip_port
from tests.media.wire import free_ports
from tests.signaling.certificates import Authority
from tests.signaling.dns_server import DnsServer

from offhook.cli.doctor import command
from offhook.cli.doctor.finding import Finding

PATIENCE_S = 60


class Examined:
    """What the doctor said."""

    def __init__(self, code: int, findings: list[dict[str, Any]]) -> None:
        self.code = code
        self.findings = findings

    @property
    def faults(self) -> list[str]:
        return [f"{one['area']}: {one['what']}" for one in self.findings if not one["well"]]

    def only_fault(self, says: str) -> dict[str, Any]:
        assert self.code == 1
        found = [one for one in self.findings if not one["well"]]
        assert any(says in one["what"] for one in found), self.faults
        fault = next(one for one in found if says in one["what"])
        assert fault["why"]
        assert fault["fix"]
        return fault


def port_outside(media: range) -> int:
    """For SIP."""
    while (port := free_sip_port()) in media:
        pass
    return port


class Clinic:
    """A configuration that is healthy until something is planted in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        low = free_ports(200)
        port, tls_port = (port_outside(range(low, low + 200)) for _ in range(2))
        self.config: dict[str, Any] = {
            "sip": {"host": "127.0.0.1", "port": port, "tls_port": tls_port},
            "rtp": {"port_min": low, "port_max": low + 199},
            "agents": [{"id": "a", "provider": "scripted"}],
            "data_dir": str(folder / "data"),
            "max_calls": 50,
        }

    async def examine(self) -> Examined:
        findings = await command.examine(self._written(), None, quiet=True)
        return Examined(0 if all(one.well for one in findings) else 1, [asdict(one) for one in findings])

    async def run(self) -> Examined:
        """The command, in a process of its own."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "offhook", "doctor", "--json", "--config", str(self._written())),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), PATIENCE_S)
        assert out, err.decode()
        return Examined(process.returncode or 0, json.loads(out))

    def _written(self) -> Path:
        file = self.folder / "config.json"
        file.write_text(json.dumps(self.config))
        return file

    def register_at(self, pbx: Registrar, **changed: Any) -> None:
        host, port = pbx.address
        trunk = {"id": "pbx", "kind": "register", "server": host, "port": port, "transport": "udp"}
        self.config["trunks"] = [{**trunk, "username": "200", "password": "secret", **changed}]


@pytest.fixture
def clinic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clinic:
    async def examined_elsewhere(_: object) -> Finding:
        return Finding(area="loopback", what="is not looked at here")

    monkeypatch.setattr(command, "examine_loopback", examined_elsewhere)
    return Clinic(tmp_path)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody else holds."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


async def test_a_healthy_system_has_no_fault(clinic: Clinic) -> None:
    authority = Authority(clinic.folder)
    certificate, key = authority.issue("pbx.example")
    clinic.config["tls"] = {
        "certificate": str(certificate),
        "private_key": str(key),
        "ca_file": str(authority.file),
    }
    clinic.config["sip"]["transports"] = ["udp", "tcp", "tls"]
    async with Registrar() as pbx:
        clinic.register_at(pbx)
        clinic.config["trunks"].append(
            {"id": "gw", "kind": "gateway", "targets": [f"sip:127.0.0.1:{pbx.address.port}"]}
        )
        clinic.config["trunks"].append({"id": "any", "kind": "open"})
        examined = await clinic.run()
        assert examined.faults == []
        assert examined.code == 0
        assert pbx.contacts == {}
        said = {one["area"] for one in examined.findings}
        assert {"config", "ports", "rtp", "data", "tls", "trunk pbx", "trunk gw", "trunk any", "loopback"} <= said


async def test_a_port_that_is_taken_is_named_with_its_holder(clinic: Clinic, taken: int) -> None:
    clinic.config["sip"]["port"] = taken
    fault = (await clinic.examine()).only_fault(f"UDP port {taken} is held by")
    assert "pid" in fault["what"]


async def test_an_address_that_is_not_ours_is_named(clinic: Clinic) -> None:
    clinic.config["sip"]["host"] = "192.0.2.77"
    assert "advertised_address" in (await clinic.examine()).only_fault("sip.host is no address of this machine")["fix"]


async def test_a_range_too_small_is_named(clinic: Clinic) -> None:
    clinic.config["max_calls"] = 500
    (await clinic.examine()).only_fault("has room for 100 calls")


async def test_signalling_inside_the_media_range_is_named(clinic: Clinic) -> None:
    clinic.config["sip"]["port"] = clinic.config["rtp"]["port_min"] + 10
    (await clinic.examine()).only_fault("lies inside the RTP range")


async def test_a_media_range_that_others_hold_is_named(clinic: Clinic) -> None:
    low = clinic.config["rtp"]["port_min"]
    clinic.config["max_calls"] = 5
    held = []
    try:
        for port in range(low, low + 100):
            one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            held.append(one)
            one.bind(("127.0.0.1", port))
        (await clinic.examine()).only_fault("of the RTP range are held by")
    finally:
        for one in held:
            one.close()


async def test_a_data_folder_that_cannot_be_written_is_named(clinic: Clinic) -> None:
    (clinic.folder / "file").write_text("")
    clinic.config["data_dir"] = str(clinic.folder / "file" / "data")
    (await clinic.examine()).only_fault("cannot be written")


async def test_an_error_in_the_configuration_is_named(clinic: Clinic) -> None:
    clinic.config["sip"]["prot"] = 1
    (await clinic.run()).only_fault("sip.prot")


async def test_an_unknown_provider_is_named(clinic: Clinic) -> None:
    clinic.config["agents"] = [{"id": "a", "provider": "openay"}]
    (await clinic.examine()).only_fault("'openay'")


async def test_agents_whose_providers_have_all_they_need_are_well(clinic: Clinic) -> None:
    fallback = {"provider": "openai", "options": {"api_key": "k"}}
    clinic.config["agents"] = [{"id": "a", "provider": "scripted", "fallbacks": [fallback]}]
    found = [one for one in (await clinic.examine()).findings if one["area"] == "agents"]
    assert [one["what"] for one in found] == ["have what their providers need: openai, scripted"]


@pytest.mark.parametrize(
    ("planted", "says"),
    [
        ("expired", "has expired"),
        ("unknown authority", "leads to no authority"),
        ("another key", "not a pair"),
        ("missing", "cannot be read"),
    ],
)
async def test_what_is_wrong_with_the_certificate_is_named(clinic: Clinic, planted: str, says: str) -> None:
    authority = Authority(clinic.folder)
    certificate, key = authority.issue("pbx.example", expired=planted == "expired")
    if planted == "another key":
        _, key = authority.issue("other.example")
    if planted == "missing":
        key = clinic.folder / "nothing.key"
    clinic.config["tls"] = {"certificate": str(certificate), "private_key": str(key)}
    if planted != "unknown authority":
        clinic.config["tls"]["ca_file"] = str(authority.file)
    (await clinic.examine()).only_fault(says)


async def test_a_wrong_password_is_named(clinic: Clinic) -> None:
    async with Registrar() as pbx:
        clinic.register_at(pbx, password="wrong")
        fault = (await clinic.examine()).only_fault("REGISTER failed: 401")
        assert "password" in fault["fix"]


async def test_a_server_that_is_not_there_is_named(clinic: Clinic) -> None:
    async with Registrar() as pbx:
        pass
    clinic.register_at(pbx)
    examined = await clinic.examine()
    examined.only_fault("REGISTER failed: Connection refused")
    examined.only_fault("does not answer OPTIONS")


async def test_a_name_that_dns_does_not_know_is_named_with_what_was_asked(clinic: Clinic) -> None:
    async with DnsServer() as server:
        clinic.config["sip"]["nameservers"] = [server.text]
        clinic.config["trunks"] = [{"id": "gw", "kind": "gateway", "targets": ["sip:gone.example"]}]
        fault = (await clinic.examine()).only_fault("no way to gone.example: gone.example: no such name")
        assert "SRV _sip._udp.gone.example: no such name" in fault["what"]


async def test_a_nameserver_that_is_dead_is_named(clinic: Clinic) -> None:
    clinic.config["sip"]["nameservers"] = ["127.0.0.1:9"]
    clinic.config["trunks"] = [{"id": "gw", "kind": "gateway", "targets": ["sip:pbx.example:5060"]}]
    (await clinic.examine()).only_fault("no way to pbx.example")


async def test_a_stun_server_that_is_silent_is_named(clinic: Clinic) -> None:
    clinic.config["sip"]["stun_server"] = "127.0.0.1:9"
    (await clinic.examine()).only_fault("STUN server")


async def test_an_advertised_address_nobody_can_send_to_is_named(clinic: Clinic) -> None:
    clinic.config["sip"]["advertised_address"] = "0.0.0.0"
    (await clinic.examine()).only_fault("no address that others can send to")

"""What a URL and an address are judged to be, without a socket."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis.strategies import ip_addresses, text
from tests.delivery.ssrf_tricks import ANSWERS, GOOD, HOSTS, URLS
from yarl import URL

from offhook.delivery.targets_allowed import (
    DEFAULT_PORTS,
    Target,
    TargetPolicy,
    carried,
    judge_answers,
    networks,
    origin,
    read_target,
    url_problem,
    why_refused,
)
from offhook.model.errors import ConfigError, OutboundError

STRICT = TargetPolicy()
OPEN_WIDE = TargetPolicy(allowed_targets=networks("allowed_targets", ["0.0.0.0/0", "::/0"]))
LAX = TargetPolicy(allow_http=True, allowed_ports=frozenset(range(1, 65536)))


def policy(*allowed: str, allow_http: bool = False, dev: bool = False) -> TargetPolicy:
    return TargetPolicy(allowed_targets=networks("allowed_targets", allowed), allow_http=allow_http, dev=dev)


def why(address: str, rules: TargetPolicy, *, port: int = 443, scheme: str = "https") -> str | None:
    return why_refused(ip_address(address), "http" if scheme == "http" else "https", port, rules)


def test_there_are_more_than_120_tricks() -> None:
    assert len(set(HOSTS)) + len(set(URLS)) + len({tuple(each) for each in ANSWERS}) >= 240
    assert len(set(HOSTS)) == len(HOSTS)


# A host that is a name is refused by what it leads to, which needs a resolver: test_outbound_http.
NAMES = {"localhost", "LOCALHOST", "LocalHost", "ip6-localhost", "ip6-loopback", "localhost.localdomain"}


@pytest.mark.parametrize("host", [host for host in HOSTS if host not in NAMES])
@pytest.mark.parametrize("rules", [STRICT, LAX], ids=["strict", "lax"])
def test_a_host_of_the_inside_is_refused_unresolved(host: str, rules: TargetPolicy) -> None:
    with pytest.raises(OutboundError) as caught:
        read_target(f"https://{host}/", rules)
    assert caught.value.kind in ("bad_url", "refused_target")


@pytest.mark.parametrize("url", URLS)
def test_a_url_that_can_be_read_in_two_ways_is_refused(url: str) -> None:
    with pytest.raises(OutboundError) as caught:
        read_target(url.replace("{port}", "8080"), LAX)
    assert caught.value.kind == "bad_url"


@pytest.mark.parametrize("answers", ANSWERS)
def test_one_bad_answer_refuses_the_name(answers: list[str]) -> None:
    with pytest.raises(OutboundError) as caught:
        judge_answers(answers, "https", "hooks.example.com", 443, STRICT)
    assert caught.value.kind == "refused_target"


@pytest.mark.parametrize("address", GOOD)
def test_a_public_address_is_allowed(address: str) -> None:
    assert why(address, STRICT) is None
    shown = f"[{address}]" if ":" in address else address
    assert read_target(f"https://{shown}/", STRICT).address == ip_address(address)


@pytest.mark.parametrize(
    ("url", "host", "port", "path"),
    [
        ("https://hooks.example.com", "hooks.example.com", 443, "/"),
        ("HTTPS://Hooks.Example.COM/A", "hooks.example.com", 443, "/A"),
        ("https://hooks.example.com:8443/a/b?c=d", "hooks.example.com", 8443, "/a/b?c=d"),
        ("https://hooks.example.com?c=d&e[]=1|2", "hooks.example.com", 443, "/?c=d&e[]=1|2"),
        ("https://x/%2e%2e/../a?b=@:/?", "x", 443, "/%2e%2e/../a?b=@:/?"),
        ("https://xn--bcher-kva.example/", "xn--bcher-kva.example", 443, "/"),
        ("https://my_host.1and1.example/", "my_host.1and1.example", 443, "/"),
        ("https://1.2.3.4.example/", "1.2.3.4.example", 443, "/"),
        ("https://0xbad.dev0/", "0xbad.dev0", 443, "/"),
        ("https://[2A00:1450::00]/x", "2a00:1450::", 443, "/x"),
    ],
)
def test_a_url_is_taken_apart(url: str, host: str, port: int, path: str) -> None:
    target = read_target(url, STRICT)
    assert (target.scheme, target.host, target.port, target.path) == ("https", host, port, path)


@pytest.mark.parametrize("port", [1, 22, 25, 53, 110, 444, 3306, 5432, 6379, 9200, 11211, 65535])
def test_other_ports_of_public_hosts_are_closed(port: int) -> None:
    assert "port" in (why("8.8.8.8", STRICT, port=port) or "")
    assert why("8.8.8.8", policy("8.8.8.8"), port=port) is None


@pytest.mark.parametrize("port", sorted(DEFAULT_PORTS))
def test_ports_of_web_servers_are_open(port: int) -> None:
    assert why("8.8.8.8", STRICT, port=port) is None


def test_an_operator_opens_a_network_at_any_port() -> None:
    rules = policy("10.1.0.0/16", "fd12::/32")
    assert why("10.1.2.3", rules, port=9000) is None
    assert why("fd12::5", rules, port=9000) is None
    assert why("64:ff9b::10.1.2.3", rules) is None
    assert why("::ffff:10.1.2.3", rules) is None
    assert "private" in (why("10.2.0.1", rules) or "")
    assert "unique local" in (why("fd13::5", rules) or "")


def test_http_is_opened_apart_from_the_network() -> None:
    assert "plain http" in (why("10.1.2.3", policy("10.0.0.0/8"), scheme="http") or "")
    assert why("10.1.2.3", policy("10.0.0.0/8", allow_http=True), scheme="http") is None
    assert why("8.8.8.8", policy(allow_http=True), port=80, scheme="http") is None


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_without_keys_loopback_is_open_by_http_too(address: str) -> None:
    assert why(address, policy(dev=True), port=3000, scheme="http") is None
    assert why(address, policy(dev=True), port=3000) is None


@pytest.mark.parametrize("address", ["10.0.0.1", "0.0.0.0", "169.254.169.254", "fd12::1", "192.168.1.1", "::"])
def test_without_keys_nothing_else_is_open(address: str) -> None:
    assert why(address, policy(dev=True)) is not None
    assert "plain http" in (why("8.8.8.8", policy(dev=True), port=80, scheme="http") or "")


@pytest.mark.parametrize("address", ["169.254.169.254", "168.63.129.16", "fd00:ec2::254", "::ffff:169.254.169.254"])
def test_credentials_of_a_cloud_are_opened_by_their_own_entry_only(address: str) -> None:
    wide = policy("0.0.0.0/0", "::/0")
    assert "credentials" in (why(address, wide) or "")
    alone = policy("169.254.169.254", "168.63.129.16/32", "fd00:ec2::254")
    assert why(address, alone) is None


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255", "0.1.2.3"])
def test_what_is_no_server_is_never_opened(address: str) -> None:
    assert "no server" in (why(address, policy("0.0.0.0/0", "::/0", address)) or "")


def test_the_refusal_names_the_reason_and_the_fix_but_not_the_path() -> None:
    with pytest.raises(OutboundError) as caught:
        judge_answers(["10.0.0.5"], "https", "hooks.example.com", 8443, STRICT)
    assert str(caught.value) == (
        "https://hooks.example.com:8443 leads to 10.0.0.5, which is a private address. Use a public one, "
        "or list 10.0.0.5 in security.allowed_targets"
    )
    with pytest.raises(OutboundError) as caught:
        read_target("https://127.0.0.1/SECRET?SECRET", STRICT)
    assert str(caught.value).startswith("https://127.0.0.1 is a loopback address. ")
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://u:SECRET@h/", "https://h/SECRET#", "SECRET", "https://h/SECRET SECRET"])
def test_a_bad_url_is_not_repeated(url: str) -> None:
    with pytest.raises(OutboundError) as caught:
        read_target(url, LAX)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("entry", ["10.0.0.1/8", "10.0.0.0/33", "hooks.example.com", "", "10.0.0.0-10.0.0.9"])
def test_an_entry_that_is_no_network_is_named(entry: str) -> None:
    with pytest.raises(ConfigError) as caught:
        networks("security.allowed_targets", ["10.0.0.0/8", entry])
    assert caught.value.key == "security.allowed_targets[1]"


@given(ip_addresses())
def test_what_python_calls_not_global_is_refused(address: IPv4Address | IPv6Address) -> None:
    """An independent reader of the same registries; we refuse more, never less."""
    if not carried(address).is_global:
        assert why_refused(address, "https", 443, STRICT) is not None


@given(text(alphabet="ab1.0x-_[]:@/\\?#% \t\n。１é*", max_size=24))
@example("[::1]:443")
@example("1.1.1.1")
def test_a_url_that_is_taken_means_the_same_to_other_readers(rest: str) -> None:
    try:
        target = read_target(f"https://{rest}", OPEN_WIDE)
    except OutboundError:
        return
    split = urlsplit(f"https://{rest}")
    url = URL(f"https://{rest}", encoded=True)
    assert split.hostname == url.raw_host
    assert ip_or_name(split.hostname) == ip_or_name(target.host)
    assert (split.port or 443, url.port) == (target.port, target.port)
    assert split.username is url.raw_user is None


def ip_or_name(host: str | None) -> object:
    try:
        return ip_address(host or "")
    except ValueError:
        return (host or "").lower()


def test_origins_leave_out_the_usual_port() -> None:
    assert origin("https", "h", 443) == "https://h"
    assert origin("http", "h", 443) == "http://h:443"
    assert Target(scheme="https", host="::1", port=8443, path="/").origin == "https://[::1]:8443"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("wss://speech.example/v1", ""),
        ("https://speech.example", ""),
        ("ws://speech.example", "plain http"),
        ("wss://127.0.0.1/v1", "loopback"),
        ("wss://169.254.169.254/", "hands out credentials"),
        ("wss://speech.example:22/", "port 22"),
        ("speech.example", "https://"),
        ("", "https://"),
    ],
)
def test_where_a_tenant_s_provider_may_be(url: str, problem: str) -> None:
    found = url_problem(url, STRICT)
    assert problem in found
    assert bool(found) == bool(problem)


@pytest.mark.parametrize(
    "policy", [TargetPolicy(dev=True), TargetPolicy(allow_http=True, allowed_targets=networks("k", ["10.0.0.0/8"]))]
)
def test_a_name_that_may_lead_inside_is_not_refused_for_its_port(policy: TargetPolicy) -> None:
    assert url_problem("http://localhost:3000/webhook", policy) == ""

"""Each peer is told an address of ours that it can reach."""

from __future__ import annotations

import pytest

from offhook.signaling.advertised import AdvertisedAddresses
from offhook.sip.events import Address

LOCAL = Address("10.0.0.5", 5060)
PUBLIC = "203.0.113.7"


@pytest.mark.parametrize(
    ("remote", "ours"),
    [
        ("198.51.100.1", PUBLIC),
        ("8.8.8.8", PUBLIC),
        ("10.0.0.9", "10.0.0.5"),
        ("192.168.7.7", "10.0.0.5"),
        ("172.17.0.1", "10.0.0.5"),
        ("172.32.0.1", PUBLIC),
        ("100.64.1.1", "10.0.0.5"),
        ("127.0.0.1", "10.0.0.5"),
        ("169.254.1.1", "10.0.0.5"),
    ],
)
def test_private_peers_stand_beside_public_ones(remote: str, ours: str) -> None:
    assert AdvertisedAddresses(PUBLIC).towards(LOCAL, remote) == Address(ours, 5060)


def test_without_anything_it_is_the_machine_s_own() -> None:
    assert AdvertisedAddresses().towards(LOCAL, "8.8.8.8") == LOCAL


def test_ipv4_is_not_advertised_to_ipv6_peers() -> None:
    local = Address("2001:db8::5", 5060)
    assert AdvertisedAddresses(PUBLIC).towards(local, "2001:db8:1::1") == local


def test_local_networks_are_what_is_configured() -> None:
    advertised = AdvertisedAddresses(PUBLIC, ["198.51.100.0/24"])
    assert advertised.towards(LOCAL, "198.51.100.9") == LOCAL
    assert advertised.towards(LOCAL, "10.0.0.9").host == PUBLIC


def test_a_private_advertised_address_is_for_all_but_our_own_network() -> None:
    advertised = AdvertisedAddresses("10.99.0.1")
    assert advertised.towards(LOCAL, "10.0.0.77") == LOCAL
    assert advertised.towards(LOCAL, "10.99.0.2").host == "10.99.0.1"
    assert advertised.towards(LOCAL, "127.0.0.1") == LOCAL


def test_stun_tells_host_and_port_for_udp_and_the_host_for_streams() -> None:
    advertised = AdvertisedAddresses()
    assert advertised.set_mapped(Address("0.0.0.0", 5060), Address(PUBLIC, 31_000))
    assert not advertised.set_mapped(Address("0.0.0.0", 5060), Address(PUBLIC, 31_000))
    assert advertised.towards(LOCAL, "8.8.8.8") == Address(PUBLIC, 31_000)
    assert advertised.towards(Address("10.0.0.5", 5061), "8.8.8.8") == Address(PUBLIC, 5061)
    assert advertised.towards(LOCAL, "10.0.0.9") == LOCAL
    assert advertised.seen_by_stun == {PUBLIC}
    assert advertised.set_mapped(Address("0.0.0.0", 5060), Address(PUBLIC, 31_001))


def test_what_a_server_saw_is_for_that_server_alone() -> None:
    advertised = AdvertisedAddresses()
    advertised.learn("198.51.100.1", LOCAL, Address(PUBLIC, 40_000))
    assert advertised.towards(LOCAL, "198.51.100.1") == Address(PUBLIC, 40_000)
    assert advertised.towards(LOCAL, "198.51.100.2") == LOCAL
    assert advertised.towards(Address("10.0.0.5", 5070), "198.51.100.1").port == 5070
    advertised.forget("198.51.100.1")
    assert advertised.towards(LOCAL, "198.51.100.1") == LOCAL


def test_memory_is_bounded() -> None:
    advertised = AdvertisedAddresses(PUBLIC)
    for number in range(6000):
        remote = f"8.{number >> 8}.{number & 255}.1"
        advertised.towards(LOCAL, remote)
        advertised.learn(remote, LOCAL, Address(PUBLIC, 1))
    assert len(advertised._near) <= 4096
    assert len(advertised._learned) <= 64


def test_what_is_no_address_is_far() -> None:
    assert AdvertisedAddresses(PUBLIC).towards(LOCAL, "not an address").host == PUBLIC

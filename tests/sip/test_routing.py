"""Where messages go, back and on."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.sip.network import Network

from offhook.sip.events import Address, Flow, Hop
from offhook.sip.message import Request
from offhook.sip.routing import Path, contact_uri, hop_to, note_source, path_to, reply_flow, via_for

FLOW = Flow(transport="UDP", local=Address("10.0.0.2", 5060), remote=Address("192.0.2.7", 41_000))


def request(via: str) -> Request:
    net = Network()
    built = net.peer().build("OPTIONS", net.phone("bob"))
    built.headers.set("Via", via)
    return built


@pytest.mark.parametrize(
    ("via", "noted"),
    [
        ("SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bKa", "SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bKa"),
        (
            "SIP/2.0/UDP 10.1.1.1:5060;branch=z9hG4bKa",
            "SIP/2.0/UDP 10.1.1.1:5060;branch=z9hG4bKa;received=192.0.2.7",
        ),
        (
            "SIP/2.0/UDP pc.example.com;rport;branch=z9hG4bKa",
            "SIP/2.0/UDP pc.example.com;branch=z9hG4bKa;received=192.0.2.7;rport=41000",
        ),
        (
            "SIP/2.0/UDP 192.0.2.7;rport=9;branch=z9hG4bKa;received=6.6.6.6",
            "SIP/2.0/UDP 192.0.2.7;branch=z9hG4bKa;received=192.0.2.7;rport=41000",
        ),
    ],
)
def test_the_source_is_noted_in_the_top_via_whatever_the_sender_wrote_there(via: str, noted: str) -> None:
    arrived = request(via)
    note_source(arrived, FLOW)
    assert arrived.headers.get_all("Via") == [noted]


def test_the_other_vias_stay_as_they_are_and_in_order() -> None:
    built = request("SIP/2.0/UDP a;rport;branch=z9hG4bKa, SIP/2.0/TCP  b ;branch=z9hG4bKb")
    built.headers.add("Via", "SIP/2.0/TLS c;branch=z9hG4bKc")
    note_source(built, FLOW)
    assert built.headers.values("Via") == [
        "SIP/2.0/UDP a;branch=z9hG4bKa;received=192.0.2.7;rport=41000",
        "SIP/2.0/TCP  b ;branch=z9hG4bKb",
        "SIP/2.0/TLS c;branch=z9hG4bKc",
    ]


@pytest.mark.parametrize(
    ("via", "port"),
    [
        ("SIP/2.0/UDP pc:7000;branch=z9hG4bKa", 7000),
        ("SIP/2.0/UDP pc;branch=z9hG4bKa", 5060),
        ("SIP/2.0/UDP pc:7000;rport;branch=z9hG4bKa", 41_000),
        ("SIP/2.0/UDP pc:7000;maddr=239.1.1.1;branch=z9hG4bKa", 7000),
    ],
)
def test_over_udp_the_reply_goes_to_the_source_host_always(via: str, port: int) -> None:
    assert reply_flow(request(via), FLOW) == replace(FLOW, remote=Address("192.0.2.7", port))


def test_over_a_stream_the_reply_stays_on_the_connection() -> None:
    flow = replace(FLOW, transport="TCP", connection=9)
    assert reply_flow(request("SIP/2.0/TCP pc:7000;branch=z9hG4bKa"), flow) == flow


@pytest.mark.parametrize(
    ("target", "route_set", "path"),
    [
        ("sip:a@b", (), Path(request_uri="sip:a@b", route=(), next_uri="sip:a@b")),
        (
            "sip:a@b",
            ("<sip:p1;lr>", "<sip:p2>"),
            Path(request_uri="sip:a@b", route=("<sip:p1;lr>", "<sip:p2>"), next_uri="sip:p1;lr"),
        ),
        (
            "sip:a@b",
            ("<sip:p1;method=INVITE;x=y?Subject=z>", "<sip:p2;lr>"),
            Path(
                request_uri="sip:p1;x=y",
                route=("<sip:p2;lr>", "<sip:a@b>"),
                next_uri="sip:p1;method=INVITE;x=y?Subject=z",
            ),
        ),
        (
            "sip:a@b;method=X?Subject=y",
            (),
            Path(request_uri="sip:a@b", route=(), next_uri="sip:a@b;method=X?Subject=y"),
        ),
        ("tel:+49301234", (), Path(request_uri="tel:+49301234", route=(), next_uri="tel:+49301234")),
    ],
)
def test_the_way_through_a_route_set(target: str, route_set: tuple[str, ...], path: Path) -> None:
    assert path_to(target, route_set) == path


@pytest.mark.parametrize(
    ("uri", "hop"),
    [
        ("sip:a@B.example.com", Hop(transport="UDP", host="b.example.com", port=0)),
        ("sip:a@192.0.2.1:5070;transport=TCP", Hop(transport="TCP", host="192.0.2.1", port=5070)),
        ("sip:[2001:db8::1];transport=tls", Hop(transport="TLS", host="2001:db8::1", port=5061)),
        ("sips:a@b", Hop(transport="TLS", host="b", port=0)),
        ("sip:a@b;maddr=192.0.2.9", Hop(transport="UDP", host="192.0.2.9", port=5060)),
        ("sip:a@b;transport=carrier-pigeon", Hop(transport="UDP", host="b", port=0)),
        ("tel:+49301234", None),
    ],
)
def test_the_hop_a_uri_names(uri: str, hop: Hop | None) -> None:
    assert hop_to(uri) == hop


def test_our_contact_says_how_we_are_reached() -> None:
    assert str(contact_uri(FLOW, "demo")) == "sip:demo@10.0.0.2:5060"
    six = Flow(transport="TCP", local=Address("2001:db8::2", 5062), remote=FLOW.remote)
    assert str(contact_uri(six, None)) == "sip:[2001:db8::2]:5062;transport=tcp"
    assert via_for(six, "z9hG4bKx") == "SIP/2.0/TCP [2001:db8::2]:5062;rport;branch=z9hG4bKx"

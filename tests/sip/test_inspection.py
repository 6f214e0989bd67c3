"""The rules of RFC 3261 §8.2, one by one and in order."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.sip.network import OFFER, Network

from offhook.sip.events import Address, Flow, Transport
from offhook.sip.inspection import ALLOW, inspect
from offhook.sip.message import Request

UDP = Flow(transport="UDP", local=Address("10.0.0.2", 5060), remote=Address("10.0.0.1", 5060))


def invite(*headers: tuple[str, str], method: str = "INVITE", uri: str | None = None, body: bytes = OFFER) -> Request:
    net = Network()
    return net.peer().build(method, net.phone("bob"), uri=uri, headers=headers, body=body)


@pytest.mark.parametrize(
    ("request_", "status", "headers"),
    [
        (invite(method="SUBSCRIBE"), 405, {"Allow": ALLOW[1]}),
        (invite(uri="tel:+4930123"), 416, {}),
        (invite(uri="sips:a@b"), 416, {}),
        (invite(uri="nobodyKnowsThisScheme:x"), 416, {}),
        (invite(("Require", "gruu, x, 100rel"), ("Require", "path")), 420, {"Unsupported": "gruu, x, path"}),
        (invite(("Content-Encoding", "gzip")), 415, {"Accept-Encoding": "identity", "Accept": "application/sdp"}),
        (invite(("Accept", "text/plain, message/sip")), 406, {"Accept": "application/sdp"}),
        (invite(("Accept", "")), 406, {"Accept": "application/sdp"}),
    ],
)
def test_what_breaks_a_rule_is_refused_with_what_would_do(
    request_: Request, status: int, headers: dict[str, str]
) -> None:
    refusal = inspect(request_, UDP)
    assert refusal is not None
    assert refusal.status == status
    given = dict(refusal.headers)
    assert {name: given.get(name) for name in headers} == headers


@pytest.mark.parametrize("content_type", ["application/unknown", "multipart/mixed;boundary=x", "", "application/sdpx"])
def test_a_body_we_cannot_read_is_refused(content_type: str) -> None:
    request = invite()
    request.headers.set("Content-Type", content_type)
    refusal = inspect(request, UDP)
    assert refusal is not None
    assert (refusal.status, dict(refusal.headers)) == (415, {"Accept": "application/sdp"})


@pytest.mark.parametrize(
    "request_",
    [
        invite(),
        invite(body=b""),
        invite(("Proxy-Require", "x")),
        invite(("Supported", "100rel")),
        invite(("Accept", "text/plain, application/*;q=0.2")),
        invite(("Accept", "*/*")),
        invite(("Accept", "Application/SDP ;level=1")),
        invite(("Content-Encoding", "identity")),
        invite(method="OPTIONS", body=b""),
        invite(method="BYE", body=b""),
    ],
)
def test_what_breaks_none_passes(request_: Request) -> None:
    assert inspect(request_, UDP) is None


def test_the_first_broken_rule_counts() -> None:
    refusal = inspect(invite(("Require", "x"), ("Accept", "text/plain"), method="SUBSCRIBE", uri="tel:1"), UDP)
    assert refusal is not None
    assert refusal.status == 405


@pytest.mark.parametrize(("came_by", "status"), [("UDP", 416), ("TCP", 416), ("TLS", None)])
def test_a_sips_uri_is_taken_from_tls_alone_whatever_the_via_claims(came_by: Transport, status: int | None) -> None:
    """§26.2.2: the last hop, at least, is known to have been TLS."""
    request = invite(uri="sips:a@b")
    request.headers.set("Via", "SIP/2.0/TLS 10.0.0.1;branch=z9hG4bK1")
    refusal = inspect(request, replace(UDP, transport=came_by))
    assert (None if refusal is None else refusal.status) == status

"""The rules of RFC 3261 §8.2, one by one and in order."""

from __future__ import annotations

import pytest
from tests.sip.network import OFFER, Network

from offhook.sip.inspection import inspect
from offhook.sip.message import Request


def invite(*headers: tuple[str, str], method: str = "INVITE", uri: str | None = None, body: bytes = OFFER) -> Request:
    net = Network()
    return net.peer().build(method, net.phone("bob"), uri=uri, headers=headers, body=body)


@pytest.mark.parametrize(
    ("request_", "status", "headers"),
    [
        (invite(method="SUBSCRIBE"), 405, {"Allow": "INVITE, ACK, CANCEL, BYE, OPTIONS"}),
        (invite(uri="tel:+4930123"), 416, {}),
        (invite(uri="sips:a@b"), 416, {}),
        (invite(uri="nobodyKnowsThisScheme:x"), 416, {}),
        (invite(("Require", "100rel, x"), ("Require", "timer")), 420, {"Unsupported": "100rel, x, timer"}),
        (invite(("Content-Encoding", "gzip")), 415, {"Accept-Encoding": "identity", "Accept": "application/sdp"}),
        (invite(("Accept", "text/plain, message/sip")), 406, {"Accept": "application/sdp"}),
        (invite(("Accept", "")), 406, {"Accept": "application/sdp"}),
    ],
)
def test_what_breaks_a_rule_is_refused_with_what_would_do(
    request_: Request, status: int, headers: dict[str, str]
) -> None:
    refusal = inspect(request_)
    assert refusal is not None
    assert refusal.status == status
    given = dict(refusal.headers)
    assert {name: given.get(name) for name in headers} == headers


@pytest.mark.parametrize("content_type", ["application/unknown", "multipart/mixed;boundary=x", "", "application/sdpx"])
def test_a_body_we_cannot_read_is_refused(content_type: str) -> None:
    request = invite()
    request.headers.set("Content-Type", content_type)
    refusal = inspect(request)
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
    assert inspect(request_) is None


def test_the_first_broken_rule_counts() -> None:
    refusal = inspect(invite(("Require", "x"), ("Accept", "text/plain"), method="SUBSCRIBE", uri="tel:1"))
    assert refusal is not None
    assert refusal.status == 405

"""The same calls by TCP and by IPv6, and what only a stream can do wrong."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest
from tests.probe.calls import answered, hung_up, whole_call
from tests.probe.drafts import Dialog, new_request, response
from tests.probe.programs import Server, serving
from tests.probe.wire import Peer, StreamPeer, octets


@pytest.fixture
def stream(server: Server) -> Iterator[StreamPeer]:
    one = StreamPeer(server.address)
    yield one
    one.close()


def test_a_call_by_tcp(server: Server, stream: StreamPeer) -> None:
    dialog = answered(stream, server.address)
    assert "transport=tcp" in dialog.answer.get("contact")
    hung_up(stream, server.address, dialog)


def test_nothing_is_repeated_on_a_stream(server: Server, stream: StreamPeer) -> None:
    """RFC 3261 §17.2.1: timer G is for unreliable transports; the 200's own repetition is not (§13.3.1.4)."""
    invite = new_request(stream, server.address, user="nobody")
    stream.send(server.address, str(invite))
    refusal = stream.final()
    assert refusal.status == 404
    with pytest.raises(TimeoutError):
        stream.receive(within_s=1.2)


def test_a_call_in_pieces_of_one_byte(server: Server, stream: StreamPeer) -> None:
    def send_in_pieces(text: str) -> None:
        for byte in octets(text):
            stream.send(server.address, bytes([byte]))

    invite = new_request(stream, server.address)
    send_in_pieces(str(invite))
    dialog = Dialog(stream, invite, stream.final())
    send_in_pieces(str(dialog.ack()))
    send_in_pieces(str(dialog.next("BYE")))
    assert stream.final("BYE").status == 200


def test_requests_that_arrive_in_one_piece(server: Server, stream: StreamPeer) -> None:
    requests = [new_request(stream, server.address, "OPTIONS") for _ in range(3)]
    stream.send(server.address, "".join(map(str, requests)))
    answers = [stream.final("OPTIONS") for _ in requests]
    assert [answer.get("call-id") for answer in answers] == [request.call_id for request in requests]


def test_a_ping_gets_a_pong(server: Server, stream: StreamPeer) -> None:
    """RFC 5626 §3.5.1."""
    stream.send(server.address, b"\r\n\r\n")
    assert stream.raw(2) == b"\r\n"
    whole_call(stream, server.address)


def test_a_stream_without_framing_is_closed(server: Server, stream: StreamPeer) -> None:
    """RFC 3261 §18.3: without a Content-Length nobody knows where the next message begins."""
    text = str(new_request(stream, server.address, "OPTIONS"))
    stream.send(server.address, text.replace("Content-Length: 0\n", "Content-Length: some\n"))
    assert stream.is_closed()


def test_a_stream_of_garbage_is_closed_and_harms_no_other(server: Server, stream: StreamPeer) -> None:
    other = StreamPeer(server.address)
    dialog = answered(other, server.address)
    stream.send(server.address, bytes(range(256)) * 300)
    assert stream.is_closed()
    hung_up(other, server.address, dialog)
    other.close()


def test_a_caller_whose_connection_breaks_can_be_called_back(server: Server, stream: StreamPeer) -> None:
    """RFC 3261 §18.2.2: a new connection carries what the old one cannot. Here it hangs up."""
    first = answered(stream, server.address)
    stream.close()
    again = StreamPeer(server.address)
    bye = first.next("BYE")
    again.send(server.address, str(bye))
    assert again.final("BYE").status == 200
    again.close()


def test_a_stream_that_is_cut_while_it_rings_leaves_the_server_well(server: Server) -> None:
    cut = StreamPeer(server.address)
    cut.send(server.address, str(new_request(cut, server.address, user="soon")))
    cut.receive()
    cut.close()
    peer = Peer()
    whole_call(peer, server.address)
    peer.close()


def test_a_request_that_trickles_holds_up_nobody(server: Server, stream: StreamPeer, peer: Peer) -> None:
    invite = new_request(stream, server.address)
    text = octets(str(invite))
    stream.send(server.address, text[:100])
    began = time.monotonic()
    whole_call(peer, server.address)
    assert time.monotonic() - began < 5
    stream.send(server.address, text[100:])
    dialog = Dialog(stream, invite, stream.final())
    stream.send(server.address, str(dialog.ack()))
    hung_up(stream, server.address, dialog)


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def server6(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if not has_ipv6():
        pytest.skip("this machine has no IPv6")
    with serving(tmp_path_factory.mktemp("server6"), host="::1") as one:
        yield one


def test_a_call_by_ipv6(server6: Server) -> None:
    peer = Peer("::1")
    dialog = answered(peer, server6.address)
    assert peer.hears_rtp().host == "::1"
    hung_up(peer, server6.address, dialog)
    peer.close()
    assert "c=IN IP6 ::1" in dialog.answer.body
    assert f"@[::1]:{server6.address.port}" in dialog.answer.get("contact")


def test_a_call_by_tcp_over_ipv6(server6: Server) -> None:
    stream = StreamPeer(server6.address)
    whole_call(stream, server6.address)
    stream.close()


def test_the_server_hangs_up_by_ipv6(server6: Server) -> None:
    peer = Peer("::1")
    answered(peer, server6.address, user="brief")
    bye = peer.request("BYE")
    peer.send(server6.address, response(bye, 200))
    peer.close()
    assert bye.uri == f"sip:probe@[::1]:{peer.address.port}"

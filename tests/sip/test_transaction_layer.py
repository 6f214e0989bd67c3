"""Matching and the crank, without a user agent above."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import pytest
from tests.sip.network import Network

from offhook.model.errors import LocalProtocolError
from offhook.sip.events import Address, Flow, Outbound
from offhook.sip.message import Request, Response, response_to
from offhook.sip.timers import TimerHeap
from offhook.sip.transaction import State
from offhook.sip.transaction_layer import FailureCause, TransactionLayer, companion, server_key

LOCAL, REMOTE = Address("10.0.0.9", 5060), Address("10.0.0.1", 5060)
UDP = Flow(transport="UDP", local=LOCAL, remote=REMOTE)
TCP = Flow(transport="TCP", local=LOCAL, remote=REMOTE, connection=3)


class Bench:
    """A layer, what it sent, and what it told the user of its client transactions."""

    def __init__(self) -> None:
        self.timers = TimerHeap()
        self.sent: list[Outbound] = []
        self.told: list[int | FailureCause] = []
        tokens = count()
        self.layer = TransactionLayer(
            timers=self.timers, send=self.sent.append, new_token=lambda: f"token{next(tokens)}"
        )

    def responded(self, response: Response, flow: Flow, now: float) -> None:
        self.told.append(response.status)

    def failed(self, cause: FailureCause, now: float) -> None:
        self.told.append(cause)

    def ask(self, method: str, flow: Flow = UDP) -> Request:
        asked = request(method)
        asked.headers.set("Via", self.layer.new_via(flow))
        self.layer.request(asked, flow=flow, next_hop=None, user=self, now=0.0)
        return asked

    def hear(self, asked: Request, statuses: Sequence[int], now: float = 1.0, flow: Flow = UDP) -> None:
        for status in statuses:
            assert self.layer.receive_response(response_to(asked, status, to_tag="t"), flow, now)

    @property
    def lines(self) -> list[str]:
        return [packet.data.split(b" ", 1)[0].decode() for packet in self.sent]


def request(method: str, *, branch: str = "z9hG4bKone", cseq: int = 1, to_tag: str | None = None) -> Request:
    net = Network()
    return net.peer().build(method, net.phone("bob"), branch=branch, cseq=cseq, to_tag=to_tag)


# ── clients ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("method", "flow", "statuses", "told", "state_after", "gone_at"),
    [
        ("INVITE", UDP, [180, 200, 200, 486], [180, 200, 200], 1, 33.0),
        ("INVITE", UDP, [486, 486, 180, 200], [486], 1, 33.0),
        ("INVITE", TCP, [486], [486], 0, 1.0),
        ("INVITE", TCP, [200, 200], [200, 200], 1, 33.0),
        ("BYE", UDP, [100, 200, 200, 500], [100, 200], 1, 6.0),
        ("BYE", TCP, [200], [200], 0, 1.0),
    ],
)
def test_a_client_transaction_tells_and_ends(
    *, method: str, flow: Flow, statuses: list[int], told: list[int], state_after: int, gone_at: float
) -> None:
    bench = Bench()
    bench.hear(bench.ask(method, flow), statuses, flow=flow)
    assert bench.told == told
    assert len(bench.layer) == state_after
    if state_after:
        bench.timers.run_due(gone_at - 0.01)
        assert len(bench.layer) == 1
        bench.timers.run_due(gone_at)
    assert len(bench.layer) == 0
    assert len(bench.timers) == 0


def test_only_failures_of_an_invite_are_acknowledged_here() -> None:
    bench = Bench()
    bench.hear(bench.ask("INVITE"), [404, 404])
    bench.hear(bench.ask("INVITE"), [200])
    bench.hear(bench.ask("BYE"), [404])
    assert bench.lines == ["INVITE", "ACK", "ACK", "INVITE", "BYE"]


def test_the_method_of_the_cseq_tells_an_invite_and_its_cancel_apart() -> None:
    bench = Bench()
    invite = bench.ask("INVITE")
    cancel = companion(invite, "CANCEL")
    other = Bench()
    bench.layer.request(cancel, flow=UDP, next_hop=None, user=other, now=0.0)
    bench.hear(invite, [180])
    bench.hear(cancel, [200])
    bench.hear(invite, [487])
    assert (bench.told, other.told) == ([180, 487], [200])


def test_a_response_with_another_branch_belongs_to_nothing() -> None:
    bench = Bench()
    asked = bench.ask("INVITE")
    asked.headers.set("Via", "SIP/2.0/UDP 10.0.0.9;branch=z9hG4bKother")
    assert not bench.layer.receive_response(response_to(asked, 200, to_tag="t"), UDP, 1.0)
    assert bench.told == []


def test_a_transport_error_is_told_only_while_it_matters() -> None:
    bench = Bench()
    bench.ask("INVITE")
    bench.layer.transport_failed(bench.sent[-1].token, 0.1)
    bench.layer.transport_failed(bench.sent[-1].token, 0.2)
    answered = bench.ask("INVITE")
    bench.hear(answered, [200])
    bench.layer.transport_failed(bench.sent[-1].token, 1.1)
    bench.layer.transport_failed(0, 1.2)
    assert bench.told == ["transport", 200]


def test_an_abandoned_transaction_says_nothing_more() -> None:
    bench = Bench()
    asked = bench.ask("INVITE")
    bench.hear(asked, [180])
    (transaction,) = bench.layer._clients.values()
    bench.layer.abandon(transaction)
    bench.layer.abandon(transaction)
    assert not bench.layer.receive_response(response_to(asked, 200, to_tag="t"), UDP, 2.0)
    assert (bench.told, len(bench.layer), len(bench.timers)) == ([180], 0, 0)


# ── servers ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_request_belongs_to_its_copies_its_cancel_and_its_ack() -> None:
    invite = request("INVITE")
    assert server_key(request("ACK")) == server_key(invite)
    assert server_key(request("CANCEL"), "INVITE") == server_key(invite)
    assert server_key(request("CANCEL")) != server_key(invite)
    assert server_key(request("BYE")) != server_key(invite)
    assert server_key(request("INVITE", branch="z9hG4bKtwo")) != server_key(invite)


def test_the_sent_by_belongs_to_the_branch() -> None:
    """RFC 3261 §17.2.3: two clients may by accident or malice use the same branch."""
    one, other = request("INVITE"), request("INVITE")
    other.headers.set("Via", "SIP/2.0/UDP 10.6.6.6:5060;branch=z9hG4bKone")
    assert server_key(one) != server_key(other)


def test_without_the_cookie_everything_a_copy_repeats_must_match() -> None:
    one = request("INVITE", branch="1")
    assert server_key(request("INVITE", branch="1")) == server_key(one)
    assert server_key(request("ACK", branch="1", to_tag="t")) == server_key(one)
    assert server_key(request("INVITE", branch="1", cseq=2)) != server_key(one)
    other = request("INVITE", branch="1")
    other.headers.set("Call-ID", "another")
    assert server_key(other) != server_key(one)


def test_an_old_peer_without_branches_is_followed_through_a_refusal() -> None:
    bench = Bench()
    invite = request("INVITE", branch="1")
    for message in (invite, request("ACK", branch="1", to_tag="t")):
        message.headers.set("Via", "SIP/2.0/UDP 10.0.0.1:5060")
    ack = message
    transaction = bench.layer.serve(invite, UDP, "t", 0.0)
    bench.layer.respond(transaction, response_to(invite, 486, to_tag="t"), 0.0)
    assert bench.layer.receive_request(invite, UDP, 0.1)
    assert bench.layer.receive_request(ack, UDP, 0.2)
    assert transaction.state is State.CONFIRMED
    assert len(bench.sent) == 2


@pytest.mark.parametrize(
    ("method", "flow", "status", "state", "gone_at"),
    [
        ("INVITE", UDP, 200, State.ACCEPTED, 32.0),
        ("INVITE", TCP, 200, State.ACCEPTED, 32.0),
        ("INVITE", UDP, 486, State.COMPLETED, 32.0),
        ("INVITE", TCP, 486, State.COMPLETED, 32.0),
        ("BYE", UDP, 200, State.COMPLETED, 32.0),
        ("BYE", TCP, 200, State.TERMINATED, 0.0),
    ],
)
def test_a_server_transaction_ends(method: str, flow: Flow, status: int, state: State, gone_at: float) -> None:
    bench = Bench()
    asked = request(method)
    transaction = bench.layer.serve(asked, flow, "t", 0.0)
    bench.layer.respond(transaction, response_to(asked, status, to_tag="t"), 0.0)
    assert transaction.state is state
    bench.timers.run_due(max(0.0, gone_at - 0.01))
    assert (len(bench.layer) == 0) == (gone_at == 0.0)
    bench.timers.run_due(gone_at)
    assert (len(bench.layer), len(bench.timers)) == (0, 0)


def test_a_confirmed_refusal_is_silent_until_timer_i() -> None:
    bench = Bench()
    invite = request("INVITE")
    transaction = bench.layer.serve(invite, UDP, "t", 0.0)
    bench.layer.respond(transaction, response_to(invite, 486, to_tag="t"), 0.0)
    bench.layer.receive_request(request("ACK", to_tag="t"), UDP, 1.0)
    assert bench.layer.receive_request(invite, UDP, 1.1)
    assert bench.layer.receive_request(request("ACK", to_tag="t"), UDP, 1.2)
    bench.timers.run_due(5.99)
    assert (len(bench.sent), len(bench.layer), bench.layer.absorbed) == (1, 1, 2)
    bench.timers.run_due(6.0)
    assert len(bench.layer) == 0


def test_the_ack_of_a_2xx_is_not_the_transactions() -> None:
    bench = Bench()
    invite = request("INVITE")
    transaction = bench.layer.serve(invite, UDP, "t", 0.0)
    bench.layer.respond(transaction, response_to(invite, 200, to_tag="t"), 0.0)
    assert not bench.layer.receive_request(request("ACK", to_tag="t"), UDP, 1.0)
    assert not bench.layer.receive_request(request("ACK", branch="z9hG4bKnew", to_tag="t"), UDP, 1.0)


def test_nothing_follows_a_final_response() -> None:
    bench = Bench()
    invite = request("INVITE")
    transaction = bench.layer.serve(invite, UDP, "t", 0.0)
    bench.layer.respond(transaction, response_to(invite, 486, to_tag="t"), 0.0)
    for status in (180, 200, 500):
        with pytest.raises(LocalProtocolError):
            bench.layer.respond(transaction, response_to(invite, status, to_tag="t"), 0.0)
    assert len(bench.sent) == 1


def test_a_copy_on_a_new_connection_moves_the_answer_there() -> None:
    bench = Bench()
    invite = request("INVITE")
    transaction = bench.layer.serve(invite, TCP, "t", 0.0)
    bench.layer.respond(transaction, response_to(invite, 180, to_tag="t"), 0.0)
    again = Flow(transport="TCP", local=LOCAL, remote=REMOTE, connection=8)
    bench.layer.receive_request(invite, again, 1.0)
    assert [packet.flow.connection for packet in bench.sent] == [3, 8]


def test_a_merged_request_is_known_while_the_first_is_and_no_longer() -> None:
    bench = Bench()
    invite, merged = request("INVITE"), request("INVITE", branch="z9hG4bKtwo")
    transaction = bench.layer.serve(invite, TCP, "t", 0.0)
    assert bench.layer.is_merged(merged)
    assert not bench.layer.is_merged(request("INVITE", branch="z9hG4bKtwo", cseq=2))
    assert not bench.layer.is_merged(request("INVITE", branch="z9hG4bKtwo", to_tag="t"))
    bench.layer.respond(transaction, response_to(invite, 486, to_tag="t"), 0.0)
    bench.layer.receive_request(request("ACK", to_tag="t"), TCP, 1.0)
    assert not bench.layer.is_merged(merged)


def test_the_refusal_of_a_merged_request_does_not_hide_the_first() -> None:
    bench = Bench()
    bench.layer.serve(request("INVITE"), TCP, "t", 0.0)
    merged = request("INVITE", branch="z9hG4bKtwo")
    second = bench.layer.serve(merged, TCP, "t", 0.0)
    bench.layer.respond(second, response_to(merged, 482, to_tag="t"), 0.0)
    bench.layer.receive_request(request("ACK", branch="z9hG4bKtwo", to_tag="t"), TCP, 1.0)
    assert second.state is State.TERMINATED
    assert bench.layer.is_merged(request("INVITE", branch="z9hG4bKthree"))


@pytest.mark.parametrize("method", ["INVITE", "BYE"])
def test_a_cancel_finds_what_it_names_whatever_that_is(method: str) -> None:
    bench = Bench()
    transaction = bench.layer.serve(request(method, to_tag="t"), UDP, "t", 0.0)
    assert bench.layer.cancelled_by(request("CANCEL")) is transaction
    assert bench.layer.cancelled_by(request("CANCEL", branch="z9hG4bKtwo")) is None


# ── too large for a datagram (RFC 3261 §18.1.1) ──────────────────────────────────────────────────────────


def ask_largely(bench: Bench, method: str) -> Request:
    asked = request(method)
    asked.headers.set("Via", bench.layer.new_via(UDP))
    asked.headers.add("Subject", "x" * 1300)
    bench.layer.request(asked, flow=UDP, next_hop=None, user=bench, now=0.0)
    return asked


def via_and_way(packet: Outbound) -> tuple[str, str]:
    via = next(line for line in packet.data.decode().split("\r\n") if line.startswith("Via:"))
    return via.split()[1], (packet.next_hop or packet.flow).transport


@pytest.mark.parametrize("method", ["INVITE", "OPTIONS"])
def test_a_large_request_goes_by_tcp_and_is_not_repeated(method: str) -> None:
    bench = Bench()
    asked = ask_largely(bench, method)
    bench.timers.run_due(10.0)
    assert [via_and_way(packet) for packet in bench.sent] == [("SIP/2.0/TCP", "TCP")]
    assert bench.sent[0].next_hop is not None
    assert (bench.sent[0].next_hop.host, bench.sent[0].next_hop.port) == REMOTE
    bench.hear(asked, [200], flow=TCP)
    assert bench.told == [200]


@pytest.mark.parametrize("method", ["INVITE", "OPTIONS"])
def test_without_tcp_there_it_goes_by_udp_after_all(method: str) -> None:
    bench = Bench()
    asked = ask_largely(bench, method)
    bench.layer.transport_failed(bench.sent[0].token, 0.01, "Connection refused")
    bench.timers.run_due(0.6)
    assert [via_and_way(packet) for packet in bench.sent[1:]] == [("SIP/2.0/UDP", "UDP")] * 2
    assert bench.told == []
    bench.layer.transport_failed(bench.sent[-1].token, 0.7, "Connection refused")
    assert bench.told == ["transport"]
    assert asked.via_top.branch is not None


def test_a_small_request_stays_on_udp() -> None:
    bench = Bench()
    bench.ask("INVITE")
    assert via_and_way(bench.sent[0]) == ("SIP/2.0/UDP", "UDP")

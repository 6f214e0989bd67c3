"""One invariant: whatever a peer writes into what a transfer is made of, in a call that is up, it gets one final answer
for each request, nothing raises, and nothing is left."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sip.network import ANSWER, OFFER, Network, Peer, Phone, nothing_left

from offhook.sip.events import InviteReceived, ReferProgress, ReferReceived, SipEvent

ROUNDS = 300

OF_STATES = ("refer", ";", "id=", "id", "2", "=", "active", "terminated", "expires=", "9" * 30, "reason=x", '"', "\\")
OF_URIS = ("<", ">", "sip:", "tel:", "a@b", "?", "&", "Replaces=", "%3B", "%", "%zz", ";to-tag=", ";from-tag=", "[::1]")
OF_TEXT = (
    "SIP/2.0 ",
    "200",
    " OK",
    "\t",
    ",",
    "(",
    "\u260e",
    "\x7f",
    "message/sipfrag",
    "x" * 2000,
    "peercall",
    "peertag",
)
PIECES = st.sampled_from((*OF_STATES, *OF_URIS, *OF_TEXT))
VALUES = st.lists(PIECES, max_size=8).map("".join).map(str.strip)
HEADERS = st.dictionaries(
    st.sampled_from(
        ["Refer-To", "Referred-By", "Refer-Sub", "Event", "Subscription-State", "Replaces", "Info-Package"]
    ),
    VALUES,
)
METHODS = st.sampled_from(["REFER", "NOTIFY", "INFO", "MESSAGE", "INVITE"])
TYPES = st.sampled_from(["message/sipfrag", "message/sipfrag;version=2.0", "text/plain", "application/dtmf", "x", ""])
SAID = st.tuples(METHODS, HEADERS, TYPES, VALUES.map(lambda text: text.encode("utf-8", "surrogateescape")))


@settings(max_examples=ROUNDS, deadline=None)
@given(said=st.lists(SAID, max_size=12), refers=st.integers(0, 3))
def test_whatever_a_peer_writes_is_answered(said: list[tuple[str, dict[str, str], str, bytes]], refers: int) -> None:
    net, phone, pbx, usage, tag = talking()
    for _ in range(refers):
        phone.agent.refer(usage, net.now, refer_to="sip:operator@pbx.example")
    net.advance(0.05)
    for request in pbx.requests("REFER"):
        pbx.respond(request, 202, phone, tag=None)
    for number, (method, headers, content_type, body) in enumerate(said, start=2):
        fresh = method == "INVITE"
        request = pbx.request(
            method,
            phone,
            cseq=number,
            to_tag=None if fresh else tag,
            call_id=f"new{number}" if fresh else "peercall",
            headers=[(name, value) for name, value in headers.items() if value],
            body=b"" if fresh else body,
            content_type=content_type,
        )
        net.advance(0.05)
        answers = [one for one in pbx.responses(method) if one.via_top.branch == request.via_top.branch]
        assert [one.status >= 200 for one in answers][-1:] == [True], (method, headers)
    ends = [event.refer_id for event in phone.of(ReferProgress) if event.terminated]
    assert len(ends) == len(set(ends))
    pbx.request("BYE", phone, cseq=900, to_tag=tag)
    net.advance(700)
    nothing_left(phone)


def talking() -> tuple[Network, Phone, Peer, int, str]:
    """A call from a peer; the phone rejects new calls and accepts every REFER."""
    net = Network()
    pbx, phone = net.peer(), net.phone("bob")
    pbx.request("INVITE", phone, body=OFFER)
    net.advance(0.05)
    usage = phone.one(InviteReceived).usage_id
    phone.agent.answer(usage, net.now, body=ANSWER)
    net.advance(0.05)
    tag = pbx.responses()[-1].to.tag
    assert tag is not None
    pbx.request("ACK", phone, to_tag=tag)
    net.advance(0.05)
    phone.react = decided(phone)
    return net, phone, pbx, usage, tag


def decided(phone: Phone) -> Callable[[SipEvent], None]:
    def react(event: SipEvent) -> None:
        if isinstance(event, InviteReceived):
            phone.agent.reject(event.usage_id, phone.network.now, status=486)
        elif isinstance(event, ReferReceived):
            phone.agent.accept_refer(event.usage_id, event.refer_id, phone.network.now)

    return react

"""One leg's offers and answers, without a call around them."""

from __future__ import annotations

from tests.call.phones import sdp

from offhook.call.negotiation import Negotiation, Unacceptable
from offhook.model.audio import Encoding
from offhook.sdp.description import parse
from offhook.sdp.offer_answer import Agreement, Capabilities


def negotiation() -> Negotiation:
    return Negotiation(Capabilities(address="192.0.2.1", port=40002, session_id=7, version=1))


def origin(body: bytes) -> str:
    return next(line for line in body.decode().split("\r\n") if line.startswith("o="))


def wire(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()


def test_each_description_we_send_keeps_the_session_id_and_raises_the_version() -> None:
    ours = negotiation()
    answered = ours.answer(wire(sdp()))
    assert isinstance(answered, bytes)
    assert [origin(body).split()[1:3] for body in (answered, ours.offer())] == [["7", "1"], ["7", "2"]]


def test_an_offer_stands_until_a_usable_answer_came() -> None:
    ours = negotiation()
    parse(ours.offer())
    assert isinstance(ours.accept(b""), Unacceptable)
    assert ours.offering
    agreement = ours.accept(wire(sdp(payloads="8")))
    assert isinstance(agreement, Agreement)
    assert (agreement.encoding, ours.agreement, ours.offering) == (Encoding.PCMA, agreement, False)


def test_an_answer_to_no_offer_is_refused() -> None:
    refused = negotiation().accept(wire(sdp()))
    assert isinstance(refused, Unacceptable)
    assert (refused.status, "without an offer" in refused.why) == (488, True)


def test_a_refused_offer_leaves_the_agreement_as_it_was() -> None:
    ours = negotiation()
    ours.answer(wire(sdp()))
    before = ours.agreement
    refused = ours.answer(wire(sdp(payloads="18")))
    assert isinstance(refused, Unacceptable)
    assert before is not None
    assert ours.agreement is before


def test_a_warning_is_one_quoted_string_whatever_the_peer_wrote() -> None:
    refused = Unacceptable(status=488, warning=399, why='a "b" \\c')
    assert refused.warning_header("192.0.2.1") == ("Warning", "399 192.0.2.1 \"a 'b' \\\\c\"")
    assert refused.warning_header("2001:db8::1")[1].startswith("399 [2001:db8::1] ")

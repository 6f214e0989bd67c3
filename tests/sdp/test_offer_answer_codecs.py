"""Offer and answer of the wideband codecs: names, clocks, numbers, and what goes with them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.sdp.offers import ASTERISK, BROWSER, LINPHONE, audio_offer

from offhook.model.audio import Encoding
from offhook.sdp.description import SessionDescription, parse
from offhook.sdp.offer_answer import Agreement, Capabilities, NoCommonCodec, accept_answer, negotiate, offer

G722, PCMU, PCMA, OPUS = Encoding.G722, Encoding.PCMU, Encoding.PCMA, Encoding.OPUS
OURS = Capabilities(address="192.0.2.1", port=4000, session_id=7, version=1, codecs=(OPUS, G722, PCMU, PCMA))
OPUS_PARAMETERS = "minptime=20;useinbandfec=1;stereo=0;maxplaybackrate=16000"


def able(*codecs: Encoding) -> Capabilities:
    return replace(OURS, codecs=codecs)


def agreed(
    remote: bytes | SessionDescription, capabilities: Capabilities = OURS
) -> tuple[SessionDescription, Agreement]:
    result = negotiate(parse(remote) if isinstance(remote, bytes) else remote, capabilities)
    assert not isinstance(result, NoCommonCodec), result
    return result


def attributes(session: SessionDescription, name: str) -> list[str]:
    return list(session.media[0].attributes_named(name))


def formats(session: SessionDescription) -> str:
    return " ".join(session.media[0].formats)


def test_our_offer_of_every_codec() -> None:
    ours = offer(OURS)
    assert formats(ours) == "96 9 0 8 110 101"
    assert attributes(ours, "rtpmap") == [
        "96 opus/48000/2",
        "9 G722/8000",
        "0 PCMU/8000",
        "8 PCMA/8000",
        "110 telephone-event/48000",
        "101 telephone-event/8000",
    ]
    assert attributes(ours, "fmtp") == [f"96 {OPUS_PARAMETERS}", "110 0-15", "101 0-15"]


@pytest.mark.parametrize(
    ("codecs", "expected"),
    [
        ((G722, PCMU, PCMA), "9 0 8 101"),
        ((PCMA, G722), "8 9 101"),
        ((OPUS,), "96 110"),
        ((PCMU, OPUS), "0 96 101 110"),
    ],
)
def test_our_offer_is_what_the_trunk_allows_in_its_order(codecs: tuple[Encoding, ...], expected: str) -> None:
    assert formats(offer(able(*codecs))) == expected


@pytest.mark.parametrize(
    ("client", "codecs", "encoding", "numbers", "clocks"),
    [
        (ASTERISK, (G722, PCMU, PCMA), PCMA, (8, 101), (8000, 8000)),  # the offer's order decides, not ours
        (ASTERISK, (G722,), G722, (9, 101), (8000, 8000)),
        (LINPHONE, (OPUS, PCMU), OPUS, (96, 101), (48_000, 48_000)),
        (LINPHONE, (PCMU,), PCMU, (0, 100), (8000, 8000)),
    ],
)
def test_what_is_agreed_with_real_clients(
    client: bytes, codecs: tuple[Encoding, ...], encoding: Encoding, numbers: tuple[int, int], clocks: tuple[int, int]
) -> None:
    ours, agreement = agreed(client, able(*codecs))
    assert formats(ours) == " ".join(map(str, numbers))
    assert agreement.encoding is encoding
    assert (agreement.payload_type, agreement.dtmf_payload_type) == numbers
    assert (agreement.receive_payload_type, agreement.dtmf_receive_payload_type) == numbers
    assert (agreement.clock_hz, agreement.dtmf_clock_hz) == clocks


def test_our_answer_of_opus_names_its_rates_and_parameters() -> None:
    ours, _ = agreed(LINPHONE)
    assert attributes(ours, "rtpmap") == ["96 opus/48000/2", "101 telephone-event/48000"]
    assert attributes(ours, "fmtp") == [f"96 {OPUS_PARAMETERS}", "101 0-15"]


@pytest.mark.parametrize("mapping", ["opus/48000", "opus/48000/1", "opus/16000/2", "OpusX/48000/2"])
def test_what_is_not_called_opus_48000_2_is_not_opus(mapping: str) -> None:
    media = f"m=audio 5000 RTP/AVP 96 0\na=rtpmap:96 {mapping}"
    assert agreed(audio_offer(media))[1].encoding is PCMU


def test_opus_is_known_in_capitals() -> None:
    assert agreed(audio_offer("m=audio 5000 RTP/AVP 97\na=rtpmap:97 OPUS/48000/2"))[1].encoding is OPUS


def test_opus_takes_events_at_8000_where_there_are_no_others() -> None:
    media = "m=audio 5000 RTP/AVP 96 0 101\na=rtpmap:96 opus/48000/2\na=rtpmap:101 telephone-event/8000"
    ours, agreement = agreed(audio_offer(media))
    assert attributes(ours, "rtpmap") == ["96 opus/48000/2", "101 telephone-event/8000"]
    assert (agreement.clock_hz, agreement.dtmf_clock_hz, agreement.dtmf_payload_type) == (48_000, 8000, 101)


def test_an_answer_with_events_at_8000_beside_opus_brings_them_under_that_number() -> None:
    ours = offer(OURS)
    media = "m=audio 5000 RTP/AVP 96 101\na=rtpmap:96 opus/48000/2\na=rtpmap:101 telephone-event/8000"
    agreement = accept_answer(ours, audio_offer(media), OURS)
    assert isinstance(agreement, Agreement)
    assert (agreement.dtmf_payload_type, agreement.dtmf_receive_payload_type, agreement.dtmf_clock_hz) == (
        101,
        101,
        8000,
    )


def test_a_codec_nobody_shares_is_named_in_the_refusal() -> None:
    refusal = negotiate(parse(BROWSER.replace(b"UDP/TLS/RTP/SAVPF", b"RTP/AVP")), able(G722))
    assert isinstance(refusal, NoCommonCodec)
    assert (
        refusal.why == "no common codec: offered opus/48000/2, PCMU/8000, PCMA/8000, telephone-event/8000; we take G722"
    )


def test_a_later_offer_keeps_the_numbers_of_the_peer_and_finds_others_for_what_is_new() -> None:
    """Their 96 is G.722 and their 101 a codec we do not know: our Opus and our events have to go elsewhere."""
    media = "m=audio 5000 RTP/AVP 96 100\na=rtpmap:96 G722/8000\na=rtpmap:100 telephone-event/8000"
    answer, agreement = agreed(audio_offer(media), able(G722, OPUS))
    assert (formats(answer), agreement.payload_type) == ("96 100", 96)
    later = offer(able(G722, OPUS), previous=answer)
    assert attributes(later, "rtpmap") == [
        "96 G722/8000",
        "97 opus/48000/2",
        "100 telephone-event/8000",
        "110 telephone-event/48000",
    ]


@pytest.mark.parametrize("before", [PCMU, G722, OPUS])
@pytest.mark.parametrize("after", [PCMA, G722, OPUS])
def test_a_re_invite_may_change_to_any_codec(before: Encoding, after: Encoding) -> None:
    theirs = replace(OURS, address="192.0.2.2", port=6000, codecs=(before,))
    first, agreement = agreed(offer(theirs))
    assert agreement.encoding is before
    changed = offer(replace(theirs, codecs=(after,), version=2), previous=offer(theirs))
    answer, agreement = agreed(changed, replace(OURS, version=2))
    assert agreement.encoding is after
    assert agreement.clock_hz == (48_000 if after is OPUS else 8000)
    assert answer.origin.version > first.origin.version

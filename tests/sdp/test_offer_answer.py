from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sdp.offers import (
    ASTERISK,
    BARESIP,
    BROWSER,
    CARRIER,
    LINPHONE,
    RFC_3264_OFFER,
    RFC_3264_ONE_OF_N,
    RFC_3264_SECOND_OFFER,
    RFC_4566_EXAMPLE,
    RFC_8866_EXAMPLE,
    SIPP,
    audio_offer,
    described,
    sdp,
)

from offhook.model.audio import Encoding
from offhook.model.srtp import Crypto
from offhook.sdp.crypto import SrtpTerms
from offhook.sdp.description import Attribute, MediaDescription, SessionDescription, parse, serialize
from offhook.sdp.offer_answer import (
    Agreement,
    Capabilities,
    Direction,
    NoCommonCodec,
    accept_answer,
    negotiate,
    offer,
)
from offhook.sdp.rtp_formats import CODEC_FORMATS, direction_of, payload_formats

OURS = Capabilities(address="192.0.2.1", port=4000, session_id=7, version=1)
OURS_IPV6 = replace(OURS, address="2001:db8::1")
PLAIN = "m=audio 5000 RTP/AVP 0 8 101\na=rtpmap:101 telephone-event/8000\na=fmtp:101 0-15"


def agreed(
    remote: SessionDescription | bytes, capabilities: Capabilities = OURS
) -> tuple[SessionDescription, Agreement]:
    result = negotiate(parse(remote) if isinstance(remote, bytes) else remote, capabilities)
    assert not isinstance(result, NoCommonCodec), result
    return result


def refused(remote: SessionDescription | bytes, capabilities: Capabilities = OURS) -> NoCommonCodec:
    result = negotiate(parse(remote) if isinstance(remote, bytes) else remote, capabilities)
    assert isinstance(result, NoCommonCodec)
    return result


def accepted(ours: SessionDescription, answer: SessionDescription, capabilities: Capabilities = OURS) -> Agreement:
    result = accept_answer(ours, answer, capabilities)
    assert isinstance(result, Agreement), result
    return result


def m_lines(description: SessionDescription) -> list[str]:
    return [line[2:] for line in serialize(description).decode().splitlines() if line.startswith("m=")]


# ── our offer ────────────────────────────────────────────────────────────────────────────────────────────


def test_our_offer_as_it_goes_on_the_wire() -> None:
    assert serialize(offer(OURS)) == sdp("""
        v=0
        o=- 7 1 IN IP4 192.0.2.1
        s=-
        c=IN IP4 192.0.2.1
        t=0 0
        m=audio 4000 RTP/AVP 0 8 101
        a=rtpmap:0 PCMU/8000
        a=rtpmap:8 PCMA/8000
        a=rtpmap:101 telephone-event/8000
        a=fmtp:101 0-15
        a=ptime:20
        a=sendrecv
    """)


def test_our_offer_follows_the_capabilities() -> None:
    capabilities = replace(OURS_IPV6, codecs=(Encoding.PCMA,), telephone_event=False, direction="sendonly", ptime_ms=40)
    assert serialize(offer(capabilities)) == sdp("""
        v=0
        o=- 7 1 IN IP6 2001:db8::1
        s=-
        c=IN IP6 2001:db8::1
        t=0 0
        m=audio 4000 RTP/AVP 8
        a=rtpmap:8 PCMA/8000
        a=ptime:40
        a=sendonly
    """)


def test_a_later_offer_keeps_streams_in_place_and_numbers_in_meaning() -> None:
    """RFC 3264 §8: linphone numbered telephone-event 100 and brought a video stream."""
    answer, _ = agreed(LINPHONE)
    again = offer(replace(OURS, version=2, direction="sendonly"), previous=answer)
    assert m_lines(again) == ["audio 4000 RTP/AVP 0 8 100", "video 0 RTP/AVP 96"]
    assert again.origin.version == "2"
    assert again.media[0].attribute("sendonly") == ""
    assert again.media[0].attribute("fmtp") == "100 0-15"


def test_a_later_offer_keeps_audio_where_the_first_answer_had_it() -> None:
    answer, _ = agreed(audio_offer("m=video 6000 RTP/AVP 31\nm=audio 5000 RTP/AVP 8"))
    assert m_lines(offer(OURS, previous=answer)) == ["video 0 RTP/AVP 31", "audio 4000 RTP/AVP 0 8 101"]


def test_a_later_offer_leaves_a_refused_audio_stream_refused() -> None:
    answer, _ = agreed(audio_offer("m=audio 6000 RTP/SAVP 0\nm=audio 5000 RTP/AVP 8"))
    assert m_lines(offer(OURS, previous=answer)) == ["audio 0 RTP/SAVP 0", "audio 4000 RTP/AVP 0 8 101"]


def test_a_later_offer_adds_audio_where_none_was_live() -> None:
    previous = audio_offer("m=video 6000 RTP/AVP 31")
    assert m_lines(offer(OURS, previous=previous)) == ["video 0 RTP/AVP 31", "audio 4000 RTP/AVP 0 8 101"]


# ── our answer ───────────────────────────────────────────────────────────────────────────────────────────


def test_our_answer_as_it_goes_on_the_wire() -> None:
    answer, _ = agreed(ASTERISK)
    assert serialize(answer) == sdp("""
        v=0
        o=- 7 1 IN IP4 192.0.2.1
        s=-
        c=IN IP4 192.0.2.1
        t=0 0
        m=audio 4000 RTP/AVP 8 101
        a=rtpmap:8 PCMA/8000
        a=rtpmap:101 telephone-event/8000
        a=fmtp:101 0-15
        a=ptime:20
        a=sendrecv
    """)


@pytest.mark.parametrize(
    ("client", "encoding", "dtmf", "remote"),
    [
        (LINPHONE, Encoding.PCMU, 100, ("192.0.2.10", 7078)),
        (BARESIP, Encoding.PCMU, 101, ("192.0.2.11", 16906)),
        (ASTERISK, Encoding.PCMA, 101, ("192.0.2.12", 11552)),
        (CARRIER, Encoding.PCMU, 101, ("198.51.100.20", 10230)),
        (SIPP, Encoding.PCMU, None, ("127.0.0.1", 6000)),
    ],
    ids=["linphone", "baresip", "asterisk", "carrier", "sipp"],
)
def test_what_is_agreed_with_real_clients(
    client: bytes, encoding: Encoding, dtmf: int | None, remote: tuple[str, int]
) -> None:
    payload_type = {Encoding.PCMU: 0, Encoding.PCMA: 8}[encoding]
    _, agreement = agreed(client)
    assert agreement == Agreement(
        encoding=encoding,
        payload_type=payload_type,
        receive_payload_type=payload_type,
        ptime_ms=20,
        dtmf_payload_type=dtmf,
        dtmf_receive_payload_type=dtmf,
        remote=remote,
        remote_rtcp=(remote[0], remote[1] + 1),
        direction="sendrecv",
    )


def test_the_order_of_the_offer_decides() -> None:
    answer, agreement = agreed(audio_offer("m=audio 5000 RTP/AVP 9 8 0"))
    assert agreement.encoding is Encoding.PCMA
    assert m_lines(answer) == ["audio 4000 RTP/AVP 8"]


def test_a_codec_we_do_not_offer_is_not_taken() -> None:
    _, agreement = agreed(audio_offer("m=audio 5000 RTP/AVP 8 0"), replace(OURS, codecs=(Encoding.PCMU,)))
    assert agreement.encoding is Encoding.PCMU


def test_a_codec_under_a_dynamic_number_is_answered_with_that_number() -> None:
    answer, agreement = agreed(audio_offer("m=audio 5000 RTP/AVP 96\na=rtpmap:96 pcma/8000"))
    assert (agreement.encoding, agreement.payload_type) == (Encoding.PCMA, 96)
    assert m_lines(answer) == ["audio 4000 RTP/AVP 96"]
    assert answer.media[0].attribute("rtpmap") == "96 PCMA/8000"


@pytest.mark.parametrize("events", ["0-15", "0-16", "0-11,66,70", "garbage"])
def test_telephone_events_are_taken_whatever_their_list(events: str) -> None:
    media = f"m=audio 5000 RTP/AVP 0 97\na=rtpmap:97 telephone-event/8000\na=fmtp:97 {events}"
    answer, agreement = agreed(audio_offer(media))
    assert (agreement.dtmf_payload_type, agreement.dtmf_receive_payload_type) == (97, 97)
    assert answer.media[0].attribute("fmtp") == "97 0-15"


@pytest.mark.parametrize("mapping", ["telephone-event/48000", "telephone-event/16000", "telephone-events/8000"])
def test_telephone_events_at_another_clock_are_none(mapping: str) -> None:
    answer, agreement = agreed(audio_offer(f"m=audio 5000 RTP/AVP 0 97\na=rtpmap:97 {mapping}"))
    assert agreement.dtmf_payload_type is None
    assert agreement.dtmf_receive_payload_type is None
    assert m_lines(answer) == ["audio 4000 RTP/AVP 0"]


def test_a_leg_without_telephone_events_answers_none() -> None:
    answer, agreement = agreed(CARRIER, replace(OURS, telephone_event=False))
    assert agreement.dtmf_payload_type is None
    assert m_lines(answer) == ["audio 4000 RTP/AVP 0"]


def test_packet_time_of_the_remote_side_is_agreed_and_ours_is_stated() -> None:
    answer, agreement = agreed(audio_offer("m=audio 5000 RTP/AVP 0\na=ptime:60\na=maxptime:40"))
    assert agreement.ptime_ms == 40
    assert answer.media[0].attribute("ptime") == "20"


def test_rtcp_of_the_offer_is_agreed() -> None:
    _, agreement = agreed(audio_offer("m=audio 5000 RTP/AVP 0\na=rtcp:6001 IN IP4 192.0.2.77"))
    assert agreement.remote_rtcp == ("192.0.2.77", 6001)


def test_what_only_browsers_and_video_phones_understand_is_not_answered() -> None:
    extras = "a=rtcp-mux\na=rtcp-fb:* nack\na=mid:0\na=ssrc:1 cname:x\na=crypto:1 x"
    answer, _ = agreed(audio_offer(f"m=audio 5000 RTP/AVPF 0\n{extras}", session="a=group:BUNDLE 0"))
    assert answer.attributes == ()
    assert answer.media == (
        MediaDescription(
            kind="audio",
            port=4000,
            protocol="RTP/AVPF",
            formats=("0",),
            attributes=(Attribute("rtpmap", "0 PCMU/8000"), Attribute("ptime", "20"), Attribute("sendrecv")),
        ),
    )


def test_the_answer_repeats_the_times_of_the_offer() -> None:
    remote = described("v=0\no=- 1 1 IN IP4 192.0.2.9\ns=-\nc=IN IP4 192.0.2.9\nt=3149328700 0\nm=audio 5000 RTP/AVP 0")
    assert agreed(remote)[0].timing == ("t=3149328700 0",)


def test_the_transport_is_compared_without_case() -> None:
    answer, _ = agreed(audio_offer("m=audio 5000 rtp/avp 0"))
    assert m_lines(answer) == ["audio 4000 rtp/avp 0"]


def test_a_host_name_is_agreed_as_text() -> None:
    _, agreement = agreed(RFC_3264_OFFER)
    assert agreement.remote == ("host.anywhere.com", 49170)


def test_ipv6_is_agreed_by_an_ipv6_leg() -> None:
    remote = audio_offer(PLAIN, connection="IN IP6 2001:db8::9")
    answer, agreement = agreed(remote, OURS_IPV6)
    assert agreement.remote == ("2001:db8::9", 5000)
    assert answer.connection is not None
    assert str(answer.connection) == "IN IP6 2001:db8::1"


# ── streams refused in their place ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("remote", "expected"),
    [
        (RFC_3264_OFFER, ["audio 4000 RTP/AVP 0", "video 0 RTP/AVP 31", "video 0 RTP/AVP 32"]),
        (
            RFC_3264_SECOND_OFFER,
            ["audio 4000 RTP/AVP 0", "video 0 RTP/AVP 31", "video 0 RTP/AVP 32", "audio 0 RTP/AVP 110"],
        ),
        (RFC_8866_EXAMPLE, ["audio 4000 RTP/AVP 0", "audio 0 RTP/AVP 0", "video 0 RTP/AVP 99"]),
        (LINPHONE, ["audio 4000 RTP/AVP 0 100", "video 0 RTP/AVP 96"]),
    ],
    ids=["RFC 3264 §10.1", "RFC 3264 §10.1 second", "RFC 8866 §5", "linphone"],
)
def test_other_streams_keep_their_place_with_port_0(remote: bytes, expected: list[str]) -> None:
    answer, _ = agreed(remote)
    assert m_lines(answer) == expected


def test_the_audio_stream_that_works_is_taken_wherever_it_stands() -> None:
    useless = "m=audio 5000 RTP/SAVP 0\nm=audio 0 RTP/AVP 0\nm=audio 5004 RTP/AVP 9\nm=image 5006 udptl t38"
    media = f"{useless}\nm=audio 5008 RTP/AVP 8"
    answer, agreement = agreed(audio_offer(media))
    assert agreement.remote == ("192.0.2.10", 5008)
    assert m_lines(answer) == [
        "audio 0 RTP/SAVP 0",
        "audio 0 RTP/AVP 0",
        "audio 0 RTP/AVP 9",
        "image 0 udptl t38",
        "audio 4000 RTP/AVP 8",
    ]


def test_a_refused_stream_without_formats_gets_one() -> None:
    answer, _ = agreed(audio_offer("m=audio 5000 RTP/AVP 0\nm=image 0 udptl"))
    assert m_lines(answer)[1] == "image 0 udptl 0"


@pytest.mark.parametrize(
    ("media", "connection", "why", "warning"),
    [
        (
            "m=audio 5000 RTP/AVP 9 96 18\na=rtpmap:96 opus/48000/1",
            "IN IP4 192.0.2.10",
            "no common codec: offered G722/8000, opus/48000, G729/8000; we take PCMU, PCMA",
            305,
        ),
        (
            "m=audio 5000 RTP/AVP 96 97",
            "IN IP4 192.0.2.10",
            "no common codec: offered 96, 97; we take PCMU, PCMA",
            305,
        ),
        ("m=audio 5000 RTP/AVP", "IN IP4 192.0.2.10", "no common codec: offered nothing; we take PCMU, PCMA", 305),
        ("m=audio 0 RTP/AVP 0", "IN IP4 192.0.2.10", "the audio stream has port 0", 304),
        ("m=video 5000 RTP/AVP 31", "IN IP4 192.0.2.10", "no audio stream: video; we take audio", 304),
        ("m=audio 5000 RTP/SAVP 0", "IN IP4 192.0.2.10", "audio over RTP/SAVP; we take RTP/AVP", 302),
        ("m=audio 5000 RTP/AVP 0", "IN IP6 2001:db8::9", "audio over IPv6; this leg has IPv4", 301),
        ("m=audio 5000 RTP/AVP 0", "IN IP4 224.2.17.12/127", "multicast audio", 330),
        ("m=audio 5000 RTP/AVP 0", "IN IP4 239.1.2.3", "multicast audio", 330),
    ],
)
def test_a_refusal_says_why(media: str, connection: str, why: str, warning: int) -> None:
    assert refused(audio_offer(media, connection=connection)) == NoCommonCodec(why, warning)


def test_an_offer_without_media_or_address_is_refused() -> None:
    bare = "v=0\no=- 1 1 IN IP4 192.0.2.9\ns=-\nt=0 0"
    assert refused(described(bare)) == NoCommonCodec("no media offered; we take audio", 304)
    assert refused(described(f"{bare}\nm=audio 5000 RTP/AVP 0")).warning == 301


def test_the_refusal_speaks_of_the_stream_nearest_to_working() -> None:
    media = "m=video 1 RTP/AVP 31\nm=audio 2 RTP/SAVP 0\nm=audio 3 RTP/AVP 9"
    assert refused(audio_offer(media)).why == "no common codec: offered G722/8000; we take PCMU, PCMA"
    assert refused(audio_offer("m=video 1 RTP/AVP 31\nm=audio 2 RTP/SAVP 0")).warning == 302
    assert refused(BROWSER).why == "audio over UDP/TLS/RTP/SAVPF; we take RTP/AVP"
    assert refused(RFC_4566_EXAMPLE).warning == 330


def test_a_refusal_fits_into_a_header_whatever_was_offered() -> None:
    maps = "".join(f'\na=rtpmap:{number} é"\\{"x" * 90}\x01/8000' for number in range(96, 120))
    numbers = " ".join(str(number) for number in range(96, 120))
    why = refused(audio_offer(f"m=audio 5000 RTP/AVP {numbers}{maps}")).why
    assert why.isascii()
    assert why.isprintable()
    assert not set('"\\') & set(why)
    assert why.startswith("no common codec: offered ???xxx")
    assert why.endswith(", ...; we take PCMU, PCMA")
    assert len(why) < 400


# ── direction and hold ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("media_line", "connection", "direction"),
    [
        ("a=sendonly", "IN IP4 192.0.2.10", "recvonly"),
        ("a=inactive", "IN IP4 192.0.2.10", "inactive"),
        ("a=recvonly", "IN IP4 192.0.2.10", "sendonly"),
        ("a=sendrecv", "IN IP4 0.0.0.0", "recvonly"),
        ("a=inactive", "IN IP4 0.0.0.0", "inactive"),
        ("a=sendrecv", "IN IP4 192.0.2.10", "sendrecv"),
    ],
)
def test_hold_in_its_forms(media_line: str, connection: str, direction: Direction) -> None:
    answer, agreement = agreed(audio_offer(f"{PLAIN}\n{media_line}", connection=connection))
    assert agreement.direction == direction
    assert direction_of(answer, answer.media[0]) == direction


def test_hold_at_session_level() -> None:
    assert agreed(audio_offer(PLAIN, session="a=sendonly"))[1].direction == "recvonly"


def test_hold_by_null_address_is_understood_by_an_ipv6_leg() -> None:
    assert agreed(audio_offer(PLAIN, connection="IN IP4 0.0.0.0"), OURS_IPV6)[1].direction == "recvonly"


def test_the_inactive_offer_of_rfc_3264_gets_an_inactive_answer() -> None:
    answer, agreement = agreed(RFC_3264_ONE_OF_N)
    assert agreement.direction == "inactive"
    assert m_lines(answer) == ["audio 4000 RTP/AVP 0"]
    assert answer.media[0].attribute("inactive") == ""


def test_we_hold_while_we_want_to() -> None:
    assert agreed(audio_offer(PLAIN), replace(OURS, direction="sendonly"))[1].direction == "sendonly"


# ── the answer to our offer ──────────────────────────────────────────────────────────────────────────────


def test_the_answer_settles_what_the_other_side_chose() -> None:
    assert accepted(offer(OURS), parse(BARESIP)) == Agreement(
        encoding=Encoding.PCMU,
        payload_type=0,
        receive_payload_type=0,
        ptime_ms=20,
        dtmf_payload_type=101,
        dtmf_receive_payload_type=101,
        remote=("192.0.2.11", 16906),
        remote_rtcp=("192.0.2.11", 16907),
        direction="sendrecv",
    )


def test_each_side_receives_the_numbers_it_wrote() -> None:
    """RFC 3264 §6.1 only asks the answer to keep the numbers; ours hold for what arrives, theirs for what leaves."""
    media = "m=audio 5000 RTP/AVP 118 99\na=rtpmap:118 PCMA/8000\na=rtpmap:99 telephone-event/8000"
    agreement = accepted(offer(OURS), audio_offer(media))
    assert (agreement.payload_type, agreement.receive_payload_type) == (118, 8)
    assert (agreement.dtmf_payload_type, agreement.dtmf_receive_payload_type) == (99, 101)


def test_an_answer_without_telephone_events_lets_us_send_none() -> None:
    agreement = accepted(offer(OURS), audio_offer("m=audio 5000 RTP/AVP 8"))
    assert agreement.dtmf_payload_type is None
    assert agreement.encoding is Encoding.PCMA


@pytest.mark.parametrize(
    ("answered", "direction"), [("recvonly", "sendonly"), ("inactive", "inactive"), ("sendonly", "recvonly")]
)
def test_the_direction_of_an_answer_is_mirrored(answered: str, direction: Direction) -> None:
    assert accepted(offer(OURS), audio_offer(f"{PLAIN}\na={answered}")).direction == direction


def test_an_answer_cannot_widen_the_direction_we_offered() -> None:
    held = replace(OURS, direction="sendonly")
    assert accepted(offer(held), audio_offer(f"{PLAIN}\na=sendrecv"), held).direction == "sendonly"


def test_an_answer_is_read_in_the_place_of_our_audio() -> None:
    first_answer, _ = agreed(audio_offer("m=video 6000 RTP/AVP 31\nm=audio 5000 RTP/AVP 8"))
    again = offer(replace(OURS, version=2), previous=first_answer)
    answer = audio_offer("m=video 0 RTP/AVP 31\nm=audio 5002 RTP/AVP 0")
    assert accepted(again, answer).remote == ("192.0.2.10", 5002)


@pytest.mark.parametrize(
    ("media", "warning"),
    [
        ("m=audio 0 RTP/AVP 0", 304),
        ("m=audio 5000 RTP/AVP 9", 305),
        ("m=video 5000 RTP/AVP 31", 304),
        ("m=audio 5000 RTP/SAVP 0", 302),
    ],
)
def test_an_answer_that_takes_nothing_is_no_agreement(media: str, warning: int) -> None:
    result = accept_answer(offer(OURS), audio_offer(media), OURS)
    assert isinstance(result, NoCommonCodec)
    assert result.warning == warning


def test_an_answer_with_fewer_streams_is_no_agreement() -> None:
    bare = described("v=0\no=- 1 1 IN IP4 192.0.2.9\ns=-\nc=IN IP4 192.0.2.9\nt=0 0")
    result = accept_answer(offer(OURS), bare, OURS)
    assert result == NoCommonCodec("the answer holds no audio stream in the place of the offered one", 304)


def test_late_offer_both_sides_come_to_the_same_agreement() -> None:
    """RFC 3261 §14.1: our 2xx carries the offer, their ACK the answer."""
    theirs = Capabilities(address="192.0.2.66", port=6000, session_id=9, version=1, codecs=(Encoding.PCMA,))
    ours = offer(OURS)
    answer, theirs_agreed = agreed(parse(serialize(ours)), theirs)
    ours_agreed = accepted(ours, parse(serialize(answer)))
    assert ours_agreed.encoding is theirs_agreed.encoding is Encoding.PCMA
    assert (ours_agreed.remote, theirs_agreed.remote) == (("192.0.2.66", 6000), ("192.0.2.1", 4000))
    assert ours_agreed.dtmf_payload_type == theirs_agreed.dtmf_receive_payload_type == 101


# ── whatever is offered ──────────────────────────────────────────────────────────────────────────────────

_names = st.sampled_from(["PCMU", "pcma", "PCMA", "opus", "telephone-event", "G722", "CN", "x"])
_numbers = st.integers(0, 130)
_rtpmaps = st.builds(
    lambda number, name, clock: Attribute("rtpmap", f"{number} {name}/{clock}"),
    _numbers,
    _names,
    st.sampled_from([8000, 16000, 48000, 0]),
)
_flags = st.sampled_from(["sendrecv", "sendonly", "recvonly", "inactive", "rtcp-mux"]).map(Attribute)
_media = st.builds(
    MediaDescription,
    kind=st.sampled_from(["audio", "audio", "audio", "video", "image"]),
    port=st.sampled_from([0, 1, 5000, 65535]),
    protocol=st.sampled_from(["RTP/AVP", "RTP/AVP", "RTP/AVPF", "RTP/SAVP", "udptl"]),
    formats=st.lists(_numbers.map(str), max_size=6).map(tuple),
    attributes=st.lists(_rtpmaps | _flags, max_size=8).map(tuple),
)
_offers = st.lists(_media, max_size=6).map(
    lambda media: replace(audio_offer("m=audio 1 RTP/AVP 0"), media=tuple(media))
)
_directions: st.SearchStrategy[Direction] = st.sampled_from(["sendrecv", "sendonly", "recvonly", "inactive"])


@given(remote=_offers, direction=_directions, telephone_event=st.booleans())
def test_an_answer_has_the_streams_of_its_offer_and_no_codec_that_was_not_offered(
    remote: SessionDescription, direction: Direction, telephone_event: bool
) -> None:
    capabilities = replace(OURS, direction=direction, telephone_event=telephone_event)
    result = negotiate(remote, capabilities)
    if isinstance(result, NoCommonCodec):
        return
    answer, agreement = result
    assert [media.kind for media in answer.media] == [media.kind for media in remote.media]
    assert [media.protocol for media in answer.media] == [media.protocol for media in remote.media]
    live = [index for index, media in enumerate(answer.media) if media.port]
    assert len(live) == 1
    offered, answered = payload_formats(remote.media[live[0]]), payload_formats(answer.media[live[0]])
    assert all(offered[number].same(form) for number, form in answered.items())
    assert offered[agreement.payload_type].same(CODEC_FORMATS[agreement.encoding])
    assert parse(serialize(answer)) == answer


@given(remote=_offers)
def test_an_answer_accepted_by_its_offerer_names_the_same_codec(remote: SessionDescription) -> None:
    ours = offer(OURS)
    result = accept_answer(ours, remote, OURS)
    if isinstance(result, Agreement):
        assert result.receive_payload_type in payload_formats(ours.media[0])
        assert result.payload_type in payload_formats(remote.media[0])


def test_an_address_of_the_other_family_gives_way_to_where_the_peer_signals_from() -> None:
    """linphone on a machine with IPv6 writes ``c=IN IP6`` into a call that it places over IPv4."""
    remote = audio_offer(PLAIN, connection="IN IP6 2001:db8::9")
    _, agreement = agreed(remote, replace(OURS, peer_address="192.0.2.77"))
    assert agreement.remote == ("192.0.2.77", 5000)
    assert agreement.remote_rtcp == ("192.0.2.77", 5001)


def test_an_address_of_our_family_stays_whoever_signals() -> None:
    remote = audio_offer(PLAIN, connection="IN IP4 192.0.2.9")
    _, agreement = agreed(remote, replace(OURS, peer_address="192.0.2.77"))
    assert agreement.remote == ("192.0.2.9", 5000)


# ── SRTP ─────────────────────────────────────────────────────────────────────────────────────────────────

KEY = "MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkw"
ENCRYPTED = f"m=audio 5000 RTP/SAVP 0 8\na=crypto:2 AES_CM_128_HMAC_SHA1_32 inline:{KEY}|2^20"
WITH_KEYS = replace(OURS, srtp=SrtpTerms(policy="required", seed=bytes(32)))


def test_an_encrypted_offer_is_answered_in_its_protocol_with_its_line_and_a_key_of_ours() -> None:
    answer, agreement = agreed(audio_offer(ENCRYPTED), WITH_KEYS)
    crypto = agreement.crypto
    assert crypto is not None
    assert (crypto.suite.value, crypto.receive.secret) == ("AES_CM_128_HMAC_SHA1_32", b64decode(KEY))
    assert m_lines(answer) == ["audio 4000 RTP/SAVP 0"]
    ours = b64encode(crypto.send.secret).decode()
    assert list(answer.media[0].attributes_named("crypto")) == [f"2 AES_CM_128_HMAC_SHA1_32 inline:{ours}"]


@pytest.mark.parametrize("key", ["", f"\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}"])
def test_a_clear_offer_to_who_requires_srtp_is_refused_by_name(key: str) -> None:
    problem = refused(audio_offer(f"m=audio 5000 RTP/AVP 0{key}"), WITH_KEYS)
    assert problem.warning == 302
    assert problem.why == "audio over RTP/AVP is not encrypted for certain; we take RTP/SAVP with a=crypto"


def test_the_encrypted_one_of_two_streams_is_taken() -> None:
    two = audio_offer(f"m=audio 5002 RTP/AVP 0\n{ENCRYPTED}")
    answer, agreement = agreed(two, WITH_KEYS)
    assert m_lines(answer) == ["audio 0 RTP/AVP 0", "audio 4000 RTP/SAVP 0"]
    assert agreement.crypto is not None
    answer, agreement = agreed(two)
    assert m_lines(answer) == ["audio 4000 RTP/AVP 0", "audio 0 RTP/SAVP 0 8"]
    assert agreement.crypto is None


def test_keys_outlive_a_hold_on_both_sides() -> None:
    """Two of us: offer, answer, hold by one, resume by the other: the keys are those of the beginning."""
    callee = replace(WITH_KEYS, srtp=SrtpTerms(policy="required", seed=bytes(31) + b"x"), session_id=8)
    first = offer(WITH_KEYS)
    answer, theirs = agreed(first, callee)
    ours = accepted(first, answer, WITH_KEYS)
    assert ours.crypto is not None
    assert theirs.crypto == Crypto(suite=ours.crypto.suite, send=ours.crypto.receive, receive=ours.crypto.send)
    hold = offer(replace(WITH_KEYS, version=2, direction="sendonly"), previous=first, standing=ours.crypto)
    held = negotiate(hold, replace(callee, version=2), standing=theirs.crypto)
    assert not isinstance(held, NoCommonCodec)
    assert held[1].crypto == theirs.crypto
    back = offer(replace(callee, version=3), previous=held[0], standing=theirs.crypto)
    resumed = negotiate(back, replace(WITH_KEYS, version=3), standing=ours.crypto)
    assert not isinstance(resumed, NoCommonCodec)
    assert resumed[1].crypto == ours.crypto


def test_an_answer_in_clear_is_none_to_who_requires_srtp() -> None:
    result = accept_answer(offer(WITH_KEYS), audio_offer("m=audio 5000 RTP/AVP 0"), WITH_KEYS)
    assert result == NoCommonCodec("the answer is in clear: RTP/AVP without a=crypto", 302)

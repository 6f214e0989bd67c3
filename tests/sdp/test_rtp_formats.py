from __future__ import annotations

import pytest
from tests.sdp.offers import audio_offer

from offhook.sdp.rtp_formats import (
    Direction,
    PayloadFormat,
    answering_direction,
    control_address,
    direction_of,
    media_address,
    packet_time_ms,
    payload_formats,
)


def formats(media: str) -> dict[int, str]:
    return {number: str(form) for number, form in payload_formats(audio_offer(media).media[0]).items()}


def test_static_payload_types_need_no_rtpmap() -> None:
    assert formats("m=audio 4000 RTP/AVP 8 0 18 13") == {8: "PCMA/8000", 0: "PCMU/8000", 18: "G729/8000", 13: "CN/8000"}


def test_rtpmap_gives_dynamic_numbers_their_meaning_in_the_order_of_the_m_line() -> None:
    media = "m=audio 4000 RTP/AVP 101 97\na=rtpmap:97 iLBC/8000\na=rtpmap:101 telephone-event/8000\na=rtpmap:96 x/1"
    assert list(formats(media).items()) == [(101, "telephone-event/8000"), (97, "iLBC/8000")]


def test_rtpmap_speaks_before_the_static_table() -> None:
    assert formats("m=audio 4000 RTP/AVP 0\na=rtpmap:0 opus/48000/1") == {0: "opus/48000"}


def test_the_first_rtpmap_of_a_number_holds() -> None:
    assert formats("m=audio 4000 RTP/AVP 96\na=rtpmap:96 PCMA/8000\na=rtpmap:96 opus/48000/1") == {96: "PCMA/8000"}


@pytest.mark.parametrize(
    "mapping", ["PCMU", "PCMU/", "PCMU/0", "PCMU/x", "/8000", "PCMU/8000/2", "PCMU/8000/", "", "PCMU/99999999"]
)
def test_a_format_that_cannot_be_used_is_left_out(mapping: str) -> None:
    expected = {0: "PCMU/8000"} | ({96: "PCMU/8000"} if mapping == "PCMU/8000/" else {})
    assert formats(f"m=audio 4000 RTP/AVP 0 96\na=rtpmap:96 {mapping}") == expected


def test_numbers_that_are_no_payload_types_are_left_out() -> None:
    assert formats("m=audio 4000 RTP/AVP 128 * -1 0 0 999999999999 96") == {0: "PCMU/8000"}


def test_encoding_names_are_compared_without_case() -> None:
    assert PayloadFormat("pcmu", 8000).same(PayloadFormat("PCMU", 8000))
    assert not PayloadFormat("PCMU", 16000).same(PayloadFormat("PCMU", 8000))
    assert not PayloadFormat("opus", 48000).same(PayloadFormat("opus", 48000, 2))


def test_opus_has_two_channels_by_name() -> None:
    assert formats("m=audio 4000 RTP/AVP 96\na=rtpmap:96 opus/48000/2") == {96: "opus/48000/2"}


@pytest.mark.parametrize(
    ("lines", "expected_ms"),
    [
        ("", 20),
        ("a=ptime:20", 20),
        ("a=ptime:30", 20),
        ("a=ptime:40", 40),
        ("a=ptime:60\na=maxptime:40", 40),
        ("a=ptime:60\na=maxptime:150", 60),
        ("a=maxptime:60", 20),
        ("a=maxptime:10", 20),
        ("a=ptime:10", 20),
        ("a=ptime:0", 20),
        ("a=ptime:200", 100),
        ("a=ptime:-40", 20),
        ("a=ptime:forty", 20),
        ("a=ptime:1e9", 20),
        ("a=ptime:99999999999", 20),
        ("a=ptime: 40 ", 40),
    ],
)
def test_packet_time_is_whole_frames_within_the_limit(lines: str, expected_ms: int) -> None:
    session = audio_offer(f"m=audio 4000 RTP/AVP 0\n{lines}")
    assert packet_time_ms(session, session.media[0]) == expected_ms


def test_packet_time_may_stand_at_session_level() -> None:
    session = audio_offer("m=audio 4000 RTP/AVP 0", session="a=ptime:40")
    assert packet_time_ms(session, session.media[0]) == 40


@pytest.mark.parametrize(
    ("session_line", "media_line", "direction"),
    [
        ("", "", "sendrecv"),
        ("a=sendonly", "", "sendonly"),
        ("a=sendonly", "a=sendrecv", "sendrecv"),
        ("", "a=inactive", "inactive"),
        ("", "a=recvonly", "recvonly"),
    ],
)
def test_direction_of_the_media_level_speaks_first(session_line: str, media_line: str, direction: Direction) -> None:
    session = audio_offer(f"m=audio 4000 RTP/AVP 0\n{media_line}", session=session_line)
    assert direction_of(session, session.media[0]) == direction


@pytest.mark.parametrize("connection", ["IN IP4 0.0.0.0", "IN IP6 ::", "IN IP6 nowhere.invalid"])
@pytest.mark.parametrize(("stated", "read"), [("sendrecv", "sendonly"), ("recvonly", "inactive")])
def test_a_null_address_takes_nothing(connection: str, stated: str, read: Direction) -> None:
    session = audio_offer(f"m=audio 4000 RTP/AVP 0\na={stated}", connection=connection)
    assert direction_of(session, session.media[0]) == read


@pytest.mark.parametrize(
    ("remote", "ours", "answer"),
    [
        ("sendrecv", "sendrecv", "sendrecv"),
        ("sendonly", "sendrecv", "recvonly"),
        ("recvonly", "sendrecv", "sendonly"),
        ("inactive", "sendrecv", "inactive"),
        ("sendrecv", "sendonly", "sendonly"),
        ("sendrecv", "recvonly", "recvonly"),
        ("sendonly", "sendonly", "inactive"),
        ("recvonly", "recvonly", "inactive"),
        ("sendonly", "recvonly", "recvonly"),
        ("sendrecv", "inactive", "inactive"),
    ],
)
def test_an_answer_mirrors_the_direction(remote: Direction, ours: Direction, answer: Direction) -> None:
    assert answering_direction(remote, ours) == answer


def test_the_address_of_the_media_level_speaks_first() -> None:
    session = audio_offer("m=audio 4000 RTP/AVP 0\nc=IN IP6 2001:db8::7\nm=audio 4002 RTP/AVP 0")
    assert media_address(session, session.media[0]) == ("2001:db8::7", 4000)
    assert media_address(session, session.media[1]) == ("192.0.2.10", 4002)


@pytest.mark.parametrize(
    ("line", "address"),
    [
        ("a=x", ("192.0.2.10", 4001)),
        ("a=rtcp:5003", ("192.0.2.10", 5003)),
        ("a=rtcp:5003 IN IP4 192.0.2.99", ("192.0.2.99", 5003)),
        ("a=rtcp:0", ("192.0.2.10", 4001)),
        ("a=rtcp:70000", ("192.0.2.10", 4001)),
        ("a=rtcp:", ("192.0.2.10", 4001)),
        ("a=rtcp:5003 IN IP4", ("192.0.2.10", 5003)),
    ],
)
def test_rtcp_goes_where_the_attribute_says_or_one_port_higher(line: str, address: tuple[str, int]) -> None:
    media = audio_offer(f"m=audio 4000 RTP/AVP 0\n{line}").media[0]
    assert control_address(media, ("192.0.2.10", 4000)) == address


def test_the_port_after_the_last_is_the_last() -> None:
    media = audio_offer("m=audio 65535 RTP/AVP 0").media[0]
    assert control_address(media, ("192.0.2.10", 65535)) == ("192.0.2.10", 65535)

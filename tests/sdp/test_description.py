from __future__ import annotations

import pytest
from tests.sdp.offers import CLIENTS, RFC_8866_EXAMPLE, RFC_EXAMPLES, described, sdp

from offhook.model.errors import SdpError
from offhook.sdp.description import (
    MAX_ATTRIBUTES,
    MAX_DESCRIPTION_BYTES,
    MAX_FORMATS,
    MAX_LINES,
    MAX_MEDIA,
    Attribute,
    Connection,
    MediaDescription,
    Origin,
    SessionDescription,
    numeral,
    parse,
    serialize,
)

SMALLEST = "v=0\no=- 1 1 IN IP4 192.0.2.1\ns=-\nt=0 0"


def refusal(text: str) -> SdpError:
    with pytest.raises(SdpError) as caught:
        described(text)
    return caught.value


def test_reads_the_example_of_rfc_8866() -> None:
    assert parse(RFC_8866_EXAMPLE) == SessionDescription(
        origin=Origin(username="jdoe", session_id="3724394400", version="3724394405", address="198.51.100.1"),
        name="Call to John Smith",
        title="SDP Offer #1",
        uri="http://www.jdoe.example.com/home.html",
        emails=("Jane Doe <jane@jdoe.example.com>",),
        phones=("+1 617 555-6011",),
        connection=Connection(address="198.51.100.1"),
        timing=("t=0 0",),
        media=(
            MediaDescription(kind="audio", port=49170, protocol="RTP/AVP", formats=("0",)),
            MediaDescription(kind="audio", port=49180, protocol="RTP/AVP", formats=("0",)),
            MediaDescription(
                kind="video",
                port=51372,
                protocol="RTP/AVP",
                formats=("99",),
                connections=(Connection(address_type="IP6", address="2001:db8::2"),),
                attributes=(Attribute("rtpmap", "99 h263-1998/90000"),),
            ),
        ),
    )


@pytest.mark.parametrize("example", RFC_EXAMPLES.values(), ids=RFC_EXAMPLES.keys())
def test_rfc_examples_leave_as_they_came(example: bytes) -> None:
    assert serialize(parse(example)) == example


@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS.keys())
def test_descriptions_of_real_clients_leave_as_they_came(client: bytes) -> None:
    assert serialize(parse(client)) == client


def test_every_line_of_the_grammar_has_its_place() -> None:
    whole = sdp("""
        v=0
        o=- 1 2 IN IP4 192.0.2.1
        s=name
        i=session title
        u=https://example.com/
        e=a@example.com
        e=b@example.com
        p=+1 212 555 0100
        c=IN IP4 192.0.2.1
        b=CT:128
        b=X-YZ:1
        t=3034423619 3042462419
        r=7d 1h 0 25h
        z=2882844526 -1h
        t=0 0
        k=prompt
        a=recvonly
        m=audio 4000/2 RTP/AVP 0 8
        i=media title
        c=IN IP4 192.0.2.2
        c=IN IP4 192.0.2.3
        b=AS:64
        k=clear:secret
        a=ptime:20
        a=empty:
    """)
    description = parse(whole)
    assert serialize(description) == whole
    assert description.timing == ("t=3034423619 3042462419", "r=7d 1h 0 25h", "z=2882844526 -1h", "t=0 0")
    assert description.bandwidths == ("CT:128", "X-YZ:1")
    (media,) = description.media
    assert (media.port, media.port_count, media.title, media.key) == (4000, 2, "media title", "clear:secret")
    assert [each.address for each in media.connections] == ["192.0.2.2", "192.0.2.3"]
    assert media.attributes == (Attribute("ptime", "20"), Attribute("empty", ""))


def test_lines_may_end_in_lf_alone_and_the_last_in_nothing() -> None:
    with_lf = RFC_8866_EXAMPLE.replace(b"\r\n", b"\n")
    assert parse(with_lf) == parse(with_lf.rstrip(b"\n")) == parse(RFC_8866_EXAMPLE)


def test_blank_lines_are_skipped() -> None:
    assert parse(RFC_8866_EXAMPLE.replace(b"\r\nm=", b"\r\n\r\nm=") + b"\r\n\r\n") == parse(RFC_8866_EXAMPLE)


def test_lines_out_of_order_are_read_and_leave_in_order() -> None:
    mixed = described("v=0\nt=0 0\na=recvonly\nc=IN IP4 192.0.2.1\ns=-\no=- 1 1 IN IP4 192.0.2.1")
    assert serialize(mixed) == sdp("v=0\no=- 1 1 IN IP4 192.0.2.1\ns=-\nc=IN IP4 192.0.2.1\nt=0 0\na=recvonly")


def test_a_description_without_name_and_time_is_read() -> None:
    """RFC 4475 §3.1.2.17 (mismatch02) sends one."""
    description = described("v=0\no=- 1 1 IN IP4 192.0.2.1\nm=audio 4000 RTP/AVP 0")
    assert description.name == "-"
    assert description.timing == ()
    assert len(description.media) == 1


def test_spaces_at_the_end_of_a_line_are_text() -> None:
    """RFC 4566 §5.3 asked for "s= " where a session has no name."""
    nameless = sdp(SMALLEST).replace(b"s=-", b"s= ")
    assert parse(nameless).name == " "
    assert serialize(parse(nameless)) == nameless


def test_text_that_is_not_utf8_survives() -> None:
    latin_1 = sdp(SMALLEST).replace(b"s=-", b"s=caf\xe9 \xff\x80")
    assert serialize(parse(latin_1)) == latin_1


def test_characters_that_python_takes_for_line_ends_are_text() -> None:
    odd = sdp(SMALLEST).replace(b"s=-", "s=a\u2028b\x0bc\x85d".encode())
    assert parse(odd).name == "a\u2028b\x0bc\x85d"
    assert serialize(parse(odd)) == odd


def test_unknown_attributes_are_kept() -> None:
    description = described(f"{SMALLEST}\na=x-unheard-of:of it\na=flag")
    assert description.attributes == (Attribute("x-unheard-of", "of it"), Attribute("flag"))
    assert description.attribute("x-unheard-of") == "of it"
    assert description.attribute("flag") == ""
    assert description.attribute("absent") is None


def test_media_attributes_are_found_by_name_in_their_order() -> None:
    media = described(f"{SMALLEST}\nm=audio 4000 RTP/AVP 0\na=fmtp:0 x\na=fmtp:8 y\na=sendonly").media[0]
    assert list(media.attributes_named("fmtp")) == ["0 x", "8 y"]
    assert media.attribute("fmtp") == "0 x"
    assert media.attribute("sendonly") == ""
    assert media.attribute("ptime") is None


@pytest.mark.parametrize(
    ("text", "problem", "line"),
    [
        ("", "does not begin with v=0", ""),
        ("o=- 1 1 IN IP4 192.0.2.1", "does not begin with v=0", "o=- 1 1 IN IP4 192.0.2.1"),
        ("v=1", "does not begin with v=0", "v=1"),
        ("v=0\ns=-", "no o= line", ""),
        (f"{SMALLEST}\ny=0100000001", "unknown or misplaced line", "y=0100000001"),
        (f"{SMALLEST}\nm=audio 4000 RTP/AVP 0\ns=-", "unknown or misplaced line", "s=-"),
        (f"{SMALLEST}\nv=0", "repeated", "v=0"),
        (f"{SMALLEST}\nc=IN IP4 192.0.2.1\nc=IN IP4 192.0.2.2", "repeated", "c=IN IP4 192.0.2.2"),
        (f"{SMALLEST}\nc=IN IP4", "fewer than 3 fields", "c=IN IP4"),
        ("v=0\no=- 1 1 IN IP4", "fewer than 6 fields", "o=- 1 1 IN IP4"),
        (f"{SMALLEST}\nm=audio 4000", "fewer than 3 fields", "m=audio 4000"),
        (f"{SMALLEST}\nm=audio 65536 RTP/AVP 0", "no port number: '65536'", "m=audio 65536 RTP/AVP 0"),
        (f"{SMALLEST}\nm=audio -1 RTP/AVP 0", "no port number: '-1'", "m=audio -1 RTP/AVP 0"),
        (f"{SMALLEST}\nm=audio ٣ RTP/AVP 0", "no port number: '٣'", "m=audio ٣ RTP/AVP 0"),
        (f"{SMALLEST}\nm=audio 4000/x RTP/AVP 0", "no port number: 'x'", "m=audio 4000/x RTP/AVP 0"),
        (f"{SMALLEST}\nnonsense", "not of the form <letter>=<value>", "nonsense"),
        (f"{SMALLEST}\ni=a\0b", "NUL or CR inside a line", "i=a\0b"),
        (f"{SMALLEST}\ni=a\rb", "NUL or CR inside a line", "i=a\rb"),
    ],
)
def test_a_refusal_names_problem_and_line(text: str, problem: str, line: str) -> None:
    with pytest.raises(SdpError) as caught:
        parse(text.encode())
    assert (caught.value.problem, caught.value.line) == (problem, line)


def test_the_limits_hold_and_are_reached() -> None:
    media, attribute = "\nm=audio 4000 RTP/AVP 0", "\na=x"
    assert len(described(SMALLEST + media * MAX_MEDIA).media) == MAX_MEDIA
    assert refusal(SMALLEST + media * (MAX_MEDIA + 1)).problem == f"more than {MAX_MEDIA} media descriptions"
    assert len(described(SMALLEST + attribute * MAX_ATTRIBUTES).attributes) == MAX_ATTRIBUTES
    too_many = SMALLEST + attribute * 200 + (media + attribute * 60)
    assert refusal(too_many).problem == f"more than {MAX_ATTRIBUTES} attributes"
    bandwidth = "\nb=X-Y:1"
    assert len(described(SMALLEST + bandwidth * (MAX_LINES - 4)).bandwidths) == MAX_LINES - 4
    assert refusal(SMALLEST + bandwidth * (MAX_LINES - 3)).problem == f"more than {MAX_LINES} lines"
    assert len(described(SMALLEST + media + " 0" * (MAX_FORMATS - 1)).media[0].formats) == MAX_FORMATS
    assert refusal(SMALLEST + media + " 0" * MAX_FORMATS).problem == f"more than {MAX_FORMATS} formats"
    filled = sdp(SMALLEST) + b"i=" + b"x" * (MAX_DESCRIPTION_BYTES - len(sdp(SMALLEST)) - 2)
    assert len(filled) == MAX_DESCRIPTION_BYTES
    assert len(parse(filled).title or "") > 65_000
    with pytest.raises(SdpError, match=f"longer than {MAX_DESCRIPTION_BYTES} bytes"):
        parse(filled + b"x")


def test_an_error_shows_only_the_beginning_of_a_long_line() -> None:
    assert len(refusal(f"{SMALLEST}\ny={'x' * 5000}").line) == 120


@pytest.mark.parametrize(
    "line",
    [
        "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:SECRET\0",
        "k=clear:SECRET\nk=clear:SECRET",
        "A=CRYPTO:SECRET",
        "k SECRET",
    ],
)
def test_an_error_never_shows_a_key(line: str) -> None:
    error = refusal(f"{SMALLEST}\n{line}")
    assert "SECRET" not in str(error)
    assert error.line.endswith("...")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("65535", 65535),
        ("65536", None),
        ("", None),
        ("+1", None),
        ("1_0", None),
        ("²", None),
        ("9" * 5000, None),
    ],
)
def test_numerals_are_ascii_digits_up_to_a_limit(text: str, number: int | None) -> None:
    assert numeral(text, 65535) == number

"""Lists, parameters, quoted strings, numbers and hosts (RFC 3261 §25.1)."""

from __future__ import annotations

import pytest

from offhook.model.errors import SipParseError
from offhook.sip.grammar import (
    format_host,
    format_params,
    is_token,
    param_value,
    parse_host,
    parse_number,
    parse_params,
    parse_port,
    quote,
    readable_params,
    split_list,
    unquote,
)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", []),
        ("  ", []),
        ("replaces", ["replaces"]),
        ("replaces, timer,100rel", ["replaces", "timer", "100rel"]),
        (",, a ,,b,", ["a", "b"]),
        ('"a, b" <sip:x@y>, <sip:c,d@e>;q=1', ['"a, b" <sip:x@y>', "<sip:c,d@e>;q=1"]),
        (r'"a\", b" <sip:x@y>, c', [r'"a\", b" <sip:x@y>', "c"]),
        ('ok, "never closed, <sip:x@y>, z', ["ok", '"never closed, <sip:x@y>, z']),
        ("ok, <sip:x@y, z", ["ok", "<sip:x@y, z"]),
    ],
)
def test_commas_split_only_outside_quotes_and_brackets(text: str, values: list[str]) -> None:
    assert split_list(text) == values


@pytest.mark.parametrize(
    ("text", "params"),
    [
        ("", ()),
        (" \t", ()),
        (";lr", (("lr", None),)),
        (";  tag  = 19 ; q=0.3", (("tag", "19"), ("q", "0.3"))),
        (';a="x;y, \\" z";b', (("a", '"x;y, \\" z"'), ("b", None))),
        (";received=[2001:db8::1]", (("received", "[2001:db8::1]"),)),
        (";branch=z9hG4bK=a/b==", (("branch", "z9hG4bK=a/b=="),)),
    ],
)
def test_params_keep_order_and_spelling(text: str, params: tuple[tuple[str, str | None], ...]) -> None:
    assert parse_params(text, "From") == params


@pytest.mark.parametrize("text", [";", ";;", ";a;;b", "a", ";=b", ";a=", ";a b", ';a="open', ";a=b, <sip:c@d>"])
def test_what_is_no_parameter_is_refused_and_says_where(text: str) -> None:
    with pytest.raises(SipParseError) as refused:
        parse_params(text, "From")
    assert refused.value.field == "From"
    assert refused.value.status == 400


def test_params_are_written_as_they_were_read() -> None:
    text = ';lr;a="b c";d=e'
    assert format_params(parse_params(text, "Via")) == text


@pytest.mark.parametrize(
    ("text", "readable"),
    [
        ("", ""),
        (";;,;,,", ""),
        (' ;; a = "b;" ;=;c, ;d', ';a="b;";c;d'),
        (";branch=z9hG4bK1;rport", ";branch=z9hG4bK1;rport"),
    ],
)
def test_what_is_readable_among_rubbish(text: str, readable: str) -> None:
    assert readable_params(text) == readable


def test_param_value_tells_absent_flag_and_value_apart() -> None:
    params = parse_params(r';LR;x="say \"hi\"";tag=1', "Route")
    assert [param_value(params, name) for name in ("lr", "x", "tag", "none")] == ["", 'say "hi"', "1", None]


@pytest.mark.parametrize("text", ["", "Bob", 'a "quoted" \\ word', "José", "\udce9 not UTF-8", "NUL \0"])
def test_quote_and_unquote_undo_each_other(text: str) -> None:
    assert unquote(quote(text)) == text
    assert split_list(quote(text + ", x")) == [quote(text + ", x")]


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("0009", 9), ("2147483647", 2147483647), ("0" * 900 + "7", 7)])
def test_numbers_may_have_leading_zeros(text: str, number: int) -> None:
    assert parse_number(text, "CSeq", 2**31 - 1) == number


@pytest.mark.parametrize("text", ["", "-1", "+1", "1 ", "1.0", "٣", "2147483648", "9" * 5000])
def test_numbers_are_ascii_digits_within_their_range(text: str) -> None:
    with pytest.raises(SipParseError) as refused:
        parse_number(text, "CSeq", 2**31 - 1)
    assert refused.value.field == "CSeq"


def test_a_port_ends_at_65535() -> None:
    assert [parse_port(text, "Via") for text in (None, "0", "05060", "65535")] == [None, 0, 5060, 65535]
    with pytest.raises(SipParseError):
        parse_port("65536", "Via")


@pytest.mark.parametrize(
    ("written", "host", "rewritten"),
    [
        ("Example.COM", "example.com", "example.com"),
        ("192.0.2.1", "192.0.2.1", "192.0.2.1"),
        ("[2001:DB8::1]", "2001:db8::1", "[2001:db8::1]"),
        ("[2001:db8:::192.0.2.1]", "2001:db8::192.0.2.1", "[2001:db8::192.0.2.1]"),
    ],
)
def test_hosts_lose_case_and_brackets(written: str, host: str, rewritten: str) -> None:
    assert parse_host(written) == host
    assert format_host(host, None) == rewritten
    assert format_host(host, 5070) == f"{rewritten}:5070"


def test_tokens_are_ascii() -> None:
    assert is_token("!interesting-Method0123456789_*+`.%indeed'~")
    assert not any(map(is_token, ("", "a b", "a:b", "a/b", "é", "\u212a")))

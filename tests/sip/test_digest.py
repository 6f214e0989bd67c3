"""Digest as a client: challenges read, one of them chosen, answers as the RFCs' own examples have them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.sip.digest import (
    COUNTED_NONCES,
    Challenge,
    Credentials,
    DigestClient,
    digest_response,
    parse_challenges,
    parse_digest,
    strongest,
)
from offhook.sip.grammar import quote

MUFASA_2617 = {
    "username": "Mufasa",
    "realm": "testrealm@host.com",
    "password": "Circle Of Life",
    "nonce": "dcd98b7102dd2f0e8b11d0f600bfb0c093",
    "method": "GET",
    "uri": "/dir/index.html",
}
MUFASA_7616 = {
    "username": "Mufasa",
    "realm": "http-auth@example.org",
    "password": "Circle of Life",
    "nonce": "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
    "method": "GET",
    "uri": "/dir/index.html",
}
CNONCE_7616 = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
WANTED = Challenge(realm="offhook", nonce="n", algorithm="SHA-256", qop_auth=True)


def client(*, username: str = "alice", password: str = "secret") -> DigestClient:
    return DigestClient(Credentials(username=username, password=password))


def answered(challenge: Challenge, one: DigestClient | None = None, *, uri: str = "sip:demo@b") -> dict[str, str]:
    """The parameters of our answer to an INVITE's challenge."""
    value = (one or client()).authorization(challenge, method="INVITE", uri=uri, cnonce="cn")
    parts = parse_digest(value)
    assert parts is not None, value
    return parts


# ── the RFCs' examples ───────────────────────────────────────────────────────────────────────────────────


def test_the_example_of_rfc_2617_section_3_5() -> None:
    response = digest_response(algorithm="MD5", count="00000001", cnonce="0a4f113b", **MUFASA_2617)
    assert response == "6629fae49393a05397450978507c4ef1"


def test_the_same_without_qop_as_rfc_2069_has_it() -> None:
    assert digest_response(algorithm="MD5", **MUFASA_2617) == "670fd8c2df070c60b045671b8b24ff02"


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_the_example_of_rfc_7616_section_3_9_1(algorithm: str, response: str) -> None:
    assert digest_response(algorithm=algorithm, count="00000001", cnonce=CNONCE_7616, **MUFASA_7616) == response


def test_the_whole_answer_to_the_challenges_of_rfc_7616_section_3_9_1() -> None:
    rest = (
        'qop="auth, auth-int", nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", '
        'opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
    )
    challenge = strongest(
        parse_challenges(
            [f'Digest realm="http-auth@example.org", algorithm={one}, {rest}' for one in ("MD5", "SHA-256")]
        )
    )
    assert challenge is not None
    mufasa = client(username="Mufasa", password="Circle of Life")
    value = mufasa.authorization(challenge, method="GET", uri="/dir/index.html", cnonce=CNONCE_7616)
    assert parse_digest(value) == {
        "username": "Mufasa",
        "realm": "http-auth@example.org",
        "uri": "/dir/index.html",
        "algorithm": "SHA-256",
        "nonce": "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
        "nc": "00000001",
        "cnonce": CNONCE_7616,
        "qop": "auth",
        "response": "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
        "opaque": "FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS",
    }


# ── challenges ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("value", "challenge"),
    [
        ('Digest realm="r", nonce="n"', Challenge(realm="r", nonce="n")),
        ('DIGEST REALM="r",NONCE="n"', Challenge(realm="r", nonce="n")),
        ('Digest\trealm = "r" ,\tnonce="n" ', Challenge(realm="r", nonce="n")),
        ("Digest realm=r, nonce=abc==", Challenge(realm="r", nonce="abc==")),
        ('Digest realm="", nonce="n"', Challenge(realm="", nonce="n")),
        ('Digest realm="r", nonce="n", opaque=""', Challenge(realm="r", nonce="n", opaque="")),
        ('Digest realm="r, \\"s\\" \\\\", nonce="n"', Challenge(realm='r, "s" \\', nonce="n")),
        ('Digest realm="r", nonce="n", qop="auth"', Challenge(realm="r", nonce="n", qop_auth=True)),
        ('Digest realm="r", nonce="n", qop=auth', Challenge(realm="r", nonce="n", qop_auth=True)),
        ('Digest realm="r", nonce="n", qop="auth-int ,Auth"', Challenge(realm="r", nonce="n", qop_auth=True)),
        ('Digest realm="r", nonce="n", qop=""', Challenge(realm="r", nonce="n")),
        ('Digest realm="r", nonce="n", stale=TRUE', Challenge(realm="r", nonce="n", stale=True)),
        ('Digest realm="r", nonce="n", stale="true"', Challenge(realm="r", nonce="n", stale=True)),
        ('Digest realm="r", nonce="n", stale=yes', Challenge(realm="r", nonce="n")),
        ('Digest realm="r", nonce="n", algorithm=md5', Challenge(realm="r", nonce="n")),
        ('Digest realm="r", nonce="n", algorithm="sha-256"', Challenge(realm="r", nonce="n", algorithm="SHA-256")),
        ('Digest realm="r", nonce="n", domain="sip:a sip:b", charset=UTF-8', Challenge(realm="r", nonce="n")),
    ],
)
def test_a_challenge_is_read(value: str, challenge: Challenge) -> None:
    assert parse_challenges([value]) == (challenge,)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Digest",
        "Digest ",
        'Digestrealm="r", nonce="n"',
        'Basic realm="r"',
        'Digest realm="r"',
        'Digest nonce="n"',
        'Digest realm="r", nonce=""',
        'Digest realm="r" nonce="n"',
        'Digest realm="r", nonce="n',
        'Digest realm="r", nonce="n", x',
        'Digest realm="r", nonce="n", realm="s"',
        'Digest realm="r", nonce="n", Nonce="m"',
        'Digest realm="r", nonce="n", qop="auth-int"',
        'Digest realm="r", nonce="n", algorithm=SHA-512-256',
        'Digest realm="r", nonce="n", algorithm=AKAv1-MD5',
        'Digest realm="r", nonce="n", algorithm=MD5-sess',
        'Digest realm="r", nonce="n", Digest realm="s", nonce="m"',
    ],
)
def test_what_cannot_be_answered_is_no_challenge(value: str) -> None:
    assert parse_challenges([value]) == ()


def test_few_challenges_of_one_response_are_read() -> None:
    values = [f'Digest realm="r{number}", nonce="n"' for number in range(500)]
    assert [one.realm for one in parse_challenges(values)] == [f"r{number}" for number in range(8)]


@given(st.lists(st.text(max_size=200), max_size=10))
def test_no_text_raises(values: list[str]) -> None:
    parse_challenges(values)
    parse_challenges([f"Digest {value}" for value in values])


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(min_size=1), st.text())
def test_quoting_and_unquoting_lose_nothing(realm: str, nonce: str, opaque: str) -> None:
    value = f"Digest realm={quote(realm)}, nonce={quote(nonce)}, opaque={quote(opaque)}"
    assert parse_challenges([value]) == (Challenge(realm=realm, nonce=nonce, opaque=opaque),)


# ── which one ────────────────────────────────────────────────────────────────────────────────────────────

_MD5 = Challenge(realm="r", nonce="1", algorithm="MD5")
_SHA = Challenge(realm="r", nonce="2", algorithm="SHA-256")
_OTHER_SHA = Challenge(realm="s", nonce="3", algorithm="SHA-256")


@pytest.mark.parametrize(
    ("challenges", "realm", "chosen"),
    [
        ((_SHA, _MD5), "", _SHA),
        ((_MD5, _SHA), "", _SHA),  # RFC 8760 §2.4 would have the topmost; strongest() says why not
        ((_MD5,), "", _MD5),
        ((_SHA, _OTHER_SHA), "", _SHA),
        ((_OTHER_SHA, _SHA), "", _OTHER_SHA),
        ((_MD5, _OTHER_SHA), "r", _MD5),
        ((_OTHER_SHA,), "r", None),
        ((), "", None),
    ],
)
def test_the_strongest_for_our_realm_is_answered(
    challenges: tuple[Challenge, ...], realm: str, chosen: Challenge | None
) -> None:
    assert strongest(challenges, realm) == chosen


def test_the_weaker_one_is_taken_where_the_stronger_cannot_be_answered() -> None:
    values = ['Digest realm="r", nonce="n", algorithm=SHA-512-256', 'Digest realm="r", nonce="n", algorithm=MD5']
    chosen = strongest(parse_challenges(values))
    assert chosen is not None
    assert chosen.algorithm == "MD5"


# ── answers ──────────────────────────────────────────────────────────────────────────────────────────────


def test_the_count_rises_with_each_use_of_a_nonce_and_begins_anew_with_another() -> None:
    one = client()
    counts = [answered(WANTED, one)["nc"] for _ in range(3)]
    other = answered(Challenge(realm="offhook", nonce="m", qop_auth=True), one)["nc"]
    assert [*counts, other, answered(WANTED, one)["nc"]] == ["00000001", "00000002", "00000003", "00000001", "00000004"]


def test_the_count_is_in_hexadecimal() -> None:
    one = client()
    assert [answered(WANTED, one)["nc"] for _ in range(17)][-1] == "00000011"


def test_the_nonces_counted_are_bounded_and_those_in_use_stay() -> None:
    one = client()
    for number in range(10 * COUNTED_NONCES):
        answered(Challenge(realm="offhook", nonce=f"other {number}", qop_auth=True), one)
        answered(WANTED, one)
    assert len(one._counts) == COUNTED_NONCES
    assert answered(WANTED, one)["nc"] == f"{10 * COUNTED_NONCES + 1:08x}"


def test_each_count_has_a_response_of_its_own() -> None:
    one = client()
    assert len({answered(WANTED, one)["response"] for _ in range(20)}) == 20


def test_without_qop_the_answer_has_neither_count_nor_cnonce() -> None:
    parts = answered(Challenge(realm="offhook", nonce="n"))
    assert set(parts) == {"username", "realm", "nonce", "uri", "response", "algorithm"}
    assert parts["response"] == digest_response(
        algorithm="MD5",
        username="alice",
        realm="offhook",
        password="secret",
        method="INVITE",
        uri="sip:demo@b",
        nonce="n",
    )


@pytest.mark.parametrize("opaque", [None, "", 'a"b'])
def test_opaque_comes_back_as_it_was(opaque: str | None) -> None:
    assert answered(Challenge(realm="r", nonce="n", opaque=opaque)).get("opaque") == opaque


def test_what_is_quoted_and_what_is_not() -> None:
    value = client().authorization(WANTED, method="INVITE", uri="sip:demo@b", cnonce="cn")
    assert 'uri="sip:demo@b"' in value
    assert 'cnonce="cn"' in value
    assert value.endswith('algorithm=SHA-256, qop=auth, nc=00000001, cnonce="cn"')


def test_a_name_with_quotes_is_escaped_on_the_wire_and_not_in_the_hash() -> None:
    name = 'al"i\\ce'
    value = client(username=name).authorization(WANTED, method="INVITE", uri="sip:b", cnonce="cn")
    assert 'username="al\\"i\\\\ce"' in value
    parts = parse_digest(value)
    assert parts is not None
    assert parts["response"] == digest_response(
        algorithm="SHA-256",
        username=name,
        realm="offhook",
        password="secret",
        method="INVITE",
        uri="sip:b",
        nonce="n",
        count="00000001",
        cnonce="cn",
    )


def test_octets_that_are_no_utf_8_survive() -> None:
    nonce = b"\xff\xfe".decode("utf-8", "surrogateescape")
    assert answered(Challenge(realm="r", nonce=nonce))["nonce"] == nonce


def test_the_password_does_not_show() -> None:
    assert "secret" not in repr(Credentials(username="alice", password="secret"))

"""Digest as a server: nonces that say themselves what they are, and answers that hold once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.sip import challenges
from offhook.sip.challenges import LONGEST_VALUE, NONCE_LIFE_S, Accepted, Authenticator, NonceMint, Refused
from offhook.sip.digest import Challenge, Credentials, DigestClient, digest_response, parse_challenges, parse_digest
from offhook.sip.grammar import quote

HOST = "192.0.2.7"
NOW = 1000.0
URI = "sip:demo@offhook.example"


class Door:
    """An authenticator that knows alice, and clients who answer it."""

    def __init__(self, *, node: str = "node-1", used_nonces: int = 100) -> None:
        self.authenticator = Authenticator(NonceMint(b"secret", node), "offhook", used_nonces=used_nonces)
        self._salts = count()

    def answer(
        self, *, password: str = "right", username: str = "alice", host: str = HOST, now: float = NOW, **changed: str
    ) -> str:
        challenge = self.challenge(host=host, now=now)
        client = DigestClient(Credentials(username=username, password=password))
        return client.authorization(challenge, method="INVITE", uri=changed.get("uri", URI), cnonce="c")

    def answer_without_qop(self, challenge: Challenge) -> str:
        """As a client of RFC 2069 answers."""
        client = DigestClient(Credentials(username="alice", password="right"))
        return client.authorization(replace(challenge, qop_auth=False), method="INVITE", uri=URI, cnonce="")

    def challenge(self, *, host: str = HOST, now: float = NOW) -> Challenge:
        return parse_challenges(self.authenticator.challenges(host, now, f"salt{next(self._salts)}"))[0]

    def verify(
        self, value: str, *, host: str = HOST, now: float = NOW, method: str = "INVITE", uri: str = URI
    ) -> Accepted | Refused:
        known = {"alice": "right"}.get
        return self.authenticator.verify(value, method=method, uri=uri, source_host=host, now=now, password_of=known)


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The user names for which the server computed an answer."""
    names: list[str] = []

    def counted(**given: str) -> str:
        names.append(given["username"])
        return digest_response(**given)

    monkeypatch.setattr(challenges, "digest_response", counted)
    return names


def test_challenges_are_sha_256_and_md5_in_that_order_with_one_nonce() -> None:
    found = parse_challenges(Door().authenticator.challenges(HOST, NOW, "s"))
    assert [one.algorithm for one in found] == ["SHA-256", "MD5"]
    assert len({one.nonce for one in found}) == 1
    assert all(one.qop_auth for one in found)


@pytest.mark.parametrize("algorithm", ["SHA-256", "MD5"])
def test_the_right_password_is_accepted_by_either_algorithm(algorithm: str) -> None:
    door = Door()
    (challenge,) = (
        one for one in parse_challenges(door.authenticator.challenges(HOST, NOW, "s")) if one.algorithm == algorithm
    )
    client = DigestClient(Credentials(username="alice", password="right"))
    value = client.authorization(challenge, method="INVITE", uri=URI, cnonce="c")
    assert door.verify(value) == Accepted(username="alice")


def test_unknown_user_and_wrong_password_are_told_the_same_after_the_same_work(hashed: list[str]) -> None:
    door = Door()
    wrong = door.verify(door.answer(password="wrong"))
    unknown = door.verify(door.answer(username="mallory"))
    assert wrong == unknown == Refused(why="user name or password is wrong", stale=False)
    assert hashed == ["alice", "mallory"]


def test_the_stand_in_for_no_password_opens_nothing() -> None:
    door = Door()
    value = door.answer(username="mallory", password=challenges._NO_SUCH_USER)
    assert isinstance(door.verify(value), Refused)


def test_a_thousand_replays_are_refused_as_stale() -> None:
    door = Door()
    value = door.answer()
    assert isinstance(door.verify(value), Accepted)
    verdicts = [door.verify(value, now=NOW + n * 0.2) for n in range(1000)]
    assert all(isinstance(one, Refused) and one.stale for one in verdicts)


def test_a_rising_count_is_accepted_on_one_nonce() -> None:
    door = Door()
    (challenge, _) = parse_challenges(door.authenticator.challenges(HOST, NOW, "s"))
    client = DigestClient(Credentials(username="alice", password="right"))
    values = [client.authorization(challenge, method="INVITE", uri=URI, cnonce="c") for _ in range(3)]
    assert [type(door.verify(value)) for value in (values[0], values[2], values[1])] == [Accepted, Accepted, Refused]


def test_a_nonce_is_for_its_source_node_and_time() -> None:
    door, other = Door(), Door(node="node-2")
    assert door.verify(door.answer(), host="192.0.2.8") == Refused(why="the nonce is foreign", stale=True)
    assert other.verify(door.answer()) == Refused(why="the nonce is foreign", stale=True)
    assert door.verify(door.answer(), now=NOW + NONCE_LIFE_S) == Refused(why="the nonce is stale", stale=True)
    assert isinstance(door.verify(door.answer(), now=NOW + NONCE_LIFE_S - 1), Accepted)


def test_a_nonce_from_before_the_clock_began_anew_is_stale() -> None:
    door = Door()
    assert door.verify(door.answer(now=5000), now=3) == Refused(why="the nonce is stale", stale=True)


@pytest.mark.parametrize("salt", ["s", "a.b", "-._~", "0"])
def test_any_salt_of_token_characters_will_do(salt: str) -> None:
    mint = NonceMint(b"secret", "node-1")
    assert mint.check(mint.mint(HOST, NOW, salt), HOST, NOW) == "fresh"


@given(st.integers(0, 200), st.characters(codec="ascii"))
def test_a_nonce_with_one_character_changed_is_foreign(position: int, character: str) -> None:
    mint = NonceMint(b"secret", "node-1")
    nonce = mint.mint(HOST, NOW, "salt")
    at = position % len(nonce)
    changed = nonce[:at] + character + nonce[at + 1 :]
    assert mint.check(changed, HOST, NOW) == ("fresh" if changed == nonce else "foreign")


def test_another_secret_makes_other_nonces() -> None:
    nonce = NonceMint(b"one", "node-1").mint(HOST, NOW, "s")
    assert NonceMint(b"other", "node-1").check(nonce, HOST, NOW) == "foreign"


def test_two_nonces_of_one_moment_differ_by_their_salt() -> None:
    mint = NonceMint(b"secret", "node-1")
    assert mint.mint(HOST, NOW, "a") != mint.mint(HOST, NOW, "b")


def test_an_answer_is_for_its_method() -> None:
    door = Door()
    value = door.answer()
    assert door.verify(value, method="BYE") == Refused(why="user name or password is wrong")
    assert door.verify(value) == Accepted(username="alice")


@pytest.mark.parametrize(
    "uri",
    [
        "sip:+882@elsewhere",
        "sip:Demo@offhook.example",
        "sips:demo@offhook.example",
        "sip:demo@offhook.example:5070",
        "sip:demo@offhook.example:99999999999",
        "sip:demo@offhook.example;transport=tcp",
        "tel:+882",
        "*",
        "",
    ],
)
def test_an_answer_is_for_its_uri(uri: str) -> None:
    door = Door()
    assert door.verify(door.answer(uri=uri)) == Refused(why="the uri is not the Request-URI")


@pytest.mark.parametrize("uri", ["sip:demo@OFFHOOK.example", "sip:%64emo@offhook.example", f"{URI};x=y"])
def test_a_uri_that_means_the_same_will_do(uri: str) -> None:
    door = Door()
    assert door.verify(door.answer(uri=uri)) == Accepted(username="alice")
    assert door.verify(door.answer(), uri=uri) == Accepted(username="alice")


def test_without_qop_an_answer_holds_once_for_a_nonce() -> None:
    door = Door()
    challenge = door.challenge()
    value = door.answer_without_qop(challenge)
    assert "qop" not in value
    assert "nc=" not in value
    counted = DigestClient(Credentials(username="alice", password="right"))
    assert door.verify(value) == Accepted(username="alice")
    assert door.verify(value) == Refused(why="the nonce was used with this count before", stale=True)
    for _ in range(3):
        after = counted.authorization(challenge, method="INVITE", uri=URI, cnonce="c")
        assert door.verify(after) == Refused(why="the nonce was used with this count before", stale=True)


def test_stale_challenges_say_so_and_fresh_ones_do_not() -> None:
    door = Door()
    stale = parse_challenges(door.authenticator.challenges(HOST, NOW, "s", stale=True))
    assert [one.stale for one in stale] == [True, True]
    assert not door.challenge().stale


def test_a_trunk_may_want_sha_256_alone() -> None:
    authenticator = Authenticator(NonceMint(b"s", "n"), "offhook", ("SHA-256",))
    (challenge,) = parse_challenges(authenticator.challenges(HOST, NOW, "s"))
    client = DigestClient(Credentials(username="alice", password="right"))
    value = client.authorization(replace(challenge, algorithm="MD5"), method="INVITE", uri=URI, cnonce="c")
    verdict = authenticator.verify(
        value, method="INVITE", uri=URI, source_host=HOST, now=NOW, password_of={"alice": "right"}.get
    )
    assert verdict == Refused(why="algorithm MD5 was not offered")


def test_a_realm_with_quotes_comes_back_whole() -> None:
    realm = 'off "hook" \\ 1'
    authenticator = Authenticator(NonceMint(b"s", "n"), realm)
    (challenge, _) = parse_challenges(authenticator.challenges(HOST, NOW, "s"))
    assert challenge.realm == realm


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("qop=auth, ", "", "user name or password is wrong"),
        ("qop=auth", "qop=auth-int", "qop is not auth"),
        ("nc=00000001", "nc=1", "nc is not eight hexadecimal digits"),
        ("nc=00000001", "nc=0x000001", "nc is not eight hexadecimal digits"),
        ("nc=00000001", "nc=٠٠٠٠٠٠٠١", "nc is not eight hexadecimal digits"),
        ("nc=00000001, ", "", "nc missing"),
        (" nonce=", " once=", "nonce missing"),
        ("username=", "user=", "username missing"),
        ('realm="offhook"', 'realm="other"', "another realm"),
        ("SHA-256", "SHA-512-256", "algorithm SHA-512-256 was not offered"),
        ("Digest ", "Basic ", "no digest that can be read"),
        ('username="alice"', 'username="alice", username="bob"', "no digest that can be read"),
    ],
)
def test_credentials_that_do_not_fit_are_refused_by_name(old: str, new: str, why: str) -> None:
    door = Door()
    value = door.answer()
    assert old in value
    assert door.verify(value.replace(old, new)) == Refused(why=why)


def test_what_is_too_long_is_neither_read_nor_hashed(hashed: list[str]) -> None:
    door = Door()
    value = door.answer()
    room = LONGEST_VALUE - len(value) - len(', x=""')
    assert door.verify(f'{value}, x="{"a" * (room + 1)}"') == Refused(why="no digest that can be read")
    assert hashed == []
    assert door.verify(f'{value}, x="{"a" * room}"') == Accepted(username="alice")
    assert hashed == ["alice"]


def test_nothing_is_hashed_for_a_nonce_that_is_not_fresh(hashed: list[str]) -> None:
    door = Door()
    values = [door.answer(host="192.0.2.9"), door.answer(now=NOW - NONCE_LIFE_S)]
    assert [door.verify(value) for value in values] == [
        Refused(why="the nonce is foreign", stale=True),
        Refused(why="the nonce is stale", stale=True),
    ]
    assert hashed == []


def test_without_room_a_nonce_counts_as_used_up_and_room_comes_back() -> None:
    door = Door(used_nonces=2)
    assert [type(door.verify(door.answer())) for _ in range(3)] == [Accepted, Accepted, Refused]
    later = NOW + NONCE_LIFE_S
    assert isinstance(door.verify(door.answer(now=later), now=later), Accepted)


def test_what_was_accepted_once_is_never_accepted_again_however_little_room_there_is() -> None:
    door = Door(used_nonces=3)
    seen: list[tuple[float, str]] = []
    accepted = 0
    for step in range(400):
        now = NOW + step
        value = door.answer(now=now)
        if isinstance(door.verify(value, now=now), Accepted):
            accepted += 1
            seen.append((now, value))
        for _, old in seen[-5:]:
            assert isinstance(door.verify(old, now=now), Refused)
        assert len(door.authenticator._used) <= 3
    assert accepted == 3 * -(-400 // int(NONCE_LIFE_S))


def test_what_was_used_is_remembered_no_longer_than_it_lives() -> None:
    door = Door()
    for _ in range(50):
        assert isinstance(door.verify(door.answer()), Accepted)
    assert len(door.authenticator._used) == 50
    later = NOW + NONCE_LIFE_S
    assert isinstance(door.verify(door.answer(now=later), now=later), Accepted)
    assert len(door.authenticator._used) == 1


def test_wrong_answers_take_no_room() -> None:
    door = Door(used_nonces=1)
    for _ in range(50):
        door.verify(door.answer(password="wrong"))
    assert isinstance(door.verify(door.answer()), Accepted)


@given(st.text(max_size=300))
def test_nothing_raises(value: str) -> None:
    door = Door()
    assert isinstance(door.verify(value), Refused)
    assert isinstance(door.verify("Digest " + value), Refused)


_NAMES = ("username", "realm", "nonce", "uri", "response", "algorithm", "qop", "nc", "cnonce", "opaque")


@given(st.lists(st.tuples(st.sampled_from(_NAMES), st.text(max_size=12)), max_size=6))
def test_no_parameter_s_value_raises(changes: Sequence[tuple[str, str]]) -> None:
    door = Door()
    parts = parse_digest(door.answer())
    assert parts is not None
    changed = {**parts, **dict(changes)}
    value = "Digest " + ", ".join(f"{name}={quote(text)}" for name, text in changed.items())
    verdict = door.verify(value)
    proven = {name: text for name, text in changed.items() if name not in ("opaque", "algorithm", "qop", "uri")}
    if any(parts[name] != text for name, text in proven.items() if name != "response"):
        assert isinstance(verdict, Refused)


@given(st.text(min_size=1, max_size=30), st.text(max_size=30))
def test_whatever_the_name_and_password_the_client_and_the_server_agree(username: str, password: str) -> None:
    authenticator = Authenticator(NonceMint(b"s", "n"), "offhook")
    (challenge, _) = parse_challenges(authenticator.challenges(HOST, NOW, "s"))
    client = DigestClient(Credentials(username=username, password=password))
    value = client.authorization(challenge, method="BYE", uri=URI, cnonce="c")
    verdict = authenticator.verify(
        value, method="BYE", uri=URI, source_host=HOST, now=NOW, password_of={username: password}.get
    )
    assert verdict == Accepted(username=username)

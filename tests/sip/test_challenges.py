"""Digest as a server: nonces that say themselves what they are, and answers that hold once."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.sip import challenges
from offhook.sip.challenges import NONCE_LIFE_S, Accepted, Authenticator, NonceMint, Refused
from offhook.sip.digest import Credentials, DigestClient, digest_response, parse_challenges, strongest

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
        values = self.authenticator.challenges(host, now, f"salt{next(self._salts)}")
        challenge = strongest(parse_challenges(values))
        assert challenge is not None
        client = DigestClient(Credentials(username=username, password=password))
        return client.authorization(challenge, method="INVITE", uri=changed.get("uri", URI), cnonce="c")

    def verify(self, value: str, *, host: str = HOST, now: float = NOW, method: str = "INVITE") -> Accepted | Refused:
        known = {"alice": "right"}.get
        return self.authenticator.verify(value, method=method, uri=URI, source_host=host, now=now, password_of=known)


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


def test_unknown_user_and_wrong_password_are_told_the_same_after_the_same_work(monkeypatch: pytest.MonkeyPatch) -> None:
    door, hashed = Door(), list[str]()

    def counted(**given: str) -> str:
        hashed.append(given["username"])
        return digest_response(**given)

    monkeypatch.setattr(challenges, "digest_response", counted)
    wrong = door.verify(door.answer(password="wrong"))
    worked = len(hashed)
    unknown = door.verify(door.answer(username="mallory"))
    assert wrong == unknown == Refused(why="user name or password is wrong", stale=False)
    assert len(hashed) == 2 * worked == 2


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


def test_an_answer_is_for_its_method_and_uri() -> None:
    door = Door()
    assert isinstance(door.verify(door.answer(), method="BYE"), Refused)
    assert door.verify(door.answer(uri="sip:+882@elsewhere")) == Refused(why="the uri is not the Request-URI")


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("qop=auth, ", "", "qop is not auth"),
        ("qop=auth", "qop=auth-int", "qop is not auth"),
        ("nc=00000001", "nc=1", "nc is not eight hexadecimal digits"),
        ("nc=00000001, ", "", "nc missing"),
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


def test_what_is_too_long_is_not_read() -> None:
    assert Door().verify("Digest " + 'x="' + "a" * 5000 + '"') == Refused(why="no digest that can be read")


def test_without_room_a_nonce_counts_as_used_up_and_room_comes_back() -> None:
    door = Door(used_nonces=2)
    assert [type(door.verify(door.answer())) for _ in range(3)] == [Accepted, Accepted, Refused]
    later = NOW + NONCE_LIFE_S
    assert isinstance(door.verify(door.answer(now=later), now=later), Accepted)


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

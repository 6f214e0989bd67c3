"""How long sessions last and who refreshes them: headers and tables of RFC 4028."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sip.network import OFFER, Network

from offhook.sip.headers import Headers
from offhook.sip.message import Request, response_to
from offhook.sip.session_interval import (
    DEFAULT_SESSION_TIMER,
    LEAST_INTERVAL_S,
    SECONDS_MAX,
    Role,
    SessionExpires,
    SessionTimerRules,
    agree,
    agreed,
    judge,
    min_se,
)

KNOWS = ("Supported", "timer")
HALF_AN_HOUR = SessionTimerRules(session_expires_s=1800)


def invite(*headers: tuple[str, str]) -> Request:
    net = Network()
    return net.peer().build("INVITE", net.phone("bob"), headers=headers, body=OFFER)


def asking(text: str, *headers: tuple[str, str]) -> Request:
    return invite(("Session-Expires", text), *headers)


@pytest.mark.parametrize(
    ("text", "interval_s", "refresher"),
    [
        ("1800", 1800, None),
        (" 1800 ;refresher=uac", 1800, "uac"),
        ("90;REFRESHER=UAS;x=y", 90, "uas"),
        ("90;x=y;refresher=uac", 90, "uac"),
        ('90;refresher="uas"', 90, "uas"),
        ("90;refresher=both", 90, None),
        ("90;refresher", 90, None),
        ("90;;", 90, None),
        ("0", 0, None),
        ("000090", 90, None),
        ("2147483648", SECONDS_MAX, None),
        ("9" * 5000, SECONDS_MAX, None),
    ],
)
def test_what_can_be_read_is_read(text: str, interval_s: int, refresher: Role | None) -> None:
    read = SessionExpires.of(Headers([("x", text)]))
    assert read == SessionExpires(interval_s=interval_s, refresher=refresher), "the compact form"


@pytest.mark.parametrize(
    "text", ["", " ", ";refresher=uac", "-1", "+90", "90.5", "0x5a", "ninety", "90 90", "٩٠", "90,90"]
)
def test_nonsense_is_the_same_as_none(text: str) -> None:
    headers = Headers([("Session-Expires", text), ("Min-SE", text)])
    assert SessionExpires.of(headers) is None
    assert min_se(headers) == 90
    assert judge(asking(text, KNOWS), HALF_AN_HOUR) is None


@pytest.mark.parametrize(
    ("text", "least_s"), [("90", 90), ("0", 90), ("89;x", 90), ("3600;a=b", 3600), ("9" * 99, SECONDS_MAX)]
)
def test_a_minimum_is_never_below_the_rfcs(text: str, least_s: int) -> None:
    assert min_se(Headers([("Min-SE", text)])) == least_s


@given(st.text(max_size=60), st.text(max_size=60), st.text(max_size=20))
def test_no_text_raises_or_gives_an_interval_that_is_none(text: str, least: str, option: str) -> None:
    request = invite()
    for name, value in (("Session-Expires", text), ("Min-SE", least), ("Supported", option)):
        request.headers.set(name, value)
    judge(request, HALF_AN_HOUR)
    told = agree(request, HALF_AN_HOUR, None)
    assert told is not None
    assert 90 <= told.interval_s <= SECONDS_MAX
    response = response_to(request, 200, headers=[("Session-Expires", text)])
    taken = agreed(response)
    assert taken is None or LEAST_INTERVAL_S <= taken.interval_s <= SECONDS_MAX


@pytest.mark.parametrize(("expires_s", "least_s"), [(60, 60), (1800, 89), (100, 120), (SECONDS_MAX + 1, 90), (0, 0)])
def test_rules_that_the_rfc_does_not_allow_are_none(expires_s: int, least_s: int) -> None:
    with pytest.raises(ValueError, match=r"session_expires_s|min_se_s"):
        SessionTimerRules(session_expires_s=expires_s, min_se_s=least_s)


# ── the UAS ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("request_", "rules", "least"),
    [
        (asking("89", KNOWS), DEFAULT_SESSION_TIMER, "90"),
        (asking("0", KNOWS), DEFAULT_SESSION_TIMER, "90"),
        (asking("119", ("Require", "Timer")), SessionTimerRules(min_se_s=120), "120"),
    ],
)
def test_too_short_a_session_is_refused_with_our_minimum(
    request_: Request, rules: SessionTimerRules, least: str
) -> None:
    refusal = judge(request_, rules)
    assert refusal is not None
    assert (refusal.status, refusal.headers) == (422, (("Min-SE", least),))


@pytest.mark.parametrize(
    "request_", [invite(), invite(KNOWS), asking("90", KNOWS), asking("60"), asking("60", ("Supported", "100rel"))]
)
def test_who_could_not_ask_again_is_not_refused(request_: Request) -> None:
    """§9: a 422 is for a UAC that knows of it; a proxy put the header there for one that does not."""
    assert judge(request_, DEFAULT_SESSION_TIMER) is None


@pytest.mark.parametrize(
    ("request_", "rules", "told"),
    [
        (invite(), DEFAULT_SESSION_TIMER, None),
        (invite(KNOWS), DEFAULT_SESSION_TIMER, None),
        (invite(), HALF_AN_HOUR, "1800;refresher=uas"),
        (invite(KNOWS), HALF_AN_HOUR, "1800;refresher=uas"),
        (invite(KNOWS, ("Min-SE", "3600")), HALF_AN_HOUR, "3600;refresher=uas"),
        (asking("600", KNOWS), DEFAULT_SESSION_TIMER, "600;refresher=uas"),
        (asking("600;refresher=uac", KNOWS), DEFAULT_SESSION_TIMER, "600;refresher=uac"),
        (asking("600;refresher=uas", KNOWS), DEFAULT_SESSION_TIMER, "600;refresher=uas"),
        (asking("600;refresher=uac"), DEFAULT_SESSION_TIMER, "600;refresher=uas"),
        (asking("60"), DEFAULT_SESSION_TIMER, "90;refresher=uas"),
        (asking("600", KNOWS), HALF_AN_HOUR, "600;refresher=uas"),
        (asking("7200", KNOWS), HALF_AN_HOUR, "1800;refresher=uas"),
        (asking("7200;refresher=uac", KNOWS, ("Min-SE", "3600")), HALF_AN_HOUR, "3600;refresher=uac"),
        (asking("7200", KNOWS, ("Min-SE", "9000")), HALF_AN_HOUR, "7200;refresher=uas"),
    ],
)
def test_the_callee_lowers_but_never_raises_and_picks_who_refreshes(
    request_: Request, rules: SessionTimerRules, told: str | None
) -> None:
    agreement = agree(request_, rules, None)
    assert (None if agreement is None else str(agreement)) == told


@pytest.mark.parametrize("current", ["uac", "uas"])
def test_in_a_running_session_the_roles_stay_unless_asked_otherwise(current: Role) -> None:
    told = agree(asking("600", KNOWS), HALF_AN_HOUR, current)
    assert told is not None
    assert told.refresher == current
    other: Role = "uas" if current == "uac" else "uac"
    told = agree(asking(f"600;refresher={other}", KNOWS), HALF_AN_HOUR, current)
    assert told is not None
    assert told.refresher == other
    told = agree(asking("600"), HALF_AN_HOUR, current)
    assert told is not None
    assert told.refresher == "uas", "who does not know of it cannot refresh"


# ── the UAC ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        (None, None),
        ("x", None),
        ("600;refresher=uac", "600;refresher=uac"),
        ("600;refresher=uas", "600;refresher=uas"),
        ("600", "600;refresher=uac"),
        ("30;refresher=uac", "30;refresher=uac"),
        ("1;refresher=uac", f"{LEAST_INTERVAL_S};refresher=uac"),
        ("30;refresher=uas", "90;refresher=uas"),
    ],
)
def test_the_caller_does_what_the_2xx_says(text: str | None, taken: str | None) -> None:
    response = response_to(invite(), 200, headers=[] if text is None else [("Session-Expires", text)])
    agreement = agreed(response)
    assert (None if agreement is None else str(agreement)) == taken

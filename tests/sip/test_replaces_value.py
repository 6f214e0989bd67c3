"""The value of Replaces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.model.errors import SipParseError
from offhook.sip.replaces_value import Replaces


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a@b;to-tag=1;from-tag=2", Replaces(sip_call_id="a@b", to_tag="1", from_tag="2")),
        (" a ; FROM-TAG = 2 ; To-Tag=1 ", Replaces(sip_call_id="a", to_tag="1", from_tag="2")),
        ("a;to-tag=0;from-tag=0", Replaces(sip_call_id="a", to_tag="0", from_tag="0")),
        ("a;to-tag=1;early-only;from-tag=2;x=y", Replaces(sip_call_id="a", to_tag="1", from_tag="2", early_only=True)),
        ("<{a}[b]?/>;to-tag=1;from-tag=2", Replaces(sip_call_id="<{a}[b]?/>", to_tag="1", from_tag="2")),
    ],
)
def test_a_dialog_is_named_by_its_receiver_s_view(text: str, value: Replaces) -> None:
    assert Replaces.parse(text) == value
    assert Replaces.parse(str(value)) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        ";",
        ";to-tag=1;from-tag=2",
        "a",
        "a;to-tag=1",
        "a;from-tag=2",
        "a;to-tag;from-tag=2",
        "a;to-tag=;from-tag=2",
        "a;to-tag=1;to-tag=1;from-tag=2",
        "a;to-tag=1;from-tag=2;from-tag=3",
        'a;to-tag="1";from-tag=2',
        "a b;to-tag=1;from-tag=2",
        "a;to-tag=1;from-tag=2,b;to-tag=1;from-tag=2",
        "a,b;to-tag=1;from-tag=2",
        "a;to-tag=1;from-tag=2;",
        "a;to-tag=1 2;from-tag=2",
        '"a";to-tag=1;from-tag=2',
    ],
)
def test_what_names_none_or_two(text: str) -> None:
    with pytest.raises(SipParseError) as caught:
        Replaces.parse(text)
    assert (caught.value.status, caught.value.field) == (400, "Replaces")


@given(text=st.text(alphabet='a1;=,-" <to-tagfrom', max_size=60))
def test_whatever_is_written_there_is_a_value_or_a_parse_error(text: str) -> None:
    try:
        value = Replaces.parse(text)
    except SipParseError:
        return
    assert Replaces.parse(str(value)) == value

"""What tenants may not say."""

from __future__ import annotations

import pytest

from offhook.model.errors import ConfigError
from offhook.store.forms import AgentForm, AnyForm, GatewayForm, NumberForm, OpenForm
from offhook.store.rights import Rights

RIGHTS = Rights(providers=("local",))


@pytest.mark.parametrize(
    ("account_id", "form", "field"),
    [
        ("default", AgentForm(id="a", provider="nobody"), "provider"),
        ("default", AgentForm(id="a", hold_audio="/etc/passwd"), "hold_audio"),
        ("b", NumberForm(user="*", agent="a"), "user"),
        ("b", OpenForm(id="anyone"), "kind"),
    ],
)
def test_what_is_the_operator_s_alone_is_refused_by_its_field(account_id: str, form: AnyForm, field: str) -> None:
    with pytest.raises(ConfigError) as refused:
        RIGHTS.check(account_id, form)
    assert refused.value.key == field


@pytest.mark.parametrize(
    ("account_id", "form"),
    [
        ("b", AgentForm(id="a", provider="local")),
        ("b", NumberForm(user="*", agent="a", trunk="mine")),
        ("b", NumberForm(user="100", agent="a")),
        ("b", GatewayForm(id="g", peers=("192.0.2.1",))),
        ("default", NumberForm(user="*", agent="a")),
        ("default", OpenForm(id="anyone")),
    ],
)
def test_what_concerns_an_account_alone_may_be_said(account_id: str, form: AnyForm) -> None:
    RIGHTS.check(account_id, form)

"""What tenants may not say."""

from __future__ import annotations

from typing import Any

import pytest

from offhook.model.errors import ConfigError
from offhook.store.forms import AgentForm, AnyForm, FallbackForm, NumberForm, ToolForm
from offhook.store.rights import Rights
from offhook.store.trunk_forms import GatewayForm, OpenForm

RIGHTS = Rights(providers=("local",), url_problem=lambda url: "is bad" if "bad" in url else "")


def agent(**options: Any) -> AgentForm:
    return AgentForm(id="a", options=options)


@pytest.mark.parametrize(
    ("account_id", "form", "field"),
    [
        ("default", AgentForm(id="a", provider="nobody"), "provider"),
        ("default", AgentForm(id="a", hold_audio="/etc/passwd"), "hold_audio"),
        ("default", AgentForm(id="a", fallbacks=(FallbackForm(provider="nobody"),)), "fallbacks[0].provider"),
        ("default", AgentForm(id="a", fallbacks=(FallbackForm(prompt="/etc/passwd"),)), "fallbacks[0].prompt"),
        ("b", ToolForm(id="t", name="t", url="https://t.example/", hold_audio="/etc/passwd"), "hold_audio"),
        ("b", ToolForm(id="t", name="t", url="https://t.example/", hold_audio="https://bad.example"), "hold_audio"),
        ("b", agent(base_url="https://mine.example"), "options.base_url"),
        ("b", agent(headers={"X-Mine": "1"}), "options.headers"),
        ("b", agent(stt_base_url="https://mine.example", api_key="k"), "options.stt_base_url"),
        ("b", agent(think_endpoint_url="https://mine.example", api_key="k"), "options.think_endpoint_url"),
        ("b", agent(cartesia={"base_url": "https://mine.example"}, api_key="k"), "options.cartesia.base_url"),
        ("b", agent(base_url="wss://bad.example", api_key="k"), "options.base_url"),
        (
            "b",
            AgentForm(
                id="a", fallbacks=(FallbackForm(provider="local", options={"base_url": "https://mine.example"}),)
            ),
            "fallbacks[0].options.base_url",
        ),
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
        ("b", AgentForm(id="a", fallbacks=(FallbackForm(prompt="default"), FallbackForm(provider="local")))),
        ("b", agent(base_url="https://mine.example", headers={"X-Mine": "1"}, api_key="k")),
        ("b", agent(stt_base_url="wss://mine.example", stt_api_key="k", base_url="")),
        ("b", agent(think_endpoint_url="https://mine.example", think_key="k")),
        ("b", agent(model="m")),
        ("b", NumberForm(user="*", agent="a", trunk="mine")),
        ("b", NumberForm(user="100", agent="a")),
        ("b", GatewayForm(id="g", peers=("192.0.2.1",))),
        ("default", NumberForm(user="*", agent="a")),
        ("default", OpenForm(id="anyone")),
    ],
)
def test_what_concerns_an_account_alone_may_be_said(account_id: str, form: AnyForm) -> None:
    RIGHTS.check(account_id, form)


def test_what_the_provider_cannot_work_with_is_refused() -> None:
    def refuse(agent: AgentForm) -> None:
        raise ConfigError("options.model", "is not known", "Leave it out")

    with pytest.raises(ConfigError, match=r"options\.model"):
        Rights(provider_check=refuse).check("default", agent())

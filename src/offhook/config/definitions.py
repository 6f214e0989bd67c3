"""What config.json defines: the forms that become rows, and the records they are."""

from __future__ import annotations

from collections.abc import Iterator

from offhook.config.settings import Settings
from offhook.config.sip4ai import (
    ACCOUNT_TRUNK_ID,
    EVENT_WEBHOOK_ID,
    MAIN_AGENT_ID,
    event_webhooks_of,
    function_tools_of,
    provider_agent,
)
from offhook.model.records import Agent, Number
from offhook.model.trunks import Trunk
from offhook.store.config_forms import ConfigForms
from offhook.store.form_secrets import Kind
from offhook.store.forms import AgentForm, Catalogue, NumberForm, agent_record, number_record
from offhook.store.trunk_forms import trunk_record

DEMO_AGENT_ID = "demo"


def forms_of(settings: Settings) -> ConfigForms:
    """What config.json defines, with what SIP4AI's keys of it stand for, last in each list.

    The demo agent where there is none, and every number where none is listed.
    """
    main = provider_agent(settings)
    agents = (*settings.agents, *(() if main is None else (main,)))
    agents = agents or (AgentForm(id=DEMO_AGENT_ID, provider="local", name="Demo"),)
    return ConfigForms(
        agents=agents,
        numbers=settings.numbers or (NumberForm(user="*", agent=(main or agents[0]).id),),
        trunks=settings.trunks,
        tools=(*settings.tools, *function_tools_of(settings)),
        squads=settings.squads,
        webhooks=(*settings.webhooks, *event_webhooks_of(settings)),
        places=dict(_places(settings)),
    )


def _places(settings: Settings) -> Iterator[tuple[tuple[Kind, str], str]]:
    """Where the user wrote what is in no list."""
    yield ("trunk", ACCOUNT_TRUNK_ID), "SIP_USERNAME"
    if provider_agent(settings) is not None:
        yield ("agent", MAIN_AGENT_ID), "provider"
    if settings.event_webhook:
        yield ("webhook", EVENT_WEBHOOK_ID), "event_webhook"
    for index, function in enumerate(settings.functions):
        yield ("tool", function.name), f"functions[{index}].name"


def agents_of(settings: Settings) -> tuple[Agent, ...]:
    """The configured agents as records, that of ``provider`` last; the demo agent where none is configured."""
    forms = forms_of(settings)
    agents = {agent.id: agent for agent in forms.agents}
    catalogue = Catalogue(agents=agents, tools={tool.id: tool for tool in forms.tools}, by_operator=agents)
    return tuple(agent_record(agent, catalogue) for agent in forms.agents)


def numbers_of(settings: Settings) -> tuple[Number, ...]:
    """The configured numbers as records; without any, every number reaches the agent of ``provider``, or the first."""
    return tuple(number_record(number) for number in forms_of(settings).numbers)


def trunks_of(settings: Settings) -> tuple[Trunk, ...]:
    """The configured trunks as records."""
    return tuple(trunk_record(trunk) for trunk in settings.trunks)

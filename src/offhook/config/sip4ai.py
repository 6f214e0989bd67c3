"""The agent that SIP4AI's keys of config.json describe, and what is wrong with these keys, in their own words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from offhook.bridge.options import KNOWN_ARE
from offhook.call.numbers import e164_of, read_target
from offhook.config.section import instead_of
from offhook.config.settings import Settings
from offhook.config.sip4ai_keys import ALL_WORDS, WORDS
from offhook.delivery.sip4ai_signing import SECRET_CHARACTERS_LEAST
from offhook.model.errors import ConfigError, SipParseError
from offhook.model.records import Agent
from offhook.sip.targets import HOW_TO_WRITE
from offhook.store.form_parts import check_url
from offhook.store.forms import AgentForm, Catalogue, ToolForm, WebhookForm, agent_record
from offhook.store.function_forms import check_function, function_forms
from offhook.store.trunk_forms import RegisterForm, TrunkForm

MAIN_AGENT_ID = "main"
EVENT_WEBHOOK_ID = "event_webhook"

ACCOUNT_TRUNK_ID = "sip"
"""The trunk of SIP_USERNAME and its companions."""

_CALLER_ID = re.compile(r"(\+[1-9])?[0-9]{2,20}")
"""E.164, or the extension of a PBX."""


def provider_agent(settings: Settings, provider: str = "") -> AgentForm | None:
    """The agent that ``provider``, its section and ``functions`` describe; None where config.json names none.

    ``provider``: as if config.json named this one.
    """
    if settings.audio_file and provider in ("", "audio_file"):
        return AgentForm(id=MAIN_AGENT_ID, provider="audio_file", options={"file": settings.audio_file})
    name = provider or settings.provider
    if not name:
        return None
    section = section_of(settings, name)
    tools, destinations = function_forms(settings.functions)
    return AgentForm(
        id=MAIN_AGENT_ID,
        provider=name,
        greeting=_said(section, "greeting"),
        instructions=_said(section, "instructions"),
        voice=_said(section, "voice"),
        hangs_up_when_done=settings.outbound.hangup_on_task_complete,
        tools=tuple(tool.id for tool in tools),
        destinations=destinations,
        options={key: value for key, value in section.items() if key not in ALL_WORDS},
    )


def provider_record(settings: Settings, provider: str = "") -> Agent | None:
    """``provider_agent`` as the record that a call acts on, with its tools.

    None where config.json names no provider, and has no section for the one asked for.
    """
    form = provider_agent(settings, provider)
    if form is None or not (provider_agent(settings) or section_of(settings, provider)):
        return None
    tools = {tool.id: tool for tool in function_tools_of(settings)}
    return agent_record(form, Catalogue(tools=tools, by_operator=(form.id,)))


def function_tools_of(settings: Settings) -> tuple[ToolForm, ...]:
    """The tools that ``functions`` are."""
    tools, _ = function_forms(settings.functions)
    return tools


def event_webhooks_of(settings: Settings) -> tuple[WebhookForm, ...]:
    """The webhook that ``event_webhook`` is, if it is there."""
    if not settings.event_webhook:
        return ()
    return (WebhookForm(id=EVENT_WEBHOOK_ID, url=settings.event_webhook, dialect="sip4ai"),)


def section_of(settings: Settings, provider: str) -> Mapping[str, Any]:
    """What config.json tells the provider of that name."""
    section = getattr(settings, provider, None)
    return section if isinstance(section, Mapping) else {}


def shown_number(caller_id: str) -> str:
    """As the called party sees it: E.164 where that can be told, or an extension; "" for what is no number."""
    number = e164_of(caller_id) or caller_id.strip()
    return number if _CALLER_ID.fullmatch(number) else ""


def _said(section: Mapping[str, Any], what: str) -> str:
    return str(section.get(_word(section, what), ""))


def _word(section: Mapping[str, Any], what: str) -> str:
    """How the section calls it."""
    return next((word for word in WORDS[what] if section.get(word)), what)


# ── errors ───────────────────────────────────────────────────────────────────────────────────────────────


def in_their_words(settings: Settings, problem: ConfigError) -> ConfigError:
    """A problem of the main agent (``options.voice``), named as config.json has it (``openai.voice``)."""
    form = provider_agent(settings)
    if form is None or problem.key == "provider":
        return problem
    if form.provider == "audio_file":
        fix = "Give AUDIO_FILE, or audio_file in config.json, the path of a WAV file"
        return ConfigError("audio_file", problem.problem, fix)
    section = section_of(settings, form.provider)
    field = problem.key.removeprefix("options.")
    fix = problem.fix.replace("options.", f"{form.provider}.")
    if fix.startswith(KNOWN_ARE) and field in section:
        known = dict.fromkeys((*ALL_WORDS, *fix.removeprefix(KNOWN_ARE).split(", ")))
        fix = instead_of(field, list(known))
    key = _word(section, field) if field in WORDS else field
    return ConfigError(f"{form.provider}.{key}", problem.problem, fix)


# ── what no single key shows ─────────────────────────────────────────────────────────────────────────────


def sip4ai_checks(settings: Settings) -> Iterator[Callable[[Settings], None]]:
    """Each raises ``ConfigError``."""
    yield from (_check_local, _check_main, _check_target, _check_task, _check_caller_id, _check_result_webhook)
    for index in range(len(settings.functions)):
        yield partial(_check_function, index)
    yield from (_check_tools, _check_event_webhook, _check_secret)


def _check_local(settings: Settings) -> None:
    """Every other provider knows its options itself."""
    if settings.provider == "local" and (unknown := [key for key in settings.local if key not in ALL_WORDS]):
        fix = f"Remove it, or use one of: {', '.join(ALL_WORDS)}"
        raise ConfigError(f"local.{unknown[0]}", "is not known", fix)


def _check_main(settings: Settings) -> None:
    if provider_agent(settings) is None:
        return
    for index, agent in enumerate(settings.agents):
        if agent.id == MAIN_AGENT_ID:
            fix = "Give it another id, or remove provider"
            raise ConfigError(f"agents[{index}].id", f"{agent.id!r} is the agent that provider describes", fix)


def _check_function(index: int, settings: Settings) -> None:
    check_function("functions", settings.functions, index)


def _check_tools(settings: Settings) -> None:
    names = [tool.id for tool in function_tools_of(settings)]
    for index, tool in enumerate(settings.tools):
        if tool.id in names:
            fix = "Give it another id, or rename the function"
            raise ConfigError(f"tools[{index}].id", f"{tool.id!r} is the name of a function", fix)


def _check_event_webhook(settings: Settings) -> None:
    if settings.event_webhook:
        check_url("event_webhook", settings.event_webhook)
    for index, webhook in enumerate(settings.webhooks):
        if settings.event_webhook and webhook.id == EVENT_WEBHOOK_ID:
            raise ConfigError(f"webhooks[{index}].id", "is that of event_webhook", "Give it another id")


def _check_secret(settings: Settings) -> None:
    if 0 < len(settings.webhook_secret) < SECRET_CHARACTERS_LEAST:
        fix = f"Give it {SECRET_CHARACTERS_LEAST} characters or more, or leave it out: then one is made"
        raise ConfigError("webhook_secret", "is too short to sign with", fix)


def _check_target(settings: Settings) -> None:
    target = settings.outbound.target_number
    if not target:
        if settings.mode == "outbound":
            fix = 'Name whom to call, like "+4930123456", or set mode to inbound'
            raise ConfigError("outbound.target_number", "is missing: mode is outbound", fix)
        return
    try:
        read_target(target)
    except SipParseError as error:
        raise ConfigError("outbound.target_number", error.problem, HOW_TO_WRITE) from None


def _check_task(settings: Settings) -> None:
    """A file that is played needs none."""
    if settings.mode == "outbound" and not (settings.outbound.task_description or settings.audio_file):
        fix = "Say what the agent is to do, and when it is done"
        raise ConfigError("outbound.task_description", "is missing: mode is outbound", fix)


def _check_caller_id(settings: Settings) -> None:
    caller_id = settings.outbound.caller_id
    if not caller_id or any(_may_show(trunk, caller_id) for trunk in settings.trunks):
        return
    if not shown_number(caller_id):
        raise ConfigError("outbound.caller_id", f"{caller_id!r} is no number", "Write it like +4930123456")
    if settings.mode == "outbound" and settings.trunks:
        fix = "Add it to caller_ids of the trunk whose carrier has verified it"
        raise ConfigError("outbound.caller_id", f"{caller_id} may be shown by no trunk", fix)


def _may_show(trunk: TrunkForm, caller_id: str) -> bool:
    """A register trunk its own user name as well."""
    number = shown_number(caller_id).removeprefix("+")
    own = isinstance(trunk, RegisterForm) and trunk.username == caller_id.strip()
    return own or (bool(number) and number in [one.removeprefix("+") for one in trunk.caller_ids])


def _check_result_webhook(settings: Settings) -> None:
    if settings.outbound.result_webhook:
        check_url("outbound.result_webhook", settings.outbound.result_webhook)

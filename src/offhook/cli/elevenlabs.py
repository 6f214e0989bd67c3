"""``offhook elevenlabs``: sets an agent at ElevenLabs up for the telephone, as only its owner can.

Wire: elevenlabs.io/docs/api-reference (agents, tools).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode
from urllib.request import ProxyHandler, Request, build_opener

import click
import msgspec

from offhook.bridge.codec import ToolSpec
from offhook.bridge.elevenlabs_agent import NAME, VENDOR_URL
from offhook.bridge.options import as_json
from offhook.call.tool_specs import offered_tools
from offhook.config import Settings, agents_of, load_settings
from offhook.model.records import Agent

ANSWER_S = 20.0
"""For one request; the vendor's take a second or two."""

FORMAT = "ulaw_8000"

CLIENT_EVENTS = (
    "conversation_initiation_metadata",
    "ping",
    "audio",
    "interruption",
    "user_transcript",
    "tentative_user_transcript",
    "agent_response",
    "agent_response_correction",
    "agent_response_complete",
    "client_tool_call",
)
"""What offhook listens to."""

OVERRIDES: Mapping[str, Any] = {
    "conversation_config_override": {
        "agent": {"first_message": True, "language": True, "prompt": {"prompt": True, "llm": True}},
        "tts": {"voice_id": True, "model_id": True, "stability": True, "similarity_boost": True, "speed": True},
        "asr": {"keywords": True},
        "conversation": {"max_duration_seconds": True},
    },
    "custom_llm_extra_body": True,
}
"""What offhook may say of a conversation (``options`` of an agent)."""

IGNORED_TERMS = (
    *("mm", "mhm", "mm-hm", "mm-hmm", "hm", "hmm", "uh-huh", "aha", "ah", "oh"),
    *("yes", "yeah", "yep", "okay", "ok", "right", "sure", "i see", "got it", "good", "great", "exactly"),
    *("ja", "genau", "gut", "klar", "sí", "vale", "claro", "oui", "d'accord", "sì", "certo", "sim"),
)
"""Whoever says no more than this over the agent lets it go on. ElevenLabs' own lists for a language come on top."""

LONGEST_TOOL_S, SHORTEST_TOOL_S = 120, 1

_LITERALS = ("string", "integer", "number", "boolean")


@click.group()
def elevenlabs() -> None:
    """Set up agents at ElevenLabs."""


@elevenlabs.command()
@click.argument("agent_id", metavar="AGENT_ID")
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), help="config.json to read.")
@click.option("--dry-run", is_flag=True, help="Print what would be changed, as JSON, and change nothing.")
def prepare(*, agent_id: str, config: Path | None, dry_run: bool) -> None:
    """Make the agent AGENT_ID (agent_…) of ElevenLabs fit for the telephone.

    Sets both audio formats to ulaw_8000, the events offhook listens to, words that do not interrupt, allows what
    offhook overrides, and creates the tools of those agents of config.json that use it.
    """
    settings = load_settings(config)
    agents = agents_using(settings, agent_id)
    account = _Account(settings, agents)
    before = account.ask("GET", f"/v1/convai/agents/{quote(agent_id, safe='')}")
    tools = [*missing_tools(before, agents)]
    if dry_run:
        planned = {"tools": [tool_config(tool) for tool in tools], "agent": changes(before, ())}
        click.echo(msgspec.json.format(msgspec.json.encode(planned), indent=2).decode())
        return
    if not agents:
        click.echo(
            f"no agent of config.json has options.agent_id {agent_id}: it gets offhook's own tools only", err=True
        )
    tool_ids = [account.keep_tool(tool) for tool in tools]
    account.ask("PATCH", f"/v1/convai/agents/{quote(agent_id, safe='')}", changes(before, tool_ids))
    click.echo(f"{agent_id} speaks {FORMAT}, and has {len(tool_ids)} tools: {', '.join(tool.name for tool in tools)}")


def agents_using(settings: Settings, agent_id: str) -> list[Agent]:
    return [
        agent for agent in agents_of(settings) if agent.provider == NAME and agent.options.get("agent_id") == agent_id
    ]


def missing_tools(before: Mapping[str, Any], agents: Iterable[Agent]) -> Iterator[ToolSpec]:
    """Those its agents offer, each name once, but for what ElevenLabs does itself: by its own ``end_call`` it ends."""
    built_in = _at(before, "conversation_config", "agent", "prompt", "built_in_tools")
    seen = {name for name, tool in built_in.items() if tool}
    for agent in [*agents] or [Agent(agent_id="", provider=NAME)]:
        for tool in offered_tools(agent):
            if tool.name not in seen:
                seen.add(tool.name)
                yield tool


def changes(before: Mapping[str, Any], tool_ids: Iterable[str]) -> dict[str, Any]:
    """The body that makes the agent fit; what it has of lists stays."""
    config = _at(before, "conversation_config")
    language = _at(config, "agent").get("language") or "en"
    turn = {
        "interruption_ignore_terms": _joined(_at(config, "turn").get("interruption_ignore_terms"), IGNORED_TERMS),
        "interruption_ignore_term_languages": _joined(
            _at(config, "turn").get("interruption_ignore_term_languages"), (language,)
        ),
        "merge_with_default_ignore_terms": True,
    }
    return {
        "conversation_config": {
            "asr": {"user_input_audio_format": FORMAT},
            "tts": {"agent_output_audio_format": FORMAT},
            "turn": turn,
            "conversation": {"client_events": _joined(_at(config, "conversation").get("client_events"), CLIENT_EVENTS)},
            "agent": {"prompt": {"tool_ids": _joined(_at(config, "agent", "prompt").get("tool_ids"), tool_ids)}},
        },
        "platform_settings": {"overrides": OVERRIDES},
    }


def tool_config(tool: ToolSpec) -> dict[str, Any]:
    """A client tool: ElevenLabs calls it on the conversation's websocket and waits for what it returns."""
    return {
        "type": "client",
        "name": tool.name,
        "description": tool.description or tool.name,
        "expects_response": True,
        "response_timeout_secs": max(SHORTEST_TOOL_S, min(int(tool.timeout_s) + 1, LONGEST_TOOL_S)),
        "parameters": parameter_schema(as_json(tool.parameters), tool.name),
    }


def parameter_schema(schema: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The part of JSON Schema that ElevenLabs knows; each value needs a description there."""
    description = schema.get("description") or name
    kind = _kind(schema)
    if kind == "object":
        properties = {key: parameter_schema(one, key) for key, one in schema.get("properties", {}).items()}
        return {
            "type": "object",
            "description": description,
            "properties": properties,
            "required": [key for key in schema.get("required", ()) if key in properties],
        }
    if kind == "array":
        return {"type": "array", "description": description, "items": parameter_schema(schema.get("items") or {}, name)}
    literal: dict[str, Any] = {"type": kind, "description": description}
    if kind == "string" and schema.get("enum"):
        literal["enum"] = [str(one) for one in schema["enum"]]
    return literal


def _kind(schema: Mapping[str, Any]) -> str:
    """Of several types the first that is none of null; what says none is told as text."""
    kinds = schema.get("type")
    for kind in [kinds] if isinstance(kinds, str) else kinds or ():
        if kind in ("object", "array", *_LITERALS):
            return str(kind)
    return "object" if "properties" in schema else "string"


class _Account:
    """ElevenLabs' REST interface, with the key of the agent that is prepared. Raises ``click.ClickException``."""

    def __init__(self, settings: Settings, agents: Iterable[Agent]) -> None:
        vendor = settings.providers.elevenlabs
        own = next((agent.options for agent in agents), {})
        self._key = str(own.get("api_key") or vendor.api_key)
        self._url = str(own.get("base_url") or vendor.base_url or VENDOR_URL).rstrip("/")
        self._tools: dict[str, str] | None = None
        if not self._key:
            raise click.ClickException("no key: set ELEVENLABS_API_KEY, or providers.elevenlabs.api_key in config.json")

    def keep_tool(self, tool: ToolSpec) -> str:
        """Create it, or bring the one of this name up to date; its id."""
        body = {"tool_config": tool_config(tool)}
        tool_id = self._known_tools().get(tool.name)
        if tool_id is not None:
            self.ask("PATCH", f"/v1/convai/tools/{quote(tool_id, safe='')}", body)
            return tool_id
        return str(self.ask("POST", "/v1/convai/tools", body)["id"])

    def _known_tools(self) -> dict[str, str]:
        """Client tools of the workspace: ids by name."""
        if self._tools is None:
            self._tools = {
                one["tool_config"]["name"]: one["id"]
                for page in self._pages("/v1/convai/tools", types="client", page_size="100")
                for one in page["tools"]
                if one["tool_config"].get("type") == "client"
            }
        return self._tools

    def _pages(self, path: str, **query: str) -> Iterator[Mapping[str, Any]]:
        while True:
            page = self.ask("GET", f"{path}?{urlencode(query)}")
            yield page
            if not page.get("has_more") or not page.get("next_cursor"):
                return
            query["cursor"] = page["next_cursor"]

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        request = Request(
            self._url + path,
            method=method,
            data=None if body is None else msgspec.json.encode(body),
            headers={"xi-api-key": self._key, "Content-Type": "application/json"},
        )
        try:
            with build_opener(ProxyHandler({})).open(request, timeout=ANSWER_S) as response:
                return msgspec.json.decode(response.read(), type=dict[str, Any])
        except HTTPError as error:
            with error:
                said = error.read(500).decode("utf-8", "replace")
            raise click.ClickException(f"ElevenLabs refused {method} {path} ({error.code}): {said}") from None
        except (URLError, OSError, msgspec.DecodeError) as error:
            raise click.ClickException(f"ElevenLabs gives no answer at {self._url}: {error}") from None


def _at(document: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    """The object at ``path``; an empty one where there is none."""
    for name in path:
        found = document.get(name)
        document = found if isinstance(found, dict) else {}
    return document


def _joined(had: Iterable[str] | None, more: Iterable[str]) -> list[str]:
    """Both, each once, in their order."""
    return [*dict.fromkeys([*(had or ()), *more])]

"""A workspace at ElevenLabs: its agents, its tools, and who may talk to them. Served over HTTP as the vendor does.

Wire: elevenlabs.io/docs/api-reference (agents, tools, get-signed-url).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

import msgspec
from aiohttp import web

from offhook.simulators.stage import Journal

FORMATS = ("pcm_8000", "pcm_16000", "pcm_22050", "pcm_24000", "pcm_44100", "pcm_48000", "ulaw_8000")

NEW_AGENT: Mapping[str, Any] = {
    "conversation_config": {
        "asr": {"user_input_audio_format": "pcm_16000"},
        "tts": {"agent_output_audio_format": "pcm_16000", "voice_id": "default"},
        "turn": {"interruption_ignore_terms": []},
        "agent": {"first_message": "Hello.", "language": "en", "prompt": {"prompt": "", "tool_ids": []}},
        "conversation": {
            "client_events": [
                "conversation_initiation_metadata",
                "ping",
                "audio",
                "interruption",
                "user_transcript",
                "tentative_user_transcript",
                "agent_response",
                "agent_response_correction",
                "client_tool_call",
            ]
        },
    },
    "platform_settings": {"auth": {"enable_auth": False}, "overrides": {}},
}
"""As the dashboard makes one, which catches clients that believe in a format, and in overrides."""

_ALL = {
    "asr": {"keywords": True},
    "turn": {"soft_timeout_config": {"message": True}},
    "tts": {"voice_id": True, "model_id": True, "stability": True, "speed": True, "similarity_boost": True},
    "conversation": {"text_only": True, "max_duration_seconds": True},
    "agent": {"first_message": True, "language": True, "prompt": {"prompt": True, "llm": True}},
}

TELEPHONE_AGENT: Mapping[str, Any] = {
    "conversation_config": {
        "asr": {"user_input_audio_format": "ulaw_8000"},
        "tts": {"agent_output_audio_format": "ulaw_8000"},
        "turn": {"interruption_ignore_terms": ["mm-hm", "uh-huh", "yeah", "okay", "right"]},
        "conversation": {
            "client_events": [
                *NEW_AGENT["conversation_config"]["conversation"]["client_events"],
                "agent_response_complete",
            ]
        },
    },
    "platform_settings": {"overrides": {"conversation_config_override": _ALL, "custom_llm_extra_body": True}},
}
"""What differs in one that was prepared for the telephone."""


class Workspace:
    """Every agent that is asked for exists, and is as ``agent`` says until it is changed."""

    def __init__(self, journal: Journal, *, agent: Mapping[str, Any], api_key: str) -> None:
        self._journal = journal
        self._agent = merged(NEW_AGENT, agent)
        self._api_key = api_key
        self._agents: dict[str, dict[str, Any]] = {}
        self._tools: dict[str, dict[str, Any]] = {}
        self._signatures: dict[str, str] = {}

    def agent(self, agent_id: str) -> dict[str, Any]:
        return self._agents.setdefault(agent_id, deepcopy(self._agent))

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        return [
            web.get("/v1/convai/conversation/get-signed-url", self._sign),
            web.get("/v1/convai/agents/{agent_id}", self._show),
            web.patch("/v1/convai/agents/{agent_id}", self._change),
            web.get("/v1/convai/tools", self._list_tools),
            web.post("/v1/convai/tools", self._create_tool),
            web.patch("/v1/convai/tools/{tool_id}", self._change_tool),
        ]

    # ── who may talk to an agent ─────────────────────────────────────────────────────────────────────────

    async def _sign(self, request: web.Request) -> web.Response:
        self._keep(request)
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        agent_id = request.query.get("agent_id", "")
        if not agent_id:
            return self._error(422, "missing", "agent_id is missing")
        signature = secrets.token_urlsafe(16)
        self._signatures[signature] = agent_id
        scheme = "wss" if request.secure else "ws"
        query = f"agent_id={agent_id}&conversation_signature={signature}"
        return web.json_response({"signed_url": f"{scheme}://{request.host}/v1/convai/conversation?{query}"})

    def admits(self, request: web.Request) -> bool:
        """Whether this websocket may be opened: a private agent's needs a signature that was given for it."""
        agent_id = request.query.get("agent_id", "")
        signature = request.query.get("conversation_signature")
        if signature is not None:
            return self._signatures.get(signature) == agent_id
        return not self.agent(agent_id)["platform_settings"]["auth"]["enable_auth"]

    def _refusal(self, request: web.Request) -> web.Response | None:
        key = request.headers.get("xi-api-key", "")
        if key and self._api_key in ("", key):
            return None
        return self._error(401, "invalid_api_key", "the header xi-api-key holds no key that is known")

    # ── agents and tools ─────────────────────────────────────────────────────────────────────────────────

    async def _show(self, request: web.Request) -> web.Response:
        self._keep(request)
        return self._refusal(request) or self._agent_document(request.match_info["agent_id"])

    async def _change(self, request: web.Request) -> web.Response:
        body = await self._body(request)
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        agent_id = request.match_info["agent_id"]
        changed = merged(self.agent(agent_id), body)
        problems = list(self._agent_problems(changed))
        if problems:
            return self._error(422, "value_error", "; ".join(problems))
        self._agents[agent_id] = changed
        return self._agent_document(agent_id)

    def _agent_document(self, agent_id: str) -> web.Response:
        return web.json_response({"agent_id": agent_id, "name": agent_id, **self.agent(agent_id)})

    def _agent_problems(self, agent: Mapping[str, Any]) -> Iterator[str]:
        config = agent["conversation_config"]
        for name in (config["asr"]["user_input_audio_format"], config["tts"]["agent_output_audio_format"]):
            if name not in FORMATS:
                yield f"{name!r} is no audio format"
        for tool_id in config["agent"]["prompt"]["tool_ids"]:
            if tool_id not in self._tools:
                yield f"there is no tool {tool_id}"

    async def _list_tools(self, request: web.Request) -> web.Response:
        self._keep(request)
        tools = [{"id": tool_id, "tool_config": config} for tool_id, config in self._tools.items()]
        return self._refusal(request) or web.json_response({"tools": tools, "has_more": False, "next_cursor": None})

    async def _create_tool(self, request: web.Request) -> web.Response:
        body = await self._body(request)
        return self._refusal(request) or self._keep_tool(f"tool_{len(self._tools) + 1}", body)

    async def _change_tool(self, request: web.Request) -> web.Response:
        body = await self._body(request)
        tool_id = request.match_info["tool_id"]
        if tool_id not in self._tools:
            return self._error(404, "not_found", f"there is no tool {tool_id}")
        return self._refusal(request) or self._keep_tool(tool_id, body)

    def _keep_tool(self, tool_id: str, body: Mapping[str, Any]) -> web.Response:
        config = body.get("tool_config")
        problem = tool_problem(config)
        if problem:
            return self._error(422, "value_error", problem)
        self._tools[tool_id] = config if isinstance(config, dict) else {}
        return web.json_response({"id": tool_id, "tool_config": config})

    # ── HTTP ─────────────────────────────────────────────────────────────────────────────────────────────

    async def _body(self, request: web.Request) -> dict[str, Any]:
        text = await request.text()
        self._keep(request, text)
        try:
            return msgspec.json.decode(text or "{}", type=dict[str, Any])
        except msgspec.DecodeError:
            return {}

    def _keep(self, request: web.Request, text: str = "") -> None:
        self._journal.note(0, f"{request.method} {request.path_qs}", text)

    def _error(self, status: int, kind: str, message: str) -> web.Response:
        self._journal.problems.append(message)
        return web.json_response({"detail": {"status": kind, "message": message}}, status=status)


def tool_problem(config: object) -> str:
    """What is wrong with a client tool; "" when nothing is. Every parameter needs a description."""
    if not isinstance(config, dict) or config.get("type") != "client":
        return "tool_config is no client tool"
    if not config.get("name") or not config.get("description"):
        return "a tool needs a name and a description"
    if not 1 <= config.get("response_timeout_secs", 20) <= 120:
        return "response_timeout_secs is not between 1 and 120"
    parameters = config.get("parameters")
    if parameters is None:
        return ""
    return _parameter_problem("parameters", parameters)


def _parameter_problem(path: str, schema: object) -> str:
    if not isinstance(schema, dict) or schema.get("type") not in (
        "object",
        "array",
        "string",
        "number",
        "integer",
        "boolean",
    ):
        return f"{path} has no type"
    unknown = set(schema) - {"type", "description", "enum", "properties", "required", "items"}
    if unknown:
        return f"{path} has unknown fields: {', '.join(sorted(unknown))}"
    if schema["type"] == "object":
        problems = (_parameter_problem(f"{path}.{name}", one) for name, one in schema.get("properties", {}).items())
        return next((problem for problem in problems if problem), "")
    if schema["type"] == "array":
        return _parameter_problem(f"{path}.items", schema.get("items"))
    return "" if schema.get("description") else f"{path} needs a description"


def merged(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """``change`` laid over ``base``, object by object."""
    result = deepcopy(dict(base))
    for key, value in change.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else deepcopy(value)
    return result


def not_allowed(overrides: Mapping[str, Any], allowed: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Paths of what a conversation may not override."""
    for key, value in overrides.items():
        permission = allowed.get(key)
        here = f"{path}.{key}" if path else key
        if isinstance(value, dict):
            yield from not_allowed(value, permission if isinstance(permission, dict) else {}, here)
        elif permission is not True:
            yield here

"""The items of a simulated OpenAI conversation: what the real service refuses of them, and how much was heard. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from offhook.simulators.openai_session import OpenAiRefusalError

MAX_CALL_ID = 32

CONTENT_TYPES = {"system": ("input_text",), "user": ("input_text", "input_audio"), "assistant": ("output_text",)}


@dataclass(slots=True)
class _Item:
    kind: str
    role: str
    audio_ms: int = 0


class Items:
    """By id, in their order; and the ids of the functions that were called."""

    def __init__(self) -> None:
        self._items: dict[str, _Item] = {}
        self._calls: set[str] = set()

    def add(self, item: dict[str, Any], *, audio_ms: int = 0) -> str | None:
        """Returns the id of the one before."""
        previous = next(reversed(self._items), None)
        self._items[item["id"]] = _Item(item["type"], item.get("role", ""), audio_ms)
        return previous

    def audio_sent(self, item_id: str, ms: int) -> None:
        if item_id in self._items:
            self._items[item_id].audio_ms += ms

    def call_made(self, call_id: str) -> None:
        self._calls.add(call_id)

    def check_new(self, item: dict[str, Any]) -> None:
        """Raises ``OpenAiRefusalError``."""
        if item["id"] in self._items:
            problem = f"Error adding item: an item with id '{item['id']}' already exists."
            raise OpenAiRefusalError(problem, "item_create_duplicate_item_id", "item.id")
        match item.get("type"):
            case "message":
                _check_message(item)
            case "function_call":
                _check_call_id(item)
                self._calls.add(item["call_id"])
            case "function_call_output":
                self._check_output(item)
            case kind:
                raise OpenAiRefusalError(f"Invalid value: {kind!r}.", "invalid_value", "item.type")

    def _check_output(self, item: dict[str, Any]) -> None:
        _check_call_id(item)
        if item["call_id"] not in self._calls:
            problem = f"Tool call ID '{item['call_id']}' not found in conversation."
            raise OpenAiRefusalError(problem, "invalid_tool_call_id", "item.call_id")
        if not isinstance(item.get("output"), str):
            raise OpenAiRefusalError("Invalid type for 'item.output'.", "invalid_type", "item.output")

    def delete(self, event: dict[str, Any]) -> str:
        """Its id. Raises ``OpenAiRefusalError``."""
        item_id = self._known(event, "item_delete_invalid_item_id")
        del self._items[item_id]
        return item_id

    def truncate(self, event: dict[str, Any]) -> tuple[str, int]:
        """Its id, and how much of it was heard, in ms. Raises ``OpenAiRefusalError``."""
        item_id = self._known(event, "item_truncate_invalid_item_id")
        item, end_ms = self._items[item_id], event.get("audio_end_ms")
        if item.role != "assistant" or event.get("content_index") != 0:
            problem = "Only model output audio messages can be truncated"
            raise OpenAiRefusalError(problem, "invalid_value", "item_id")
        if not isinstance(end_ms, int) or end_ms < 0:
            raise OpenAiRefusalError("Invalid 'audio_end_ms'.", "invalid_value", "audio_end_ms")
        if end_ms > item.audio_ms:
            problem = f"Audio content of {item.audio_ms}ms is already shorter than {end_ms}ms"
            raise OpenAiRefusalError(problem, "invalid_value", "audio_end_ms")
        item.audio_ms = end_ms
        return item_id, end_ms

    def _known(self, event: dict[str, Any], code: str) -> str:
        item_id = event.get("item_id")
        if item_id not in self._items:
            problem = f"Error: the item with id '{item_id}' does not exist."
            raise OpenAiRefusalError(problem, code, "item_id")
        return str(item_id)


def text_of(message: dict[str, Any]) -> str:
    """What a message says in writing."""
    return " ".join(str(part.get("text", "")) for part in message.get("content") or ())


def _check_message(item: dict[str, Any]) -> None:
    role = str(item.get("role"))
    allowed = CONTENT_TYPES.get(role)
    if allowed is None:
        raise OpenAiRefusalError(f"Invalid value: {role!r}.", "invalid_value", "item.role")
    for index, part in enumerate(item.get("content") or ()):
        if part.get("type") not in allowed:
            listed = ", ".join(repr(name) for name in allowed)
            problem = f"Invalid value: {part.get('type')!r}. Supported values are: {listed}."
            raise OpenAiRefusalError(problem, "invalid_value", f"item.content[{index}].type")


def _check_call_id(item: dict[str, Any]) -> None:
    call_id = item.get("call_id")
    if not isinstance(call_id, str) or not call_id or len(call_id) > MAX_CALL_ID:
        problem = f"Invalid 'item.call_id': expected a string of at most {MAX_CALL_ID} characters."
        raise OpenAiRefusalError(problem, "invalid_value", "item.call_id")

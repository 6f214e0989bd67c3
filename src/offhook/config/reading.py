"""config.json, the environment and flags, merged into one document: the later win over the earlier."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import json5
import msgspec

from offhook.config.checking import form_of, problem_of
from offhook.config.schema import SCHEMA_KEY
from offhook.config.section import Section
from offhook.config.settings import Settings
from offhook.config.sip4ai_environment import overlay, put
from offhook.config.sip4ai_keys import ProviderSection
from offhook.model.errors import ConfigError

CONFIG_FILE_VARIABLE = "CONFIG_FILE"
DEFAULT_CONFIG_FILE = "config.json"
ENVIRONMENT_PREFIX = "OFFHOOK_"

OTHER_VARIABLES = frozenset({"OFFHOOK_MASTER_KEY", "OFFHOOK_API_KEY"})
"""Variables of ours that no key of config.json stands for."""

VENDOR_VARIABLES: Mapping[str, tuple[str, str]] = {
    "OPENAI_API_KEY": ("openai", "api_key"),
    "OPENAI_BASE_URL": ("openai", "base_url"),
    "ELEVENLABS_API_KEY": ("elevenlabs", "api_key"),
    "ELEVEN_LABS_API_KEY": ("elevenlabs", "api_key"),
    "ELEVENLABS_BASE_URL": ("elevenlabs", "base_url"),
    "GOOGLE_API_KEY": ("gemini", "api_key"),
    "GEMINI_API_KEY": ("gemini", "api_key"),
    "GOOGLE_GEMINI_BASE_URL": ("gemini", "base_url"),
    "DEEPGRAM_API_KEY": ("deepgram", "api_key"),
    "DEEPGRAM_BASE_URL": ("deepgram", "base_url"),
    "CARTESIA_API_KEY": ("cartesia", "api_key"),
    "CARTESIA_KEY": ("cartesia", "api_key"),
    "CARTESIA_BASE_URL": ("cartesia", "base_url"),
    "ULTRAVOX_API_KEY": ("ultravox", "api_key"),
    "ULTRAVOX_BASE_URL": ("ultravox", "base_url"),
    "ANTHROPIC_API_KEY": ("anthropic", "api_key"),
    "GROQ_API_KEY": ("groq", "api_key"),
}
"""What the vendors' own tools read; of two for one key the first counts (Google's SDK prefers GOOGLE_API_KEY). They
lie around on many machines, so they say only what the file does not."""

MAX_CONFIG_BYTES = 4 * 1024 * 1024
"""No sensible configuration is larger; a log file named by mistake is."""

_log = logging.getLogger("offhook.config")


def file_of(path: Path | None, environment: Mapping[str, str]) -> Path | None:
    """The file to read: the one asked for, else ``config.json`` where there is one."""
    named = path if path is not None else environment.get(CONFIG_FILE_VARIABLE)
    file = Path(named or DEFAULT_CONFIG_FILE)
    return file if named is not None or file.exists() else None


def read_document(file: Path) -> dict[str, Any]:
    """The file's document. Raises ``ConfigError``."""
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise ConfigError(str(file), f"cannot be read ({error.strerror})", "Give the path of a config.json") from None
    if len(raw) > MAX_CONFIG_BYTES:
        raise ConfigError(str(file), f"is larger than {MAX_CONFIG_BYTES} bytes", "Give the path of a config.json")
    try:
        document = json5.loads(raw.decode())
    except (ValueError, RecursionError) as error:
        problem = str(error).replace("<string>:", "line ", 1)
        raise ConfigError(str(file), f"is not JSON: {problem}", "Mend the file; comments are allowed") from None
    if not isinstance(document, dict):
        raise ConfigError(str(file), "is not a JSON object", 'Start it with "{" and end it with "}"')
    document.pop(SCHEMA_KEY, None)
    return document


@dataclass(frozen=True, kw_only=True, slots=True)
class Merged:
    """``problems``: variables that cannot be used; the document has nothing of them."""

    document: dict[str, Any]
    problems: tuple[ConfigError, ...]


def merge(path: Path | None, environment: Mapping[str, str], flags: Mapping[str, object] | None = None) -> Merged:
    """One document of all three. Variables that offhook does not know are logged.

    Raises ``ConfigError`` for a file that cannot be used at all.
    """
    file = file_of(path, environment)
    document = {} if file is None else read_document(file)
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    for sentence in misspelt(environment):
        _log.warning("%s", sentence)
    problems = list(_overlay_environment(document, environment))
    _fill_in(document, environment)
    problems += overlay(document, environment, vendors=_vendors_with_key(environment))
    for key, value in given.items():
        put(document, key.split("."), value)
    _spell_http(document, environment, given)
    return Merged(document=_in_whole_characters("", document), problems=tuple(problems))


def _in_whole_characters(path: str, value: Any) -> Any:
    """``value`` with every string encodable: JSON writes an emoji as two halves (``\\ud83d\\ude00``), which json5
    leaves apart. Raises ``ConfigError`` for a half without the other, and for a variable that is no UTF-8."""
    match value:
        case str() if any("\ud800" <= character <= "\udfff" for character in value):
            try:
                return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
            except UnicodeDecodeError:
                fix = "Write the character itself, in UTF-8"
                raise ConfigError(path or "config.json", "holds half of a character", fix) from None
        case dict():
            named = {_in_whole_characters(path, key): each for key, each in value.items()}
            return {key: _in_whole_characters(f"{path}.{key}".lstrip("."), each) for key, each in named.items()}
        case list():
            return [_in_whole_characters(f"{path}[{index}]", each) for index, each in enumerate(value)]
        case _:
            return value


def misspelt(environment: Mapping[str, str]) -> tuple[str, ...]:
    """A sentence for each variable that begins like ours and is none, naming the nearest; its value is not told."""
    known = sorted({*_variables(), *OTHER_VARIABLES})
    return tuple(
        f"{name} is no variable offhook knows: {_nearest(name, known)}"
        for name in sorted(environment)
        if name.startswith(ENVIRONMENT_PREFIX) and name not in known
    )


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, 1, 0.6)
    return f"did you mean {near[0]}?" if near else "it is ignored"


@cache
def _variables() -> Mapping[str, tuple[tuple[str, ...], Any]]:
    """Variable → (path, type) of every key that one environment variable can hold."""
    return {ENVIRONMENT_PREFIX + "_".join(path).upper(): (path, kind) for path, kind in _scalar_keys(Settings)}


def _overlay_environment(document: dict[str, Any], environment: Mapping[str, str]) -> Iterator[ConfigError]:
    for variable, (path, kind) in _variables().items():
        if variable in environment:
            try:
                put(document, path, _from_text(variable, environment[variable], kind))
            except ConfigError as error:
                yield error


def _fill_in(document: dict[str, Any], environment: Mapping[str, str]) -> None:
    for variable, (vendor, key) in VENDOR_VARIABLES.items():
        vendors = document.get("providers", {})
        said = vendors.get(vendor, {}) if isinstance(vendors, dict) else {}
        if environment.get(variable) and isinstance(said, dict) and not said.get(key):
            put(document, ("providers", vendor, key), environment[variable])


def _vendors_with_key(environment: Mapping[str, str]) -> frozenset[str]:
    return frozenset(
        vendor for variable, (vendor, key) in VENDOR_VARIABLES.items() if key == "api_key" and environment.get(variable)
    )


def _spell_http(document: dict[str, Any], environment: Mapping[str, str], flags: Mapping[str, object]) -> None:
    """``api_port`` is ``http.port`` in other words; the file's loses against a variable or a flag that says the latter.

    A value that is no port is left for the check to complain of.
    """
    port = document.get("api_port")
    if type(port) is not int or not 0 <= port <= 65535:
        return
    in_file = "api_port" not in flags and not any(environment.get(name) for name in ("API_PORT", "OFFHOOK_API_PORT"))
    if port == 0:
        put(document, ("http", "enabled"), False)
    elif "http.port" not in flags and not (in_file and "OFFHOOK_HTTP_PORT" in environment):
        put(document, ("http", "port"), port)


def _scalar_keys(section: type[msgspec.Struct], prefix: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    keys: list[tuple[tuple[str, ...], Any]] = []
    for field in msgspec.structs.fields(section):
        path = (*prefix, field.name)
        if isinstance(field.type, type) and issubclass(field.type, Section):
            keys += _scalar_keys(field.type, path)
        elif form_of(field.type) is None and field.type is not ProviderSection:
            keys.append((path, field.type))
    return keys


def _from_text(variable: str, text: str, kind: Any) -> Any:
    """An environment variable's text as its key's type; lists are comma-separated."""
    if getattr(kind, "__origin__", None) is tuple:
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        return msgspec.convert(text, kind, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(variable, problem_of(str(error)), "Change the environment variable, or unset it") from None

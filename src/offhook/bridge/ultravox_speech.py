"""What the agent of Ultravox says, put together to utterances."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from offhook.bridge.agent_items import MAX_ITEMS, AgentItem, AgentItems
from offhook.bridge.codec import TranscriptDelta
from offhook.bridge.ultravox_messages import Transcript
from offhook.bridge.wire import CodecOutput


@dataclass(slots=True)
class _Item(AgentItem):
    """``ordinal``: of its transcript, None until there is one."""

    ordinal: int | None = None


class AgentSpeech:
    """Makes utterances of sounds without names, of states, and of numbered texts."""

    def __init__(self) -> None:
        self._items = AgentItems(_Item)
        self._texts: OrderedDict[int, tuple[str, str]] = OrderedDict()
        """By ordinal: the item, and its text so far."""
        self._cleared = False
        self._half_sample = b""

    def sound(self, audio: bytes, out: CodecOutput) -> None:
        """After a clearing, sound that was on its way is nothing any more."""
        if self._cleared or not audio:
            return
        item = self._items.current or self._items.begin(out)
        if item.cut:
            return
        if self._half_sample or len(audio) % 2:
            audio = self._half_sample + audio
            whole = len(audio) & ~1
            audio, self._half_sample = audio[:whole], audio[whole:]
        out.audio_out(item.name, audio)

    def state(self, state: str, out: CodecOutput) -> None:
        if state in ("speaking", "thinking"):
            self._cleared = False
        if state != "speaking":
            self.finish(out)

    def words(self, words: Transcript, out: CodecOutput) -> None:
        """An interrupted text may still be put right; another number is another utterance."""
        if words.ordinal not in self._texts:
            self._open(words.ordinal, out)
        item, text = self._texts[words.ordinal]
        whole = words.text if words.text is not None else text + (words.delta or "")
        self._texts[words.ordinal] = (item, whole)
        if words.final:
            out.bridge_event(TranscriptDelta(speaker="agent", item=item, text=whole.strip(), final=True))
        elif whole.startswith(text) and whole != text:
            out.bridge_event(TranscriptDelta(speaker="agent", item=item, text=whole[len(text) :], final=False))

    def _open(self, ordinal: int, out: CodecOutput) -> None:
        self._cleared = False
        if self._items.current is not None and self._items.current.ordinal is not None:
            self.finish(out)
        item = self._items.current or self._items.begin(out)
        item.ordinal = ordinal
        self._texts[ordinal] = (item.name, "")
        while len(self._texts) > MAX_ITEMS:
            self._texts.popitem(last=False)

    def finish(self, out: CodecOutput) -> None:
        self._half_sample = b""
        self._items.finish(out)

    def cut(self, item: str) -> None:
        """By the call: what still comes of it is not heard."""
        self._items.cut(item)

    def clear(self, out: CodecOutput) -> None:
        """By the provider: all that is buffered."""
        self._cleared = True
        self._half_sample = b""
        self._items.give_up(lambda item: True, out)

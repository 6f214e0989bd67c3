"""What config.json defines, before it becomes rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from offhook.store import form_secrets
from offhook.store.form_secrets import Kind
from offhook.store.forms import AgentForm, AnyForm, NumberForm, SquadForm, ToolForm, WebhookForm
from offhook.store.trunk_forms import TrunkForm


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfigForms:
    """The lists of config.json, already checked against each other.

    ``places``: by kind and id, the key or variable that stands for what is in no list of the file.
    """

    agents: tuple[AgentForm, ...] = ()
    numbers: tuple[NumberForm, ...] = ()
    trunks: tuple[TrunkForm, ...] = ()
    tools: tuple[ToolForm, ...] = ()
    squads: tuple[SquadForm, ...] = ()
    webhooks: tuple[WebhookForm, ...] = ()
    places: Mapping[tuple[Kind, str], str] = field(default_factory=dict)

    def each(self) -> Iterator[tuple[Kind, str, AnyForm]]:
        """Kind, key in the file (``agents[2]``, or its place), form."""
        for kind in form_secrets.FORMS:
            for index, form in enumerate(getattr(self, f"{kind}s")):
                yield kind, self.places.get((kind, form.id), f"{kind}s[{index}]"), form

"""What config.json defines, before it becomes rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from offhook.store import form_secrets
from offhook.store.form_secrets import Kind
from offhook.store.forms import AgentForm, AnyForm, NumberForm, SquadForm, ToolForm, TrunkForm, WebhookForm


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfigForms:
    """The lists of config.json, already checked against each other."""

    agents: tuple[AgentForm, ...] = ()
    numbers: tuple[NumberForm, ...] = ()
    trunks: tuple[TrunkForm, ...] = ()
    tools: tuple[ToolForm, ...] = ()
    squads: tuple[SquadForm, ...] = ()
    webhooks: tuple[WebhookForm, ...] = ()

    def each(self) -> Iterator[tuple[Kind, str, AnyForm]]:
        """Kind, key in the file (``agents[2]``), form."""
        for kind in form_secrets.FORMS:
            for index, form in enumerate(getattr(self, f"{kind}s")):
                yield kind, f"{kind}s[{index}]", form

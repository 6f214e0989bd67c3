"""What the operator decides, as config.json has it: sections, and the forms of what calls are made with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from offhook.call.destination_policy import RangeKind
from offhook.config.section import Section
from offhook.config.sip4ai_keys import Mode, OutboundSettings, ProviderSection
from offhook.store.form_parts import Port, Secret
from offhook.store.forms import AgentForm, NumberForm, SquadForm, ToolForm, WebhookForm
from offhook.store.function_forms import FunctionForm
from offhook.store.trunk_forms import TrunkForm

DELIVERIES_DAYS_MIN = 30
"""Longer than the retries of one delivery (Standard Webhooks: 75 hours), and long enough to find out and replay."""

HOURS = r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$|^$"
"""A part of the day, which may go over midnight; empty: all of it."""

Days = Annotated[int, msgspec.Meta(ge=0, le=36500)]


class SipSettings(Section, frozen=True):
    """Where SIP is listened for, and how others find us. An empty ``host`` is every address, IPv4 and IPv6.

    ``advertised_address``: our address as the outside sees it, behind 1:1 NAT or in Docker; or ``stun_server``
    (``host`` or ``host:port``) tells it. Peers in ``local_networks`` (CIDRs) are told the machine's own address.
    ``nameservers``: IP addresses, with a port where it is not 53; empty: the machine's. ``trace``: keep the SIP
    messages of every call for `offhook trace`.
    """

    host: str = ""
    port: Port = 5060
    tls_port: Port = 5061
    transports: tuple[Literal["udp", "tcp", "tls"], ...] = ("udp", "tcp")
    advertised_address: str = ""
    stun_server: str = ""
    local_networks: tuple[str, ...] = ()
    nameservers: tuple[str, ...] = ()
    trace: bool = True


class TlsFiles(Section, frozen=True):
    """PEM files. ``ca_file``: authorities to trust beside the system's. Read again by `offhook reload`."""

    certificate: str = ""
    private_key: str = ""
    ca_file: str = ""
    client_certificate: Literal["none", "optional", "required"] = "none"


class RtpSettings(Section, frozen=True):
    """UDP ports for media: each call takes an even one and the odd one above it."""

    port_min: Annotated[int, msgspec.Meta(ge=1024, le=65534)] = 10000
    port_max: Annotated[int, msgspec.Meta(ge=1025, le=65535)] = 19999
    media_timeout_s: Annotated[float, msgspec.Meta(ge=0)] = 60.0


class HttpSettings(Section, frozen=True):
    """The HTTP server: API, /health, /ready, /metrics. ``port`` 0 takes a free one.

    An empty ``host`` is every address once an API key exists, and loopback before.
    """

    enabled: bool = True
    host: str = ""
    port: Port = 8080


class DatabaseSettings(Section, frozen=True):
    """``url``: postgresql://user:password@host/database; empty: SQLite, in the file offhook.db of ``data_dir``."""

    url: Secret = ""

    def __repr__(self) -> str:
        return "DatabaseSettings(url=…)" if self.url else "DatabaseSettings()"


class SecuritySettings(Section, frozen=True):
    """Whom offhook may reach by HTTP, and who may reach it.

    ``allowed_targets``: private networks (CIDRs) that webhooks, tools and questions may go to. ``allow_http``: without
    TLS, too. ``allow_anonymous``: listen on ``http.host`` although no API key exists.
    """

    allowed_targets: tuple[str, ...] = ()
    allow_http: bool = False
    allow_anonymous: bool = False


class RetentionSettings(Section, frozen=True):
    """Days after the end of a call until its parts are deleted; 0 keeps them for ever.

    ``calls_days``: the record and all that is left of the call. ``events_days``: its facts. ``transcripts_days``: what
    was said. ``recordings_days``: the files. ``traces_days``: its SIP messages. ``deliveries_days``: what was sent to
    webhooks, and can be replayed; 30 or more.
    """

    calls_days: Days = 365
    events_days: Days = 90
    transcripts_days: Days = 90
    recordings_days: Days = 30
    traces_days: Days = 14
    deliveries_days: Days = DELIVERIES_DAYS_MIN


class ProviderSettings(Section, frozen=True):
    """How a provider is reached, where an agent's own options do not say. ``base_url`` "" is the vendor's own."""

    api_key: Secret = ""
    base_url: str = ""

    def __repr__(self) -> str:
        return f"ProviderSettings(base_url={self.base_url!r})"


class ProvidersSettings(Section, frozen=True):
    """One for each vendor of speech or language. The vendors' own variables are read too (OPENAI_API_KEY …)."""

    openai: ProviderSettings = ProviderSettings()
    elevenlabs: ProviderSettings = ProviderSettings()
    gemini: ProviderSettings = ProviderSettings()
    deepgram: ProviderSettings = ProviderSettings()
    cartesia: ProviderSettings = ProviderSettings()
    ultravox: ProviderSettings = ProviderSettings()
    anthropic: ProviderSettings = ProviderSettings()
    groq: ProviderSettings = ProviderSettings()


class DiallingSettings(Section, frozen=True):
    """Whom calls of ours may reach, and how many there may be: by the API, by tools, transfers and REFER alike.

    ``allow``: only numbers that begin with one of these (``+49``); empty: all. ``deny``: none that begins with one of
    these. ``permit``: kinds of numbers that are refused otherwise. ``max_calls``: of an account, at once;
    ``calls_per_min``: of an account; 0 is no limit. ``max_call_s``: of each call. ``hours``: when calls are placed
    (``08:00-20:30``), in ``time_zone`` (``Europe/Berlin``; the machine's where empty); empty: at any time.
    """

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    permit: tuple[RangeKind, ...] = ()
    max_calls: Annotated[int, msgspec.Meta(ge=0, le=10000)] = 10
    calls_per_min: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 60
    max_call_s: Annotated[int, msgspec.Meta(ge=1, le=86400)] = 3600
    hours: Annotated[str, msgspec.Meta(extra_json_schema={"pattern": HOURS})] = ""
    time_zone: str = ""


class TelemetrySettings(Section, frozen=True):
    """OpenTelemetry spans of calls, turns, tools and transfers, sent to ``otlp_endpoint`` by OTLP/HTTP; empty: none.

    What else the SDK can be told it takes from the environment (OTEL_EXPORTER_OTLP_HEADERS …).
    """

    otlp_endpoint: str = ""
    service_name: Annotated[str, msgspec.Meta(min_length=1, max_length=255)] = "offhook"


class LogSettings(Section, frozen=True):
    """``speech``: what callers and agents say, and digits, are shown in the log. Off: they are private.

    ``format``: lines for people, or one JSON object a line for machines.
    """

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"
    speech: bool = False


class Settings(Section, frozen=True):
    """Everything the operator decides. Without ``agents`` and ``provider`` every number reaches the demo agent.

    Without ``trunks`` this machine and private networks may call; with them, only those they let in.
    ``drain_timeout_s``: how long a server that was told to stop waits for its calls.

    ``provider``: who speaks, as its section says; it is the agent `main`, and answers where ``numbers`` lists none.
    ``functions``: what its model may call. ``audio_file``: a WAV file that is played in its place. ``openai``,
    ``elevenlabs``, ``gemini``, ``deepgram``, ``cartesia``, ``ultravox``, ``pipeline``, ``local``, ``scripted``: what
    the provider of that name is told: greeting, instructions, voice, and the options it has. ``mode`` outbound: the
    call of ``outbound`` is made at the start. ``api_port`` is `http.port` by another name; 0: no HTTP server.
    ``event_webhook``: the URL that is told what happens in every call. ``webhook_secret`` signs what it and the
    servers of functions are sent; empty: one is made, and kept in ``data_dir``.
    """

    mode: Mode = "inbound"
    api_port: Port | None = None
    provider: str = ""
    openai: ProviderSection = msgspec.field(default_factory=dict)
    elevenlabs: ProviderSection = msgspec.field(default_factory=dict)
    gemini: ProviderSection = msgspec.field(default_factory=dict)
    deepgram: ProviderSection = msgspec.field(default_factory=dict)
    cartesia: ProviderSection = msgspec.field(default_factory=dict)
    ultravox: ProviderSection = msgspec.field(default_factory=dict)
    pipeline: ProviderSection = msgspec.field(default_factory=dict)
    local: ProviderSection = msgspec.field(default_factory=dict)
    scripted: ProviderSection = msgspec.field(default_factory=dict)
    audio_file: str = ""
    outbound: OutboundSettings = OutboundSettings()
    functions: tuple[FunctionForm, ...] = ()
    event_webhook: str = ""
    webhook_secret: Secret = ""

    sip: SipSettings = SipSettings()
    tls: TlsFiles = TlsFiles()
    rtp: RtpSettings = RtpSettings()
    http: HttpSettings = HttpSettings()
    database: DatabaseSettings = DatabaseSettings()
    security: SecuritySettings = SecuritySettings()
    retention: RetentionSettings = RetentionSettings()
    dialling: DiallingSettings = DiallingSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    providers: ProvidersSettings = ProvidersSettings()
    log: LogSettings = LogSettings()
    agents: tuple[AgentForm, ...] = ()
    numbers: tuple[NumberForm, ...] = ()
    trunks: tuple[TrunkForm, ...] = ()
    tools: tuple[ToolForm, ...] = ()
    squads: tuple[SquadForm, ...] = ()
    webhooks: tuple[WebhookForm, ...] = ()
    data_dir: str = "offhook-data"
    max_calls: Annotated[int, msgspec.Meta(ge=1, le=10000)] = 1000
    drain_timeout_s: Annotated[float, msgspec.Meta(ge=0, le=86400)] = 1800.0

    @property
    def data_folder(self) -> Path:
        """``data_dir``, with ``~`` as the home it stands for."""
        return Path(self.data_dir).expanduser()

    def __repr__(self) -> str:
        """Keys and passwords may stand anywhere in it."""
        return "Settings(…)"

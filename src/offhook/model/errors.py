"""Every exception offhook raises, in one tree. The class says who is to blame.

::

    OffhookError
    ├── ConfigError              the operator: a key of config.json, a flag or an environment variable
    ├── LocalProtocolError       us: a command the state of the protocol does not allow (a bug in offhook)
    ├── RemoteProtocolError      the remote party: what arrived breaks a protocol; never leaves a core
    │   ├── SipParseError        a SIP message that cannot be used; carries the status to answer
    │   ├── SdpError             a session description that cannot be used; carries the line
    │   └── SignatureError       a webhook whose signature does not hold
    ├── ResourceExhaustedError        the machine: no RTP port, no descriptor, no room for one more call
    ├── ListenError              the machine: an address that cannot be bound; says what to do
    ├── UnreachableError         the network: a name, an address or a transport that leads nowhere
    ├── OutboundError            the outside: an HTTP request that was refused, or brought no answer; carries the kind
    ├── RecordError              the client: a record that cannot be read or written as asked
    │   ├── RecordNotFoundError       there is none in this account
    │   ├── RecordConflictError       what else is there does not allow it
    │   ├── ReadOnlyRecordError       it is defined in config.json
    │   └── RevisionMismatchError     it was changed since the client read it
    ├── CannotPlaceError         the client: a call that is not placed; carries the kind
    ├── ApiError                 the client: a request that is not done; lives in ``api.problems``
    ├── HandshakeRefusedError    an AI provider: HTTP where a websocket was asked for; lives in ``bridge.websocket``
    ├── WavError                 the operator: a file that is no WAV we read; lives in ``audio.wav``
    └── BridgeError              an AI provider: could not be opened; carries the verdict
"""

from __future__ import annotations

from typing import Literal

Verdict = Literal["retry", "fall_over", "fatal"]
"""What to do about a provider's failure: try it again, take the next provider, give up."""

OutboundFault = Literal[
    "bad_url",
    "bad_request",
    "refused_target",
    "busy",
    "unresolvable",
    "unreachable",
    "tls",
    "timeout",
    "too_large",
    "broken",
]
"""What became of a request to the outside: its URL, or its headers or body, cannot be used; the policy forbids where it
goes; too many are under way; no such name; nobody answers there; no certificate we trust; not within the deadline; more
than was allowed; the other side broke off or speaks no HTTP. Nothing was sent for the first five."""


class OffhookError(Exception):
    """Base of everything offhook raises on purpose."""


class ConfigError(OffhookError):
    """A setting that cannot be used. ``key`` is its path (``sip.port``), ``fix`` what to do about it."""

    def __init__(self, key: str, problem: str, fix: str) -> None:
        super().__init__(f"{key}: {problem}. {fix}")
        self.key = key
        self.problem = problem
        self.fix = fix


class LocalProtocolError(OffhookError):
    """Our own code asked for what the protocol's state does not allow."""


class RemoteProtocolError(OffhookError):
    """The remote party sent what its protocol does not allow."""


class SipParseError(RemoteProtocolError):
    """A SIP message that cannot be used.

    ``status`` is what a request deserves as answer (RFC 3261 §21.4, §21.5); a response is discarded.
    ``field`` names the header, or ``start-line`` or ``body``.
    """

    def __init__(self, field: str, problem: str, status: int = 400) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem
        self.status = status


class SdpError(RemoteProtocolError):
    """A session description that cannot be used. ``line`` is the offending line, as text."""

    def __init__(self, line: str, problem: str) -> None:
        super().__init__(f"{problem} in {line!r}")
        self.line = line
        self.problem = problem


class ResourceExhaustedError(OffhookError):
    """The machine has no room for one more: the message names the resource and its limit."""


class ListenError(OffhookError):
    """An address that cannot be listened on. ``fix`` says what to do."""

    def __init__(self, where: str, problem: str, fix: str) -> None:
        super().__init__(f"cannot listen on {where}: {problem}. {fix}")
        self.fix = fix


class UnreachableError(OffhookError):
    """Where a message should go cannot be reached: no such name, no route, no socket of that kind."""


class SignatureError(RemoteProtocolError):
    """A webhook that is unsigned, signed by another secret, changed on the way, or too old."""


class OutboundError(OffhookError):
    """A request to the outside that brought no answer we take. The message says why and what to do; it names the
    target's scheme, host and port, never its path, headers or body.

    ``status``: of the response, where it had come before something failed; the receiver has then got the request.
    """

    def __init__(self, kind: OutboundFault, problem: str, status: int | None = None) -> None:
        super().__init__(problem)
        self.kind: OutboundFault = kind
        self.problem = problem
        self.status = status


class RecordError(OffhookError):
    """A record that cannot be read or written as asked. ``field`` is the one concerned, "" for the whole; ``fix`` what
    to do about it.
    """

    def __init__(self, problem: str, *, field: str = "", fix: str = "") -> None:
        super().__init__(f"{problem}. {fix}" if fix else problem)
        self.problem = problem
        self.field = field
        self.fix = fix


class RecordNotFoundError(RecordError):
    """There is none of this id, or it is another account's: nobody is told which."""

    def __init__(self, kind: str, record_id: str) -> None:
        super().__init__(f"There is no {kind} {record_id!r}")
        self.kind = kind
        self.record_id = record_id


class RecordConflictError(RecordError):
    """The id is taken, or others refer to the record."""


class ReadOnlyRecordError(RecordError):
    """Defined in the configuration file, under ``key`` (``agents[2]``)."""

    def __init__(self, kind: str, record_id: str, *, key: str, file: str) -> None:
        fix = f"Change it there, then run `offhook reload`: {file}, {key}"
        super().__init__(f"The {kind} {record_id!r} is defined by {key} of {file}", fix=fix)
        self.key = key
        self.file = file


class RevisionMismatchError(RecordError):
    """``revision`` is the record's current one."""

    def __init__(self, kind: str, record_id: str, revision: int) -> None:
        fix = "Read it again, and change that"
        super().__init__(f"The {kind} {record_id!r} was changed since: it is at revision {revision}", fix=fix)
        self.revision = revision


PlacingFault = Literal["invalid", "forbidden", "too_many", "unavailable"]
"""Why a call is not placed: a value cannot be used; nobody may call there; too many are up, or were placed just now; no
new call is placed by this server now."""


class CannotPlaceError(OffhookError):
    """A call that is not placed. ``field`` is what was asked for (``target``), ``fix`` what to do about it.

    ``wait_s``: after so many seconds it may be asked for again; 0 where nobody knows.
    """

    def __init__(
        self, kind: PlacingFault, problem: str, *, field: str = "", fix: str = "", wait_s: float = 0.0
    ) -> None:
        super().__init__(f"{field}: {problem}. {fix}" if field else f"{problem}. {fix}")
        self.kind: PlacingFault = kind
        self.problem = problem
        self.field = field
        self.fix = fix
        self.wait_s = wait_s


class BridgeError(OffhookError):
    """An AI provider could not be opened. ``verdict`` says what to do next."""

    def __init__(self, provider: str, problem: str, verdict: Verdict) -> None:
        super().__init__(f"{provider}: {problem}")
        self.provider = provider
        self.problem = problem
        self.verdict: Verdict = verdict

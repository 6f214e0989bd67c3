"""What a call is given to work with; built once by ``server``, the same for every call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from offhook.call.account_limits import NoLimits
from offhook.call.agent_session import Bridges
from offhook.call.asking import NobodyToAsk
from offhook.call.clearance import Clearance
from offhook.call.hold_audio import HoldAudio
from offhook.call.ports import Directory, EventSink, Limits, Questions, Spotter, Voice
from offhook.media.events import MediaEvent
from offhook.media.recorder import RecordingWriter
from offhook.media.session import MediaSession
from offhook.model.trunks import DEFAULT_RULES, CallRules, Trunk
from offhook.signaling.endpoint import SipEndpoint

MediaOpener = Callable[[str, Callable[[MediaEvent], None], MediaSession | None], MediaSession]
"""(our host for the leg, listener, the call's first session) -> an open session, in the phase group of the first.

Raises ``ResourceExhaustedError`` without a free port.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Equipment:
    """``recordings`` None: nothing is recorded, whatever the agents say.

    ``find_trunk``: by its id, as it is at that moment; a trunk may go while its calls go on. ``hold_audio``: what
    callers hear who wait. ``voice`` says what an agent's provider cannot say word by word; ``spotter`` gives who hears
    what voicemail says, where there is one.
    ``is_anothers``: (account, IP address) -> whether a gateway stands there that only other accounts may use: it would
    take our calls for theirs.
    ``clearance``: whether calls of ours may be made.
    ``teardown_s``: the remote party gets so long to answer our BYE or CANCEL; then the call is closed here, and the
    transaction goes on alone in the SIP core.
    """

    endpoint: SipEndpoint
    events: EventSink
    directory: Directory
    bridges: Bridges
    open_media: MediaOpener
    find_trunk: Callable[[str], Trunk | None] = lambda trunk_id: None
    is_anothers: Callable[[str, str], bool] = lambda account_id, host: False
    questions: Questions = field(default_factory=NobodyToAsk)
    limits: Limits = field(default_factory=NoLimits)
    clearance: Clearance = field(default_factory=Clearance)
    hold_audio: HoldAudio = field(default_factory=HoldAudio)
    voice: Voice | None = None
    spotter: Callable[[], Spotter | None] = lambda: None
    recordings: RecordingWriter | None = None
    recordings_folder: Path = Path()
    teardown_s: float = 2.0

    def rules_of(self, trunk_id: str) -> CallRules:
        """What new calls of a trunk may and must do; the default where there is no such trunk."""
        trunk = self.find_trunk(trunk_id)
        return DEFAULT_RULES if trunk is None else trunk.rules

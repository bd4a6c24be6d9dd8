"""Long-term identity: a gallery that gives tracked objects their ids back."""

from torchbank.tracking._frame import Linked
from torchbank.tracking._history import Decision, Span
from torchbank.tracking._matches import IdentityRecord, Matches
from torchbank.tracking.adapt import Whitening
from torchbank.tracking.calibrate import Calibration, calibrate
from torchbank.tracking.gallery import IdentityGallery
from torchbank.tracking.linker import IdentityLinker
from torchbank.tracking.mot import MotRows, read_mot, write_mot
from torchbank.tracking.pillar import PillarCurve, VirtualPillar, virtual_pillar

__all__ = [
    "Calibration",
    "Decision",
    "IdentityGallery",
    "IdentityLinker",
    "IdentityRecord",
    "Linked",
    "Matches",
    "MotRows",
    "PillarCurve",
    "Span",
    "VirtualPillar",
    "Whitening",
    "calibrate",
    "read_mot",
    "virtual_pillar",
    "write_mot",
]

"""Long-term identity: a gallery that gives tracked objects their ids back."""

from torchbank.tracking._appearances import Appearances, Visit
from torchbank.tracking.adapt import Whitening
from torchbank.tracking.calibrate import Calibration, calibrate
from torchbank.tracking.gallery import IdentityGallery, IdentityRecord, Matches
from torchbank.tracking.linker import Decision, IdentityLinker, Linked, Span
from torchbank.tracking.mot import MotRows, read_mot, write_mot

__all__ = [
    "Appearances",
    "Calibration",
    "Decision",
    "IdentityGallery",
    "IdentityLinker",
    "IdentityRecord",
    "Linked",
    "Matches",
    "MotRows",
    "Span",
    "Visit",
    "Whitening",
    "calibrate",
    "read_mot",
    "write_mot",
]

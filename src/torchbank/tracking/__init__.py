"""Long-term identity: a gallery that gives tracked objects their ids back."""

from torchbank.data import VideoFacts, VideoWriter, read_video, video_facts
from torchbank.tracking._appearances import Appearances, Visit
from torchbank.tracking._byte_track import ByteTrack
from torchbank.tracking._detectors import Detector, build_detector
from torchbank.tracking._embedders import Embedder, build_embedder
from torchbank.tracking._footage import Footage, observe, read_detections
from torchbank.tracking._frame import Linked
from torchbank.tracking._history import Decision, Span
from torchbank.tracking._linking import Timed, as_one, link_footage, one_after_the_other
from torchbank.tracking._matches import IdentityRecord, Matches
from torchbank.tracking.adapt import Whitening
from torchbank.tracking.calibrate import Calibration, adapt_and_calibrate, calibrate
from torchbank.tracking.gallery import IdentityGallery
from torchbank.tracking.linker import IdentityLinker
from torchbank.tracking.mot import MotRows, read_mot, write_mot
from torchbank.tracking.pillar import PillarCurve, VirtualPillar, virtual_pillar

__all__ = [
    "Appearances",
    "ByteTrack",
    "Calibration",
    "Decision",
    "Detector",
    "Embedder",
    "Footage",
    "IdentityGallery",
    "IdentityLinker",
    "IdentityRecord",
    "Linked",
    "Matches",
    "MotRows",
    "PillarCurve",
    "Span",
    "Timed",
    "VideoFacts",
    "VideoWriter",
    "VirtualPillar",
    "Visit",
    "Whitening",
    "adapt_and_calibrate",
    "as_one",
    "build_detector",
    "build_embedder",
    "calibrate",
    "link_footage",
    "observe",
    "one_after_the_other",
    "read_detections",
    "read_mot",
    "read_video",
    "video_facts",
    "virtual_pillar",
    "write_mot",
]

"""Scores of retrieval and of tracking."""

from torchbank.evaluation._open_set import OpenSetScores, open_set
from torchbank.evaluation._overlaps import overlaps
from torchbank.evaluation._reassociation import Reassociation, reassociation
from torchbank.evaluation._retrieval import RetrievalScores, retrieval, retrieval_examples
from torchbank.evaluation._tracks import Tracks
from torchbank.evaluation.tracking import TrackingScores, tracking_scores

__all__ = [
    "OpenSetScores",
    "Reassociation",
    "RetrievalScores",
    "TrackingScores",
    "Tracks",
    "open_set",
    "overlaps",
    "reassociation",
    "retrieval",
    "retrieval_examples",
    "tracking_scores",
]

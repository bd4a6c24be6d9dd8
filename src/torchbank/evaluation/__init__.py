"""Scores of frozen features, of retrieval and of tracking."""

from torchbank.evaluation._knn import KNNScores, knn
from torchbank.evaluation._label_audit import LabelAudit, NearDuplicates, audit_labels, near_duplicates
from torchbank.evaluation._linear_probe import WEIGHT_DECAYS, ProbeScores, linear_probe, low_shot
from torchbank.evaluation._multi_label_probe import MultiLabelScores, average_precision, multi_label_probe
from torchbank.evaluation._open_set import OpenSetScores, open_set
from torchbank.evaluation._overlaps import overlaps
from torchbank.evaluation._paired_retrieval import PairedScores, paired_retrieval
from torchbank.evaluation._query_gallery import query_gallery, random_gallery
from torchbank.evaluation._reassociation import Reassociation, reassociation
from torchbank.evaluation._retrieval import retrieval, retrieval_examples
from torchbank.evaluation._retrieval_scores import QueryScores, RetrievalScores
from torchbank.evaluation._rows_by_class import low_shot_rows, support_and_query
from torchbank.evaluation._tracks import Tracks
from torchbank.evaluation.tracking import TrackingScores, tracking_scores

__all__ = [
    "WEIGHT_DECAYS",
    "KNNScores",
    "LabelAudit",
    "MultiLabelScores",
    "NearDuplicates",
    "OpenSetScores",
    "PairedScores",
    "ProbeScores",
    "QueryScores",
    "Reassociation",
    "RetrievalScores",
    "TrackingScores",
    "Tracks",
    "audit_labels",
    "average_precision",
    "knn",
    "linear_probe",
    "low_shot",
    "low_shot_rows",
    "multi_label_probe",
    "near_duplicates",
    "open_set",
    "overlaps",
    "paired_retrieval",
    "query_gallery",
    "random_gallery",
    "reassociation",
    "retrieval",
    "retrieval_examples",
    "support_and_query",
    "tracking_scores",
]

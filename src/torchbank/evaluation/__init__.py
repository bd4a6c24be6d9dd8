"""Scores of frozen features: retrieval, pairs, weighted k-NN, linear probes on all labels and on few."""

from torchbank.evaluation._knn import KNNScores, knn
from torchbank.evaluation._linear_probe import WEIGHT_DECAYS, ProbeScores, linear_probe, low_shot
from torchbank.evaluation._paired_retrieval import PairedScores, paired_retrieval
from torchbank.evaluation._retrieval import RetrievalScores, retrieval, retrieval_examples
from torchbank.evaluation._rows_by_class import low_shot_rows, support_and_query

__all__ = [
    "WEIGHT_DECAYS",
    "KNNScores",
    "PairedScores",
    "ProbeScores",
    "RetrievalScores",
    "knn",
    "linear_probe",
    "low_shot",
    "low_shot_rows",
    "paired_retrieval",
    "retrieval",
    "retrieval_examples",
    "support_and_query",
]

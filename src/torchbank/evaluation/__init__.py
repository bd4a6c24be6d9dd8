"""Scores of retrieval."""

from torchbank.evaluation._paired_retrieval import PairedScores, paired_retrieval
from torchbank.evaluation._retrieval import RetrievalScores, retrieval, retrieval_examples

__all__ = ["PairedScores", "RetrievalScores", "paired_retrieval", "retrieval", "retrieval_examples"]

"""Scores of retrieval."""

from torchbank.evaluation._retrieval import RetrievalScores, retrieval, retrieval_examples

__all__ = ["RetrievalScores", "retrieval", "retrieval_examples"]

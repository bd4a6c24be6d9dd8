"""How stored embeddings age: momentum encoders that slow it down, and readings of it."""

from torchbank.drift._momentum_encoder import MomentumEncoder
from torchbank.drift._age_statistics import DriftByAge
from torchbank.drift._revisit_drift import RevisitDrift

__all__ = ["DriftByAge", "MomentumEncoder", "RevisitDrift"]

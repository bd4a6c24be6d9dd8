"""How stored embeddings age: momentum encoders that slow it down, and readings of it."""

from torchbank.drift._momentum_encoder import MomentumEncoder
from torchbank.drift._revisit_drift import DriftByAge, RevisitDrift

__all__ = ["DriftByAge", "MomentumEncoder", "RevisitDrift"]

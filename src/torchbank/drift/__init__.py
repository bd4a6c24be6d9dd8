"""How stored embeddings age: momentum encoders that slow it down, and readings of it."""

from torchbank.drift._momentum_encoder import MomentumEncoder

__all__ = ["MomentumEncoder"]

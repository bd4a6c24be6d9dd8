"""Encoders whose drift is known in closed form."""

import math

import torch


def linear(images, weight, velocity, step):
    """``z_t(x) = x (W + t V)``: in a steps it moves by ``a^2 ||x V||^2``."""
    return images @ (weight + step * velocity)


def affine(embeddings, scale, shift, step):
    """Each dim by itself: ``z_t = z_0 (1 + t s) + t b``."""
    return embeddings * (1 + step * scale) + step * shift


def rotation(embeddings, degrees, step):
    """Turns the first two dims: on the circle it moves by ``2 - 2 cos(a degrees)`` in a steps."""
    angle = math.radians(degrees) * step
    turn = torch.eye(embeddings.shape[1], dtype=embeddings.dtype)
    turn[:2, :2] = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return embeddings @ turn.T

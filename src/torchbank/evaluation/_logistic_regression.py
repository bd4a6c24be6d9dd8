"""Multinomial logistic regression, well conditioned whatever the features are.

With features x (n, d), standardised, and labels y, it minimises

    mean_i CE(softmax(W x_i + b), y_i) + weight_decay / 2 * ||W||^2,

which for weight_decay > 0 has one optimum. Features of a network are correlated, and plain gradient steps would take
thousands of passes. The curvature of the cross-entropy is at most half of that of least squares
([Boehning 1992](https://doi.org/10.1007/BF00048682)), which the principal axes of the features make diagonal:
L-BFGS in these axes, each scaled by that bound, is done in some tens of passes.

Axes: n (rows), dim, classes.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

__all__ = ["LinearClassifier", "PrincipalAxes", "fit_logistic_regression"]

# Logits held at once.
BLOCK_LOGITS = 2**22


class PrincipalAxes(NamedTuple):
    """The way from features to the principal axes of the standardised features.

    Attributes:
        mean: `(dim,)` of the training rows.
        rotation: `(dim, dim)`; its columns are the axes, in units of the features.
        variances: `(dim,)` along each axis.
    """

    mean: Float[Tensor, " dim"]
    rotation: Float[Tensor, "dim dim"]
    variances: Float[Tensor, " dim"]

    @classmethod
    def of(cls, features: Float[Tensor, "n dim"]) -> "PrincipalAxes":
        """Find the axes of training rows. A feature that never changes gets no weight."""
        mean = features.mean(dim=0, dtype=torch.float64)
        centred = features - mean.to(features.dtype)
        covariance = (centred.T @ centred).to(torch.float64) / len(features)
        deviation = covariance.diagonal().sqrt()
        changes = deviation > 1e-6 * deviation.max()
        scale = torch.where(changes, deviation, 1.0).reciprocal() * changes
        variances, axes = torch.linalg.eigh(scale[:, None] * covariance * scale)
        return cls(*(part.to(features.dtype) for part in (mean, scale[:, None] * axes, variances.clamp(min=0))))

    def __call__(self, features: Float[Tensor, "m dim"]) -> Float[Tensor, "m dim"]:
        """Turn features into these axes."""
        return (features - self.mean) @ self.rotation


class LinearClassifier(NamedTuple):
    """A linear layer.

    Attributes:
        weight: `(dim, classes)`.
        bias: `(classes,)`.
    """

    weight: Float[Tensor, "dim classes"]
    bias: Float[Tensor, " classes"]

    def accuracy(self, rows: Float[Tensor, "m dim"], labels: Int64[Tensor, " m"]) -> float:
        """The share of rows whose class has the largest logit."""
        size = max(1, BLOCK_LOGITS // len(self.bias))
        blocks = zip(rows.split(size), labels.split(size), strict=True)
        right = sum(((block @ self.weight + self.bias).argmax(dim=1) == wanted).sum() for block, wanted in blocks)
        return float(right) / len(labels)


def fit_logistic_regression(
    rows: Float[Tensor, "n dim"],
    labels: Int64[Tensor, " n"],
    *,
    variances: Float[Tensor, " dim"],
    classes: int,
    weight_decay: float,
    start: LinearClassifier | None = None,
) -> LinearClassifier:
    """Find the optimum, from zero or from another solution nearby. Draws no random numbers.

    Args:
        rows: Features in their principal axes.
        labels: From 0 to `classes - 1`.
        variances: Along each axis.
        classes: How many.
        weight_decay: Above 0, or there may be no optimum.
        start: Where to begin, such as the solution for another weight decay.
    """
    step = (variances / 2 + weight_decay).rsqrt()[:, None]
    scaled = rows * step.T
    if start is None:
        start = LinearClassifier(rows.new_zeros(rows.shape[1], classes), rows.new_zeros(classes))
    weight, bias = start.weight / step, start.bias.clone()
    optimizer = torch.optim.LBFGS(
        # The bias has the curvature bound 1/2 already.
        [weight, bias],
        max_iter=200,
        history_size=20,
        tolerance_grad=1e-4 / classes**0.5,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        loss, weight.grad, bias.grad = _loss_and_gradient(scaled, labels, weight, bias)
        decayed = weight_decay * step.square() * weight
        weight.grad += decayed
        return loss + (decayed * weight).sum() / 2

    optimizer.step(closure)
    return LinearClassifier(weight * step, bias)


def _loss_and_gradient(
    rows: Float[Tensor, "n dim"], labels: Int64[Tensor, " n"], weight: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The mean cross-entropy with its gradient, in blocks of rows."""
    loss = torch.zeros((), dtype=torch.float64, device=rows.device)
    weight_gradient, bias_gradient = torch.zeros_like(weight), torch.zeros_like(bias)
    size = max(1, BLOCK_LOGITS // len(bias))
    for block, wanted in zip(rows.split(size), labels.split(size), strict=True):
        log_probabilities = torch.addmm(bias, block, weight).log_softmax(dim=1)
        loss -= log_probabilities.gather(1, wanted[:, None]).sum(dtype=torch.float64)
        residuals = log_probabilities.exp_()
        residuals[torch.arange(len(wanted), device=rows.device), wanted] -= 1
        weight_gradient.addmm_(block.T, residuals)
        bias_gradient += residuals.sum(dim=0)
    return loss / len(rows), weight_gradient / len(rows), bias_gradient / len(rows)

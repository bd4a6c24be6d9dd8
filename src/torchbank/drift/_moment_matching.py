"""Correct stored rows by moments: give them the mean and the deviation that embeddings have now."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from torchbank.banks import BankView
from torchbank.errors import BankValueError


class MomentMatching(nn.Module):
    """Moves and scales stored rows, each dim by itself, so that their first two moments are those of now.

    ``row <- (row - mean_memory) / deviation_memory * deviation_now + mean_now``
    ([Ajanthan et al. 2023](arXiv:2303.17127)). It undoes, exactly, a drift that has moved and scaled each dim of all
    rows alike.

    One batch says little about the moments of now, so they may be filtered: a Kalman filter of a random walk follows
    each of them (AXBN in the paper), whose gain depends on one number, how much the moments move from step to step
    compared with how noisy a batch is. Without a filter (XBN) a batch is taken at its word.

    All state is in ``state_dict()``. Nothing waits for the device.

    Args:
        dim: Embedding dim.
        noise_ratio: Variance of a step of the moments over the variance of their measurement. Infinite is XBN.
            The gain goes to ``(-r + sqrt(r^2 + 4 r)) / 2``: for 0.01 about 0.1, the mean over some ten batches.
        device: Where the moments lie.

    Raises:
        BankValueError: ``noise_ratio`` is not above 0.

    Example:
        >>> import torch
        >>> import torchbank as tb
        >>> from torchbank.drift import MomentMatching
        >>> bank = tb.MemoryBank(1_000, 4, metric="dot")
        >>> then = torch.randn(1_000, 4)
        >>> _ = bank.push(then)
        >>> now = 3 * then + 1
        >>> correction = MomentMatching(4)
        >>> correction.observe(now)
        >>> torch.allclose(correction(bank.view()), now, atol=1e-4)
        True
        >>> readout = bank.transformed(correction).attend(torch.randn(2, 4), scale=1.0)
    """

    mean: Tensor
    deviation: Tensor
    gain: Tensor

    def __init__(self, dim: int, *, noise_ratio: float = math.inf, device: torch.device | str | None = None) -> None:
        super().__init__()
        if not noise_ratio > 0:
            msg = f"noise_ratio is {noise_ratio}; expected a number above 0, or infinity for moments of one batch"
            raise BankValueError(msg)
        self.noise_ratio = float(noise_ratio)
        self.register_buffer("mean", torch.zeros(dim, device=device))
        self.register_buffer("deviation", torch.ones(dim, device=device))
        # Before the first batch nothing is known, so it is taken at its word.
        self.register_buffer("gain", torch.full((), math.inf, dtype=torch.float64, device=device))

    @torch.no_grad()
    def observe(self, embeddings: Float[Tensor, "batch dim"]) -> None:
        """Look at the embeddings of a step.

        Args:
            embeddings: ``(batch, dim)``, as they are stored: of unit length for a bank of metric cosine. A batch
                of fewer than two rows has no deviation and is passed over.
        """
        if embeddings.shape[0] < 2:
            return
        mean, deviation = _moments(embeddings, None)
        # In units of the measurement's variance the filter's own variance after an update is its gain.
        self.gain.copy_(1 / (1 + 1 / (self.gain + self.noise_ratio)))
        gain = self.gain.to(self.mean.dtype)
        self.mean.lerp_(mean, gain)
        self.deviation.lerp_(deviation, gain)

    @torch.no_grad()
    def forward(self, rows: BankView) -> Float[Tensor, "rows dim"]:
        """The rows corrected; as they are before the first batch.

        Args:
            rows: All rows of the memory: their moments are those that are matched.
        """
        stored = rows.embeddings.float()
        mean, deviation = _moments(stored, rows.valid)
        # A dim that does not vary in the memory cannot be scaled.
        scale = torch.where(deviation > 1e-6, self.deviation / deviation.clamp_min(1e-6), 1.0)
        corrected = (stored - mean) * scale + self.mean
        return torch.where(self.gain.isinf(), stored, corrected)

    def extra_repr(self) -> str:
        """The setting, for ``repr``."""
        return f"dim={self.mean.shape[0]}, noise_ratio={self.noise_ratio:g}"


def _moments(
    rows: Float[Tensor, "rows dim"], valid: Bool[Tensor, " rows"] | None
) -> tuple[Float[Tensor, " dim"], Float[Tensor, " dim"]]:
    """Mean and standard deviation of each dim, in float32."""
    rows = rows.float()
    if valid is None:
        return rows.mean(dim=0), rows.std(dim=0, correction=0)
    weight = valid[:, None].float() / valid.sum().clamp_min(1)
    mean = (rows * weight).sum(dim=0)
    return mean, ((rows - mean).square() * weight).sum(dim=0).sqrt()

"""The slow-drift curve: how far a fixed set of images moves in 10, 100 and 1,000 steps, as training goes on.

Axes: probes (images of the fixed set), lags.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torchbank.drift._revisit_drift import squared_distances
from torchbank.errors import BankValueError


class SlowDrift(nn.Module):
    """Drift over fixed lags of a fixed set of images, throughout training.

    ``D(t; lag) = mean_x ||f(x; t) - f(x; t - lag)||^2``, the measurement behind "slow drift"
    ([Wang et al. 2020, fig. 3](arXiv:1912.06798)). The images are encoded anew twice in each `period`, the second lag:
    at its beginning, which later ones look back to, and one first lag later. All snapshots of the longest lag are kept.

    All state is in ``state_dict()``. Nothing waits for the device.

    Args:
        probes: Images in the set.
        dim: Embedding dim.
        lags: Steps, ascending, each from the second on a multiple of the second.
        metric: ``"cosine"`` or ``"dot"``.
        device: Where the snapshots lie.

    Raises:
        BankValueError: The lags are not such.

    Example:
        >>> import torch
        >>> from torchbank.drift import SlowDrift
        >>> slow = SlowDrift(probes=1, dim=2, lags=(1, 4))
        >>> for step in range(9):
        ...     if slow.due(step):
        ...         angle = torch.deg2rad(torch.tensor(10.0 * step))
        ...         drift = slow.observe(torch.stack([angle.cos(), angle.sin()])[None], step=step)
        ...         print(step, {lag: round(value.item(), 3) for lag, value in drift.items()})
        0 {}
        1 {1: 0.03}
        4 {4: 0.468}
        5 {1: 0.03}
        8 {4: 0.468}
    """

    snapshots: Tensor
    taken: Tensor

    def __init__(
        self,
        probes: int,
        dim: int,
        *,
        lags: Sequence[int] = (10, 100, 1_000),
        metric: str = "cosine",
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        ordered = len(lags) > 1 and 0 < lags[0] < lags[1] and all(lag % lags[1] == 0 for lag in lags[1:])
        if not ordered or list(lags) != sorted(lags):
            msg = f"lags={tuple(lags)}; expected two or more, ascending, with multiples of the second after the first"
            raise BankValueError(msg)
        self.lags, self.period, self.metric = tuple(lags), lags[1], metric
        kept = lags[-1] // self.period + 1
        self.register_buffer("snapshots", torch.zeros(kept, probes, dim, device=device))
        self.register_buffer("taken", torch.full((kept,), -1, dtype=torch.int64))

    def due(self, step: int) -> bool:
        """Whether the images are to be encoded before this step."""
        return step % self.period in (0, self.lags[0])

    @torch.no_grad()
    def observe(self, embeddings: Float[Tensor, "probes dim"], *, step: int) -> dict[int, Float[Tensor, ""]]:
        """Compare the images with what they were.

        Args:
            embeddings: ``(probes, dim)`` floating, of the same images each time.
            step: A step that is `due`.

        Returns:
            The mean drift over each lag that ends now, 0-d, on the device; of those whose beginning was not seen,
            nothing.

        Raises:
            BankValueError: There are more or fewer of them, or of another dim.
        """
        if embeddings.shape != self.snapshots.shape[1:]:
            given, expected = tuple(embeddings.shape), tuple(self.snapshots.shape[1:])
            msg = f"embeddings has shape {given}; expected {expected}, one row for each image of the set"
            raise BankValueError(msg)
        now = embeddings.float()
        if self.metric == "cosine":
            now = nn.functional.normalize(now, dim=1)
        found = {}
        for lag in self.lags:
            place = (step - lag) // self.period % len(self.taken)
            # On the host, so that looking it up does not wait.
            if step >= lag and int(self.taken[place]) == step - lag:
                found[lag] = squared_distances(now, self.snapshots[place]).mean()
        if step % self.period == 0:
            place = step // self.period % len(self.taken)
            self.snapshots[place] = now
            self.taken[place] = step
        return found

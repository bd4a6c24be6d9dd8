"""What the three reads return."""

from typing import NamedTuple

from jaxtyping import Bool, Float, Int64
from torch import Tensor


class Readout(NamedTuple):
    """What `attend` returns.

    Attributes:
        lse: ``(batch,)``, ``log sum_j exp(scale * s_ij + beta_j)``; -inf where no row was selected.
        readout: ``(batch, dim)``, ``sum_j softmax_j M_j``; 0 where no row was selected. Carries no gradient.
    """

    lse: Float[Tensor, " batch"]
    readout: Float[Tensor, "batch dim"]


class Neighbors(NamedTuple):
    """What `nearest` returns, best first. The order among equal scores is unspecified.

    Attributes:
        scores: ``(batch, k)``, larger is nearer; -inf where fewer than k rows were selected.
        slots: ``(batch, k)`` int64 row indices; -1 where there is none.
        valid: ``(batch, k)`` bool, False where there is none.
    """

    scores: Float[Tensor, "batch k"]
    slots: Int64[Tensor, "batch k"]
    valid: Bool[Tensor, "batch k"]


class PairSum(NamedTuple):
    """What `pair_sum` returns.

    Attributes:
        value: ``(batch,)``, the sum of ``exp(beta_j) * f(s_ij)`` over the selected rows.
        count: ``(batch,)``, the active pairs in that sum: those whose derivative is not zero, that is those
            which move the query, each counted ``exp(beta_j)`` times. Carries no gradient.
    """

    value: Float[Tensor, " batch"]
    count: Float[Tensor, " batch"]

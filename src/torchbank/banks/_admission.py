"""What may enter a bank: the cast to the row dtype, the normalisation, and the check of every value.

On the CPU a bad row is an error that names it. On other devices reading a value would wait for the device, so a
bad row is marked instead, and is never written.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from torchbank.errors import BankValueError

# Outside these norms the squares of float32 underflow or overflow, and the row is scaled before it is squared.
SMALLEST_NORM, LARGEST_NORM = 1e-15, 1e15


class Admitted(NamedTuple):
    """A batch that may be written, and two counters as they were before.

    Attributes:
        rows: ``(batch, dim)`` as they will be stored, 0 where they may not be.
        accepted: ``(batch,)`` bool, where they may.
        stamp: 0-d int64, the stamp of the batch.
        total: 0-d int64, the rows that the bank took before.
    """

    rows: Tensor
    accepted: Tensor
    stamp: Tensor
    total: Tensor


def admit_batch(
    embeddings: Float[Tensor, "batch dim"],
    stamp: Int64[Tensor, ""],
    total: Int64[Tensor, ""],
    *,
    dtype: torch.dtype,
    cosine: bool,
    strict: bool,
) -> Admitted:
    """`admit` by the way that suits: one operator when compiling, few operations on the CPU."""
    if torch.compiler.is_compiling():
        return Admitted(*admit_operator(embeddings, stamp, total, dtype, cosine, strict))
    if embeddings.is_cpu:
        rows = admit_on_cpu(embeddings, dtype, cosine).compute().to(dtype)
        return Admitted(rows, torch.ones(rows.shape[:1], dtype=torch.bool), stamp, total)
    return Admitted(*admit(embeddings, dtype, cosine, strict), stamp, total)


def admit(
    embeddings: Float[Tensor, "batch dim"], dtype: torch.dtype, cosine: bool, strict: bool
) -> tuple[Float[Tensor, "batch dim"], Bool[Tensor, " batch"]]:
    """Embeddings as they will be stored, and which of them may be.

    Args:
        embeddings: What was pushed, without gradient.
        dtype: The dtype of the stored rows.
        cosine: Normalise each row.
        strict: Raise for a bad row, on any device.

    Returns:
        The rows, 0 where they may not be stored, and ``(batch,)`` True where they may.

    Raises:
        BankValueError: ``strict``, and a row is not finite or, for cosine, has no direction.
    """
    rows, accepted = _admit_on_device(embeddings, dtype, cosine)
    if strict and not accepted.all():
        row = int(accepted.int().argmin())
        raise BankValueError(_complaint(embeddings[row], row, dtype))
    return rows, accepted


class Quotient(NamedTuple):
    """Rows that may be stored, still to be divided by their norms, if any, as they are written."""

    rows: Tensor
    norms: Tensor | None

    def compute(self) -> Tensor:
        """The rows, divided."""
        return self.rows if self.norms is None else self.rows / self.norms


def admit_on_cpu(embeddings: Float[Tensor, "batch dim"], dtype: torch.dtype, cosine: bool) -> Quotient:
    """`admit` for the CPU in few operations: one reduction tells that all is well.

    The rows may still be in a wider dtype than ``dtype``, which the copy into the bank narrows, or be the
    embeddings themselves.
    """
    if cosine:
        wide = embeddings.to(_compute_dtype(embeddings))
        norms = torch.linalg.vector_norm(wide, dim=1, keepdim=True)
        if norms.shape[0] == 0:
            return Quotient(wide, norms)
        smallest, largest = norms.aminmax()
        # A NaN fails the comparison as well.
        if smallest.item() > SMALLEST_NORM and largest.item() < LARGEST_NORM:
            return Quotient(wide, norms)
    else:
        rows = embeddings.to(dtype)
        # A sum is finite only if all of its terms are; a sum that overflows is settled by the full check.
        if math.isfinite(rows.sum(dtype=torch.float32).item()):
            return Quotient(rows, None)
    return Quotient(admit(embeddings, dtype, cosine, strict=True)[0], None)


def _admit_on_device(
    embeddings: Float[Tensor, "batch dim"], dtype: torch.dtype, cosine: bool
) -> tuple[Float[Tensor, "batch dim"], Bool[Tensor, " batch"]]:
    if cosine:
        wide = embeddings.to(_compute_dtype(embeddings))
        norms = torch.linalg.vector_norm(wide, dim=1, keepdim=True)
        largest = wide.abs().amax(dim=1, keepdim=True)
        scaled = wide / largest
        safe = (norms > SMALLEST_NORM) & (norms < LARGEST_NORM)
        unit = torch.where(safe, wide / norms, scaled / torch.linalg.vector_norm(scaled, dim=1, keepdim=True))
        rows = unit.to(dtype)
        accepted = (largest.isfinite() & (largest > 0)).squeeze(1)
    else:
        rows = embeddings.to(dtype)
        accepted = rows.isfinite().all(dim=1)
    return torch.where(accepted[:, None], rows, 0), accepted


def _compute_dtype(embeddings: Tensor) -> torch.dtype:
    return torch.promote_types(embeddings.dtype, torch.float32)


def _complaint(row: Float[Tensor, " dim"], index: int, dtype: torch.dtype) -> str:
    if not row.isfinite().all():
        return f"row {index} of embeddings is not finite; nothing was written, check the model for NaN and inf"
    if not row.any():
        return f"row {index} of embeddings is all zeros, which has no direction under metric='cosine'; drop the row"
    largest = row.abs().max().item()
    return (
        f"row {index} of embeddings is not finite after the cast to {dtype} (largest value {largest:.3g}); "
        "scale it down or build the bank with dtype=torch.float32"
    )


@torch.library.custom_op("torchbank::admit", mutates_args=())
def admit_operator(
    embeddings: Tensor, stamp: Tensor, total: Tensor, dtype: torch.dtype, cosine: bool, strict: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`admit` as one operator of a compiled graph, with copies of two counters as they are before the push.

    Inductor drops a ``clone()`` of what a later operator changes in place (pytorch/pytorch#198031); it does not look
    into this one.
    """
    return *admit(embeddings, dtype, cosine, strict), stamp.clone(), total.clone()


@admit_operator.register_fake
def _(
    embeddings: Tensor,
    stamp: Tensor,
    total: Tensor,
    dtype: torch.dtype,
    cosine: bool,  # noqa: ARG001
    strict: bool,  # noqa: ARG001
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rows = embeddings.new_empty(embeddings.shape, dtype=dtype)
    accepted = embeddings.new_empty(embeddings.shape[:1], dtype=torch.bool)
    return rows, accepted, torch.empty_like(stamp), torch.empty_like(total)

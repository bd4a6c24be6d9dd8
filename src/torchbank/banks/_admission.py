"""What may enter a bank: the cast to the row dtype, the normalisation, and the check of every value.

On the CPU a bad row is an error that names it. On other devices reading a value would wait for the device, so a
bad row is marked instead, and is never written.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from torchbank.errors import BankValueError

# Outside these norms the squares of float32 underflow or overflow, and the row is scaled before it is squared.
SMALLEST_NORM, LARGEST_NORM = 1e-15, 1e15


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


def admit_on_cpu(
    embeddings: Float[Tensor, "batch dim"], dtype: torch.dtype, cosine: bool
) -> Float[Tensor, "batch dim"]:
    """`admit` for the CPU in few operations: one reduction tells that all is well.

    The rows may still be in a wider dtype than ``dtype``, which the copy into the bank narrows, or be the
    embeddings themselves.
    """
    if cosine:
        wide = embeddings.to(_compute_dtype(embeddings))
        norms = torch.linalg.vector_norm(wide, dim=1, keepdim=True)
        if len(norms):
            smallest, largest = (extreme.item() for extreme in norms.aminmax())
            # Written so that a NaN fails it.
            if not (smallest > SMALLEST_NORM and largest < LARGEST_NORM):
                return admit(embeddings, dtype, cosine, strict=True)[0]
        return wide / norms
    rows = embeddings.to(dtype)
    # A sum is finite only if all of its terms are; a sum that overflows is settled by the full check.
    if not math.isfinite(rows.sum(dtype=torch.float32).item()):
        return admit(embeddings, dtype, cosine, strict=True)[0]
    return rows


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
def admit_operator(embeddings: Tensor, dtype: torch.dtype, cosine: bool, strict: bool) -> tuple[Tensor, Tensor]:
    """`admit` as one operator of a compiled graph."""
    return admit(embeddings, dtype, cosine, strict)


@admit_operator.register_fake
def _(embeddings: Tensor, dtype: torch.dtype, cosine: bool, strict: bool) -> tuple[Tensor, Tensor]:  # noqa: ARG001
    return embeddings.new_empty(embeddings.shape, dtype=dtype), embeddings.new_empty(
        embeddings.shape[:1], dtype=torch.bool
    )

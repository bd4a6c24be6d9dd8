"""Match a teacher's similarity distribution over a memory: ISD, ReSSL, SCE and MaSSL.

Axes: views (of the student, v, or of the teacher, u), batch, dim, blocks (of the memory), size (of a block).
"""

from collections.abc import Iterator
from typing import NamedTuple, Unpack

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from torchbank.errors import BankTypeError, BankValueError, check_choice
from torchbank.losses._doors import as_scale, check_floating, widened, without_autocast
from torchbank.losses._reduction import Reduction, reduced
from torchbank.losses._sources import (
    BatchRows,
    Clauses,
    RowSelection,
    RowSource,
    SlotSource,
    any_of,
    as_compared,
    at_slots,
)
from torchbank.reads import Precision


def distribution_match(
    student: Tensor,
    teacher: Tensor,
    bank: RowSource | None,
    *,
    student_temperature: float | Tensor,
    teacher_temperature: float | Tensor,
    blocks: Int64[Tensor, "blocks size"] | None = None,
    pair_mask: Bool[Tensor, "views teacher_views"] | None = None,
    positive_weight: float | None = None,
    reduction: Reduction = "mean",
    precision: Precision = "exact",
    **selection: Unpack[RowSelection],
) -> Tensor:
    """Cross-entropy between how a teacher and a student compare with the same memory.

    ``-sum_j p_t(j) log p_s(j)``, with ``p(j)`` the softmax over rows j of ``z . M_j / temperature``: the loss of ISD
    ([Tejankar et al. 2020](arXiv:2012.09259)), ReSSL ([Zheng et al. 2021](arXiv:2107.09282)) and MaSSL
    ([Silva et al. 2024](arXiv:2407.17486)). It is ``lse(student) - z_s . o_t / student_temperature`` with o_t the
    teacher's readout, two reads of the memory, and its gradient is the difference of the two readouts: neither
    distribution exists. The teacher is a constant.

    Over ``blocks`` the softmax is inside each block, and the loss is the mean over blocks. They are read one after
    another: a copy of one block's rows is held, and one readout a block.

    Under ``half_life`` and ``bias`` a row counts as if it were there ``exp(bias)`` times, each copy with its share of
    the probability.

    With ``positive_weight`` the teacher's embedding of the same instance is one more row of the student's softmax,
    and that share of the target lies on it, the rest on the memory: SCE
    ([Denize et al. 2021](arXiv:2111.14585)). 1 is `info_nce`.

    Args:
        student: ``(batch, dim)``, or views ``(views, batch, dim)``.
        teacher: ``(batch, dim)``, or views ``(teacher_views, batch, dim)``; detached here.
        bank: The memory; None is the teacher's embeddings of the other instances of the batch, compared by cosine.
        student_temperature: Above 0; a 0-d tensor learns.
        teacher_temperature: Above 0, usually lower, so that the target is sharper.
        blocks: ``(blocks, size)`` int64 slots, the same for all views, as from ``bank.blocks``.
        pair_mask: ``(views, teacher_views)`` bool, True for the pairs of a student's view and a teacher's that are
            compared; None is all of them.
        positive_weight: From 0 to 1; None leaves the positive out of both distributions.
        reduction: ``"mean"`` over the batch, ``"sum"`` or ``"none"``, of the mean over view pairs and blocks.
        precision: ``"fast"`` may round to the dtype of a bank's rows of 16 bits; see `torchbank.reads.attend`.
        **selection: Row selection, as in the bank's reads, with one value an instance: ``exclude``, ``include``,
            ``max_age``, ``half_life``, ``bias``, ``step``.

    Returns:
        The loss, 0-d, or ``(batch,)`` for ``"none"``; 0 for a query without any row, and without blocks or pairs.
        float32, or float64 for float64 students.

    Raises:
        BankValueError: Shapes do not fit, a word is unknown, or a number is out of range.
        BankTypeError: Student or teacher is not floating, the mask is not bool, or blocks are given without a bank.
        BankStateError: On differentiating twice through a bank.

    Example:
        >>> import torch
        >>> import torchbank as tb
        >>> bank = tb.MemoryBank(4096, 8)
        >>> _ = bank.push(torch.randn(4096, 8))
        >>> student, teacher = torch.randn(3, 4, 8, requires_grad=True), torch.randn(2, 4, 8)
        >>> another_view = ~torch.eye(3, 2, dtype=torch.bool)
        >>> loss = tb.losses.distribution_match(
        ...     student, teacher, bank, student_temperature=0.1, teacher_temperature=0.04,
        ...     blocks=bank.blocks(1024), pair_mask=another_view,
        ... )
        >>> loss.backward()
        >>> student.grad.shape
        torch.Size([3, 4, 8])
    """
    check_choice("reduction", reduction, "mean", "sum", "none")
    if positive_weight is not None and not 0 <= positive_weight <= 1:
        msg = f"positive_weight={positive_weight}; expected a share of the target, from 0 to 1, or None"
        raise BankValueError(msg)
    student, teacher = _as_views("student", student), _as_views("teacher", teacher.detach())
    weights = _pair_weights(student, teacher, pair_mask)
    metric = "cosine" if bank is None else bank.metric
    scale = as_scale(student_temperature)
    with without_autocast(student):
        student, teacher = (as_compared(widened(views).flatten(0, 1), metric) for views in (student, teacher))
        pairs = _Pairs(student, teacher, weights, scale, as_scale(teacher_temperature), positive_weight, precision)
        # Of no blocks it is 0, with a gradient.
        values = 0.0 * student.unflatten(0, (len(weights), -1)).sum(dim=(0, 2))
        count = 1 if blocks is None else max(1, len(blocks))
        for rows, chosen in _parts(bank, pairs, blocks, selection):
            values = values + pairs.values(rows, chosen) / count
    return reduced(values, reduction)


class _Pairs(NamedTuple):
    """Pairs of a student's view and a teacher's, each ``(views * batch, dim)`` as it is compared."""

    student: Float[Tensor, "queries dim"]
    teacher: Float[Tensor, "targets dim"]
    weights: Float[Tensor, "views teacher_views"]
    scale: float | Tensor
    teacher_scale: float | Tensor
    positive_weight: float | None
    precision: Precision

    def values(self, rows: RowSource, selection: RowSelection) -> Float[Tensor, " batch"]:
        """The weighted sum over pairs of the cross-entropies over ``rows``."""
        views, teacher_views = self.weights.shape
        seen = _of_each_view(selection, views)
        lse = rows.attend(self.student, scale=self.scale, precision=self.precision, **seen).lse
        with torch.no_grad():
            seen = _of_each_view(selection, teacher_views)
            target = rows.attend(self.teacher, scale=self.teacher_scale, precision=self.precision, **seen).readout
        lse = lse.unflatten(0, (views, -1))[:, None]
        total = lse
        if self.positive_weight is not None:
            total = torch.logaddexp(lse, self._logits(self.teacher))
            target = self.positive_weight * self.teacher + (1 - self.positive_weight) * target
        # where, not a product: of no rows lse is -inf.
        values = torch.where(lse == -torch.inf, 0.0, total - self._logits(target.to(self.student.dtype)))
        return (self.weights[:, :, None] * values).sum(dim=(0, 1))

    def _logits(self, others: Float[Tensor, "targets dim"]) -> Float[Tensor, "views teacher_views batch"]:
        """Scaled similarities of each instance's views with its own row of each of ``others``' views."""
        views, teacher_views = self.weights.shape
        student = self.student.unflatten(0, (views, -1))
        return self.scale * torch.einsum("vbd,ubd->vub", student, others.unflatten(0, (teacher_views, -1)))


def _parts(
    bank: RowSource | None, pairs: _Pairs, blocks: Tensor | None, selection: RowSelection
) -> Iterator[tuple[RowSource, RowSelection]]:
    """What is read, one part after another, each with its own row selection."""
    if blocks is None:
        yield BatchRows(pairs.teacher, views=pairs.weights.shape[1]) if bank is None else bank, selection
        return
    if not isinstance(bank, SlotSource):
        msg = f"blocks are slots of a bank, and bank is {type(bank).__name__}; drop them or give the bank they are of"
        raise BankTypeError(msg)
    for slots in blocks:
        yield bank.subset(slots), at_slots(selection, slots)


def _of_each_view(selection: RowSelection, views: int) -> RowSelection:
    """The selection with the values of the instances repeated for each view."""
    exclude, include = _repeated(selection.get("exclude"), views), _repeated(selection.get("include"), views)
    return {**selection, "exclude": exclude, "include": include}


def _repeated(clauses: Clauses, views: int) -> Clauses:
    return [{name: values.repeat(views) for name, values in each.items()} for each in any_of(clauses)] or None


def _as_views(word: str, embeddings: Tensor) -> Float[Tensor, "views batch dim"]:
    """With an axis of views.

    Raises:
        BankTypeError: The dtype is not floating.
        BankValueError: The shape does not fit.
    """
    check_floating(f"{word} embeddings", embeddings)
    if embeddings.ndim not in (2, 3):
        msg = f"{word} has shape {tuple(embeddings.shape)}; expected (batch, dim) or (views, batch, dim)"
        raise BankValueError(msg)
    return embeddings if embeddings.ndim == 3 else embeddings[None]


def _pair_weights(
    student: Float[Tensor, "views batch dim"], teacher: Tensor, pair_mask: Tensor | None
) -> Float[Tensor, "views teacher_views"]:
    """One share for each pair that is compared, 0 for the others.

    Raises:
        BankValueError: The views are not of one batch, or the mask is of other views.
        BankTypeError: The mask is not bool.
    """
    if student.shape[1:] != teacher.shape[1:]:
        msg = (
            f"student has shape {tuple(student.shape)} and teacher {tuple(teacher.shape)}; expected views of one "
            "batch, equal in their last two axes"
        )
        raise BankValueError(msg)
    shape = (len(student), len(teacher))
    dtype = torch.promote_types(student.dtype, torch.float32)
    if pair_mask is None:
        return torch.full(shape, 1 / max(1, shape[0] * shape[1]), dtype=dtype, device=student.device)
    if pair_mask.dtype != torch.bool:
        msg = f"pair_mask has dtype {pair_mask.dtype}; expected bool, True for the pairs that are compared"
        raise BankTypeError(msg)
    if pair_mask.shape != shape:
        msg = f"pair_mask has shape {tuple(pair_mask.shape)}; expected {shape}, one for each view and teacher's view"
        raise BankValueError(msg)
    mask = pair_mask.to(student.device, dtype)
    return mask / mask.sum().clamp_min(1)

"""Rows with everything that is stored beside them."""

from typing import NamedTuple

from torch import Tensor


class BankView(NamedTuple):
    """Rows of a bank, or rows on their way into one.

    Attributes:
        embeddings: ``(rows, dim)`` in the bank's dtype.
        fields: One tensor ``(rows, *shape)`` for each declared field, by name.
        steps: ``(rows,)`` int64, the stamp of the push that wrote each row.
        valid: ``(rows,)`` bool, False for a row that holds nothing.

    Example:
        >>> import torch, torchbank as tb
        >>> bank = tb.MemoryBank(4, 2, fields={"label": torch.int64}, metric="dot")
        >>> _ = bank.push(torch.ones(2, 2), label=torch.tensor([7, 8]))
        >>> view = bank.view()
        >>> view.fields["label"].tolist(), view.steps.tolist()
        ([7, 8], [0, 0])
    """

    embeddings: Tensor
    fields: dict[str, Tensor]
    steps: Tensor
    valid: Tensor

    def rows(self, index: Tensor | slice) -> "BankView":
        """The rows at ``index``, each column where it lies: views for a slice, copies for a tensor."""
        return BankView(
            _at(self.embeddings, index),
            {name: _at(column, index) for name, column in self.fields.items()},
            _at(self.steps, index),
            _at(self.valid, index),
        )

    def blanked(self) -> "BankView":
        """A copy that is 0 wherever it is not valid."""
        return BankView(
            _blank(self.embeddings, self.valid),
            {name: _blank(column, self.valid) for name, column in self.fields.items()},
            _blank(self.steps, self.valid),
            self.valid,
        )


class StaleRows(NamedTuple):
    """Rows that may be encoded again, and what `Bank.update` takes to write them where they still are.

    Attributes:
        slots: ``(rows,)`` int64.
        generations: ``(rows,)`` int64, those of the slots.
        rows: A copy of what they hold.
    """

    slots: Tensor
    generations: Tensor
    rows: BankView


def _at(column: Tensor, index: Tensor | slice) -> Tensor:
    return column[index if isinstance(index, slice) else index.to(column.device)]


def _blank(values: Tensor, valid: Tensor) -> Tensor:
    return values.masked_fill(~valid.view(*valid.shape, *[1] * (values.ndim - valid.ndim)), 0)

"""Some rows of a bank as something to read."""

from typing import Any

from torch import Tensor

from torchbank.banks._reading import Reading, Table
from torchbank.banks._view import BankView


class Subset(Reading):
    """A copy of some rows of a bank, with the bank's reads; what `Bank.subset` returns.

    Fields and ages are those of the rows; later pushes to the bank do not change it.

    Args:
        view: The rows.
        metric: That of the bank.
        clock: 0-d int64, the bank's present.
        masked: Whether some rows may hold nothing, and ``view.valid`` says which.
        among: What else a `Table` knows, of rows that are a part of those asked for.
    """

    def __init__(self, view: BankView, metric: str, clock: Tensor, *, masked: bool, **among: Any) -> None:
        self.dim = view.embeddings.shape[1]
        self.metric = metric
        self._rows = Table(
            view.embeddings, view.fields, view.steps, clock.clone(), valid=view.valid if masked else None, **among
        )

    def __len__(self) -> int:
        """The rows there are, those that hold nothing included."""
        return self._rows.embeddings.shape[0]

    def _table(self) -> Table:
        return self._rows

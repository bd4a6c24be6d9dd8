"""Plain tensors in the place of a bank."""

from jaxtyping import Int64
from torch import Tensor

from torchbank.banks._doors import check_embeddings, check_metric
from torchbank.banks._reading import Reading, Table
from torchbank.errors import BankTypeError, BankValueError


class Rows(Reading):
    """Embeddings and fields as they are, with the reads of a bank: for the rows of a batch, or a data set.

    Nothing is copied, cast or normalised; under cosine the rows are taken to be of unit length already, and only
    the queries are normalised. With ``impl="reference"`` the gradient reaches the rows as well.

    Args:
        embeddings: ``(rows, dim)`` of any floating dtype.
        metric: ``"dot"``, ``"cosine"`` or ``"euclidean"``.
        **fields: One tensor ``(rows, ...)`` by name, for ``include=`` and ``exclude=``.

    Raises:
        BankValueError: The embeddings are not two-dimensional, a field has another length or lies on another
            device, or the metric is unknown.
        BankTypeError: The embeddings are not floating, or a field is not a tensor.

    Example:
        >>> import torch, torchbank as tb
        >>> rows = tb.Rows(torch.eye(3), label=torch.tensor([0, 0, 1]))
        >>> rows.nearest(torch.eye(3)[:1], k=3, include={"label": torch.tensor([0])}).slots
        tensor([[ 0,  1, -1]])
    """

    def __init__(self, embeddings: Tensor, metric: str = "dot", **fields: Tensor) -> None:
        if not isinstance(embeddings, Tensor) or embeddings.ndim != 2:
            given = tuple(embeddings.shape) if isinstance(embeddings, Tensor) else type(embeddings).__name__
            msg = f"embeddings is {given}; expected a tensor of shape (rows, dim)"
            raise BankValueError(msg)
        check_embeddings(embeddings, embeddings.shape[1], embeddings.device)
        check_metric(metric)
        for name, values in fields.items():
            if not isinstance(values, Tensor):
                msg = f"field {name!r} is a {type(values).__name__}; expected a tensor"
                raise BankTypeError(msg)
            if values.shape[:1] != embeddings.shape[:1] or values.device != embeddings.device:
                msg = (
                    f"field {name!r} has shape {tuple(values.shape)} on {values.device}; expected "
                    f"({embeddings.shape[0]}, ...) on {embeddings.device}, one value for each row"
                )
                raise BankValueError(msg)
        self.embeddings = embeddings
        self.dim = embeddings.shape[1]
        self.metric = metric
        self.fields = fields

    def subset(self, slots: Int64[Tensor, " rows"]) -> "Rows":
        """A copy of the rows at ``slots``, as `Bank.subset` gives it."""
        fields = {name: values[slots] for name, values in self.fields.items()}
        return Rows(self.embeddings[slots], self.metric, **fields)

    def __len__(self) -> int:
        """The rows there are."""
        return self.embeddings.shape[0]

    def __repr__(self) -> str:
        """Size, metric and fields."""
        return f"Rows({len(self)} x {self.dim}, metric={self.metric!r}, fields={list(self.fields)})"

    def _table(self) -> Table:
        return Table(self.embeddings, self.fields)

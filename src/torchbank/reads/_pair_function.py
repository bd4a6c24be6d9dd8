"""The function of one pair that `pair_sum` sums."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, get_args

from torch import Tensor

from torchbank.errors import BankValueError, check_choice

ClosedForm = Literal["score", "distance", "excess"]
"""Functions that the GPU kernel knows: s, 1 - s, and max(s - margin, 0) with the margin as the one parameter."""

# Custom operators take tensors and plain values only, so a read names its function and looks it up here.
_BY_NAME: dict[str, "PairFunction"] = {}


@dataclass(frozen=True)
class PairFunction:
    """A function f(score, same) of one query-row pair, with its derivative by the score.

    Args:
        name: What the function is called; one name, one function.
        value: ``value(scores, same, *parameters)`` with ``scores`` (batch, rows) floating and ``same``
            (batch, rows) bool, True where the labels agree; returns f, shaped like ``scores``.
        derivative: The same arguments; returns df/dscore, shaped like ``scores``.
        parameters: Handed to both: numbers such as a margin, then tensors ``(batch,)`` with one number for each
            query, which arrive as ``(batch, 1)`` and are constants to autograd.
        zero_up_to: ``zero_up_to(*parameters)`` returns the score, or scores (batch, 1), up to which both are 0,
            as under a margin: where few pairs score higher, ``value`` and ``derivative`` are asked for these alone,
            as ``(pairs, 1)``.
        closed_form: ``"score"`` says that f is s, ``"distance"`` that it is 1 - s, ``"excess"`` that it is
            max(s - margin, 0) with the margin as its one parameter: a kernel then sums it on a GPU in one pass.
            It must agree with ``value`` and ``derivative``.

    Raises:
        BankValueError: Another function has taken the name, or the closed form is unknown.

    Example:
        A squared hinge on negatives, and its mean over them:

        >>> import torch
        >>> from torchbank.reads import PairFunction, pair_sum
        >>> hinge = PairFunction(
        ...     "squared_hinge",
        ...     value=lambda s, same, margin: (s - margin).clamp_min(0).square(),
        ...     derivative=lambda s, same, margin: 2 * (s - margin).clamp_min(0),
        ... )
        >>> queries, rows = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
        >>> total = pair_sum(queries, rows, hinge.with_parameters(0.5))
        >>> round(total.value.item(), 4), total.count.item()
        (0.2, 2.0)
    """

    name: str
    value: Callable[..., Tensor]
    derivative: Callable[..., Tensor]
    parameters: tuple[float | Tensor, ...] = ()
    zero_up_to: Callable[..., float | Tensor] | None = None
    closed_form: ClosedForm | None = None

    def __post_init__(self) -> None:
        if self.closed_form is not None:
            check_choice("closed_form", self.closed_form, *get_args(ClosedForm))
        known = _BY_NAME.get(self.name)
        if known is not None and known.value is self.value and known.derivative is self.derivative:
            # Other parameters only. The register stays as it is, or torch.compile would see it change and recompile.
            return
        if known is None or _same_source(known, self):
            _BY_NAME[self.name] = self
            return
        msg = f"a different PairFunction is already named {self.name!r}; give this one a name of its own"
        raise BankValueError(msg)

    def with_parameters(self, *parameters: float | Tensor) -> "PairFunction":
        """The same function with other parameters.

        Args:
            *parameters: In the order in which ``value`` and ``derivative`` take them: numbers first, then tensors
                ``(batch,)``.

        Returns:
            A new `PairFunction`.

        Raises:
            BankValueError: A number follows a tensor, or a tensor has other than one axis.
        """
        given = tuple(each.detach() if isinstance(each, Tensor) else float(each) for each in parameters)
        shapes = [tuple(each.shape) if isinstance(each, Tensor) else None for each in given]
        late = any(isinstance(each, Tensor) and not isinstance(after, Tensor) for each, after in pairwise(given))
        if late or any(shape is not None and len(shape) != 1 for shape in shapes):
            words = ["a number" if shape is None else f"a tensor of shape {shape}" for shape in shapes]
            msg = f"parameters are {', '.join(words)}; expected numbers first, then tensors (batch,), a number a query"
            raise BankValueError(msg)
        return replace(self, parameters=given)

    def check(self, queries: Tensor) -> None:
        """Raise unless every parameter fits ``queries`` (batch, dim).

        Raises:
            BankValueError: A tensor is of another length or on another device.
        """
        for each in self.per_query:
            if each.shape != queries.shape[:1] or each.device != queries.device:
                msg = (
                    f"{self.name} has a parameter of shape {tuple(each.shape)} on {each.device}; expected one number a "
                    f"query, ({queries.shape[0]},) on {queries.device}"
                )
                raise BankValueError(msg)

    @property
    def numbers(self) -> list[float]:
        """The parameters that are the same for every query."""
        return [each for each in self.parameters if not isinstance(each, Tensor)]

    @property
    def per_query(self) -> list[Tensor]:
        """The parameters ``(batch,)``."""
        return [each for each in self.parameters if isinstance(each, Tensor)]

    def arguments(self) -> list[float | Tensor]:
        """The parameters as ``value`` and ``derivative`` take them, tensors as (batch, 1)."""
        return [each[:, None] if isinstance(each, Tensor) else each for each in self.parameters]


def _same_source(known: PairFunction, new: PairFunction) -> bool:
    """Whether two functions were written at the same place, as when a notebook cell runs again."""
    return all(
        (a.__module__, a.__qualname__) == (b.__module__, b.__qualname__)
        for a, b in ((known.value, new.value), (known.derivative, new.derivative))
    )


def by_name(name: str) -> PairFunction:
    """The registered function of that name."""
    return _BY_NAME[name]

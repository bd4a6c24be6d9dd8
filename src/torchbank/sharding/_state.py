"""The state of a bank as its columns, which ranks have parts of, and the rest, which is the same on all."""

from typing import NamedTuple

from torch import Tensor

from torchbank.banks import Bank
from torchbank.sharding._collectives import Ranks
from torchbank.sharding._shared import SharedBank

_OWN, _WHOLE = "replacement.rule.", "replacement."


class SplitState(NamedTuple):
    """A bank's state under the names that it has in a bank of one process.

    Attributes:
        columns: ``(rows, ...)``, this rank's rows of each column.
        common: Counters, and what the rule remembers.
    """

    columns: dict[str, Tensor]
    common: dict[str, Tensor]


def split_state(bank: Bank) -> SplitState:
    """The buffers themselves, not copies."""
    split = SplitState({}, {})
    for name, value in bank.state_dict().items():
        name = name.replace(_OWN, _WHOLE, 1) if name.startswith(_OWN) else name
        per_slot = value.ndim > 0 and not name.startswith(_WHOLE)
        (split.columns if per_slot else split.common)[name] = value
    return split


def parts_of(bank: Bank) -> Ranks:
    """The ranks that a bank's rows lie on: one for a bank that is local or replicated."""
    if isinstance(bank, SharedBank) and len(bank.steps) < bank.capacity:
        return bank.ranks
    return Ranks.alone()

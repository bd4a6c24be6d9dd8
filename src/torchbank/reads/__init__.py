"""The three reads of a bank as pure functions of tensors.

`attend` (log-sum-exp and readout), `nearest` (the k best rows) and `pair_sum` (a function summed over pairs):
each passes over the rows once, keeps O(batch) state and never builds the (batch x rows) matrix. `triplet_sum` is
`pair_sum` for triplets, and also keeps the scores of the rows of each query's label. `MappedRows` are rows
in a mapped file; `take`, `scatter`, `copy_rows`, `passing` and `release` reach rows wherever they lie.
"""

from torchbank.reads._attend import attend
from torchbank.reads._doors import Impl, Precision
from torchbank.reads._first_order import first_order_only
from torchbank.reads._mapped import MappedRows, file_size
from torchbank.reads._nearest import nearest
from torchbank.reads._pair_function import PairFunction
from torchbank.reads._pair_sum import SCORE, pair_sum
from torchbank.reads._results import Neighbors, PairSum, Readout
from torchbank.reads._selection import Clause, Match, Selection
from torchbank.reads._staging import copy_rows, passing, release, scatter, take
from torchbank.reads._triplet_parts import PositivePairs
from torchbank.reads._triplet_sum import Mining, triplet_sum, triplet_sum_of_parts

__all__ = [
    "SCORE",
    "Clause",
    "Impl",
    "MappedRows",
    "Match",
    "Mining",
    "Neighbors",
    "PairFunction",
    "PairSum",
    "PositivePairs",
    "Precision",
    "Readout",
    "Selection",
    "attend",
    "copy_rows",
    "file_size",
    "first_order_only",
    "nearest",
    "pair_sum",
    "passing",
    "release",
    "scatter",
    "take",
    "triplet_sum",
    "triplet_sum_of_parts",
]

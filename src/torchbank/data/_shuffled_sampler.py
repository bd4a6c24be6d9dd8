"""Shuffled batches, every example once per pass."""

from typing import Literal, get_args

import numpy as np

from torchbank.data._stateful_sampler import StatefulSampler
from torchbank.errors import BankValueError, check_choice

__all__ = ["ShuffledSampler"]

LastBatch = Literal["keep", "drop"]


class ShuffledSampler(StatefulSampler):
    """An endless stream of shuffled batches: each pass brings every example once, in a new order.

    Batch number i is a pure function of the arguments and i: see `torchbank.data.StatefulSampler`.

    Args:
        size: Examples in the data set.
        batch_size: Examples in a batch.
        seed: Which stream.
        last: What becomes of the examples that are left at the end of a pass and are fewer than a batch: a short
            batch (`"keep"`), or nothing (`"drop"`), other ones in each pass.
        rank: Which of `ranks` processes this is. Process r takes batches r, r + ranks, ... of one stream, so that
            together they bring every example once per pass.
        ranks: How many processes share the stream.

    Raises:
        BankValueError: A number is out of range, a word is unknown, or every batch would be dropped.

    Example:
        >>> from itertools import islice
        >>> sampler = ShuffledSampler(7, batch_size=3)
        >>> [len(batch) for batch in islice(sampler, 4)]
        [3, 3, 1, 3]
        >>> sampler.batch(0) == ShuffledSampler(7, batch_size=3).batch(0)
        True
    """

    def __init__(
        self, size: int, *, batch_size: int, seed: int = 0, last: LastBatch = "keep", rank: int = 0, ranks: int = 1
    ) -> None:
        check_choice("last", last, *get_args(LastBatch))
        if min(size, batch_size, ranks) < 1 or seed < 0 or not 0 <= rank < ranks:
            msg = (
                f"size is {size}, batch_size {batch_size}, seed {seed}, rank {rank} and ranks {ranks}; expected 1 or "
                "more, 1 or more, 0 or more and a rank from 0 to ranks - 1"
            )
            raise BankValueError(msg)
        if last == "drop" and batch_size > size:
            msg = f"batch_size is {batch_size}, but there are {size} examples: take smaller batches or keep the last"
            raise BankValueError(msg)
        super().__init__(seed)
        self.size, self.batch_size, self.last = size, batch_size, last
        self.rank, self.ranks = rank, ranks
        self._latest_pass = (-1, np.empty(0, dtype=np.int64))

    @property
    def batches_per_pass(self) -> int:
        """Batches, of all processes together, until every example had its turn."""
        return self.size // self.batch_size if self.last == "drop" else -(-self.size // self.batch_size)

    def batch(self, index: int) -> list[int]:
        """Compute batch number `index` of this process: row numbers in random order."""
        turn, position = divmod(index * self.ranks + self.rank, self.batches_per_pass)
        start = position * self.batch_size
        return self._order(turn)[start : start + self.batch_size].tolist()

    def _order(self, turn: int) -> np.ndarray:
        # The batches of one pass follow each other: its order is drawn once, not once a batch.
        if self._latest_pass[0] != turn:
            self._latest_pass = turn, np.random.default_rng([self.seed, turn]).permutation(self.size)
        return self._latest_pass[1]

    def _identity(self) -> dict[str, int]:
        return {
            "seed": self.seed,
            "size": self.size,
            "batch_size": self.batch_size,
            "drops_last": int(self.last == "drop"),
            "rank": self.rank,
            "ranks": self.ranks,
        }

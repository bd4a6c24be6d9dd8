"""The ranked list of each query, with one order for equal scores, and the rows that it should hold first.

Axes: q (all queries), n (rows), batch (queries of a block), k (places), relevant (rows of a query's class).
"""

from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from torchbank.banks import Rows

__all__ = ["BLOCK_SCORES", "RankedLists"]

# Scores held at once (4 MB of float32). What is computed from them stays below 64 MB even where all of them are equal.
BLOCK_SCORES = 2**20


class RankedLists:
    """Rows as each query ranks them: by inner product, and the lower index first among equal scores.

    Args:
        queries: `(q, d)`.
        rows: `(n, d)`.
        query_labels: `(q,)` int64.
        row_labels: `(n,)` int64.
        left_out: Fields by name, each `(q,)` and `(n,)`: a row all of whose fields equal a query's is not in the list
            of this query. Such a row has the label of the query.

    Attributes:
        relevant: `(q,)` int64, how many rows of its list have the class of each query.
    """

    def __init__(
        self,
        queries: Float[Tensor, "q dim"],
        rows: Float[Tensor, "n dim"],
        *,
        query_labels: Int64[Tensor, " q"],
        row_labels: Int64[Tensor, " n"],
        left_out: Mapping[str, tuple[Tensor, Tensor]],
    ) -> None:
        self.queries, self.rows = queries, rows
        self.query_labels, self.row_labels = query_labels, row_labels
        self._left_out = left_out
        self._by_class = row_labels.argsort(stable=True)
        in_order = row_labels[self._by_class]
        self._starts = torch.searchsorted(in_order, query_labels)
        self._sizes = torch.searchsorted(in_order, query_labels, right=True) - self._starts
        self.relevant = self._sizes - self._count_left_out()

    def query_blocks(self, places: int) -> Iterator[Int64[Tensor, " batch"]]:
        """Every query that has something to find, the largest classes first, so that a block pads little.

        Args:
            places: How many places of its list a query needs at least.
        """
        order = self._sizes.argsort(descending=True, stable=True)
        order = order[self.relevant[order] > 0]
        while len(order):
            # `nearest` is quick for batches of some hundred; a query takes about ten numbers for each of its places.
            size = max(1, min(512, BLOCK_SCORES // (10 * max(places, int(self._sizes[order[0]])))))
            yield order[:size]
            order = order[size:]

    def relevant_rows(self, block: Int64[Tensor, " batch"]) -> Int64[Tensor, "batch relevant"]:
        """The rows that each query should find, in ascending order, padded with -1 at the end."""
        sizes = self._sizes[block]
        place = torch.arange(int(sizes.max()), device=block.device)
        members = self._by_class[(self._starts[block, None] + place).clamp(max=len(self._by_class) - 1)]
        dropped = (place >= sizes[:, None]) | self._is_left_out(block, members)
        # A stable sort by "is it dropped" moves these to the end and keeps the rest in order.
        members = members.masked_fill(dropped, -1)
        members = members.gather(1, dropped.to(torch.uint8).sort(dim=1, stable=True).indices)
        return members[:, : int(self.relevant[block].max())]

    def nearest(self, block: Int64[Tensor, " batch"], k: int) -> Int64[Tensor, "batch k"]:
        """The first k rows of each list; -1 where it has fewer."""
        exclude = {name: of_queries[block] for name, (of_queries, _) in self._left_out.items()} or None
        table = Rows(self.rows, "dot", **{name: of_rows for name, (_, of_rows) in self._left_out.items()})
        # `nearest` breaks ties as it likes: one more place shows whether equal scores straddle the last one.
        found = table.nearest(self.queries[block], k + 1, exclude=exclude)
        slots, by_slot = found.slots.sort(dim=1)
        scores, by_score = found.scores.gather(1, by_slot).sort(dim=1, descending=True, stable=True)
        slots = slots.gather(1, by_score)
        straddled = (scores[:, k - 1] == scores[:, k]) & (slots[:, k] >= 0)
        if straddled.any():
            for part in straddled.nonzero()[:, 0].split(max(1, BLOCK_SCORES // len(self.rows))):
                slots[part, :k] = self._nearest_in_full(block[part], k)
        return slots[:, :k]

    def scores(self, block: Int64[Tensor, " batch"]) -> Float[Tensor, "batch n"]:
        """The score of every row; -inf where it is not in the list."""
        scores = self.queries[block] @ self.rows.T
        if self._left_out:
            every_row = torch.arange(len(self.rows), device=block.device)
            scores.masked_fill_(self._is_left_out(block, every_row[None]), -torch.inf)
        return scores

    def _nearest_in_full(self, block: Int64[Tensor, " batch"], k: int) -> Int64[Tensor, "batch k"]:
        """`nearest` from all scores, for queries with equal scores on both sides of the last place."""
        scores = self.scores(block)
        last = scores.topk(k, dim=1).values[:, -1:]
        tied = scores == last
        above = scores > last
        places_left = k - above.sum(dim=1, keepdim=True)
        chosen = above | (tied & (tied.cumsum(dim=1, dtype=torch.int32) <= places_left))
        slots = chosen.nonzero()[:, 1].view(len(block), k)
        return slots.gather(1, scores.gather(1, slots).sort(dim=1, descending=True, stable=True).indices)

    def _is_left_out(self, block: Int64[Tensor, " batch"], rows: Int64[Tensor, "#batch m"]) -> Bool[Tensor, "batch m"]:
        left_out = torch.full((len(block), rows.shape[1]), bool(self._left_out), device=block.device)
        for of_queries, of_rows in self._left_out.values():
            left_out &= of_rows[rows] == of_queries[block, None]
        return left_out

    def _count_left_out(self) -> Int64[Tensor, " q"]:
        """How many rows are not in the list of each query."""
        if not self._left_out:
            return torch.zeros_like(self._sizes)
        # A number for each combination of values that occurs.
        values = torch.stack([torch.cat(both) for both in self._left_out.values()], dim=1)
        combinations, number = values.unique(dim=0, return_inverse=True)
        of_queries, of_rows = number.split([len(self.queries), len(self.rows)])
        return of_rows.bincount(minlength=len(combinations))[of_queries]

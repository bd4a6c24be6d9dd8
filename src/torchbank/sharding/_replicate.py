"""The same rows on every rank."""

from typing import TypeVar

from jaxtyping import Int64
from torch import Tensor, distributed

from torchbank.banks import Bank
from torchbank.sharding._agreement import check_agreement
from torchbank.sharding._collectives import Ranks
from torchbank.sharding._rank_tag import tag
from torchbank.sharding._shared import SharedBank, shared_class

AnyBank = TypeVar("AnyBank", bound=Bank)


class ReplicatedBank(SharedBank):
    """What `replicate` makes of a bank, which stays of its class as well."""

    def _share(self, places: Int64[Tensor, " rows"]) -> Int64[Tensor, " share"]:
        """Each rank looks after every row in turn."""
        return places[self.ranks.rank :: self.ranks.size]

    def common_state(self) -> dict[str, Tensor]:
        """All of it."""
        return self.state_dict()


def replicate(bank: AnyBank, group: distributed.ProcessGroup | None = None, *, uneven: bool = False) -> AnyBank:
    """Let every rank of a group hold the same rows in the same order, bit for bit.

    A push takes the batches of all ranks, in rank order, as one process would take their concatenation; its slots are
    those of this rank's rows. Everything else is that of the bank, and sends nothing. Of W ranks with a batch of b rows
    each, a push sends a rank the ``(W - 1) b`` rows of the others: embeddings as they were given, fields and keys.

    The means over a rank's batch, averaged by DDP over ranks of equal batches, are those of one process with the whole
    batch: so are the gradients of a loss that is a mean over queries. Ranks must push the same fields under the same
    step, and call ``push`` and ``update`` at the same time.

    Args:
        bank: The same on all ranks, empty or not.
        group: The ranks; None is all of them, or this process alone where there is no process group.
        uneven: Ranks may bring batches of different sizes, an empty one too. Waits for the device.

    Returns:
        ``bank`` itself, changed.

    Raises:
        BankStateError: The banks differ, or are shared already; the message names the first rank that differs.
        BankValueError: This process is not in the group.

    Example:
        >>> import torch, torchbank as tb
        >>> bank = tb.replicate(tb.MemoryBank(8, 2))  # alone here; under torchrun, with the other ranks
        >>> bank.push(torch.randn(3, 2)).tolist()
        [0, 1, 2]
    """
    ranks = Ranks(group, uneven=uneven)
    check_agreement(bank, ranks, bank.device)
    bank.__class__ = shared_class(ReplicatedBank, type(bank))
    vars(bank)["ranks"] = ranks
    tag(bank, ranks)
    return bank

"""Streams of batches that resume where they were."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping

from torch.utils.data import Sampler

from torchbank.errors import BankStateError

__all__ = ["StatefulSampler"]


class StatefulSampler(Sampler[list[int]], ABC):
    """An endless stream of batches of row numbers, of which batch number i is a pure function of i.

    Iteration starts at `next_batch` and moves it with each batch it yields. A `DataLoader` with workers (or
    accelerate) asks for batches before they are used: give the number that was used to `state_dict` there.

    Attributes:
        seed: Which stream.
        next_batch: The number of the batch that iteration yields next.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.next_batch = 0

    @abstractmethod
    def batch(self, index: int) -> list[int]:
        """Compute batch number `index` of the stream."""

    @abstractmethod
    def _identity(self) -> dict[str, int]:
        """What tells this stream from another, as plain integers."""

    def __iter__(self) -> Iterator[list[int]]:
        index = self.next_batch
        while True:
            rows = self.batch(index)
            index += 1
            self.next_batch = index
            yield rows

    def state_dict(self, *, next_batch: int | None = None) -> dict[str, int]:
        """Return the place in the stream, as plain integers.

        Args:
            next_batch: Number of batches that were really used, where a loader reads ahead; by default the
                number that iteration has yielded.
        """
        return self._identity() | {"next_batch": self.next_batch if next_batch is None else next_batch}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Continue where `state_dict` was taken: the next iteration yields the very batches that would have come.

        Raises:
            BankStateError: The state comes from other data or another setting, whose stream is another one.
        """
        for name, value in self._identity().items():
            if state.get(name) != value:
                msg = (
                    f"the sampler state has {name} {state.get(name)}, but this sampler has {value}: resume with the "
                    "data and settings that the state was saved with"
                )
                raise BankStateError(msg)
        if "next_batch" not in state:
            msg = f"the sampler state has no next_batch; expected what {type(self).__name__}.state_dict gave"
            raise BankStateError(msg)
        self.next_batch = state["next_batch"]

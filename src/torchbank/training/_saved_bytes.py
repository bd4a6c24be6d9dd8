"""How many bytes one forward pass keeps for its backward pass: the price of a batch."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class SavedBytes:
    """A count of bytes; see `count_saved_bytes`."""

    def __init__(self) -> None:
        self._storages: dict[int, int] = {}

    def note(self, tensor: Tensor) -> None:
        """Count the storage of a tensor, once."""
        storage = tensor.untyped_storage()
        self._storages[storage.data_ptr()] = storage.nbytes()

    @property
    def total(self) -> int:
        """Bytes noted so far."""
        return sum(self._storages.values())


@contextmanager
def count_saved_bytes(model: nn.Module) -> Iterator[SavedBytes]:
    """Count the activations that autograd keeps inside the block.

    The same on every machine, unlike the peak of a process, and so comparable between batch sizes. Parameters
    and buffers of the model, a memory bank among them, are not counted: their size is known.

    Args:
        model: The module that runs in the block.

    Example:
        >>> import torch
        >>> from torchbank.training import count_saved_bytes
        >>> layer = torch.nn.Linear(4, 2)
        >>> with count_saved_bytes(layer) as saved:
        ...     loss = layer(torch.ones(8, 4)).relu().sum()
        >>> saved.total  # (8, 4) inputs and (8, 2) outputs in float32
        192
    """
    saved = SavedBytes()
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            saved.note(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield saved

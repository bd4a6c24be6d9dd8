"""The batches of a run: drawn, moved to the device, and changed at random or turned into views."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from torchbank import data
from torchbank.training._config import TrainingConfig
from torchbank.training._evaluation import EVALUATION_BATCH

AnyBatch = data.Batch | data.ViewBatch


class TrainingBatches:
    """Batches of training examples as a method gets them.

    Args:
        examples: Images, or text pairs, which are views as they are.
        config: The settings.
        device: Where batches go.
        rank: Which process this is.
        ranks: How many there are.

    Raises:
        BankValueError: There are too few examples for a batch.
        BankKeyError: There is no such augmentation.
    """

    def __init__(
        self, examples: data.LabelledExamples, config: TrainingConfig, *, device: torch.device, rank: int, ranks: int
    ) -> None:
        self.examples, self.config, self.device = examples, config, device
        self.rank, self.ranks = rank, ranks
        self.sampler = _sampler(examples, config, rank, ranks)
        self.augment: nn.Module | None = None
        if isinstance(examples, data.LabelledImages):
            local = config.local_crops
            self.augment = data.augmentation(config.augmentation, examples.image_shape, local_crops=local)
        self._drawn: Iterator[AnyBatch] | None = None

    def draw(self) -> AnyBatch:
        """The next batch of the stream."""
        if self._drawn is None:
            loader = data.loader(self.examples, batch_sampler=self.sampler, num_workers=self.config.workers)
            self._drawn = iter(loader)
        batch = self._to_device(next(self._drawn))
        if self.augment is None or isinstance(batch, data.ViewBatch):
            return batch
        changed = self.augment(batch.images)
        if isinstance(changed, Tensor):
            return batch._replace(images=changed)
        return data.ViewBatch(changed, batch.labels, batch.ids)

    def once(self, *, shared: bool = False) -> Iterator[AnyBatch]:
        """All examples in random order, as they are.

        Args:
            shared: Whether each process gets a share, as many as the others.
        """
        generator = torch.Generator().manual_seed(self.sampler.seed)
        order = torch.randperm(len(self.examples), generator=generator)
        if shared:
            order = order[: len(order) // self.ranks * self.ranks][self.rank :: self.ranks]
        rows = [block.tolist() for block in order.split(EVALUATION_BATCH)]
        batches = data.loader(self.examples, batch_sampler=rows, num_workers=self.config.workers)
        return map(self._to_device, batches)

    def state_dict(self, *, step: int) -> dict[str, int]:
        """The place in the stream after that many updates, however far a loader has read ahead."""
        return self.sampler.state_dict(next_batch=step * self.config.accumulate)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.sampler.load_state_dict(state)

    def _to_device(self, batch: AnyBatch) -> AnyBatch:
        def move(tensor: Tensor) -> Tensor:
            return tensor.to(self.device, non_blocking=True)

        if isinstance(batch, data.ViewBatch):
            return data.ViewBatch(tuple(map(move, batch.views)), move(batch.labels), move(batch.ids))
        return data.Batch(*map(move, batch))


def _sampler(
    examples: data.LabelledExamples, config: TrainingConfig, rank: int, ranks: int
) -> data.PKSampler | data.ShuffledSampler:
    if config.images_per_batch is not None:
        return data.ShuffledSampler(
            len(examples),
            batch_size=config.images_per_batch,
            seed=config.seed,
            last=config.last_batch,
            rank=rank,
            ranks=ranks,
        )
    return data.PKSampler(
        examples.labels,
        classes_per_batch=config.classes_per_batch,
        images_per_class=config.images_per_class,
        seed=config.seed,
        rank=rank,
        ranks=ranks,
    )


def own_seed(config: TrainingConfig, rank: int) -> int:
    """The seed of a process, which draws what the others do not."""
    return config.seed + 1_000_003 * rank

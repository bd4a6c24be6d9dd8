"""Several ranks' batches as one: rows of all ranks with gradient, and batch normalisation over all of them."""

from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, distributed, nn

from torchbank import reads
from torchbank.sharding._collectives import Ranks

Module = TypeVar("Module", bound=nn.Module)


def rows_of_all_ranks(rows: Float[Tensor, "batch ..."], ranks: Ranks) -> Float[Tensor, "everyone ..."]:
    """The rows of all ranks in rank order, each with its gradient.

    A loss over them is then the loss of one process with the whole batch: each rank computes all of it, its gradient
    reaches every rank's rows, and what DDP averages over ranks is the gradient of that process.

    Args:
        rows: ``(batch, ...)``, as many on each rank.
        ranks: Who takes part; all of them call this together, and go backward together.

    Raises:
        BankValueError: Ranks bring batches of different sizes.
        BankStateError: A rank does not answer.

    Example:
        >>> import torch
        >>> from torchbank.sharding import Ranks, rows_of_all_ranks
        >>> rows_of_all_ranks(torch.ones(3, 2), Ranks()).shape  # one process alone
        torch.Size([3, 2])
    """
    return rows if ranks.size == 1 else _Gather.apply(rows, ranks)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks, ctx.batch = ranks, len(rows)
        return ranks.gather(rows).columns[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _summed(gradients[0], ctx.ranks).split(ctx.batch)[ctx.ranks.rank], None


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        return ranks.total(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _summed(gradients[0], ctx.ranks), None


def _summed(gradient: Tensor, ranks: Ranks) -> Tensor:
    return reads.first_order_only(ranks.total(gradient.detach().contiguous()), gradient)


def share_batch_norm(model: Module, group: distributed.ProcessGroup | None = None) -> Module:
    """Let the batch normalisation of a model take its statistics over all ranks, on any backend.

    PyTorch's ``SyncBatchNorm`` does so on GPUs only. Weights, buffers and names stay as they are. Two messages of a
    number a channel go out in each layer, and two more on the way back.

    Args:
        model: Its ``BatchNorm`` layers are replaced in place; call it before wrapping it for DDP.
        group: The process group; None is that of all processes, or this process alone where there is none.

    Returns:
        The model, or the new layer where the model is one.

    Example:
        >>> import torch
        >>> from torchbank.sharding import share_batch_norm
        >>> model = share_batch_norm(torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3)))
        >>> type(model[1]).__name__, list(model.state_dict())[2:4]
        ('SharedBatchNorm', ['1.weight', '1.bias'])
    """
    ranks = Ranks(group)
    if isinstance(model, nn.modules.batchnorm._BatchNorm):
        return SharedBatchNorm(model, ranks)  # type: ignore[return-value]
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.modules.batchnorm._BatchNorm):
                setattr(parent, name, SharedBatchNorm(child, ranks))
    return model


class SharedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """What `share_batch_norm` puts in the place of a ``BatchNorm``, with the same weights and buffers."""

    def __init__(self, layer: nn.modules.batchnorm._BatchNorm, ranks: Ranks) -> None:
        super().__init__(
            layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats, device="meta"
        )
        self._parameters, self._buffers, self.training = layer._parameters, layer._buffers, layer.training
        self.ranks = ranks

    def _check_input_dim(self, input: Tensor) -> None:
        """Any shape ``(batch, channels, ...)``."""

    def forward(self, input: Float[Tensor, "batch channels ..."]) -> Float[Tensor, "batch channels ..."]:
        """Normalise, in training by the statistics of all ranks' inputs."""
        if self.ranks.size == 1 or not (self.training or self.running_mean is None):
            return super().forward(input)
        axes = [axis for axis in range(input.ndim) if axis != 1]
        each = [1, -1, *[1] * (input.ndim - 2)]
        values = input.to(torch.promote_types(input.dtype, torch.float32))
        count = values.numel() / values.shape[1] * self.ranks.size
        mean = _Total.apply(values.sum(axes), self.ranks) / count
        centered = values - mean.view(each)
        variance = _Total.apply(centered.square().sum(axes), self.ranks) / count
        if self.training:
            self._follow(mean.detach(), variance.detach() * count / (count - 1))
        normalized = centered * (variance + self.eps).rsqrt().view(each)
        if self.weight is not None:
            normalized = normalized * self.weight.view(each)
        if self.bias is not None:
            normalized = normalized + self.bias.view(each)
        return normalized.to(input.dtype)

    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(variance.to(self.running_var.dtype), share)

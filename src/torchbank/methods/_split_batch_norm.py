"""Batch norm over parts of a batch, as if each lay on a device of its own.

With one set of statistics for a whole batch, a query can find its key by what they share: the leak that
[He et al. 2020, sec. 3.3](arXiv:1911.05722) close by shuffling between devices. On one device, statistics of parts of
the batch do the same.
"""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class SplitBatchNorm(_BatchNorm):
    """Batch norm that in training takes the statistics of each part of the batch for that part.

    Running statistics move by the mean of those of the parts. In evaluation it is plain batch norm. Parameters and
    buffers are those of the layer it replaces, under the same names.

    Args:
        norm: The layer to take over.
        parts: How many; fewer where a part would have less than two rows.
    """

    def __init__(self, norm: _BatchNorm, parts: int) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        self.parts = parts
        self.train(norm.training)
        for name in ("weight", "bias"):
            setattr(self, name, getattr(norm, name))
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            setattr(self, name, getattr(norm, name))

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``(b, channels, ...)``."""
        parts = min(self.parts, len(input) // 2)
        if not self.training or parts < 2:
            return super().forward(input)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked or 1) if self.momentum is None else self.momentum
        means, variances, outputs = [], [], []
        for part in input.tensor_split(parts):
            means.append(None if self.running_mean is None else self.running_mean.clone())
            variances.append(None if self.running_var is None else self.running_var.clone())
            outputs.append(
                nn.functional.batch_norm(part, means[-1], variances[-1], self.weight, self.bias, True, share, self.eps)
            )
        if self.running_mean is not None and self.running_var is not None:
            self.running_mean.copy_(torch.stack(means).mean(dim=0))
            self.running_var.copy_(torch.stack(variances).mean(dim=0))
        return torch.cat(outputs)

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of axes: it stands for batch norm of each kind."""


def split_batch_norm(module: nn.Module, parts: int) -> nn.Module:
    """Let every batch norm inside a module work on parts of the batch; in place, but for a module that is one.

    Args:
        module: What holds the layers.
        parts: How many.
    """
    if isinstance(module, _BatchNorm) and not isinstance(module, SplitBatchNorm | nn.SyncBatchNorm):
        return SplitBatchNorm(module, parts)
    for name, child in module.named_children():
        setattr(module, name, split_batch_norm(child, parts))
    return module

"""Split batch norm against plain batch norm of each part."""

import copy

import pytest
import torch
from torch import nn

from torchbank.methods._split_batch_norm import SplitBatchNorm, split_batch_norm


def make_norm(kind, **settings):
    norm = kind(3, **settings)
    if norm.affine:
        nn.init.uniform_(norm.weight)
        nn.init.uniform_(norm.bias)
    return norm


@pytest.mark.parametrize("settings", [{}, {"momentum": None}, {"affine": False}, {"track_running_stats": False}])
@pytest.mark.parametrize(("kind", "shape"), [(nn.BatchNorm1d, ()), (nn.BatchNorm2d, (4, 5))])
@pytest.mark.parametrize("batch", [12, 11])
def test_training__is_plain_batch_norm_of_each_part(kind, shape, batch, settings):
    plain = make_norm(kind, **settings)
    split = SplitBatchNorm(copy.deepcopy(plain), parts=3)
    for step in range(3):
        inputs = torch.randn(batch, 3, *shape) + step
        parts = [copy.deepcopy(plain) for _ in range(3)]
        expected = torch.cat([norm(part) for norm, part in zip(parts, inputs.tensor_split(3), strict=True)])
        torch.testing.assert_close(split(inputs), expected)
        for name, buffer in split.named_buffers():
            values = [getattr(norm, name) for norm in parts]
            # The parts of a step are one step.
            mean = values[0] if name == "num_batches_tracked" else torch.stack(values).mean(0)
            torch.testing.assert_close(buffer, mean)
        plain.load_state_dict(split.state_dict())
    torch.testing.assert_close(split.eval()(inputs), plain.eval()(inputs))


def test_small_batch__has_fewer_parts():
    norm = SplitBatchNorm(nn.BatchNorm1d(3), parts=8)
    for batch, parts in ((16, 8), (9, 4), (5, 2), (3, 1)):
        inputs = torch.randn(batch, 3)
        expected = torch.cat([nn.BatchNorm1d(3)(part) for part in inputs.tensor_split(parts)])
        torch.testing.assert_close(norm(inputs), expected)


def test_network__keeps_its_names_and_weights():
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Sequential(nn.BatchNorm2d(3), nn.ReLU()), nn.SyncBatchNorm(3))
    weights, names = list(network.parameters()), list(network.state_dict())
    assert split_batch_norm(network, 2) is network
    assert isinstance(network[1][0], SplitBatchNorm)
    assert type(network[2]) is nn.SyncBatchNorm
    assert list(network.state_dict()) == names
    assert all(ours is theirs for ours, theirs in zip(network.parameters(), weights, strict=True))
    again = network[1][0]
    split_batch_norm(network, 2)
    assert network[1][0] is again

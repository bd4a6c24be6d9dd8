"""Bytes kept for the backward pass."""

import torch

from torchbank.training import count_saved_bytes


def test_saved_bytes__what_layers_keep_without_their_weights():
    model = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1))
    with count_saved_bytes(model) as saved:
        model(torch.ones(10, 16)).sum()
    # The input and the output of the ReLU, which is the input of the second layer too.
    assert saved.total == 4 * (10 * 16 + 10 * 32)


def test_saved_bytes__gradients_stay_what_they_were():
    model = torch.nn.Linear(5, 3)
    images = torch.rand(4, 5)
    model(images).square().sum().backward()
    expected = model.weight.grad.clone()
    model.zero_grad()
    with count_saved_bytes(model):
        loss = model(images).square().sum()
    loss.backward()
    assert torch.equal(model.weight.grad, expected)


def test_saved_bytes__grow_with_the_batch():
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.LazyLinear(2))
    totals = []
    for batch in (1, 2, 4):
        images = torch.rand(batch, 1, 8, 8)
        model(images)
        with count_saved_bytes(model) as saved:
            model(images).sum()
        totals.append(saved.total)
    assert totals[1] == 2 * totals[0]
    assert totals[2] == 4 * totals[0]

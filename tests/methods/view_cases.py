"""A small data set of views, encoders for it, and the loop that all self-supervised methods are trained with.

Axes: batch, dim; an instance is a vector of SIZE numbers and a view adds noise to it.
"""

import torch
from torch import nn
from torch.nn.functional import normalize

from torchbank.data import ViewBatch

INSTANCES, SIZE, DIM, PROJECTION, BATCH = 20, 5, 6, 4, 6
WORDS = 11


def make_encoder(seed=0, norm=False):
    torch.manual_seed(seed)
    middle = [nn.BatchNorm1d(DIM)] if norm else []
    return nn.Sequential(nn.Linear(SIZE, DIM), *middle, nn.Tanh())


def make_instances():
    return torch.randn(INSTANCES, SIZE, generator=torch.Generator().manual_seed(7))


def batches(count, views=2, seed=1):
    """Batches without repeats; every third is short."""
    generator = torch.Generator().manual_seed(seed)
    instances = make_instances()
    for place in range(count):
        ids = torch.randperm(INSTANCES, generator=generator)[: 4 if place % 3 == 2 else BATCH]
        made = tuple(instances[ids] + 0.3 * torch.randn(len(ids), SIZE, generator=generator) for _ in range(views))
        yield ViewBatch(made, torch.zeros(len(ids), dtype=torch.int64), ids)


def text_batch(seed=0):
    """Two views of instances that are bags of words."""
    tokens = torch.randint(WORDS, (2, BATCH, 7), generator=torch.Generator().manual_seed(seed))
    return ViewBatch(tuple(tokens), torch.zeros(BATCH, dtype=torch.int64), torch.arange(BATCH))


def train(method, steps, first=0, views=2, learning_rate=0.1):
    """SGD on the given batches; returns the loss of each step."""
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], learning_rate)
    losses = []
    for step, batch in enumerate(batches(steps, views)):
        if step >= first:
            losses.append(update(method, method, optimizer, batch, step=step).loss.item())
    return losses


def update(method, forward, optimizer, batch, *, step):
    """One update of a method, whose forward pass may be that of a wrapper; returns its output."""
    output = forward(batch, step=step)
    optimizer.zero_grad()
    output.loss.backward()
    if hasattr(method, "before_step"):
        method.before_step()
    optimizer.step()
    method.after_step()
    return output


def unit(embeddings):
    return normalize(embeddings, dim=1)


def descend(modules, loss, learning_rate=0.1, clip=None):
    """One step of SGD written out, each gradient cut to a norm first."""
    weights = [weight for module in modules for weight in module.parameters()]
    for weight, gradient in zip(weights, torch.autograd.grad(loss, weights, allow_unused=True), strict=True):
        if gradient is not None:
            share = 1.0 if clip is None else min(1.0, clip / (gradient.norm().item() + 1e-6))
            weight.data -= learning_rate * share * gradient


def follow(teacher, student, momentum):
    """The moving average written out."""
    for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
        slow.data = momentum * slow.data + (1 - momentum) * fast.data


def assert_trains_alike(method, losses, written_out, expected, student):
    torch.testing.assert_close(losses, expected, rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(method.student.parameters(), student.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    if written_out is not None:
        torch.testing.assert_close(method.bank.ordered().embeddings, written_out, rtol=1e-3, atol=1e-4)

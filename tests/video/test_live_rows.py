"""Gradients through the rows that were written last."""

import copy
import weakref

import pytest
import torch

from torchbank import video

DIM = 4


def test_default__reaches_queries_only():
    memory = video.TemporalMemory(DIM, 4)
    features = torch.randn(1, DIM, requires_grad=True)
    memory.write(features, 0.0)
    memory.write(torch.randn(1, DIM), 1.0)
    assert not memory.read(torch.randn(1, DIM)).value.requires_grad


@pytest.mark.parametrize("metric", ["dot", "cosine"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_last_writes__are_learned_through_and_read_the_same(metric, dtype):
    memory = video.TemporalMemory(DIM, 3, metric=metric, gradient_writes=2, dtype=dtype)
    rows = [torch.randn(1, DIM, requires_grad=True) for _ in range(5)]
    for second, row in enumerate(rows):
        memory.write(row, float(second))
    query = torch.randn(2, DIM)
    value = memory.read(query).value
    assert torch.equal(value, copy.deepcopy(memory).read(query).value)
    value.square().sum().backward()
    assert [row.grad is not None and bool(row.grad.any()) for row in rows] == [False] * 3 + [True] * 2


def test_gradient__is_that_of_attention_over_the_rows():
    rows = torch.randn(3, DIM, dtype=torch.float64, requires_grad=True)
    query = torch.randn(2, DIM, dtype=torch.float64)
    memory = video.TemporalMemory(DIM, 3, gradient_writes=1)
    memory.write(rows, torch.arange(3.0))
    memory.read(query).value.square().sum().backward()
    found, rows.grad = rows.grad, None
    unit, asked = (torch.nn.functional.normalize(part, dim=1) for part in (rows, query))
    expected = (asked @ unit.T * 2).softmax(dim=1) @ unit
    expected.square().sum().backward()
    torch.testing.assert_close(found, rows.grad, atol=1e-5, rtol=1e-4)


def test_graphs__of_older_writes_are_let_go():
    memory = video.TemporalMemory(DIM, 10, gradient_writes=2)
    inputs = []
    for second in range(6):
        source = torch.randn(1, DIM)
        inputs.append(weakref.ref(source))
        # The product keeps its input for the backward pass, and nothing else does.
        memory.write(source * torch.ones(1, DIM, requires_grad=True), float(second))
        del source
    assert [reference() is not None for reference in inputs] == [False] * 4 + [True] * 2
    assert memory.read(torch.randn(1, DIM)).value.requires_grad
    memory.detach()
    assert not any(reference() is not None for reference in inputs)
    assert not memory.read(torch.randn(1, DIM)).value.requires_grad


def test_rows__that_were_merged_evicted_or_reset_are_constants():
    memory = video.TemporalMemory(2, 2, metric="dot", gradient_writes=8, compress=video.MergeNeighbours())
    rows = [torch.tensor([[1.0, 0.0]]), torch.tensor([[0.9, 0.1]]), torch.tensor([[-1.0, 0.0]])]
    rows = [row.requires_grad_() for row in rows]
    for second, row in enumerate(rows):
        memory.write(row, float(second))
    query = torch.ones(1, 2)
    value = memory.read(query).value
    assert torch.equal(value, copy.deepcopy(memory).read(query).value)
    value.sum().backward()
    assert [row.grad is not None and bool(row.grad.any()) for row in rows] == [False, False, True]
    memory.reset()
    memory.write(torch.ones(1, 2), 0.0)
    rows[2].grad = None
    value = memory.read(query).value
    assert value.tolist() == [[1, 1]]
    value.sum().backward()
    assert rows[2].grad is None or not rows[2].grad.any()

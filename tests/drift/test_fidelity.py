"""Gradient fidelity against gradients written out, and at its known ends."""

import math

import pytest
import torch
from known_drift import rotation
from torch.nn.functional import normalize

import torchbank as tb
from torchbank.drift import gradient_fidelity


def mean_score(queries, rows):
    return rows.pair_sum(queries, tb.reads.SCORE).value.mean()


def soft(queries, rows):
    return rows.attend(queries, scale=4.0).lse.mean()


def unit_rows(count, dim, seed=0):
    return normalize(torch.randn(count, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


@pytest.mark.parametrize("loss", [mean_score, soft])
def test_fidelity__of_rows_that_did_not_move_is_one(loss):
    rows, queries = tb.Rows(unit_rows(40, 6), metric="cosine"), unit_rows(5, 6, seed=1)
    assert gradient_fidelity(loss, queries, rows, rows).item() == pytest.approx(1, abs=1e-6)


def test_fidelity__is_the_cosine_of_the_two_gradients():
    stored, fresh, queries = (
        unit_rows(40, 6).double(),
        unit_rows(40, 6, seed=2).double(),
        unit_rows(5, 6, seed=1).double(),
    )
    gradients = []
    for rows in (stored, fresh):
        leaf = queries.clone().requires_grad_()
        (4.0 * leaf @ rows.T).logsumexp(dim=1).mean().backward()
        gradients.append(leaf.grad.flatten())
    expected = torch.cosine_similarity(*gradients, dim=0).item()
    found = gradient_fidelity(soft, queries, tb.Rows(stored), tb.Rows(fresh)).item()
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("degrees", [0.0, 30.0, 90.0, 150.0])
def test_fidelity__of_a_rotation_is_its_cosine(degrees):
    """The gradient of a sum of inner products is the sum of the rows: turned, it has turned as far."""
    rows = torch.randn(30, 2, generator=torch.Generator().manual_seed(0)) + 1.0
    turned = rotation(rows, degrees, 1)
    found = gradient_fidelity(mean_score, unit_rows(3, 2), tb.Rows(rows), tb.Rows(turned)).item()
    assert found == pytest.approx(math.cos(math.radians(degrees)), abs=1e-5)


def test_fidelity__without_a_gradient():
    nothing, rows, queries = tb.Rows(torch.zeros(3, 2)), tb.Rows(torch.ones(3, 2)), torch.ones(1, 2)
    assert gradient_fidelity(mean_score, queries, nothing, nothing).item() == 1
    assert gradient_fidelity(mean_score, queries, nothing, rows).item() == 0


def test_fidelity__leaves_queries_and_their_graph_alone():
    weight = torch.ones(2, requires_grad=True)
    queries = weight * unit_rows(3, 2)
    gradient_fidelity(mean_score, queries, tb.Rows(unit_rows(4, 2)), tb.Rows(unit_rows(4, 2, seed=5)))
    assert weight.grad is None
    queries.sum().backward()
    assert weight.grad is not None

"""NNCLR against its algorithm written out with argmax over a concatenated support set."""

import copy

import pytest
import torch
from torch import nn
from view_cases import DIM, INSTANCES, PROJECTION, assert_trains_alike, batches, descend, make_encoder, train, unit

from torchbank.methods import NNCLR, NNCLRConfig

CAPACITY, TEMPERATURE = 13, 0.2


def make_method(seed=0, **changes):
    settings = {"dim": DIM, "projection_dim": PROJECTION, "hidden_dim": 7, "prediction_hidden_dim": 8}
    settings |= {"capacity": CAPACITY, "temperature": TEMPERATURE}
    return NNCLR(make_encoder(seed), NNCLRConfig(**(settings | changes)), dataset_size=INSTANCES)


class WrittenOut:
    """The paper's algorithm by hand; both views share their batch statistics, as in the method."""

    def __init__(self, method):
        self.projector = copy.deepcopy(nn.Sequential(method.student.encoder, method.student.head))
        self.predictor = copy.deepcopy(method.predictor)
        self.rows, self.ids = torch.zeros(0, PROJECTION), torch.zeros(0, dtype=torch.int64)

    def neighbor(self, z, ids):
        z = z.detach()
        if not len(self.rows):
            return unit(z)
        scores = (unit(z) @ self.rows.T).masked_fill(ids[:, None] == self.ids, -torch.inf)
        found = self.rows[scores.argmax(1)]
        return torch.where(scores.isfinite().any(1)[:, None], found, unit(z))

    def contrast(self, neighbor, prediction):
        logits = neighbor @ unit(prediction).T / TEMPERATURE
        return nn.functional.cross_entropy(logits, torch.arange(len(logits)))

    def train(self, steps):
        losses = []
        for batch in batches(steps):
            z = self.projector(torch.cat(batch.views))
            (z1, z2), (p1, p2) = z.chunk(2), self.predictor(z).chunk(2)
            loss = self.contrast(self.neighbor(z1, batch.ids), p2) / 2
            loss = loss + self.contrast(self.neighbor(z2, batch.ids), p1) / 2
            descend([self.projector, self.predictor], loss)
            self.rows = torch.cat([self.rows, unit(z1).detach()])[-CAPACITY:]
            self.ids = torch.cat([self.ids, batch.ids])[-CAPACITY:]
            losses.append(loss.item())
        return losses


def test_training__equals_the_algorithm_written_out():
    method = make_method()
    written_out = WrittenOut(method)
    expected = written_out.train(15)
    assert_trains_alike(method, train(method, 15), written_out.rows, expected, written_out.projector)
    for ours, theirs in zip(method.predictor.parameters(), written_out.predictor.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_neighbor__is_never_a_row_of_the_same_instance():
    method = make_method()
    batch = next(batches(1))
    z = torch.randn(len(batch.ids), PROJECTION)
    method.bank.push(z, id=batch.ids)
    rows, slots = method._neighbors(z, batch.ids)
    assert (method.bank.fields["id"][slots] != batch.ids).all()
    torch.testing.assert_close(rows, method.bank.embeddings[slots])


def test_no_neighbor__leaves_the_view_itself():
    method = make_method()
    z, ids = torch.randn(3, PROJECTION), torch.arange(3)
    for rows_there in (0, 2):
        method.bank.push(torch.randn(rows_there, PROJECTION), id=torch.zeros(rows_there, dtype=torch.int64))
        rows, slots = method._neighbors(z, ids)
        assert (slots == -1).tolist() == [True, not rows_there, not rows_there]
        torch.testing.assert_close(rows[slots == -1], z[slots == -1])


@pytest.mark.plain
def test_config__bad_settings():
    with pytest.raises(ValueError, match="hidden_dim is 0"):
        NNCLRConfig(hidden_dim=0)
    with pytest.raises(ValueError, match="the batch has 1 views; expected 2 or more"):
        make_method()(next(batches(1, views=1)), step=0)

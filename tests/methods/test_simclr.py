"""SimCLR against NT-Xent over the whole (2 b x 2 b) matrix."""

import copy

import torch
from torch import nn
from view_cases import DIM, PROJECTION, assert_trains_alike, batches, descend, make_encoder, train, unit

from torchbank.methods import SimCLR, SimCLRConfig

TEMPERATURE = 0.2


def test_training__equals_the_algorithm_written_out():
    settings = SimCLRConfig(dim=DIM, projection_dim=PROJECTION, hidden_dim=7, temperature=TEMPERATURE)
    method = SimCLR(make_encoder(), settings)
    network = copy.deepcopy(nn.Sequential(method.student.encoder, method.student.head))
    losses = train(method, 15)
    expected = []
    for batch in batches(15):
        z, b = unit(network(torch.cat(batch.views))), len(batch.ids)
        logits = (z @ z.T / TEMPERATURE).masked_fill(torch.eye(2 * b, dtype=torch.bool), -torch.inf)
        loss = nn.functional.cross_entropy(logits, torch.arange(2 * b).roll(b))
        descend([network], loss)
        expected.append(loss.item())
    assert_trains_alike(method, losses, None, expected, network)
    assert method.bank is None

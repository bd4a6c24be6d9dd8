"""MaSSL against its loss written out view by view and block by block, with its teacher and clipping by hand."""

import copy
import math

import pytest
import torch
from torch import nn
from view_cases import (
    DIM,
    INSTANCES,
    PROJECTION,
    assert_trains_alike,
    batches,
    descend,
    follow,
    make_encoder,
    train,
    unit,
)

from torchbank.data import ViewBatch
from torchbank.methods import MaSSL, MaSSLConfig

CAPACITY, BLOCK, STEPS, VIEWS = 18, 5, 12, 4


def make_method(seed=0, encoder=None, **changes):
    settings = {"dim": DIM, "projection_dim": PROJECTION, "hidden_dim": 7, "capacity": CAPACITY, "block_size": BLOCK}
    settings |= {"total_steps": STEPS, "teacher_warmup": 0.5, "gradient_clip": 0.05}
    encoder = make_encoder(seed) if encoder is None else encoder
    return MaSSL(encoder, MaSSLConfig(**(settings | changes)), dataset_size=INSTANCES)


class WrittenOut:
    """The paper's algorithm by hand; the partition of a step is the method's."""

    def __init__(self, method):
        self.method, self.config = copy.deepcopy(method), method.config
        self.student = copy.deepcopy(nn.Sequential(method.student.encoder, method.student.head))
        self.teacher = copy.deepcopy(self.student)
        self.memory, self.place = method.bank.embeddings.clone(), 0

    def loss(self, batch, step):
        rising = 0.5 * STEPS
        temperature = 0.04 + min(1.0, step / rising) * (0.07 - 0.04)
        # The views of one size go through together: batch norm sees them as one batch.
        student, teacher = (
            unit(network(torch.cat(views))).chunk(len(views))
            for network, views in ((self.student, batch.views), (self.teacher, batch.views[:2]))
        )
        teacher = [each.detach() for each in teacher]
        pairs = []
        for block in self.method._blocks(step):
            rows = self.memory[block]
            for v, z in enumerate(student):
                for u, t in enumerate(teacher):
                    if v != u:
                        target = (t @ rows.T / temperature).softmax(1)
                        pairs.append(-(target * (z @ rows.T / 0.1).log_softmax(1)).sum(1).mean())
        assert len(pairs) == (2 * VIEWS - 2) * (CAPACITY // BLOCK)
        return torch.stack(pairs).mean(), teacher[1]

    def train(self, steps):
        losses = []
        for step, batch in enumerate(batches(steps, VIEWS)):
            loss, remembered = self.loss(batch, step)
            descend([self.student], loss, clip=self.config.gradient_clip)
            follow(self.teacher, self.student, 1 - (1 - 0.992) * (math.cos(math.pi * step / STEPS) + 1) / 2)
            if self.config.memory == "teacher":
                for row in remembered:
                    self.memory[self.place % CAPACITY] = row
                    self.place += 1
            losses.append(loss.item())
        return losses


@pytest.mark.parametrize(
    "changes", [{}, {"memory": "random"}, {"partition": "fixed"}, {"gradient_clip": None}, {"head": "mlp-bn"}], ids=str
)
def test_training__equals_the_algorithm_written_out(changes):
    method = make_method(**changes)
    written_out = WrittenOut(method)
    expected = written_out.train(STEPS)
    losses = train(method, STEPS, views=VIEWS)
    assert_trains_alike(method, losses, None, expected, written_out.student)
    torch.testing.assert_close(method.bank.embeddings, written_out.memory, rtol=1e-3, atol=1e-5)
    for ours, theirs in zip(method.teacher.parameters(), written_out.teacher.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_blocks__cover_each_slot_once_and_are_new_at_each_step():
    method = make_method(capacity=20)
    drawn = [method._blocks(step) for step in (3, 4, 3)]
    for blocks in drawn:
        assert blocks.shape == (4, BLOCK)
        assert sorted(blocks.flatten().tolist()) == list(range(20))
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])
    # The seed of the run and the step alone decide: other weights and streams change nothing.
    torch.manual_seed(99)
    assert torch.equal(make_method(seed=4, capacity=20)._blocks(3), drawn[0])
    fixed = make_method(capacity=20, partition="fixed")
    assert torch.equal(fixed._blocks(3), fixed._blocks(4))


def test_total_collapse__is_the_log_of_the_block_size():
    method = make_method()
    for network in (method.student, method.teacher.encoder):
        nn.init.zeros_(network.head[-1].weight)
        nn.init.ones_(network.head[-1].bias)
    method.bank.push(torch.ones(CAPACITY, PROJECTION))
    output = method(next(batches(1, VIEWS)), step=0)
    torch.testing.assert_close(output.loss.detach(), torch.tensor(math.log(BLOCK)))
    torch.testing.assert_close(output.logs["collapsed_loss"], torch.tensor(math.log(BLOCK)))
    torch.testing.assert_close(output.logs["embedding_std"], torch.tensor(0.0))
    assert output.logs["winner_entropy"] == 0


def test_views__of_several_sizes_go_through_the_encoder_together():
    sizes = []

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(1, DIM)

        def forward(self, images):
            sizes.append(tuple(images.shape))
            return self.layer(images.mean(dim=(1, 2, 3))[:, None])

    method = make_method(encoder=Encoder())
    views = (*torch.rand(2, 3, 1, 8, 8), *torch.rand(3, 3, 1, 4, 4))
    projected = method.student(views)
    assert sizes == [(6, 1, 8, 8), (9, 1, 4, 4)]
    alone = torch.stack([method.student((view,))[0] for view in views])
    torch.testing.assert_close(projected, alone)
    sizes.clear()
    method(ViewBatch(views, torch.zeros(3, dtype=torch.int64), torch.arange(3)), step=0).loss.backward()
    assert sizes == [(6, 1, 8, 8), (9, 1, 4, 4), (6, 1, 8, 8)]  # the teacher sees the first two


def test_teacher__drops_nothing():
    encoder = nn.Sequential(make_encoder(), nn.Dropout(0.5))
    method = make_method(encoder=encoder).train()
    views = next(batches(1)).views
    torch.testing.assert_close(method.teacher(views), method.teacher(views), rtol=0, atol=0)
    assert not torch.equal(method.student(views), method.student(views))


def test_before_step__cuts_each_tensor_and_leaves_small_ones():
    method = make_method(gradient_clip=3.0)
    weights = list(method.student.parameters())
    for place, weight in enumerate(weights):
        weight.grad = torch.full_like(weight, 10.0 if place % 2 else 1e-3)
    before = [weight.grad.clone() for weight in weights]
    method.before_step()
    for place, (weight, old) in enumerate(zip(weights, before, strict=True)):
        assert weight.grad.norm() <= 3.0
        if place % 2 == 0:
            assert torch.equal(weight.grad, old)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"total_steps": None}, "give the number of updates"),
        ({"block_size": 19}, "block_size is 19 but the memory holds 18 rows"),
        ({"memory": "none"}, "memory='none' is unknown"),
        ({"partition": "sorted"}, "partition='sorted' is unknown"),
        ({"gradient_clip": 0.0}, "gradient_clip is 0.0"),
        ({"teacher_temperature": 0.0}, "teacher_temperature is 0.0"),
    ],
)
def test_config__bad_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        make_method(**changes)

"""Without a process group a shared bank is one process's own."""

import copy

import pytest
import torch
from torch import nn

import torchbank as tb
from torchbank.errors import BankStateError
from torchbank.sharding._collectives import Ranks

SHARED = [tb.replicate, tb.shard]


@pytest.mark.parametrize("share", SHARED)
@pytest.mark.parametrize("kind", [tb.MemoryBank, tb.KeyedMemoryBank, tb.ReservoirMemoryBank])
def test_alone__as_the_bank_itself(share, kind):
    shared, bank = share(kind(7, 3, metric="dot")), kind(7, 3, metric="dot")
    assert isinstance(shared, kind)
    assert repr(shared).startswith(kind.__name__)
    for step in range(6):
        rows = torch.randn(3, 3, generator=torch.Generator().manual_seed(step))
        keys = {"keys": torch.tensor([0, 2, 4]) + step % 3} if kind is tb.KeyedMemoryBank else {}
        assert torch.equal(shared.push(rows, **keys), bank.push(rows, **keys))
    assert torch.equal(shared.ordered().embeddings, bank.ordered().embeddings)
    queries = torch.randn(2, 3)
    assert torch.equal(shared.nearest(queries, 2).slots, bank.nearest(queries, 2).slots)
    torch.testing.assert_close(shared.attend(queries, scale=1.0), bank.attend(queries, scale=1.0))


@pytest.mark.parametrize("share", SHARED)
def test_alone__twice_the_derivative_is_refused(share):
    bank = share(tb.MemoryBank(4, 2))
    bank.push(torch.eye(2))
    queries = torch.randn(2, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(bank.attend(queries, scale=1.0).lse.sum(), queries, create_graph=True)
    with pytest.raises(BankStateError, match="differentiated twice"):
        gradient.sum().backward()


@pytest.mark.parametrize("share", SHARED)
def test_alone__copied_with_its_state(share):
    bank = share(tb.MemoryBank(4, 2))
    bank.push(torch.eye(2))
    copied = copy.deepcopy(bank)
    bank.push(torch.eye(2))
    assert (len(copied), len(bank)) == (2, 4)
    copied.load_state_dict(bank.state_dict())
    assert torch.equal(copied.embeddings, bank.embeddings)


def test_shard__a_state_of_other_parts_is_refused():
    bank = tb.shard(tb.MemoryBank(4, 2))
    with pytest.raises(BankStateError, match="checkpoint_state"):
        bank.load_state_dict(tb.shard(tb.MemoryBank(6, 2)).state_dict())


@pytest.mark.parametrize("share", [*SHARED, lambda bank: bank], ids=["replicated", "sharded", "not shared"])
@pytest.mark.parametrize("kind", [tb.MemoryBank, tb.KeyedMemoryBank])
def test_stalest__all_rows_in_parts_as_they_are_when_asked_for(share, kind):
    bank = share(kind(7, 1, metric="dot"))
    for step, place in ((3, 0), (1, 2), (2, 4)):
        keys = {"keys": torch.tensor([place])} if kind is tb.KeyedMemoryBank else {}
        bank.push(torch.full((1, 1), float(step)), step=step, **keys)
    slots = [2, 4, 0] if kind is tb.KeyedMemoryBank else [1, 2, 0]
    parts = bank.stalest(2)
    first = next(parts)
    assert first.slots.tolist() == slots[:2]
    assert (first.rows.embeddings.flatten().tolist(), first.generations.tolist()) == ([1.0, 2.0], [1, 1])
    bank.update(torch.tensor(slots[2:]), torch.tensor([1]), torch.full((1, 1), 9.0))
    (second,) = parts
    assert (second.slots.tolist(), second.rows.embeddings.tolist()) == (slots[2:], [[9.0]])
    assert bank.of_all_ranks(torch.tensor([1.5, 2.5])).tolist() == [[1.5, 2.5]]


def test_keep_local__beside_what_is_kept_already():
    model = nn.Sequential(nn.BatchNorm1d(2))
    model.bank = tb.MemoryBank(4, 2)
    nn.parallel.DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, ["0.running_mean"])
    assert tb.sharding.keep_local(model) is model
    kept = model._ddp_params_and_buffers_to_ignore
    assert {"0.running_mean", "bank.embeddings", "bank.total", "bank.replacement.offset"} <= set(kept)
    assert "0.running_var" not in kept


def test_ranks__columns_of_any_dtype_and_shape_come_back():
    ranks = Ranks()
    columns = [torch.rand(3, 2, 2), torch.arange(3), torch.tensor([True, False, True]), torch.rand(3, 5).half()]
    assert all(torch.equal(one, other) for one, other in zip(ranks.gather(*columns).columns, columns, strict=True))
    assert [tuple(part.shape) for part in ranks.answer([3], *columns)] == [(1, *column.shape) for column in columns]

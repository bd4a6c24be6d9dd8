"""Without a process group a shared bank is one process's own."""

import copy

import pytest
import torch
from torch import nn

import torchbank as tb
from torchbank import methods
from torchbank.data import Batch
from torchbank.errors import BankStateError, BankValueError
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


@pytest.mark.parametrize("share", SHARED)
def test_refresh__of_a_shared_bank_is_refused(share):
    bank = share(tb.MemoryBank(4, 2))
    with pytest.raises(BankStateError, match="before sharing"):
        tb.drift.refresh(bank, lambda rows: rows.embeddings, seconds=1.0)


def test_xbm__cannot_find_its_start_alone():
    method = methods.XBM(nn.Linear(3, 4), methods.XBMConfig(dim=4, capacity=8, start_step="auto"), dataset_size=4)
    method.bank = tb.replicate(method.bank)
    batch = Batch(torch.randn(2, 3), torch.tensor([0, 1]), torch.tensor([0, 1]))
    with pytest.raises(BankValueError, match="start_step"):
        method(batch, step=0)


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

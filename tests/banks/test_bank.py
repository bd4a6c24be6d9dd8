"""What every bank shares: what is there, handles, moving and copying."""

import copy
import io

import pytest
import torch
from bank_cases import FIELDS, assert_same_state, fields_of, rows_of
from torch import nn

import torchbank as tb

KINDS = [tb.MemoryBank, tb.KeyedMemoryBank, tb.ReservoirMemoryBank]


def filled(kind, batch=3, capacity=5, **options):
    bank = kind(capacity, 2, fields=FIELDS, **{"metric": "dot", **options})
    push(bank, range(batch))
    return bank


def push(bank, numbers):
    keyed = {"keys": torch.tensor(list(numbers)) % bank.capacity} if isinstance(bank, tb.KeyedMemoryBank) else {}
    return bank.push(rows_of(numbers), **keyed, **fields_of(numbers))


@pytest.fixture(params=KINDS)
def bank(request):
    return filled(request.param)


def test_bank__nothing_counts_before_it_was_pushed():
    for kind in KINDS:
        bank = kind(5, 2, fields=FIELDS)
        assert (len(bank), bank.is_full, bank.total_pushed) == (0, False, 0)
        assert not bank.view().valid.any()
        assert len(bank.ordered().embeddings) == 0
        assert bank.nearest(torch.ones(2, 2), k=2).slots.tolist() == [[-1, -1], [-1, -1]]
        assert bank.attend(torch.ones(2, 2), scale=1.0).lse.tolist() == [-torch.inf, -torch.inf]
        assert bank.blocks(1).shape == (0, 1)
        assert bank.sample(0).shape == (0,)


def test_bank__sizes(bank):
    # Rows, label, box, step and generation of 5 slots, and the counters.
    per_slot = 2 * 4 + 8 + 2 * 4 + 8 + 8
    assert 5 * per_slot < bank.nbytes < 5 * per_slot + 100
    assert bank.nbytes == sum(value.nbytes for value in bank.state_dict().values())
    assert bank.device == torch.device("cpu")
    assert list(bank.fields) == ["label", "box"]


def test_bank__every_state_value_is_a_tensor(bank):
    assert all(isinstance(value, torch.Tensor) for value in bank.state_dict().values())
    assert not list(bank.parameters())


def test_gather__any_shape_and_no_slot(bank):
    found = bank.gather(torch.tensor([[2, -1], [4, 0]]))
    assert found.valid.tolist() == [[True, False], [False, True]]
    assert found.embeddings[0, 0].tolist() == rows_of([2])[0].tolist()
    assert not found.embeddings[~found.valid].any()
    assert found.fields["label"].tolist() == [[20, 0], [0, 0]]
    assert found.fields["box"].shape == (2, 2, 2)
    assert found.fields["box"].dtype == torch.float32
    # A copy, not a view.
    found.embeddings.fill_(9)
    assert not (bank.embeddings == 9).any()


def test_gather__keeps_bool_fields():
    bank = tb.MemoryBank(2, 1, fields={"seen": torch.bool}, metric="dot")
    bank.push(torch.ones(1, 1), seen=torch.tensor([True]))
    assert bank.gather(torch.tensor([0, 1])).fields["seen"].tolist() == [True, False]


def test_sample__different_rows_that_a_generator_repeats(bank):
    draws = [bank.sample(3, generator=torch.Generator().manual_seed(7)) for _ in range(2)]
    assert torch.equal(*draws)
    assert sorted(draws[0].tolist()) == [0, 1, 2]
    counts = torch.zeros(5)
    generator = torch.Generator().manual_seed(0)
    for _ in range(600):
        counts[bank.sample(1, generator=generator)] += 1
    assert counts[3:].sum() == 0
    assert (counts[:3] - 200).abs().max() < 50


def test_blocks__partition_valid_slots():
    bank = filled(tb.MemoryBank, batch=13, capacity=20)
    blocks = bank.blocks(4, generator=torch.Generator().manual_seed(0))
    assert blocks.shape == (3, 4)
    assert len(set(blocks.flatten().tolist())) == 12
    assert blocks.max() < 13
    assert bank.blocks(14).shape == (0, 14)


def test_age__from_the_latest_or_a_given_step():
    bank = tb.MemoryBank(5, 1, metric="dot")
    for step in (10, 20, 35):
        bank.push(torch.ones(1, 1), step=step)
    assert bank.age().tolist() == [25, 15, 0]
    assert bank.age(40).tolist() == [30, 20, 5]
    assert bank.age(torch.tensor(40)).tolist() == [30, 20, 5]
    # A tensor is a stamp as well, and the count of pushes goes on beside given stamps.
    bank.push(torch.ones(1, 1), step=torch.tensor(36, dtype=torch.int32))
    bank.push(torch.ones(1, 1))
    assert bank.view().steps.tolist() == [10, 20, 35, 36, 4]


def test_update__rewrites_rows_that_are_still_there():
    bank = filled(tb.MemoryBank, batch=5)
    slots = torch.tensor([0, 1, 4])
    generations = bank.generations[slots]
    push(bank, [5])
    stale = bank.update(slots, generations, rows_of([100, 101, 104]))
    assert stale.shape == ()
    assert int(stale) == 1
    assert bank.embeddings[:, 0].tolist() == [5, 101, 2, 3, 104]
    # What was written again is as new as the latest push; fields and generations stay.
    assert bank.age().tolist() == [0, 0, 1, 1, 0]
    assert bank.view().fields["label"].tolist() == [50, 10, 20, 30, 40]
    assert bank.generations.tolist() == [2, 1, 1, 1, 1]
    assert int(bank.update(slots, generations, rows_of([7, 8, 9]), step=50)) == 1
    assert bank.age(50).tolist() == [49, 0, 50, 50, 0]


def test_update__normalizes_under_cosine():
    bank = filled(tb.MemoryBank, metric="cosine")
    bank.update(torch.tensor([1]), torch.tensor([1]), torch.tensor([[3.0, 4.0]]))
    torch.testing.assert_close(bank.embeddings[1], torch.tensor([0.6, 0.8]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "convert",
    [nn.Module.half, nn.Module.double, nn.Module.float, nn.Module.bfloat16, lambda module: module.to(torch.float64)],
)
def test_bank__keeps_its_dtype_inside_a_model(dtype, convert):
    model = nn.Module()
    model.encoder = nn.Linear(2, 2)
    model.bank = filled(tb.MemoryBank, dtype=dtype)
    before = copy.deepcopy(model.bank)
    convert(model)
    assert_same_state(model.bank, before)
    assert model.bank.push(rows_of([9]), **fields_of([9])).tolist() == [3]


def test_bank__moves_with_its_model():
    model = nn.Sequential(filled(tb.ReservoirMemoryBank, dtype=torch.bfloat16))
    model.to("meta", torch.float64)
    state = model.state_dict()
    assert {value.device.type for value in state.values()} == {"meta"}
    assert state["0.embeddings"].dtype == torch.bfloat16
    assert model[0].device.type == "meta"


@pytest.mark.gpu
def test_bank__moves_to_the_gpu_and_back(bank):
    before = copy.deepcopy(bank)
    bank.cuda()
    assert bank.device.type == "cuda"
    assert_same_state(bank.cpu(), before)


@pytest.mark.parametrize("how", [copy.deepcopy, "pickle"])
def test_bank__copies_go_their_own_way(bank, how):
    if how == "pickle":
        buffer = io.BytesIO()
        torch.save(bank, buffer)
        buffer.seek(0)
        other = torch.load(buffer, weights_only=False)
    else:
        other = how(bank)
    assert_same_state(other, bank)
    push(other, [7])
    assert bank.total_pushed == 3
    push(bank, [7])
    assert_same_state(other, bank)


def test_bank__says_what_it_is(bank):
    text = repr(bank)
    assert "capacity=5, dim=2, metric='dot', dtype=torch.float32, fields=['label', 'box']" in text
    assert ("momentum=0.0" in text) == isinstance(bank, tb.KeyedMemoryBank)


def test_bank__inference_mode_and_no_grad_pushes(bank):
    with torch.inference_mode():
        push(bank, [3])
    with torch.no_grad():
        push(bank, [4])
    assert bank.is_full
    loss = bank.attend(torch.ones(1, 2, requires_grad=True), scale=1.0).lse.sum()
    push(bank, [5])
    loss.backward()

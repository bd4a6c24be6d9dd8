"""On a GPU: rows that stay in host memory or in a file are read as if they lay on the device."""

import copy

import pytest
import torch
from bank_cases import assert_same_state

import torchbank as tb
from torchbank.errors import BankValueError

pytestmark = pytest.mark.gpu

KINDS = [tb.MemoryBank, tb.KeyedMemoryBank, tb.ReservoirMemoryBank]
# Several blocks, and the last one cut short.
CAPACITY, DIM = 150_001, 24


@pytest.fixture(params=["host", "file"])
def storage(request, tmp_path):
    return "host" if request.param == "host" else tmp_path / "bank.rows"


def make(kind, storage, capacity=CAPACITY, **options):
    keyed = {"momentum": 0.5, "duplicates": "last"} if kind is tb.KeyedMemoryBank else {}
    options = {"metric": "dot", "device": "cuda", **keyed, **options}
    return kind(capacity, DIM, fields={"label": torch.int64}, storage=storage, **options)


def push(bank, size, seed):
    generator = torch.Generator().manual_seed(seed)
    # Halves add up to the same bits in any order of operations.
    embeddings = torch.randint(-8, 8, (size, DIM), generator=generator) / 2
    columns = {"label": torch.randint(50, (size,), generator=generator)}
    if isinstance(bank, tb.KeyedMemoryBank):
        columns["keys"] = torch.randint(bank.capacity, (size,), generator=generator)
    return bank.push(embeddings.cuda(), **{name: column.cuda() for name, column in columns.items()})


def filled(kind, storage, pushes=((100_000, 0), (77_777, 1), (3, 2)), **options):
    bank = make(kind, storage, **options)
    for size, seed in pushes:
        push(bank, size, seed)
    return bank


def assert_same_reads(bank, other, batch=40):
    queries = torch.randint(-8, 8, (batch, DIM), generator=torch.Generator().manual_seed(9)).cuda() / 2
    label = (torch.arange(batch) % 50).cuda()
    for selection in (
        {},
        {"exclude": {"label": label}},
        {"include": {"label": label}, "max_age": 1},
        {"half_life": 2.0},
    ):
        one, two = (each.nearest(queries, 10, **selection) for each in (bank, other))
        assert one.scores.is_cuda
        torch.testing.assert_close(one.scores, two.scores, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(bank.gather(one.slots).valid, one.valid)
        for one, two in zip(
            bank.attend(queries, scale=0.1, **selection), other.attend(queries, scale=0.1, **selection), strict=True
        ):
            torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)
        one, two = (each.pair_sum(queries, tb.reads.SCORE, labels=label, **selection) for each in (bank, other))
        torch.testing.assert_close(one.value, two.value, rtol=1e-4, atol=1e-1)
        one, two = (each.triplet_sum(queries, labels=label, margin=0.5, **selection) for each in (bank, other))
        torch.testing.assert_close(one.value, two.value, rtol=1e-4, atol=1e-1)


def on_cpu(bank):
    return {name: value.cpu() for name, value in bank.state_dict().items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_storage__reads_and_state_as_on_the_device(storage, kind, dtype):
    bank, expected = (filled(kind, where, dtype=dtype) for where in (storage, "module"))
    assert bank.embeddings.device.type == "cpu"
    assert bank.device == expected.device
    state, other = on_cpu(bank), on_cpu(expected)
    assert all(torch.equal(state[name], other[name]) for name in other)
    for batch in (1, 40):
        assert_same_reads(bank, expected, batch)


def test_storage__a_bank_that_is_not_full_and_one_that_is_empty(storage):
    bank, expected = (filled(tb.MemoryBank, where, pushes=((1_000, 0),)) for where in (storage, "module"))
    assert_same_reads(bank, expected)
    empty = make(tb.MemoryBank, "host")
    queries = torch.ones(2, DIM, device="cuda")
    assert empty.nearest(queries, 3).slots.tolist() == [[-1] * 3] * 2
    assert empty.attend(queries, scale=1.0).lse.tolist() == [-torch.inf] * 2


def test_storage__many_reads_and_pushes_without_a_pause(storage):
    """A buffer that is filled too early, or rows that are overwritten while they are copied, change a sum."""
    bank, expected = (filled(tb.MemoryBank, where) for where in (storage, "module"))
    queries = torch.randint(-8, 8, (300, DIM), generator=torch.Generator().manual_seed(1)).cuda() / 2
    sums = []
    for each in (bank, expected):
        here = []
        for seed in range(20):
            here.append(each.pair_sum(queries, tb.reads.SCORE).value)
            push(each, 20_000, seed)
        sums.append(torch.stack(here))
    torch.testing.assert_close(*sums, rtol=1e-4, atol=1e-1)


def test_storage__euclidean_rows_on_the_host(storage):
    bank, expected = (filled(tb.MemoryBank, where, metric="euclidean") for where in (storage, "module"))
    queries = torch.randn(20, DIM, device="cuda")
    torch.testing.assert_close(bank.nearest(queries, 5).scores, expected.nearest(queries, 5).scores)


def test_storage__host_rows_are_pinned_and_take_no_device_memory():
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    bank = tb.MemoryBank(1_000_000, 256, storage="host", device="cuda")
    assert bank.embeddings.is_pinned()
    assert torch.cuda.memory_allocated() - before < 40e6  # stamps and generations: 16 MB
    queries = torch.randn(32, 256, device="cuda")
    bank.push(torch.randn(300_000, 256, device="cuda"))
    torch.cuda.reset_peak_memory_stats()
    base = torch.cuda.memory_allocated()
    bank.attend(queries, scale=10.0)
    # Two blocks of rows, their scores, and a mask: not the 307 MB of the rows.
    assert torch.cuda.max_memory_allocated() - base < 200e6


def test_storage__moves_and_copies(storage):
    bank = filled(tb.MemoryBank, storage)
    address, before = bank.embeddings.data_ptr(), on_cpu(bank)
    bank.cpu()
    assert bank.embeddings.data_ptr() == address
    assert_same_state(bank, before)
    queries = torch.ones(2, DIM)
    expected = bank.nearest(queries, 3)
    torch.nn.Sequential(bank).cuda().half()
    assert bank.embeddings.data_ptr() == address
    torch.testing.assert_close(bank.nearest(queries.cuda(), 3).scores.cpu(), expected.scores)
    with pytest.raises(BankValueError, match=r"queries is on cpu and the bank on cuda:0"):
        bank.nearest(queries, 3)
    if storage == "host":
        other = copy.deepcopy(bank)
        assert other.embeddings.is_pinned()
        assert_same_reads(other, bank)


def test_storage__saved_and_loaded(tmp_path, storage):
    bank = filled(tb.MemoryBank, storage)
    bank.save(tmp_path / "saved")
    again = tb.load(tmp_path / "saved", device="cuda", storage=tmp_path / "again")
    one, two = on_cpu(again), on_cpu(bank)
    assert all(torch.equal(one[name], two[name]) for name in two)
    smaller = make(tb.MemoryBank, "host", capacity=1_000)
    with pytest.warns(UserWarning, match="1000 rows are kept"):
        smaller.load_state_dict(bank.state_dict())
    assert torch.equal(smaller.ordered().embeddings, bank.ordered().embeddings[-1_000:])


def test_reads__tensors_on_two_devices_need_a_word():
    queries, rows = torch.ones(2, DIM, device="cuda"), torch.ones(5, DIM)
    with pytest.raises(BankValueError, match="move one of them"):
        tb.reads.attend(queries, rows, scale=1.0)
    selection = tb.reads.Selection(offloaded=True)
    expected = tb.reads.attend(queries.cpu(), rows, scale=1.0)
    for impl in ("auto", "blocked", "reference"):
        found = tb.reads.attend(queries, rows, scale=1.0, selection=selection, impl=impl)
        torch.testing.assert_close(found.lse.cpu(), expected.lse)

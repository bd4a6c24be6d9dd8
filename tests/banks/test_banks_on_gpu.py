"""On a GPU: the same bits as on the CPU, without waiting for the device, inside a CUDA graph too."""

import pytest
import torch
from bank_cases import assert_same_state, push_as_on_device

import torchbank as tb
from torchbank.errors import BankValueError

pytestmark = pytest.mark.gpu

KINDS = [tb.MemoryBank, tb.KeyedMemoryBank, tb.ReservoirMemoryBank]


def make(kind, device):
    options = {"duplicates": "last", "momentum": 0.5} if kind is tb.KeyedMemoryBank else {}
    return kind(24, 8, fields={"label": torch.int64}, metric="dot", device=device, **options)


def batches(bank, count):
    generator = torch.Generator().manual_seed(0)
    for number in range(count):
        size = (16, 7, 31, 1, 0, 20)[number % 6]
        # Halves add up to the same bits in any order of operations.
        embeddings = torch.randint(-8, 8, (size, 8), generator=generator) / 2
        embeddings[torch.rand(size, generator=generator) < 0.1] = torch.nan
        columns = {"label": torch.arange(size)}
        if isinstance(bank, tb.KeyedMemoryBank):
            columns["keys"] = torch.randint(24, (size,), generator=generator)
        yield embeddings, columns


def on_gpu(embeddings, columns):
    return embeddings.cuda(), {name: column.cuda() for name, column in columns.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_push__same_bits_and_never_waits(kind):
    bank, expected = make(kind, "cuda"), make(kind, "cpu")
    for embeddings, columns in batches(expected, 30):
        moved, moved_columns = on_gpu(embeddings, columns)
        torch.cuda.set_sync_debug_mode("error")
        try:
            slots = bank.push(moved, **moved_columns)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert torch.equal(slots.cpu(), push_as_on_device(expected, embeddings, **columns))
    assert int(bank.rejected) > 0
    assert_same_state(bank.cpu(), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_push__in_a_cuda_graph(kind):
    bank, expected = make(kind, "cuda"), make(kind, "cuda")
    embeddings = torch.randn(7, 8, device="cuda")
    columns = {"label": torch.arange(7, device="cuda")}
    if kind is tb.KeyedMemoryBank:
        columns["keys"] = torch.arange(7, device="cuda") * 3
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        bank.push(embeddings, **columns)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        bank.push(embeddings, **columns)
    expected.push(embeddings, **columns)
    for _ in range(10):
        embeddings.normal_()
        graph.replay()
        expected.push(embeddings, **columns)
    assert_same_state(bank, expected)


def test_push__check_raises_and_changes_nothing():
    bank = make(tb.MemoryBank, "cuda")
    embeddings = torch.ones(3, 8, device="cuda")
    embeddings[1, 2] = torch.inf
    with pytest.raises(BankValueError, match="row 1 of embeddings is not finite"):
        bank.push(embeddings, label=torch.arange(3, device="cuda"), check=True)
    assert (len(bank), int(bank.pushes)) == (0, 0)
    with pytest.raises(BankValueError, match=r"embeddings is on cpu and the bank on cuda:0; move one of them"):
        bank.push(embeddings.cpu(), label=torch.arange(3))

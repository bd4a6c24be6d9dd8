"""The reads on a CUDA device: the same answers, the same bits at each call, and the host never waits."""

from collections.abc import Callable, Iterator

import pytest
import torch
from read_oracles import assert_as_good_as_reference, selections, unit
from torch import Tensor

import torchbank as tb
from torchbank.reads import SCORE, Selection, attend, nearest, pair_sum, triplet_sum

pytestmark = pytest.mark.gpu

IMPLS = ["auto", "blocked", "triton"]


@pytest.fixture
def no_waiting() -> Iterator[None]:
    """An error wherever the host waits for the device."""
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


def arguments(device: str, rows: int = 5003, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Selection]:
    queries, bank = unit(17, 64, 0).to(device), unit(rows, 64, 1).to(device, dtype)
    ids, own = torch.arange(17, device=device), torch.arange(rows, device=device)
    bias = torch.randn(rows, generator=torch.Generator().manual_seed(0)).to(device)
    count = torch.tensor(rows * 4 // 5).to(device)
    return queries, bank, Selection(exclude=(((ids, own),),), bias=bias, count=count)


def run_all(device: str, impl: str = "auto", dtype: torch.dtype = torch.float32) -> list[Tensor]:
    queries, rows, selection = arguments(device, dtype=dtype)
    queries.requires_grad_()
    lse, readout = attend(queries, rows, scale=10.0, selection=selection, impl=impl)
    value, count = pair_sum(queries, rows, SCORE, selection=selection, impl=impl)
    scores, _, valid = nearest(queries, rows, 10, selection=selection, impl=impl)
    far = nearest(queries, rows, 10, metric="euclidean", selection=selection, impl=impl).scores
    (lse.sum() + value.sum()).backward()
    return [lse, readout, value, count, scores, valid, far, queries.grad]


@pytest.mark.parametrize("impl", IMPLS)
def test_reads__agree_with_the_cpu(impl: str) -> None:
    for given, expected in zip(run_all("cuda", impl), run_all("cpu"), strict=True):
        torch.testing.assert_close(given.cpu(), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("impl", IMPLS)
def test_reads__same_bits_at_each_call(impl: str, dtype: torch.dtype) -> None:
    for one, other in zip(run_all("cuda", impl, dtype), run_all("cuda", impl, dtype), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("kind", ["all", "everything"])
@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("dim", [128, 400])
def test_attend__float64_truth(dim: int, impl: str, kind: str) -> None:
    queries, bank = unit(70, dim, 0).cuda(), unit(20_011, dim, 1).cuda().bfloat16()
    seen = selections(70, 20_011)[kind]
    exclude, include = (
        tuple(tuple((query.cuda(), row.cuda()) for query, row in clause) for clause in clauses)
        for clauses in (seen.exclude, seen.include)
    )
    bias, count = (None if each is None else each.cuda() for each in (seen.bias, seen.count))
    selection = Selection(exclude, include, bias, count)
    truth = attend(queries.double(), bank.double(), scale=10.0, selection=selection, impl="reference")
    reference = attend(queries, bank, scale=10.0, selection=selection, impl="reference")
    given = attend(queries, bank, scale=10.0, selection=selection, impl=impl)
    for name in ("lse", "readout"):
        assert_as_good_as_reference(
            getattr(given, name), getattr(reference, name), getattr(truth, name), tolerance=2e-6
        )


@pytest.mark.parametrize("batch", [1, 200])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_flash__log_sum_exp_and_readout(batch: int, dtype: torch.dtype) -> None:
    from torchbank.reads import _flash_attention

    queries, bank, scale = unit(batch, 64, 0).cuda(), unit(9001, 64, 1).cuda().to(dtype), torch.tensor(10.0).cuda()
    assert _flash_attention.fits(queries, bank, Selection(), fast=True)
    lse, readout = _flash_attention.attend(queries, bank, scale)
    truth = attend(queries.double(), bank.double(), scale=10.0, impl="reference")
    torch.testing.assert_close(lse.double(), truth.lse, rtol=0, atol=0.02)
    torch.testing.assert_close(readout.double(), truth.readout, rtol=0, atol=0.01)
    fast = attend(queries, bank, scale=scale, precision="fast")
    assert torch.equal(fast.lse, lse)
    assert torch.equal(fast.readout, readout)


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize("rows", [300, 100_000])
def test_reads__never_wait_for_the_device(rows: int) -> None:
    torch.cuda.set_sync_debug_mode("default")
    queries, bank, selection = arguments("cuda", rows)
    torch.cuda.set_sync_debug_mode("error")
    queries.requires_grad_()
    lse = attend(queries, bank, scale=10.0, selection=selection).lse
    value = pair_sum(queries, bank, SCORE, selection=selection).value
    (lse.sum() + value.sum()).backward()
    for metric in ("dot", "euclidean"):
        nearest(queries, bank, 10, metric=metric, selection=selection)
    attend(queries, bank.bfloat16(), scale=10.0, precision="fast")


@pytest.mark.parametrize("precision", ["exact", "fast"])
def test_losses__in_a_cuda_graph(precision: str) -> None:
    bank = tb.MemoryBank(
        4096, 64, fields={"label": torch.int64, "id": torch.int64}, dtype=torch.bfloat16, device="cuda"
    )
    stored = torch.arange(4000, device="cuda")
    bank.push(unit(4000, 64, 1).cuda(), label=stored % 10, id=stored)
    queries, labels = unit(32, 64, 0).cuda().requires_grad_(), torch.arange(32, device="cuda") % 10

    def step() -> tuple[Tensor, Tensor, Tensor]:
        lse = bank.attend(queries, scale=14.0, exclude={"id": labels}, precision=precision).lse
        pairs = tb.losses.contrastive(queries, bank, labels=labels, ids=labels)
        loss = lse.mean() + pairs
        (gradient,) = torch.autograd.grad(loss, queries)
        return loss.detach(), gradient, bank.nearest(queries, 5).scores

    assert_graph_repeats(step, queries)


def assert_graph_repeats(step: Callable[[], tuple[Tensor, ...]], queries: Tensor) -> None:
    """Capture a step, replay it on other queries, and compare with the step itself."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    with torch.no_grad():
        queries.copy_(unit(*queries.shape, 5).cuda())
    graph.replay()
    for given, expected in zip(captured, step(), strict=True):
        torch.testing.assert_close(given, expected)


def test_triton__bank_of_more_than_two_to_the_31_values() -> None:
    rows, dim = (1 << 24) + 1003, 256
    if torch.cuda.mem_get_info()[0] < 3 * rows * dim * 2:
        pytest.skip("needs 26 GB of free memory")
    bank = torch.zeros(rows, dim, dtype=torch.bfloat16, device="cuda")
    queries = unit(3, dim, 0).cuda()
    last = rows - torch.tensor([1, 500, 1002], device="cuda")
    bank[last] = queries.bfloat16()
    found = nearest(queries, bank, 1, impl="triton")
    assert torch.equal(found.slots[:, 0], last)
    lse, readout = attend(queries, bank, scale=40.0, impl="triton")
    expected = attend(queries, bank[-2000:], scale=40.0, impl="reference")
    # All other rows are zeros: each adds 1 to the sum, against e^40 of a query's own row.
    torch.testing.assert_close(lse, expected.lse, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(readout, expected.readout, rtol=1e-4, atol=1e-5)
    value = pair_sum(queries, bank, SCORE, impl="triton").value
    torch.testing.assert_close(value, (queries @ bank[last].float().T).sum(dim=1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mining", ["all", "semi-hard", "hardest"])
def test_triplet_sum__agrees_with_the_cpu(mining: str) -> None:
    def read(device: str) -> list[Tensor]:
        queries, rows, selection = arguments(device)
        queries = queries.double().requires_grad_()
        labels = (torch.arange(17, device=device), torch.arange(5003, device=device) % 20)
        value, count = triplet_sum(queries, rows, labels=labels, margin=2.0, mining=mining, selection=selection)
        value.sum().backward()
        return [value, count, queries.grad]

    for given, expected in zip(read("cuda"), read("cpu"), strict=True):
        torch.testing.assert_close(given.cpu(), expected)

"""The reads on a CUDA device: the same answers, and the host never waits."""

from collections.abc import Iterator

import pytest
import torch

from torchbank.reads import SCORE, Selection, attend, nearest, pair_sum, triplet_sum

pytestmark = pytest.mark.gpu


@pytest.fixture
def no_waiting() -> Iterator[None]:
    """An error wherever the host waits for the device."""
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


def arguments(device: str) -> tuple[torch.Tensor, torch.Tensor, Selection]:
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(17, 64, generator=generator).to(device)
    rows = torch.randn(5003, 64, generator=generator).to(device)
    ids = torch.arange(17, device=device)
    own = torch.arange(5003, device=device)
    bias = torch.randn(5003, generator=generator).to(device)
    count = torch.tensor(4000).to(device)
    return queries, rows, Selection(exclude=(((ids, own),),), bias=bias, count=count)


def run_all(device: str) -> list[torch.Tensor]:
    queries, rows, selection = arguments(device)
    queries.requires_grad_()
    lse, readout = attend(queries, rows, scale=0.2, selection=selection)
    value, count = pair_sum(queries, rows, SCORE, selection=selection)
    scores, _, valid = nearest(queries, rows, 10, selection=selection)
    far = nearest(queries, rows, 10, metric="euclidean", selection=selection).scores
    (lse.sum() + value.sum()).backward()
    return [lse, readout, value, count, scores, valid, far, queries.grad]


def test_reads__agree_with_the_cpu() -> None:
    for given, expected in zip(run_all("cuda"), run_all("cpu"), strict=True):
        torch.testing.assert_close(given.cpu(), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("mining", ["all", "semi-hard", "hardest"])
def test_triplet_sum__agrees_with_the_cpu(mining: str) -> None:
    def read(device: str) -> list[torch.Tensor]:
        queries, rows, selection = arguments(device)
        queries = queries.double().requires_grad_()
        labels = (torch.arange(17, device=device), torch.arange(5003, device=device) % 20)
        value, count = triplet_sum(queries, rows, labels=labels, margin=2.0, mining=mining, selection=selection)
        value.sum().backward()
        return [value, count, queries.grad]

    for given, expected in zip(read("cuda"), read("cpu"), strict=True):
        torch.testing.assert_close(given.cpu(), expected)


@pytest.mark.usefixtures("no_waiting")
def test_reads__never_wait_for_the_device() -> None:
    torch.cuda.set_sync_debug_mode("default")
    queries, rows, selection = arguments("cuda")
    torch.cuda.set_sync_debug_mode("error")
    attend(queries, rows, scale=0.2, selection=selection)
    pair_sum(queries, rows, SCORE, selection=selection)
    nearest(queries, rows, 10, selection=selection)

"""Neighbours by bfloat16 products are those of float64, on banks made to break the bound. Runs on any processor."""

import pytest
import torch
from read_oracles import KINDS, selections, unit
from torch import Tensor

from torchbank.reads import MappedRows, Selection, _bf16_candidates, nearest
from torchbank.reads._bf16_candidates import _half_unit, _Slack, nearest_by_candidates
from torchbank.reads._selection import real_rows
from torchbank.reads._stream import stream

BANKS = ["random", "clustered", "near_duplicates", "duplicated", "all_equal", "one_huge", "denormal", "mixed_norms"]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
# float16 cannot hold the rows of two of them.
CASES = [
    (kind, dtype)
    for kind in BANKS
    for dtype in DTYPES
    if dtype != torch.float16 or kind not in ("one_huge", "mixed_norms")
]


def bank_of(kind: str, rows: int = 6000, dim: int = 70) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    values = torch.randn(rows, dim, generator=generator)
    if kind == "clustered":
        return values[:8].repeat(rows // 8, 1) + 1e-2 * values
    if kind == "near_duplicates":
        # Closer together than bfloat16 can tell apart.
        return values[:8].repeat(rows // 8, 1) + 1e-5 * values
    if kind == "duplicated":
        return values[:200].repeat(rows // 200, 1)
    if kind == "all_equal":
        return values[:1].repeat(rows, 1)
    if kind == "one_huge":
        values[17] *= 1e12
    elif kind == "denormal":
        values *= 1e-39
    elif kind == "mixed_norms":
        values *= torch.logspace(-6, 6, rows)[:, None]
    return values


def assert_neighbors(scores: Tensor, slots: Tensor, queries: Tensor, rows: Tensor, truth: Tensor) -> None:
    """The same scores in the same places is the same neighbours, except among ties."""
    chosen = (queries.double()[:, None] * rows.double()[slots]).sum(dim=2)
    # A sum of products may round by its largest terms, of whichever size it is itself.
    rounding = 1e-6 * queries.double().norm(dim=1)[:, None] * rows.double()[slots].norm(dim=2)
    assert ((chosen - truth).abs() <= rounding + 1e-44).all()
    assert ((scores.double() - truth).abs() <= rounding + 1e-44).all()
    assert all(len(set(line)) == len(line) for line in slots.tolist())


@pytest.mark.parametrize(("kind", "dtype"), CASES)
def test_neighbors__float64_truth(kind: str, dtype: torch.dtype) -> None:
    rows = bank_of(kind).to(dtype)
    queries = torch.randn(33, 70, generator=torch.Generator().manual_seed(4))
    for k in (1, 12):
        truth = nearest(queries.double(), rows.double(), k, impl="reference").scores
        assert_neighbors(*nearest_by_candidates(queries, rows, k, Selection()), queries, rows, truth)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_selection__float64_truth(kind: str, dtype: torch.dtype) -> None:
    queries, rows, selection = unit(20, 64, 0), unit(5000, 64, 1).to(dtype), selections(20, 5000)[kind]
    truth = nearest(queries.double(), rows.double(), 9, selection=selection, impl="reference")
    real, selected = real_rows(rows, selection)
    scores, slots = nearest_by_candidates(queries, real, 9, selected)
    assert torch.equal(slots >= 0, truth.valid)
    torch.testing.assert_close(scores.double(), truth.scores, atol=2e-6, rtol=1e-5)
    assert all(len(set(s[v].tolist())) == v.sum() for s, v in zip(slots, truth.valid, strict=True))


@pytest.mark.parametrize(("kind", "dtype"), CASES)
@pytest.mark.parametrize("biased", [False, True])
def test_bound__holds_for_every_pair(kind: str, dtype: torch.dtype, biased: bool) -> None:
    rows = bank_of(kind, rows=1000).to(dtype)
    queries = torch.randn(17, 70, generator=torch.Generator().manual_seed(4))
    bias = torch.randn(1000, generator=torch.Generator().manual_seed(5)) if biased else None
    slack = _Slack(queries, rows)
    truth = queries.double() @ rows.double().T
    for block in stream(queries, rows, Selection(bias=bias), size=300, products=torch.bfloat16):
        scores = block.scores.double()
        bound = scores + slack(block).double()[:, None] + (0 if biased else _half_unit(block.scores).double())
        assert (truth[:, block.slots] <= bound).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_random_bank__is_proven_without_reading_again(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    queries, rows = unit(64, 128, 0), unit(20_000, 128, 1).to(dtype)
    expected = nearest(queries, rows, 10, impl="blocked")

    def read_again(*_: object) -> None:
        pytest.fail("a query was not proven")

    monkeypatch.setattr(_bf16_candidates, "nearest_blocked", read_again)
    scores, slots = nearest_by_candidates(queries, rows, 10, Selection())
    assert torch.equal(slots, expected.slots)
    torch.testing.assert_close(scores, expected.scores)


def test_mapped_rows__same_neighbors() -> None:
    import mmap

    specs = {"embedding": (torch.float32, (64,))}
    memory = mmap.mmap(-1, 3000 * 64 * 4)
    mapped = MappedRows(memory, 3000, specs)
    rows = mapped.columns["embedding"]
    rows.copy_(unit(3000, 64, 1))
    scores, slots = nearest_by_candidates(unit(20, 64, 0), rows, 5, Selection())
    expected = nearest(unit(20, 64, 0), rows.clone(), 5, impl="blocked")
    assert torch.equal(slots, expected.slots)
    torch.testing.assert_close(scores, expected.scores)

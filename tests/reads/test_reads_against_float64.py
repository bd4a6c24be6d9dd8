"""Every read against the float64 truth: error at most that of the same-precision reference, plus a tolerance."""

import pytest
import torch
from read_oracles import KINDS, assert_as_good_as_reference, selections, unit
from torch import Tensor

from torchbank.reads import SCORE, PairFunction, attend, nearest, pair_sum

SHAPES = [(1, 1, 1), (1, 507, 17), (3, 17, 252), (17, 252, 33), (5, 5000, 16), (300, 1031, 8)]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
HINGE = PairFunction(
    "test_hinge",
    value=lambda s, same, margin: torch.where(same, 1 - s, (s - margin).clamp_min(0)),
    derivative=lambda s, same, margin: torch.where(same, -torch.ones_like(s), (s > margin).to(s.dtype)),
)
EXCESS = PairFunction(
    "test_weighted_excess",
    value=lambda s, same, factor, margin: (1 + factor * same) * (s - margin).clamp_min(0),
    derivative=lambda s, same, factor, margin: (1 + factor * same) * (s > margin).to(s.dtype),
    zero_up_to=lambda factor, margin: margin,
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("batch", "rows", "dim"), SHAPES)
def test_attend__float64_truth(batch: int, rows: int, dim: int, kind: str) -> None:
    queries, selection = unit(batch, dim, 0), selections(batch, rows)[kind]
    for dtype in DTYPES:
        bank = unit(rows, dim, 1).to(dtype)
        truth = attend(queries.double(), bank.double(), scale=10.0, selection=selection, impl="reference")
        reference = attend(queries, bank, scale=10.0, selection=selection, impl="reference")
        for impl in ("auto", "blocked"):
            given = attend(queries, bank, scale=10.0, selection=selection, impl=impl)
            assert given.lse.dtype == given.readout.dtype == torch.float32
            for part in ("lse", "readout"):
                assert_as_good_as_reference(
                    getattr(given, part), getattr(reference, part), getattr(truth, part), tolerance=2e-6
                )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("batch", "rows", "dim"), SHAPES)
def test_pair_sum__float64_truth(batch: int, rows: int, dim: int, kind: str) -> None:
    queries, selection = unit(batch, dim, 0), selections(batch, rows)[kind]
    labels = (torch.arange(batch) % 3, torch.arange(rows) % 4)
    for dtype in DTYPES:
        bank = unit(rows, dim, 1).to(dtype)
        f = HINGE.with_parameters(0.2)
        truth = pair_sum(queries.double(), bank.double(), f, labels=labels, selection=selection, impl="reference")
        reference = pair_sum(queries, bank, f, labels=labels, selection=selection, impl="reference")
        given = pair_sum(queries, bank, f, labels=labels, selection=selection)
        assert given.value.dtype == torch.float32
        assert_as_good_as_reference(given.value, reference.value, truth.value, tolerance=2e-6)
        # A score within rounding of the margin may count on one side and not on the other.
        assert (given.count - truth.count).abs().max() <= 2


@pytest.mark.parametrize("impl", ["reference", "blocked"])
def test_pair_sum__a_parameter_for_each_query(impl: str) -> None:
    queries, bank = unit(5, 16, 0).double().requires_grad_(), unit(3000, 16, 1)
    labels = (torch.arange(5) % 3, torch.arange(3000) % 4)
    margins = torch.linspace(-0.2, 0.4, 5, dtype=torch.float64)
    given = pair_sum(queries, bank, HINGE.with_parameters(margins), labels=labels, impl=impl)
    (gradient,) = torch.autograd.grad(given.value.sum(), queries)
    alone = []
    for row, margin in enumerate(margins):
        one = queries[row : row + 1]
        f = HINGE.with_parameters(float(margin))
        alone.append(pair_sum(one, bank, f, labels=(labels[0][row : row + 1], labels[1]), impl="reference"))
    torch.testing.assert_close(given.value, torch.cat([each.value for each in alone]))
    assert torch.equal(given.count, torch.cat([each.count for each in alone]))
    (expected,) = torch.autograd.grad(sum(each.value.sum() for each in alone), queries)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("margin", [-2.0, 0.5, 0.9, 2.0])
@pytest.mark.parametrize("kind", KINDS)
def test_pair_sum__few_pairs_above_a_margin(kind: str, margin: float) -> None:
    """All, a twentieth, hardly any and none of the pairs, listed or not, make the same sums and gradient."""
    queries, bank = unit(7, 12, 0).double().requires_grad_(), unit(20_000, 12, 1)
    labels, selection = (torch.arange(7) % 3, torch.arange(20_000) % 4), selections(7, 20_000)[kind]
    f = EXCESS.with_parameters(2.0, margin + torch.linspace(0.0, 0.1, 7, dtype=torch.float64))
    sums, gradients = [], []
    for impl in ("reference", "blocked"):
        given = pair_sum(queries, bank, f, labels=labels, selection=selection, impl=impl)
        sums.append(torch.stack((given.value.detach(), given.count)))
        gradients += torch.autograd.grad(given.value.sum(), queries)
    torch.testing.assert_close(sums[1], sums[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("metric", "impl"), [("dot", "auto"), ("dot", "blocked"), ("euclidean", "blocked")])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("batch", "rows", "dim"), SHAPES)
def test_nearest__float64_truth(batch: int, rows: int, dim: int, kind: str, metric: str, impl: str) -> None:
    queries, selection = unit(batch, dim, 0), selections(batch, rows)[kind]
    for dtype in DTYPES:
        bank = unit(rows, dim, 1).to(dtype)
        for k in (1, 10, 60):
            truth = nearest(queries.double(), bank.double(), k, metric=metric, selection=selection, impl="reference")
            given = nearest(queries, bank, k, metric=metric, selection=selection, impl=impl)
            assert torch.equal(given.valid, truth.valid)
            assert torch.equal(given.slots == -1, ~given.valid)
            torch.testing.assert_close(given.scores.double(), truth.scores, atol=2e-6, rtol=1e-5)
            assert all(len(set(line)) == len(line) for line in (s[v].tolist() for s, v in zip(*given[1:], strict=True)))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients__gradcheck(kind: str) -> None:
    batch, rows, dim = 4, 23, 3
    queries = unit(batch, dim, 0).double().requires_grad_()
    scale = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    bank, selection = unit(rows, dim, 1).double(), selections(batch, rows)[kind]

    def finite_lse(queries: Tensor, scale: Tensor) -> Tensor:
        lse = attend(queries, bank, scale=scale, selection=selection).lse
        return lse.masked_fill(lse == -torch.inf, 0)

    assert torch.autograd.gradcheck(finite_lse, (queries, scale))
    square = PairFunction("test_square", value=lambda s, same: s * s, derivative=lambda s, same: 2 * s)
    assert torch.autograd.gradcheck(lambda q: pair_sum(q, bank, square, selection=selection).value, (queries,))


def test_score__sums_similarities() -> None:
    queries, bank = unit(5, 8, 0), unit(40, 8, 1)
    torch.testing.assert_close(pair_sum(queries, bank, SCORE).value, (queries @ bank.T).sum(dim=1))


@pytest.mark.parametrize("impl", ["auto", "blocked"])
def test_gradients__per_row_and_scale(impl: str) -> None:
    bank = unit(700, 16, 1)
    upstream = torch.tensor([0.0, 1.0, -2.0])

    def gradients(impl: str) -> list[Tensor]:
        queries, scale = unit(3, 16, 0).requires_grad_(), torch.tensor(5.0, requires_grad=True)
        (attend(queries, bank, scale=scale, impl=impl).lse * upstream).sum().backward()
        return [queries.grad, scale.grad]

    torch.testing.assert_close(gradients(impl), gradients("reference"))


@pytest.mark.parametrize("impl", ["auto", "blocked"])
@pytest.mark.parametrize("bank", ["random", "clustered", "duplicated", "all_equal", "one_huge", "denormal"])
def test_nearest__adversarial_banks(bank: str, impl: str) -> None:
    generator = torch.Generator().manual_seed(3)
    rows = torch.randn(4000, 24, generator=generator)
    if bank == "clustered":
        rows = rows[:8].repeat(500, 1) + 1e-3 * rows
    elif bank == "duplicated":
        rows = rows[:200].repeat(20, 1)
    elif bank == "all_equal":
        rows = rows[:1].repeat(4000, 1)
    elif bank == "one_huge":
        rows[17] *= 1e12
    elif bank == "denormal":
        rows *= 1e-39
    queries = torch.randn(9, 24, generator=generator)
    truth = nearest(queries.double(), rows.double(), 12, impl="reference")
    given = nearest(queries, rows, 12, impl=impl)
    # The same scores in the same places is the same neighbours, except among ties.
    chosen = (queries.double()[:, None] * rows.double()[given.slots]).sum(dim=2)
    torch.testing.assert_close(chosen, truth.scores, rtol=1e-6, atol=float(truth.scores.abs().max()) * 1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_nearest__more_queries_than_a_pass_takes(kind: str) -> None:
    queries, bank, selection = unit(2100, 4, 0), unit(600, 4, 1), selections(2100, 600)[kind]
    given = nearest(queries, bank, 3, selection=selection, impl="blocked")
    expected = nearest(queries, bank, 3, selection=selection, impl="reference")
    torch.testing.assert_close(given.scores, expected.scores)
    assert (given.slots == expected.slots).float().mean() > 0.99


def test_nearest__euclidean_far_from_the_origin() -> None:
    rows = torch.randn(3000, 16, generator=torch.Generator().manual_seed(3)) + 10_000
    queries = rows[:50] + 0.01
    given = nearest(queries, rows, 3, metric="euclidean")
    truth = nearest(queries.double(), rows.double(), 3, metric="euclidean", impl="reference")
    assert torch.equal(given.slots, truth.slots)
    torch.testing.assert_close(given.scores.double(), truth.scores, rtol=1e-4, atol=1e-6)

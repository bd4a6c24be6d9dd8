"""triplet_sum against loops over triplets in float64."""

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from torchbank.reads import Selection, _triplet_sum, triplet_sum

MININGS = ["all", "semi-hard", "hardest"]
MARGIN = 0.3
every_mining = pytest.mark.parametrize("mining", MININGS)


def unit(rows: int, dim: int, seed: int) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


def ids_of(batch: int, rows: int) -> tuple[Tensor, Tensor]:
    return torch.arange(batch), torch.arange(rows) * 7 % 11


def selections(batch: int, rows: int) -> dict[str, Selection]:
    ids = ids_of(batch, rows)
    cameras = (ids[0] % 2, ids[1] % 3)
    bias = torch.linspace(-2, 1, rows)
    bias[::5] = -torch.inf
    count = torch.tensor(max(1, rows // 2))
    return {
        "all": Selection(),
        "exclude": Selection(exclude=((ids,),)),
        "include": Selection(include=((cameras,), (ids,))),
        "bias": Selection(bias=bias),
        "count": Selection(count=count),
        "everything": Selection(((ids, cameras),), ((cameras,), (ids,)), bias, count),
        "nothing": Selection(bias=torch.full((rows,), -torch.inf)),
    }


KINDS = list(selections(1, 1))


def keeps(selection: Selection, query: int, row: int) -> bool:
    def holds(clause: tuple) -> bool:
        return all(bool(of_query[query] == of_row[row]) for of_query, of_row in clause)

    real = selection.count is None or row < int(selection.count)
    weighed = selection.bias is None or bool(selection.bias[row] > -torch.inf)
    included = not selection.include or any(map(holds, selection.include))
    return real and weighed and included and not any(map(holds, selection.exclude))


def by_loops(
    queries: Tensor, rows: Tensor, labels: tuple[Tensor, Tensor], mining: str, selection: Selection
) -> tuple[Tensor, Tensor]:
    """Value and count (batch,), triplet by triplet."""
    scores = queries @ rows.T
    weights = torch.ones(len(rows)).double() if selection.bias is None else selection.bias.double().exp()
    values, counts = [], []
    for query, line in enumerate(scores):
        kept = [row for row in range(len(rows)) if keeps(selection, query, row)]
        positives = [row for row in kept if labels[0][query] == labels[1][row]]
        negatives = [row for row in kept if labels[0][query] != labels[1][row]]
        if mining == "hardest" and positives and negatives:
            positives, negatives = (
                [min(positives, key=line.tolist().__getitem__)],
                [max(negatives, key=line.tolist().__getitem__)],
            )
        value, count = 0 * line.sum(), 0.0
        for p in positives:
            for n in negatives:
                hinge = line[n] - line[p] + MARGIN
                if hinge > 0 and (mining != "semi-hard" or line[n] < line[p]):
                    value = value + weights[p] * weights[n] * hinge
                    count += float(weights[p] * weights[n])
        values.append(value)
        counts.append(count)
    return torch.stack(values), torch.tensor(counts, dtype=torch.float64)


def labels_of(batch: int, rows: int) -> tuple[Tensor, Tensor]:
    """Uneven classes; the last query's label is that of no row, if there are several."""
    own = torch.arange(batch) % 3
    own[1:][-1:] = 9
    return own, (torch.arange(rows) % 8).clamp_max(3)


@pytest.mark.parametrize("impl", ["auto", "reference"])
@every_mining
@pytest.mark.parametrize("kind", KINDS)
def test_value_count_and_gradient__are_those_of_the_loops(kind: str, mining: str, impl: str) -> None:
    queries, rows = unit(5, 4, 0).double().requires_grad_(), unit(32, 4, 1).double()
    labels, selection = labels_of(5, 32), selections(5, 32)[kind]
    value, count = triplet_sum(
        queries, rows, labels=labels, margin=MARGIN, mining=mining, selection=selection, impl=impl
    )
    expected, triplets = by_loops(queries, rows, labels, mining, selection)
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(count, triplets, rtol=1e-6, atol=0)
    assert bool(count.any()) == (kind != "nothing")
    upstream = torch.linspace(-1, 2, 5).double()
    (gradient,) = torch.autograd.grad(value, queries, upstream)
    (by_autograd,) = torch.autograd.grad(expected, queries, upstream)
    torch.testing.assert_close(gradient, by_autograd, rtol=1e-6, atol=1e-9)


@every_mining
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("batch", "rows", "dim"), [(1, 1, 1), (1, 507, 17), (5, 5000, 16), (300, 1031, 8)])
def test_blocks__agree_with_the_whole_matrix(batch: int, rows: int, dim: int, kind: str, mining: str) -> None:
    queries, bank = unit(batch, dim, 0), unit(rows, dim, 1).bfloat16()
    keywords = {"labels": labels_of(batch, rows), "margin": MARGIN, "mining": mining}
    keywords["selection"] = selections(batch, rows)[kind]

    def read(queries: Tensor, impl: str) -> tuple[Tensor, ...]:
        queries = queries.clone().requires_grad_()
        value, count = triplet_sum(queries, bank, **keywords, impl=impl)
        value.sum().backward()
        return value.detach(), count, queries.grad

    truth = read(queries.double(), "reference")
    torch.testing.assert_close(read(queries.double(), "auto"), truth, rtol=1e-6, atol=1e-6)
    value, count, gradient = read(queries, "auto")
    assert value.dtype == count.dtype == gradient.dtype == torch.float32
    # A triplet within rounding of a bound may count on one side and not on the other.
    flipped = (count - truth[1]).abs()
    assert flipped.max() <= 1e-5 * truth[1].max() + 4
    assert ((value - truth[0]).abs() - MARGIN * flipped).max() <= 1e-5 * truth[0].max().clamp_min(1)


@every_mining
def test_ties__a_hinge_of_zero_is_not_active(mining: str) -> None:
    queries = torch.tensor([[1.0]])
    rows = torch.tensor([[3.0], [3.0], [1.0], [3.0], [3.0], [2.0]])
    labels = (torch.tensor([0]), torch.tensor([0, 0, 0, 1, 1, 1]))
    value, count = triplet_sum(queries, rows, labels=labels, margin=1.0, mining=mining)
    # The positives 3, 3 and 1 against the negatives 3, 3 and 2.
    expected = {"all": (4 * 1 + 2 * 3 + 2, 7), "semi-hard": (0, 0), "hardest": (3, 1)}[mining]
    assert (value.item(), count.item()) == expected


@every_mining
@pytest.mark.parametrize("kind", ["all", "everything", "nothing"])
def test_gradient__passes_gradcheck(kind: str, mining: str) -> None:
    queries, rows = unit(3, 3, 0).double().requires_grad_(), unit(12, 3, 1).double()
    keywords = {"labels": labels_of(3, 12), "margin": MARGIN, "mining": mining, "selection": selections(3, 12)[kind]}
    assert torch.autograd.gradcheck(lambda q: triplet_sum(q, rows, **keywords).value, (queries,))


@every_mining
def test_reference__learns_on_both_sides_and_twice(mining: str) -> None:
    queries, rows = unit(3, 3, 0).double().requires_grad_(), unit(12, 3, 1).double().requires_grad_()
    keywords = {"labels": labels_of(3, 12), "margin": MARGIN, "mining": mining, "impl": "reference"}

    def value(queries: Tensor, rows: Tensor) -> Tensor:
        return triplet_sum(queries, rows, **keywords, selection=selections(3, 12)["everything"]).value.square()

    assert torch.autograd.gradcheck(value, (queries, rows))
    assert torch.autograd.gradgradcheck(value, (queries, rows))


@pytest.mark.parametrize("mining", ["all", "semi-hard"])
@pytest.mark.parametrize("kind", KINDS)
def test_many_positives__queries_take_turns(monkeypatch: pytest.MonkeyPatch, kind: str, mining: str) -> None:
    def read() -> tuple[Tensor, ...]:
        queries = unit(9, 16, 0).double().requires_grad_()
        keywords = {"labels": labels_of(9, 900), "margin": MARGIN, "mining": mining}
        found = triplet_sum(queries, unit(900, 16, 1), **keywords, selection=selections(9, 900)[kind])
        found.value.sum().backward()
        return *found, queries.grad

    expected = read()
    for held in (1, 1000):
        monkeypatch.setattr(_triplet_sum, "_POSITIVES", held)
        torch.testing.assert_close(read(), expected)


@every_mining
@pytest.mark.parametrize("impl", ["auto", "reference"])
@pytest.mark.parametrize(("batch", "rows"), [(0, 5), (0, 0), (3, 0), (3, 1)])
def test_nothing_to_read__is_zero(batch: int, rows: int, impl: str, mining: str) -> None:
    queries = torch.randn(batch, 4).requires_grad_()
    labels = (torch.zeros(batch), torch.zeros(rows))
    value, count = triplet_sum(queries, torch.randn(rows, 4), labels=labels, margin=1.0, mining=mining, impl=impl)
    value.sum().backward()
    assert value.shape == count.shape == (batch,)
    assert not value.any()
    assert not count.any()
    assert not queries.grad.any()


class Largest(TorchDispatchMode):
    """Sees every tensor that is made, and keeps the size of the largest."""

    def __init__(self) -> None:
        super().__init__()
        self.nbytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for each in made if isinstance(made, tuple | list) else (made,):
            if isinstance(each, Tensor):
                self.nbytes = max(self.nbytes, each.untyped_storage().nbytes())
        return made


@pytest.mark.parametrize("mining", ["all", "semi-hard"])
@pytest.mark.parametrize("classes", [10, 1000])
def test_memory__no_tensor_of_rows_by_rows_nor_a_list_of_triplets(classes: int, mining: str) -> None:
    queries, rows = unit(64, 32, 0), unit(10_000, 32, 1)
    labels = (torch.arange(64) % classes, torch.arange(10_000) % classes)
    with Largest() as largest:
        _, count, _ = _triplet_sum.triplet_sum_blocked(queries, rows, labels, 0.1, mining == "semi-hard", Selection())
    assert count.sum() * 8 > 1 << 22  # what one index a triplet would take at least
    assert largest.nbytes < 8 << 20


def test_reference__holds_nothing_larger_than_the_matrix() -> None:
    queries, labels = unit(256, 16, 0).requires_grad_(), torch.arange(256) % 16
    with Largest() as largest:
        value = triplet_sum(queries, queries, labels=(labels, labels), margin=0.1, impl="reference").value
        value.sum().backward()
    assert largest.nbytes <= 8 * 256 * 257


@every_mining
def test_bank__gets_no_gradient_and_is_not_saved(mining: str) -> None:
    rows, queries = unit(300, 8, 1).requires_grad_(), unit(5, 8, 0).requires_grad_()
    saved: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, lambda t: t):
        value = triplet_sum(queries, rows, labels=labels_of(5, 300), margin=MARGIN, mining=mining).value
    value.sum().backward()
    assert rows.grad is None
    assert max(saved) <= queries.numel()


@pytest.mark.plain
def test_double_backward__refused_by_name() -> None:
    from torchbank.errors import BankStateError

    queries = unit(5, 8, 0).requires_grad_()
    value = triplet_sum(queries, unit(30, 8, 1), labels=labels_of(5, 30), margin=MARGIN).value
    (gradient,) = torch.autograd.grad(value.sum(), queries, create_graph=True)
    with pytest.raises(BankStateError, match="differentiated twice"):
        gradient.sum().backward()


@pytest.mark.plain
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mining": "hard"}, "mining='hard' is unknown; choose one of 'all', 'semi-hard', 'hardest'"),
        ({"impl": "magic"}, "impl='magic' is unknown"),
        ({"labels": (torch.zeros(2), torch.zeros(4))}, r"expected \(2,\) for the queries and \(5,\) for the rows"),
        ({"rows": torch.ones(5, 3)}, "dim 4 but the rows have dim 3"),
    ],
)
def test_bad_input__says_what_was_given(change: dict, message: str) -> None:
    from torchbank.errors import BankError

    arguments = {"queries": torch.ones(2, 4), "rows": torch.ones(5, 4), "labels": (torch.zeros(2), torch.zeros(5))}
    with pytest.raises(BankError, match=message):
        triplet_sum(**(arguments | {"margin": 0.1} | change))

"""Row selection in a user's words, against closed forms on the full matrix in float64."""

import math

import pytest
import torch
from bank_cases import push_as_on_device

import torchbank as tb
from torchbank.errors import BankKeyError, BankTypeError, BankValueError
from torchbank.reads import SCORE

FIELDS = {"label": torch.int64, "id": torch.int64, "box": (torch.float32, (4,))}


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def labels(n, classes, seed=1):
    return torch.randint(classes, (n,), generator=torch.Generator().manual_seed(seed))


def filled(kind=tb.MemoryBank, capacity=20, metric="cosine", dtype=torch.float32):
    """15 pushes of 2 rows; the ring has gone round, the keyed bank has gaps."""
    bank = kind(capacity, 8, fields=FIELDS, metric=metric, dtype=dtype)
    for step in range(15):
        row = torch.arange(2 * step, 2 * step + 2)
        keyed = {"keys": row % 13} if kind is tb.KeyedMemoryBank else {}
        bank.push(randn(2, 8, seed=step), label=labels(2, 3, step), id=row, box=torch.zeros(2, 4), **keyed)
    return bank


def oracle(bank, queries, kept=None, bias=None):
    """lse, readout, sum of scores, by float64 on every slot."""
    view = bank._slots_view()
    rows = view.embeddings.double()
    queries = queries.double()
    if bank.metric == "cosine":
        queries = torch.nn.functional.normalize(queries, dim=1)
    scores = queries @ rows.T
    mask = view.valid[None, :] & (torch.ones_like(scores, dtype=torch.bool) if kept is None else kept)
    beta = torch.zeros(len(rows)) if bias is None else bias
    logits = (5 * scores + beta).masked_fill(~mask, -torch.inf)
    weights = torch.nan_to_num(logits.softmax(dim=1))
    pairs = (scores * beta.exp()).masked_fill(~mask, 0).sum(dim=1)
    return logits.logsumexp(dim=1), weights @ rows, pairs, (scores + beta).masked_fill(~mask, -torch.inf)


def check(bank, kept=None, bias=None, **selection):
    queries = randn(4, 8, seed=99)
    lse, readout, pairs, scores = oracle(bank, queries, kept, bias)
    tolerance = {"rtol": 1e-4, "atol": 1e-5}
    found = bank.attend(queries, scale=5.0, **selection)
    torch.testing.assert_close(found.lse, lse.float(), **tolerance)
    torch.testing.assert_close(found.readout, readout.float(), **tolerance)
    torch.testing.assert_close(bank.pair_sum(queries, SCORE, **selection).value, pairs.float(), **tolerance)
    near = bank.nearest(queries, k=6, **selection)
    best, slots = scores.topk(6, dim=1)
    torch.testing.assert_close(near.scores, best.float(), **tolerance)
    assert torch.equal(near.slots, slots.masked_fill(best == -torch.inf, -1))


KINDS = [tb.MemoryBank, tb.KeyedMemoryBank, tb.ReservoirMemoryBank]


@pytest.fixture(params=KINDS)
def bank(request):
    return filled(request.param)


@pytest.mark.parametrize("metric", ["cosine", "dot"])
@pytest.mark.parametrize("kind", KINDS)
def test_reads__everything(kind, metric):
    check(filled(kind, metric=metric))
    check(filled(kind, capacity=50, metric=metric))


def test_reads__by_field(bank):
    ids, classes = torch.tensor([29, 28, 3, 0]), torch.tensor([0, 1, 2, 7])
    same_id = ids[:, None] == bank.fields["id"]
    same_label = classes[:, None] == bank.fields["label"]
    check(bank, ~same_id, exclude={"id": ids})
    check(bank, same_label, include={"label": classes})
    check(bank, same_label & ~same_id, include={"label": classes}, exclude={"id": ids})
    check(bank, ~(same_label & same_id), exclude={"label": classes, "id": ids})
    check(bank, ~(same_label | same_id), exclude=[{"label": classes}, {"id": ids}])
    check(bank, same_label | same_id, include=[{"label": classes}, {"id": ids}])


def test_reads__by_age(bank):
    age = (14 - bank.steps).double()
    decay = -math.log(2) * age / 3.5
    check(bank, (age <= 4)[None, :], max_age=4)
    check(bank, bias=decay, half_life=3.5)
    check(bank, (age <= 4)[None, :], decay, max_age=4, half_life=3.5)
    later = -math.log(2) * (age + 6) / 3.5
    check(bank, (age + 6 <= 12)[None, :], later, max_age=12, half_life=3.5, step=20)
    check(bank, (age + 6 <= 12)[None, :], later, max_age=12, half_life=3.5, step=torch.tensor(20))


def test_reads__by_bias(bank):
    bias = randn(bank.capacity, seed=5)
    bias[3] = -torch.inf
    kept = (bias != -torch.inf)[None, :]
    finite = bias.nan_to_num(neginf=0.0).double()
    queries = randn(4, 8, seed=99)
    lse, _, _, _ = oracle(bank, queries, kept, finite)
    torch.testing.assert_close(bank.attend(queries, scale=5.0, bias=bias).lse, lse.float(), rtol=1e-4, atol=1e-5)
    age = 14 - bank.steps
    lse, _, _, _ = oracle(bank, queries, kept & (age <= 5), finite)
    found = bank.attend(queries, scale=5.0, bias=bias, max_age=5).lse
    torch.testing.assert_close(found, lse.float(), rtol=1e-4, atol=1e-5)


def test_reads__bias_for_the_rows_there_are():
    bank = tb.MemoryBank(20, 8, metric="dot")
    bank.push(randn(7, 8))
    queries, bias = randn(3, 8, seed=9), randn(7, seed=5)
    found = bank.attend(queries, scale=1.0, bias=bias).lse
    torch.testing.assert_close(found, (queries @ bank.view().embeddings.T + bias).logsumexp(dim=1))


def test_pair_sum__labels_are_compared_with_the_field():
    bank = filled()
    queries, classes = randn(4, 8, seed=99), torch.tensor([0, 1, 2, 7])
    same = tb.reads.PairFunction(
        "score_of_the_same",
        value=lambda scores, same: scores * same,
        derivative=lambda scores, same: same.to(scores.dtype),
    )
    found = bank.pair_sum(queries, same, labels=classes)
    agree = classes[:, None] == bank.fields["label"]
    scores = torch.nn.functional.normalize(queries, dim=1) @ bank.embeddings.T
    torch.testing.assert_close(found.value, (scores * agree).sum(dim=1))
    assert found.count.tolist() == agree.sum(dim=1).tolist()


def test_triplet_sum__labels_are_compared_with_the_field():
    bank = filled()
    queries, classes = randn(4, 8, seed=99), torch.tensor([0, 1, 2, 7])
    found = bank.triplet_sum(queries, labels=classes, margin=0.5)
    scores = torch.nn.functional.normalize(queries, dim=1) @ bank.embeddings.T
    for line, label, value, count in zip(scores, classes, *found, strict=True):
        same = bank.fields["label"] == label
        hinges = (line[~same] - line[same][:, None] + 0.5).clamp_min(0)
        torch.testing.assert_close(value, hinges.sum())
        assert count == (hinges > 0).sum()


def test_nearest__euclidean_scores_are_negative_squared_distances():
    bank = tb.MemoryBank(9, 8, metric="euclidean")
    bank.push(randn(6, 8) + 1000)
    queries = randn(3, 8, seed=4) + 1000
    found = bank.nearest(queries, k=6)
    distances = torch.cdist(queries.double(), bank.view().embeddings.double()).square()
    best, slots = (-distances).topk(6, dim=1)
    torch.testing.assert_close(found.scores, best.float(), rtol=1e-4, atol=1e-4)
    assert torch.equal(found.slots, slots)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("asked", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_attend__normalizes_queries_in_full_precision(dtype, asked):
    bank = filled(dtype=dtype)
    queries = (100 * randn(4, 8, seed=99)).to(asked).requires_grad_()
    found = bank.attend(queries, scale=5.0).lse
    lse, _, _, _ = oracle(bank, queries.detach())
    torch.testing.assert_close(found, lse.to(found.dtype), rtol=1e-5, atol=1e-5)
    found.sum().backward()
    assert queries.grad.dtype == asked
    exact = queries.detach().double().requires_grad_()
    oracle(bank, exact)[0].sum().backward()
    torch.testing.assert_close(queries.grad, exact.grad.to(asked), rtol=2e-2, atol=1e-5)


def test_attend__survives_a_push_before_backward():
    gradients = []
    for overwrite in (False, True):
        bank = filled()
        queries = randn(4, 8, seed=99).requires_grad_()
        loss = bank.attend(queries, scale=5.0).lse.sum()
        if overwrite:
            bank.push(randn(30, 8, seed=77), label=labels(30, 3), id=labels(30, 9), box=torch.ones(30, 4))
        loss.backward()
        gradients.append(queries.grad)
    assert torch.equal(*gradients)


@pytest.mark.parametrize("kind", KINDS)
def test_reads__after_device_pushes_with_bad_rows(kind):
    bank = kind(6, 8, fields={}, metric="cosine")
    embeddings = randn(4, 8)
    embeddings[1] = 0
    keyed = {"keys": torch.arange(4)} if kind is tb.KeyedMemoryBank else {}
    push_as_on_device(bank, embeddings, **keyed)
    assert (len(bank), int(bank.rejected)) == (3, 1)
    check(bank)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("selection", "error", "message"),
    [
        (
            {"exclude": {"name": torch.zeros(4)}},
            BankKeyError,
            r"exclude needs the field 'name'; the fields here are: 'label', 'id', 'box'",
        ),
        (
            {"include": {"box": torch.zeros(4)}},
            BankValueError,
            r"include compares field 'box', whose rows have shape \(4,\)",
        ),
        ({"include": {"label": 3}}, BankTypeError, r"include compares field 'label' with a int; expected a tensor"),
        (
            {"exclude": {"id": torch.zeros(3)}},
            BankValueError,
            r"field 'id' with values of shape \(3,\); expected \(4,\), one a query",
        ),
        (
            {"exclude": {"id": torch.zeros(4, device="meta")}},
            BankValueError,
            r"'id' with values on meta; the queries are on cpu",
        ),
        ({"exclude": {}}, BankValueError, r"exclude holds an empty clause"),
        (
            {"bias": torch.zeros(3)},
            BankValueError,
            r"bias has shape \(3,\); expected \(5,\), one value a row, or \(20,\), one a slot",
        ),
        (
            {"bias": torch.zeros(5, dtype=torch.int64)},
            BankTypeError,
            r"bias is torch.int64; expected a floating tensor",
        ),
        ({"half_life": 0}, BankValueError, r"half_life is 0; expected more than 0"),
    ],
)
def test_reads__bad_selections(selection, error, message):
    bank = tb.MemoryBank(20, 8, fields=FIELDS)
    bank.push(randn(5, 8), label=labels(5, 3), id=torch.arange(5), box=torch.zeros(5, 4))
    for read in (lambda **s: bank.attend(randn(4, 8), scale=1.0, **s), lambda **s: bank.nearest(randn(4, 8), 2, **s)):
        with pytest.raises(error, match=message):
            read(**selection)


@pytest.mark.plain
def test_reads__bad_queries():
    bank = filled()
    with pytest.raises(BankValueError, match=r"queries has shape \(4, 7\); expected \(batch, 8\)"):
        bank.attend(randn(4, 7), scale=1.0)
    with pytest.raises(BankTypeError, match=r"queries has dtype torch.int64"):
        bank.nearest(torch.ones(4, 8, dtype=torch.int64), 2)
    with pytest.raises(BankValueError, match=r"queries is on meta and the bank on cpu; move one of them"):
        bank.nearest(torch.ones(4, 8, device="meta"), 2)
    with pytest.raises(BankKeyError, match=r"labels needs the field 'label'; the fields here are: none"):
        tb.MemoryBank(3, 8).pair_sum(randn(4, 8), SCORE, labels=labels(4, 2))
    euclidean = tb.MemoryBank(3, 8, metric="euclidean")
    with pytest.raises(BankValueError, match=r"attend needs a similarity; a euclidean bank has nearest only"):
        euclidean.attend(randn(4, 8), scale=1.0)
    with pytest.raises(BankValueError, match=r"pair_sum needs a similarity"):
        euclidean.pair_sum(randn(4, 8), SCORE)

"""What every loss promises, whatever its formula: gradients, precision, nothing to compare with, compiling."""

import shutil
import warnings
from functools import partial

import loss_oracles as oracle
import pytest
import torch

import torchbank as tb
from torchbank.losses import contrastive, distribution_match, info_nce, multi_similarity, nce, sup_con, triplet

CASE = oracle.make_case()
NOBODY = torch.full((oracle.ROWS,), -torch.inf)


def info_nce_of(queries, bank, labels, **keywords):
    # Representable in every dtype, so that only the queries are rounded.
    positives = CASE.positives[: len(queries)].to(torch.bfloat16).to(queries.dtype)
    return info_nce(queries, positives, bank, **keywords)


def contrastive_of(queries, bank, labels, **keywords):
    return contrastive(queries, bank, labels=labels, margin=0.1, **keywords)


def triplet_of(queries, bank, labels, **keywords):
    # A margin under which every query has triplets of each kind.
    return triplet(queries, bank, labels=labels, margin=0.7, **keywords)


def distribution_match_of(queries, bank, labels, *, blocks=None, temperature=0.1, **keywords):
    teacher = CASE.positives[: len(queries)].to(torch.bfloat16).to(queries.dtype)
    slots = None if blocks is None or not len(bank) else torch.arange(oracle.ROWS).view(blocks, -1)
    temperatures = {"student_temperature": temperature, "teacher_temperature": temperature / 2}
    return distribution_match(queries, teacher, bank, blocks=slots, **temperatures, **keywords)


def nce_of(queries, bank, labels, **keywords):
    positives = CASE.positives[: len(queries)].to(torch.bfloat16).to(queries.dtype)
    noise = torch.arange(len(bank)).repeat(2)
    return nce(queries, positives, bank, noise=noise, log_normalizer=1.0, **keywords)


# Each loss as a function of queries, bank and labels.
LOSSES = {
    "info_nce": info_nce_of,
    "info_nce_both": partial(info_nce_of, negatives="both"),
    "sup_con": lambda queries, bank, labels, **keywords: sup_con(queries, bank, labels=labels, **keywords),
    "contrastive_anchor": contrastive_of,
    "contrastive_active": partial(contrastive_of, normalize="active"),
    "triplet_all": partial(triplet_of, mining="all"),
    "triplet_semi_hard": partial(triplet_of, mining="semi-hard"),
    "triplet_hardest": partial(triplet_of, mining="hardest"),
    "multi_similarity": lambda queries, bank, labels, **keywords: multi_similarity(
        queries, bank, labels=labels, **keywords
    ),
    "distribution_match": distribution_match_of,
    "distribution_match_blocks": partial(distribution_match_of, blocks=3),
    "nce": nce_of,
}
OF_A_BANK_ONLY = {"distribution_match_blocks", "nce"}
every_loss = pytest.mark.parametrize("name", LOSSES)
every_batch_loss = pytest.mark.parametrize("name", [name for name in LOSSES if name not in OF_A_BANK_ONLY])
every_loss_of_bank_or_batch = pytest.mark.parametrize(
    ("name", "bank"),
    [
        pytest.param(name, bank, id=f"{name}-{side}")
        for name in LOSSES
        for side, bank in (("bank", CASE.bank), ("batch", None))
        if side == "bank" or name not in OF_A_BANK_ONLY
    ],
)


def value_and_gradient(name, queries, bank, labels, **keywords):
    queries = queries.detach().clone().requires_grad_()
    loss = LOSSES[name](queries, bank, labels, **keywords)
    loss.sum().backward()
    return loss.detach(), queries.grad


@every_loss_of_bank_or_batch
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_gradient__passes_gradcheck(name, bank, reduction):
    queries, labels = CASE.queries[:4].clone().requires_grad_(), CASE.labels[:4]
    torch.autograd.gradcheck(lambda q: LOSSES[name](q, bank, labels, reduction=reduction), (queries,))


@every_loss
def test_gradient__never_reaches_bank_rows(name):
    rows = oracle.unit(CASE.rows).requires_grad_()
    memory = tb.Rows(rows, metric="cosine", **CASE.fields)
    value_and_gradient(name, CASE.queries, memory, CASE.labels)
    assert rows.grad is None


@every_loss
def test_gradient__survives_the_bank_being_overwritten_before_backward(name):
    bank = oracle.make_case().bank
    expected = value_and_gradient(name, CASE.queries, bank, CASE.labels)[1]
    queries = CASE.queries.clone().requires_grad_()
    loss = LOSSES[name](queries, bank, CASE.labels)
    some = torch.zeros(oracle.ROWS, dtype=torch.int64)
    bank.push(torch.randn(oracle.ROWS, oracle.DIM), label=some, id=some, camera=some)
    loss.backward()
    torch.testing.assert_close(queries.grad, expected, rtol=0, atol=0)


@every_loss
def test_gradient__is_refused_a_second_time(name):
    queries = CASE.queries.clone().requires_grad_()
    loss = LOSSES[name](queries, CASE.bank, CASE.labels)
    (gradient,) = torch.autograd.grad(loss, queries, create_graph=True)
    with pytest.raises(tb.errors.BankStateError, match="twice"):
        gradient.square().sum().backward()


@every_batch_loss
def test_gradient__may_be_differentiated_over_the_batch(name):
    queries, labels = CASE.queries[:4].clone().requires_grad_(), torch.tensor([0, 1, 0, 1])
    torch.autograd.gradgradcheck(lambda q: LOSSES[name](q, None, labels), (queries,), atol=1e-4)


@every_loss_of_bank_or_batch
def test_autocast__changes_nothing(name, bank):
    queries = CASE.queries.float()
    expected = value_and_gradient(name, queries, bank, CASE.labels)
    inside = queries.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = LOSSES[name](inside, bank, CASE.labels)
    loss.backward()
    for ours, theirs in zip((loss.detach(), inside.grad), expected, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@every_loss_of_bank_or_batch
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_queries__get_half_gradients_of_a_float32_loss(name, bank, dtype):
    queries = CASE.queries.to(dtype)
    loss, gradient = value_and_gradient(name, queries, bank, CASE.labels)
    expected, expected_gradient = value_and_gradient(name, queries.float(), bank, CASE.labels)
    assert (loss.dtype, gradient.dtype) == (torch.float32, dtype)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient, expected_gradient.to(dtype), rtol=2e-2, atol=1e-3)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", [name for name in LOSSES if name != "nce"])
@pytest.mark.parametrize(
    ("bank", "keywords"),
    [
        (tb.MemoryBank(5, oracle.DIM, fields=dict.fromkeys(("label", "id"), torch.int64)), {}),
        (CASE.bank, {"bias": NOBODY}),
        (CASE.bank, {"max_age": 0, "step": 100}),
        (CASE.bank, {"include": {"id": torch.tensor([77])}}),
    ],
    ids=["empty", "bias", "age", "fields"],
)
def test_nothing_to_compare_with__is_zero_and_moves_nothing(name, reduction, bank, keywords):
    """A batch of one over nothing; but nce tells it from draws that are left out as well."""
    assert_nothing(name, bank, reduction=reduction, **keywords)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@every_batch_loss
def test_alone__is_zero_and_moves_nothing(name, reduction):
    """A batch of one and no bank: no negative and no positive anywhere."""
    assert_nothing(name, None, reduction=reduction)


def assert_nothing(name, bank, **keywords):
    loss, gradient = value_and_gradient(name, CASE.queries[:1], bank, torch.tensor([3]), **keywords)
    assert (loss == 0).all()
    assert (gradient == 0).all()


@every_loss
def test_some_masked__leaves_the_others_as_they_are(name):
    """Query 0 sees no row; the others see theirs."""
    cameras = torch.full((3, oracle.BATCH), 5)
    cameras[:, 0] = torch.arange(3)
    blind = {"exclude": [{"camera": row} for row in cameras], "reduction": "none"}
    loss, gradient = value_and_gradient(name, CASE.queries, CASE.bank, CASE.labels, **blind)
    assert torch.isfinite(gradient).all()
    if name not in ("info_nce_both", "nce"):
        assert loss[0] == 0
        assert (gradient[0] == 0).all()
    assert (gradient[1:-1].norm(dim=1) > 0).all()


@every_loss_of_bank_or_batch
def test_empty_batch__is_zero_and_supports_backward(name, bank):
    nobody = torch.zeros(0, dtype=torch.int64)
    for reduction in ("mean", "sum", "none"):
        loss, gradient = value_and_gradient(name, CASE.queries[:0], bank, nobody, reduction=reduction)
        assert loss.shape == ((0,) if reduction == "none" else ())
        assert loss.sum() == 0
        assert gradient.shape == (0, oracle.DIM)


@pytest.mark.parametrize("name", ["info_nce", "info_nce_both", "sup_con", "distribution_match", "nce"])
def test_temperature__extreme_logits_stay_finite(name):
    for temperature in (1e-3, 1e3):
        loss, gradient = value_and_gradient(name, CASE.queries.float(), CASE.bank, CASE.labels, temperature=temperature)
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient).all()


def graphs_of(backend, losses, sizes, side):
    """Batches of these sizes, each loss over bank or batch, a push after each; returns how many graphs that took."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    fields = dict.fromkeys(("label", "id"), torch.int64)
    bank, eager_bank = (tb.MemoryBank(50, oracle.DIM, fields=fields) for _ in range(2))

    def step(queries, labels, ids, bank):
        total = queries.new_zeros(())
        for loss in losses:
            total = total + loss(queries, bank if side == "bank" else None, labels, exclude={"id": ids})
        bank.push(queries, label=labels, id=ids)
        return total

    compiled = torch.compile(step, backend=backend, fullgraph=True)
    for i, size in enumerate(sizes):
        queries = torch.randn(size, oracle.DIM)
        labels, ids = torch.arange(size) % 3, torch.arange(size) + i
        ours, theirs = queries.clone().requires_grad_(), queries.clone().requires_grad_()
        loss, expected = compiled(ours, labels, ids, bank), step(theirs, labels, ids, eager_bank)
        loss.backward()
        expected.backward()
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(ours.grad, theirs.grad)
    torch.testing.assert_close(bank.ordered().embeddings, eager_bank.ordered().embeddings)
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


@pytest.mark.plain
@pytest.mark.parametrize(("side", "backend"), [("bank", "aot_eager"), ("batch", "eager")])
def test_compile__one_graph_a_shape_family(side, backend):
    # One graph for the first size, one with a symbolic batch for all others.
    losses = [LOSSES[name] for name in LOSSES if name not in {"info_nce_both", *OF_A_BANK_ONLY}]
    assert graphs_of(backend, losses, [4, 6, 5, 6, 7, 3], side) == 2


@pytest.mark.plain
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
def test_compile__inductor_agrees_with_eager():
    with warnings.catch_warnings():
        # Inductor's own, about itself.
        warnings.simplefilter("ignore")
        assert graphs_of("inductor", [LOSSES["info_nce"]], [6] * 3, "bank") == 1

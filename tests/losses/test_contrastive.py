"""contrastive against the sum over pairs, written out in float64."""

import loss_oracles as oracle
import pytest
import torch

import torchbank as tb
from torchbank.losses import contrastive, contrastive_pairs

MARGIN = 0.1
CASES = {metric: oracle.make_case(metric) for metric in ("cosine", "dot")}
SETTINGS = [setting.name for setting in CASES["cosine"].settings()]


@pytest.mark.parametrize("normalize", ["anchor", "active"])
@pytest.mark.parametrize("metric", ["cosine", "dot"])
@pytest.mark.parametrize("name", SETTINGS)
def test_bank__equals_the_closed_form_under_every_selection(name, metric, normalize):
    case = CASES[metric]
    setting = next(setting for setting in case.settings() if setting.name == name)
    queries = case.queries.clone().requires_grad_()
    loss = contrastive(
        queries,
        case.bank,
        labels=case.labels,
        margin=MARGIN,
        normalize=normalize,
        reduction="none",
        **setting.keywords,
    )
    weights = oracle.log_weights(setting, len(queries), len(case.rows))
    same = case.labels[:, None] == case.fields["label"]
    scores = oracle.unit(queries, metric) @ case.rows.T
    expected = oracle.contrastive(scores, same, weights, MARGIN, normalize)
    oracle.assert_same_with_gradients(loss, expected, queries)


@pytest.mark.parametrize("normalize", ["anchor", "active"])
@pytest.mark.parametrize("ids", [None, torch.tensor([0, 1, 2, 2, 3, 4, 3])])
def test_no_bank__equals_the_closed_form_on_both_sides(ids, normalize):
    queries = oracle.make_case().queries.requires_grad_()
    labels = torch.tensor([0, 0, 1, 1, 0, 1, 2])
    loss = contrastive(queries, None, labels=labels, ids=ids, margin=MARGIN, normalize=normalize, reduction="none")
    kept = ~torch.eye(len(labels), dtype=torch.bool)
    if ids is not None:
        kept &= ids[:, None] != ids
    weights = oracle.log_weights(oracle.Setting("batch", kept=kept), len(labels), len(labels))
    unit = oracle.unit(queries)
    expected = oracle.contrastive(unit @ unit.T, labels[:, None] == labels, weights, MARGIN, normalize)
    oracle.assert_same_with_gradients(loss, expected, queries)


@pytest.mark.parametrize("normalize", ["anchor", "active"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_reduction__is_that_of_the_values(reduction, normalize):
    case = CASES["cosine"]
    arguments = {"labels": case.labels, "margin": MARGIN, "normalize": normalize}
    values = contrastive(case.queries, case.bank, reduction="none", **arguments)
    loss = contrastive(case.queries, case.bank, reduction=reduction, **arguments)
    torch.testing.assert_close(loss, oracle.reduce(values, reduction))


def test_active__is_the_two_means_over_the_whole_batch():
    case = CASES["cosine"]
    loss = contrastive(case.queries, case.bank, labels=case.labels, margin=MARGIN, normalize="active")
    scores = oracle.unit(case.queries) @ case.rows.T
    same = case.labels[:, None] == case.fields["label"]
    active = ~same & (scores > MARGIN)
    torch.testing.assert_close(loss, (1 - scores[same]).mean() + (scores[active] - MARGIN).mean())


def test_anchor__jumps_by_the_margin_where_a_pair_becomes_active():
    memory = tb.Rows(torch.tensor([[1.0, 0.0]]), metric="dot", label=torch.tensor([1]))
    values = [
        contrastive(torch.tensor([[score, 0.0]]), memory, labels=torch.tensor([0])).item() for score in (0.4999, 0.5001)
    ]
    assert values == pytest.approx([0.0, 0.5001])


def test_memory_gradient__is_half_of_the_two_sided_one():
    """The batch as constants gives each pair's gradient once, the batch as itself twice."""
    case = oracle.make_case()
    queries = oracle.unit(case.queries).requires_grad_()
    labels = torch.tensor([0, 0, 1, 1, 0, 1, 2])
    ids = torch.arange(len(labels))
    both = torch.autograd.grad(contrastive(queries, None, labels=labels, margin=MARGIN), queries)[0]
    memory = tb.Rows(queries.detach(), metric="cosine", label=labels, id=ids)
    one = torch.autograd.grad(contrastive(queries, memory, labels=labels, ids=ids, margin=MARGIN), queries)[0]
    torch.testing.assert_close(one, both / 2)


def test_pairs__count_what_the_loss_sums():
    case = CASES["cosine"]
    pairs = contrastive_pairs(case.queries, case.bank, labels=case.labels, ids=case.ids, margin=MARGIN)
    scores = oracle.unit(case.queries) @ case.rows.T
    other = case.ids[:, None] != case.fields["id"]
    same = case.labels[:, None] == case.fields["label"]
    torch.testing.assert_close(pairs.positives.count, (same & other).sum(1).double())
    torch.testing.assert_close(pairs.negatives.count, (~same & other & (scores > MARGIN)).sum(1).double())
    for normalize in ("anchor", "active"):
        expected = contrastive(
            case.queries, case.bank, labels=case.labels, ids=case.ids, margin=MARGIN, normalize=normalize
        )
        torch.testing.assert_close(pairs.loss(normalize), expected, rtol=0, atol=0)


def test_duplicates__similarity_one_is_a_positive_unless_its_id_is_the_same():
    """The paper's code drops pairs by s < 1 - 1e-5; we drop them by id, so a genuine twin counts."""
    row = torch.nn.functional.normalize(torch.randn(1, 6), dim=1).to(torch.bfloat16)
    memory = tb.Rows(row.repeat(2, 1), metric="cosine", label=torch.tensor([3, 3]), id=torch.tensor([5, 6]))
    pairs = contrastive_pairs(row, memory, labels=torch.tensor([3]), ids=torch.tensor([5]))
    assert pairs.positives.count.tolist() == [1.0]


@pytest.mark.plain
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"labels": torch.zeros(3, dtype=torch.int64)}, ValueError, r"labels have shape \(3,\); expected \(7,\)"),
        ({"normalize": "pairs"}, ValueError, "normalize='pairs' is unknown; choose one of 'anchor', 'active'"),
        ({"reduction": "avg"}, ValueError, "reduction='avg' is unknown"),
        ({"include": [{"label": torch.zeros(7)}]}, ValueError, "include names the field 'label'"),
    ],
)
def test_bad_input__says_what_is_wrong(change, error, message):
    case = CASES["cosine"]
    with pytest.raises(error, match=message) as raised:
        contrastive(case.queries, case.bank, **({"labels": case.labels} | change))
    assert isinstance(raised.value, tb.errors.BankError)


@pytest.mark.plain
def test_euclidean_bank__is_refused():
    case = CASES["cosine"]
    bank = tb.MemoryBank(4, 6, fields={"label": torch.int64}, metric="euclidean")
    with pytest.raises(tb.errors.BankError, match="euclidean"):
        contrastive(case.queries, bank, labels=case.labels)

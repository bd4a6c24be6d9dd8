"""triplet against the whole float64 tensor of triplets."""

import loss_oracles as oracle
import pytest
import torch

import torchbank as tb
from torchbank.losses import triplet

MARGIN = 0.3
MININGS = ["all", "semi-hard", "hardest"]
CASES = {metric: oracle.make_case(metric) for metric in ("cosine", "dot")}
SETTINGS = [setting.name for setting in CASES["cosine"].settings()]
every_mining = pytest.mark.parametrize("mining", MININGS)


@every_mining
@pytest.mark.parametrize("metric", ["cosine", "dot"])
@pytest.mark.parametrize("name", SETTINGS)
def test_bank__equals_the_closed_form_under_every_selection(name, metric, mining):
    case = CASES[metric]
    setting = next(setting for setting in case.settings() if setting.name == name)
    queries = case.queries.clone().requires_grad_()
    keywords = {"margin": MARGIN, "mining": mining, "reduction": "none", **setting.keywords}
    loss = triplet(queries, case.bank, labels=case.labels, **keywords)
    weights = oracle.log_weights(setting, len(queries), len(case.rows))
    same = case.labels[:, None] == case.fields["label"]
    expected = oracle.triplet(oracle.unit(queries, metric) @ case.rows.T, same, weights, MARGIN, mining)
    oracle.assert_same_with_gradients(loss, expected, queries)
    assert loss[-1] == 0  # its label is nowhere in the bank


@every_mining
@pytest.mark.parametrize("ids", [None, torch.tensor([0, 1, 2, 2, 3, 4, 3])])
def test_no_bank__equals_the_closed_form_on_both_sides(ids, mining):
    queries = oracle.make_case().queries.requires_grad_()
    labels = torch.tensor([0, 0, 1, 1, 0, 1, 2])
    loss = triplet(queries, None, labels=labels, ids=ids, margin=MARGIN, mining=mining, reduction="none")
    kept = ~torch.eye(len(labels), dtype=torch.bool)
    if ids is not None:
        kept &= ids[:, None] != ids
    weights = oracle.log_weights(oracle.Setting("batch", kept=kept), len(labels), len(labels))
    unit = oracle.unit(queries)
    expected = oracle.triplet(unit @ unit.T, labels[:, None] == labels, weights, MARGIN, mining)
    oracle.assert_same_with_gradients(loss, expected, queries)
    assert loss[-1] == 0


@pytest.mark.parametrize("kind", [tb.KeyedMemoryBank, tb.ReservoirMemoryBank])
@every_mining
def test_every_bank__is_read_with_its_gaps(kind, mining):
    case = CASES["cosine"]
    bank = kind(40, oracle.DIM, fields={"label": torch.int64})
    keys = {"keys": torch.arange(0, 40, 3)} if kind is tb.KeyedMemoryBank else {}
    labels = case.fields["label"][:14]
    bank.push(case.rows[:14].float(), label=labels, **keys)
    rows = tb.Rows(case.rows[:14].float(), metric="cosine", label=labels)
    loss, expected = (triplet(case.queries, each, labels=case.labels, mining=mining) for each in (bank, rows))
    torch.testing.assert_close(loss, expected)


def test_ids__leave_own_copies_out_everywhere():
    case = CASES["cosine"]
    arguments = {"labels": case.labels, "reduction": "none"}
    with_ids = triplet(case.queries, case.bank, ids=case.ids, **arguments)
    by_hand = triplet(case.queries, case.bank, exclude={"id": case.ids}, **arguments)
    torch.testing.assert_close(with_ids, by_hand, rtol=0, atol=0)
    assert not torch.equal(with_ids, triplet(case.queries, case.bank, **arguments))


@every_mining
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_reduction__is_that_of_the_values(reduction, mining):
    case = CASES["cosine"]
    arguments = {"labels": case.labels, "margin": MARGIN, "mining": mining}
    values = triplet(case.queries, case.bank, reduction="none", **arguments)
    loss = triplet(case.queries, case.bank, reduction=reduction, **arguments)
    torch.testing.assert_close(loss, oracle.reduce(values, reduction))


@pytest.mark.parametrize("mining", ["all", "semi-hard"])
def test_loss__is_the_mean_over_active_triplets_one_by_one(mining):
    case = CASES["cosine"]
    scores = oracle.unit(case.queries) @ case.rows.T
    hinges = []
    for row, label in zip(scores.tolist(), case.labels.tolist(), strict=True):
        same = [score for score, other in zip(row, case.fields["label"].tolist(), strict=True) if other == label]
        rest = [score for score, other in zip(row, case.fields["label"].tolist(), strict=True) if other != label]
        hinges += [n - p + MARGIN for p in same for n in rest if mining == "all" or n < p]
    active = [hinge for hinge in hinges if hinge > 0]
    loss = triplet(case.queries, case.bank, labels=case.labels, margin=MARGIN, mining=mining)
    assert loss.item() == pytest.approx(sum(active) / len(active))


def test_memory_gradient__and_that_of_the_rows_are_the_two_sided_one():
    """A triplet of the batch moves query, positive and negative; the batch as constants moves the query only."""
    queries, labels = oracle.unit(oracle.make_case().queries), torch.tensor([0, 0, 1, 1, 0, 1, 2])
    rows, ids = queries.clone().requires_grad_(), torch.arange(len(labels))
    queries = queries.requires_grad_()
    (both,) = torch.autograd.grad(triplet(queries, None, labels=labels, margin=MARGIN), queries)
    memory = tb.Rows(rows, metric="cosine", label=labels, id=ids)
    sums = memory.triplet_sum(queries, labels=labels, margin=MARGIN, exclude={"id": ids}, impl="reference")
    parts = torch.autograd.grad(sums.value.sum() / sums.count.sum(), (queries, rows))
    on_sphere = parts[1] - (parts[1] * rows).sum(dim=1, keepdim=True) * rows
    torch.testing.assert_close(parts[0] + on_sphere, both)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"labels": torch.zeros(3, dtype=torch.int64)}, ValueError, r"labels have shape \(3,\); expected \(7,\)"),
        ({"mining": "hard"}, ValueError, "mining='hard' is unknown; choose one of 'all', 'semi-hard', 'hardest'"),
        ({"reduction": "avg"}, ValueError, "reduction='avg' is unknown"),
        ({"include": [{"label": torch.zeros(7)}]}, ValueError, "include names the field 'label'"),
    ],
)
def test_bad_input__says_what_is_wrong(change, error, message):
    case = CASES["cosine"]
    with pytest.raises(error, match=message) as raised:
        triplet(case.queries, case.bank, **({"labels": case.labels} | change))
    assert isinstance(raised.value, tb.errors.BankError)


@pytest.mark.plain
def test_bank__without_labels_or_euclidean_is_refused():
    case = CASES["cosine"]
    with pytest.raises(tb.errors.BankKeyError, match="label"):
        triplet(case.queries, tb.MemoryBank(4, 6), labels=case.labels)
    bank = tb.MemoryBank(4, 6, fields={"label": torch.int64}, metric="euclidean")
    with pytest.raises(tb.errors.BankError, match="euclidean"):
        triplet(case.queries, bank, labels=case.labels)

"""multi_similarity against its sums over mined pairs, written out in float64."""

import loss_oracles as oracle
import pytest
import torch

import torchbank as tb
from torchbank.losses import multi_similarity

CASES = {metric: oracle.make_case(metric) for metric in ("cosine", "dot")}
SETTINGS = [setting.name for setting in CASES["cosine"].settings()]


@pytest.mark.parametrize("epsilon", [0.1, -0.4, torch.inf])
@pytest.mark.parametrize("metric", ["cosine", "dot"])
@pytest.mark.parametrize("name", SETTINGS)
def test_bank__equals_the_closed_form_under_every_selection(name, metric, epsilon):
    case = CASES[metric]
    setting = next(setting for setting in case.settings() if setting.name == name)
    queries = case.queries.clone().requires_grad_()
    keywords = {"epsilon": epsilon, "reduction": "none", **setting.keywords}
    loss = multi_similarity(queries, case.bank, labels=case.labels, **keywords)
    weights = oracle.log_weights(setting, len(queries), len(case.rows))
    same = case.labels[:, None] == case.fields["label"]
    scores = oracle.unit(queries, metric) @ case.rows.T
    expected = oracle.multi_similarity(scores, same, weights, epsilon=epsilon)
    oracle.assert_same_with_gradients(loss, expected, queries)
    assert loss[-1] == 0  # its label is nowhere in the bank


@pytest.mark.parametrize("ids", [None, torch.tensor([0, 1, 2, 2, 3, 4, 3])])
def test_no_bank__equals_the_closed_form_on_both_sides(ids):
    queries = oracle.make_case().queries.requires_grad_()
    labels = torch.tensor([0, 0, 1, 1, 0, 1, 2])
    loss = multi_similarity(queries, None, labels=labels, ids=ids, reduction="none")
    kept = ~torch.eye(len(labels), dtype=torch.bool)
    if ids is not None:
        kept &= ids[:, None] != ids
    weights = oracle.log_weights(oracle.Setting("batch", kept=kept), len(labels), len(labels))
    unit = oracle.unit(queries)
    expected = oracle.multi_similarity(unit @ unit.T, labels[:, None] == labels, weights)
    oracle.assert_same_with_gradients(loss, expected, queries)
    assert loss[-1] == 0


@pytest.mark.parametrize("settings", [{"alpha": 1.0, "beta": 20.0}, {"base": 1.0}, {"alpha": 5.0, "base": -0.2}])
def test_settings__are_those_of_the_formula(settings):
    case = CASES["cosine"]
    queries = case.queries.clone().requires_grad_()
    loss = multi_similarity(queries, case.bank, labels=case.labels, reduction="none", **settings)
    same = case.labels[:, None] == case.fields["label"]
    weights = torch.zeros(same.shape, dtype=torch.float64)
    expected = oracle.multi_similarity(oracle.unit(queries) @ case.rows.T, same, weights, **settings)
    oracle.assert_same_with_gradients(loss, expected, queries)


@pytest.mark.parametrize("side", ["bank", "batch"])
@pytest.mark.parametrize("size", [1e-3, 30.0])
def test_large_scores__overflow_nowhere(size, side):
    """Products of some thousands, whose exponentials no float holds."""
    case = CASES["dot"]
    rows = size * case.rows.float()
    memory = tb.Rows(rows, metric="dot", label=case.fields["label"])
    queries = (size * case.queries.float()).requires_grad_()
    settings = {"beta": 1e4} if side == "batch" else {}
    bank, labels = (memory, case.labels) if side == "bank" else (None, torch.tensor([0, 0, 1, 1, 0, 1, 2]))
    loss = multi_similarity(queries, bank, labels=labels, reduction="none", **settings)
    (gradient,) = torch.autograd.grad(loss.sum(), queries)
    assert torch.isfinite(loss).all()
    assert torch.isfinite(gradient).all()
    if side == "bank":
        same = labels[:, None] == case.fields["label"]
        weights = torch.zeros(same.shape, dtype=torch.float64)
        expected = oracle.multi_similarity(queries.detach().double() @ rows.double().T, same, weights)
        torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)


def test_nothing_mined__is_zero_however_high_its_scores():
    """The negative scores far above the base and far below the positive, so neither is kept."""
    memory = tb.Rows(torch.tensor([[300.0], [200.0]]), metric="dot", label=torch.tensor([0, 1]))
    query = torch.ones(1, 1, requires_grad=True)
    loss = multi_similarity(query, memory, labels=torch.tensor([0]))
    loss.backward()
    assert loss == 0
    assert query.grad == 0


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_reduction__is_that_of_the_values(reduction):
    case = CASES["cosine"]
    values = multi_similarity(case.queries, case.bank, labels=case.labels, reduction="none")
    loss = multi_similarity(case.queries, case.bank, labels=case.labels, reduction=reduction)
    torch.testing.assert_close(loss, oracle.reduce(values, reduction))


def test_ids__leave_own_copies_out_everywhere():
    case = CASES["cosine"]
    arguments = {"labels": case.labels, "reduction": "none"}
    with_ids = multi_similarity(case.queries, case.bank, ids=case.ids, **arguments)
    by_hand = multi_similarity(case.queries, case.bank, exclude={"id": case.ids}, **arguments)
    torch.testing.assert_close(with_ids, by_hand, rtol=0, atol=0)
    assert not torch.equal(with_ids, multi_similarity(case.queries, case.bank, **arguments))


@pytest.mark.plain
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"labels": torch.zeros(3, dtype=torch.int64)}, ValueError, r"labels have shape \(3,\); expected \(7,\)"),
        ({"alpha": 0.0}, ValueError, r"alpha=0\.0; expected a number above 0"),
        ({"beta": -1.0}, ValueError, r"beta=-1\.0"),
        ({"reduction": "avg"}, ValueError, "reduction='avg' is unknown"),
        ({"include": {"label": torch.zeros(7)}}, ValueError, "include names the field 'label'"),
        ({"bias": [0.0]}, TypeError, "bias is list; expected a floating tensor"),
    ],
)
def test_bad_input__says_what_is_wrong(change, error, message):
    case = CASES["cosine"]
    with pytest.raises(error, match=message) as raised:
        multi_similarity(case.queries, case.bank, **({"labels": case.labels} | change))
    assert isinstance(raised.value, tb.errors.BankError)


@pytest.mark.plain
def test_bank__without_labels_is_refused():
    case = CASES["cosine"]
    with pytest.raises(tb.errors.BankKeyError, match="label"):
        multi_similarity(case.queries, tb.MemoryBank(4, 6), labels=case.labels)

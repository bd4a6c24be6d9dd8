"""sup_con against the log-probabilities of whole float64 matrices."""

import loss_oracles as oracle
import pytest
import torch

import torchbank as tb
from torchbank.losses import sup_con

CASES = {metric: oracle.make_case(metric) for metric in ("cosine", "dot")}
SETTINGS = [setting.name for setting in CASES["cosine"].settings()]


@pytest.mark.parametrize("metric", ["cosine", "dot"])
@pytest.mark.parametrize("name", SETTINGS)
def test_bank__equals_the_closed_form_under_every_selection(name, metric):
    case = CASES[metric]
    setting = next(setting for setting in case.settings() if setting.name == name)
    queries = case.queries.clone().requires_grad_()
    loss = sup_con(queries, case.bank, labels=case.labels, temperature=0.3, reduction="none", **setting.keywords)
    weights = oracle.log_weights(setting, len(queries), len(case.rows))
    same = case.labels[:, None] == case.fields["label"]
    expected = oracle.sup_con(oracle.unit(queries, metric) @ case.rows.T / 0.3, same, weights)
    oracle.assert_same_with_gradients(loss, expected, queries)
    assert loss[-1] == 0  # its label is nowhere in the bank


def test_ids__leave_own_copies_out_everywhere():
    case = CASES["cosine"]
    with_ids = sup_con(case.queries, case.bank, labels=case.labels, ids=case.ids, reduction="none")
    by_hand = sup_con(case.queries, case.bank, labels=case.labels, exclude={"id": case.ids}, reduction="none")
    torch.testing.assert_close(with_ids, by_hand, rtol=0, atol=0)
    assert not torch.equal(with_ids, sup_con(case.queries, case.bank, labels=case.labels, reduction="none"))


@pytest.mark.parametrize("ids", [None, torch.tensor([0, 1, 2, 2, 3, 4, 3])])
def test_no_bank__equals_the_closed_form_on_both_sides(ids):
    queries = oracle.make_case().queries.requires_grad_()
    labels = torch.tensor([0, 0, 1, 1, 0, 1, 2])
    loss = sup_con(queries, None, labels=labels, ids=ids, reduction="none")
    kept = ~torch.eye(len(labels), dtype=torch.bool)
    if ids is not None:
        kept &= ids[:, None] != ids
    weights = oracle.log_weights(oracle.Setting("batch", kept=kept), len(labels), len(labels))
    unit = oracle.unit(queries)
    expected = oracle.sup_con(unit @ unit.T / 0.1, labels[:, None] == labels, weights)
    oracle.assert_same_with_gradients(loss, expected, queries)
    assert loss[-1] == 0


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_reduction__is_that_of_the_values(reduction):
    case = CASES["cosine"]
    values = sup_con(case.queries, case.bank, labels=case.labels, reduction="none")
    loss = sup_con(case.queries, case.bank, labels=case.labels, reduction=reduction)
    torch.testing.assert_close(loss, oracle.reduce(values, reduction))


def test_one_positive__is_info_nce_with_that_row_as_positive():
    case = CASES["cosine"]
    rows = case.rows.float()
    labels = torch.arange(len(rows))
    memory = tb.Rows(rows, metric="cosine", label=labels)
    loss = sup_con(case.queries, memory, labels=labels[:7], temperature=0.2)
    own = {"label": labels[:7]}
    expected = tb.losses.info_nce(case.queries, rows[:7].double(), memory, temperature=0.2, exclude=own)
    torch.testing.assert_close(loss, expected)


def test_temperature__learns():
    case = CASES["cosine"]
    for bank in (case.bank, None):
        torch.autograd.gradcheck(
            lambda t, bank=bank: sup_con(case.queries, bank, labels=case.labels, temperature=t),
            (torch.tensor(0.3, dtype=torch.float64, requires_grad=True),),
        )


@pytest.mark.plain
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"labels": torch.zeros(3, dtype=torch.int64)}, ValueError, r"labels have shape \(3,\); expected \(7,\)"),
        ({"ids": torch.zeros(7, 1, dtype=torch.int64)}, ValueError, r"ids have shape \(7, 1\)"),
        ({"include": {"label": torch.zeros(7)}}, ValueError, "include names the field 'label'"),
        ({"temperature": -1.0}, ValueError, r"temperature=-1\.0"),
        ({"reduction": "avg"}, ValueError, "reduction='avg' is unknown"),
    ],
)
def test_bad_input__says_what_is_wrong(change, error, message):
    case = CASES["cosine"]
    with pytest.raises(error, match=message) as raised:
        sup_con(case.queries, case.bank, **({"labels": case.labels} | change))
    assert isinstance(raised.value, tb.errors.BankError)


@pytest.mark.plain
def test_bank_without_the_field__is_a_key_error():
    bank = tb.MemoryBank(4, 6, fields={"label": torch.int64})
    case = CASES["cosine"]
    with pytest.raises(tb.errors.BankKeyError, match="id"):
        sup_con(case.queries, bank, labels=case.labels, ids=case.ids)
    with pytest.raises(tb.errors.BankKeyError, match="label"):
        sup_con(case.queries, tb.MemoryBank(4, 6), labels=case.labels)

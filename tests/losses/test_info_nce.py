"""info_nce against the cross-entropy over whole float64 logits."""

import loss_oracles as oracle
import pytest
import torch

import torchbank as tb
from torchbank.losses import info_nce

TEMPERATURE = 0.2
CASES = {metric: oracle.make_case(metric) for metric in ("cosine", "dot")}
SETTINGS = [setting.name for setting in CASES["cosine"].settings()]


def leaves(case):
    return case.queries.clone().requires_grad_(), case.positives.clone().requires_grad_()


def assert_same_with_gradients(loss, expected, inputs, upstream):
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-9)
    ours = torch.autograd.grad(loss, inputs, upstream)
    theirs = torch.autograd.grad(expected, inputs, upstream)
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("metric", ["cosine", "dot"])
@pytest.mark.parametrize("name", SETTINGS)
def test_bank__equals_cross_entropy_under_every_selection(name, metric):
    case = CASES[metric]
    setting = next(setting for setting in case.settings() if setting.name == name)
    queries, positives = leaves(case)
    loss = info_nce(queries, positives, case.bank, temperature=TEMPERATURE, reduction="none", **setting.keywords)
    q, k = oracle.unit(queries, metric), oracle.unit(positives, metric)
    weights = oracle.log_weights(setting, len(q), len(case.rows))
    expected = oracle.info_nce((q * k).sum(1) / TEMPERATURE, q @ case.rows.T / TEMPERATURE, weights)
    assert_same_with_gradients(loss, expected, (queries, positives), torch.linspace(-1, 2, len(q)).double())


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_reduction__is_that_of_the_values(reduction):
    case = CASES["cosine"]
    values = info_nce(case.queries, case.positives, case.bank, reduction="none")
    loss = info_nce(case.queries, case.positives, case.bank, reduction=reduction)
    torch.testing.assert_close(loss, oracle.reduce(values, reduction))


@pytest.mark.parametrize("negatives", ["bank", "batch", "both"])
def test_no_bank__equals_in_batch_cross_entropy_on_both_sides(negatives):
    queries, positives = leaves(CASES["cosine"])
    loss = info_nce(queries, positives, None, temperature=TEMPERATURE, negatives=negatives, reduction="none")
    logits = oracle.unit(queries) @ oracle.unit(positives).T / TEMPERATURE
    expected = torch.nn.functional.cross_entropy(logits, torch.arange(len(logits)), reduction="none")
    assert_same_with_gradients(loss, expected, (queries, positives), torch.linspace(1, 2, len(logits)).double())


def test_batch_negatives__ignore_the_bank_but_keep_its_metric():
    case = CASES["dot"]
    loss = info_nce(case.queries, case.positives, case.bank, negatives="batch", reduction="none")
    logits = case.queries @ case.positives.T / 0.07
    expected = torch.nn.functional.cross_entropy(logits, torch.arange(len(logits)), reduction="none")
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("name", ["all", "exclude", "bias", "together"])
def test_both__is_one_softmax_over_bank_and_batch(name):
    case = CASES["cosine"]
    setting = next(setting for setting in case.settings() if setting.name == name)
    queries, positives = leaves(case)
    loss = info_nce(
        queries,
        positives,
        case.bank,
        temperature=TEMPERATURE,
        negatives="both",
        reduction="none",
        **setting.keywords,
    )
    q, k = oracle.unit(queries), oracle.unit(positives)
    others = ~torch.eye(len(q), dtype=torch.bool)
    in_batch = torch.zeros(len(q), len(q)).double().masked_fill(~others, -torch.inf)
    weights = torch.cat([oracle.log_weights(setting, len(q), len(case.rows)), in_batch], dim=1)
    logits = torch.cat([q @ case.rows.T, q @ k.T], dim=1) / TEMPERATURE
    expected = oracle.info_nce((q * k).sum(1) / TEMPERATURE, logits, weights)
    assert_same_with_gradients(loss, expected, (queries, positives), torch.linspace(-1, 2, len(q)).double())


def test_no_bank__excludes_the_same_image_by_id():
    case = CASES["cosine"]
    ids = torch.tensor([0, 0, 1, 2, 2, 2, 3])
    loss = info_nce(case.queries, case.positives, None, reduction="none", exclude={"id": ids})
    logits = oracle.unit(case.queries) @ oracle.unit(case.positives).T / 0.07
    setting = oracle.Setting("ids", kept=ids[:, None] != ids)
    expected = oracle.info_nce(logits.diagonal(), logits, oracle.log_weights(setting, len(ids), len(ids)))
    torch.testing.assert_close(loss, expected)


def test_temperature__learns():
    case = CASES["cosine"]
    for bank, negatives in ((case.bank, "bank"), (None, "batch"), (case.bank, "both")):
        temperature = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
        torch.autograd.gradcheck(
            lambda t, bank=bank, negatives=negatives: info_nce(
                case.queries, case.positives, bank, temperature=t, negatives=negatives
            ),
            (temperature,),
        )


def test_small_loss__keeps_its_digits():
    queries = torch.tensor([[1.0, 0.0]])
    bank = tb.Rows(torch.tensor([[-1.0, 0.0]]), metric="cosine")
    loss = info_nce(queries, queries, bank, temperature=0.1)
    assert loss.item() == pytest.approx(2.0611536e-09, rel=1e-5)  # log1p(exp(-20))


def test_gradient__moco_detached_positives_get_none():
    case = CASES["cosine"]
    queries, positives = leaves(case)
    info_nce(queries, positives.detach(), case.bank).backward()
    assert positives.grad is None
    assert queries.grad.norm() > 0


def test_no_bank__rows_have_no_age():
    case = CASES["cosine"]
    plain = info_nce(case.queries, case.positives, None)
    aged = info_nce(case.queries, case.positives, None, max_age=0, half_life=1.0, step=100)
    torch.testing.assert_close(aged, plain, rtol=0, atol=0)


@pytest.mark.plain
def test_row_selection__a_misspelt_keyword_is_an_error():
    case = CASES["cosine"]
    for bank in (case.bank, None):
        with pytest.raises(TypeError, match="exlude"):
            info_nce(case.queries, case.positives, bank, exlude={"id": case.ids})


@pytest.mark.plain
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"positives": torch.zeros(6, 6)}, ValueError, r"positives have shape \(6, 6\); expected \(7, 6\)"),
        ({"queries": torch.zeros(7)}, ValueError, r"queries have shape \(7,\); expected \(batch, dim\)"),
        ({"positives": torch.zeros(7, 6, dtype=torch.int64)}, TypeError, r"positives have dtype torch\.int64"),
        ({"temperature": 0.0}, ValueError, r"temperature=0\.0; expected a number above 0"),
        ({"temperature": float("nan")}, ValueError, "temperature=nan"),
        ({"temperature": torch.ones(2)}, ValueError, r"temperature has shape \(2,\)"),
        ({"negatives": "queue"}, ValueError, "negatives='queue' is unknown; choose one of 'bank', 'batch', 'both'"),
        ({"reduction": "avg"}, ValueError, "reduction='avg' is unknown"),
        ({"bank": None, "exclude": {"id": torch.arange(3)}}, ValueError, r"shape \(3,\)"),
    ],
)
def test_bad_input__says_what_is_wrong(change, error, message):
    case = CASES["cosine"]
    arguments = {"queries": case.queries, "positives": case.positives, "bank": case.bank} | change
    with pytest.raises(error, match=message) as raised:
        info_nce(arguments.pop("queries"), arguments.pop("positives"), arguments.pop("bank"), **arguments)
    assert isinstance(raised.value, tb.errors.BankError)


def test_precision__fast_stays_near_exact() -> None:
    bank = tb.MemoryBank(512, 64, dtype=torch.bfloat16)
    bank.push(torch.randn(512, 64, generator=torch.Generator().manual_seed(0)))
    queries = torch.randn(20, 64, generator=torch.Generator().manual_seed(1))
    exact = tb.losses.info_nce(queries, queries, bank, reduction="none")
    fast = tb.losses.info_nce(queries, queries, bank, reduction="none", precision="fast")
    torch.testing.assert_close(fast, exact, atol=0.05, rtol=0.05)

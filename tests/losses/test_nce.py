"""nce against the probabilities of the paper, written out in float64."""

import math

import loss_oracles as oracle
import pytest
import torch

import torchbank as tb
from torchbank.losses import nce, nce_log_normalizer

TEMPERATURE = 0.3
CASES = {metric: oracle.make_case(metric) for metric in ("cosine", "dot")}
CASE = CASES["cosine"]
NOISE = torch.tensor([4, 4, 0, 29, 17, 8, 11, 23, 5])
LOG_NORMALIZER = 0.7  # of Z / n
SETTINGS = [setting.name for setting in CASE.settings()]


def written_out(queries, positives, rows, kept):
    """(batch,) losses from h(x) = P(x) / (P(x) + m / n) with n = ROWS and Z = n exp(LOG_NORMALIZER)."""
    n, m = oracle.ROWS, len(NOISE)
    z = n * math.exp(LOG_NORMALIZER)

    def h(scores):
        p = (scores / TEMPERATURE).exp() / z
        return p / (p + m / n)

    noise = kept * (1 - h(queries @ rows[NOISE].T)).log()
    return -h((queries * positives).sum(1)).log() - noise.sum(1)


@pytest.mark.parametrize("metric", ["cosine", "dot"])
@pytest.mark.parametrize("name", SETTINGS)
def test_bank__equals_the_papers_formula_under_every_selection(name, metric):
    case = CASES[metric]
    setting = next(setting for setting in case.settings() if setting.name == name)
    queries, positives = case.queries.clone().requires_grad_(), case.positives.clone().requires_grad_()
    loss = nce(
        queries,
        positives,
        case.bank,
        noise=NOISE,
        log_normalizer=LOG_NORMALIZER,
        temperature=TEMPERATURE,
        reduction="none",
        **setting.keywords,
    )
    kept = oracle.log_weights(setting, oracle.BATCH, oracle.ROWS)[:, NOISE].exp()
    expected = written_out(oracle.unit(queries, metric), oracle.unit(positives, metric), case.rows, kept)
    torch.testing.assert_close(loss, expected, rtol=1e-7, atol=1e-7)
    upstream = torch.linspace(-1, 2, len(expected)).double()
    ours = torch.autograd.grad(loss, (queries, positives), upstream)
    theirs = torch.autograd.grad(expected, (queries, positives), upstream)
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-7, atol=1e-7)


def test_log_normalizer__is_the_papers_estimate():
    estimate = nce_log_normalizer(CASE.queries, CASE.bank, noise=NOISE, temperature=TEMPERATURE)
    scores = oracle.unit(CASE.queries) @ CASE.rows[NOISE].T
    z = oracle.ROWS / len(NOISE) * (scores / TEMPERATURE).exp().sum(1).mean()
    torch.testing.assert_close(estimate, (z / oracle.ROWS).log())
    assert not estimate.requires_grad


def test_log_normalizer__of_all_rows_is_exact():
    everything = torch.arange(oracle.ROWS)
    estimate = nce_log_normalizer(CASE.queries[:1], CASE.bank, noise=everything, temperature=TEMPERATURE)
    exact = CASE.bank.attend(CASE.queries[:1], scale=1 / TEMPERATURE).lse[0] - math.log(oracle.ROWS)
    torch.testing.assert_close(estimate, exact)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_reduction__is_that_of_the_values(reduction):
    arguments = {"noise": NOISE, "log_normalizer": torch.tensor(LOG_NORMALIZER)}
    values = nce(CASE.queries, CASE.positives, CASE.bank, reduction="none", **arguments)
    loss = nce(CASE.queries, CASE.positives, CASE.bank, reduction=reduction, **arguments)
    torch.testing.assert_close(loss, oracle.reduce(values, reduction))


def test_extreme_logits__stay_finite():
    queries = CASE.queries.float().requires_grad_()
    for constant in (-1e4, 0.0, 1e4):
        loss = nce(queries, CASE.rows[:7].float(), CASE.bank, noise=NOISE, log_normalizer=constant, temperature=1e-3)
        (gradient,) = torch.autograd.grad(loss, queries)
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient).all()


def test_no_noise__leaves_nothing_to_tell_apart():
    queries = CASE.queries.clone().requires_grad_()
    loss = nce(queries, CASE.positives, CASE.bank, noise=NOISE[:0], log_normalizer=LOG_NORMALIZER)
    loss.backward()
    assert loss == 0
    assert (queries.grad == 0).all()


@pytest.mark.plain
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"positives": torch.zeros(3, 6)}, ValueError, r"positives have shape \(3, 6\)"),
        ({"noise": torch.tensor([99])}, ValueError, "slots holds 99"),
        ({"noise": torch.tensor([0.5])}, TypeError, "int64"),
        ({"log_normalizer": torch.zeros(2)}, ValueError, r"log_normalizer has shape \(2,\)"),
        ({"temperature": 0.0}, ValueError, r"temperature=0\.0"),
        ({"reduction": "avg"}, ValueError, "reduction='avg' is unknown"),
    ],
)
def test_bad_input__says_what_is_wrong(change, error, message):
    arguments = {"queries": CASE.queries, "positives": CASE.positives, "bank": CASE.bank}
    arguments |= {"noise": NOISE, "log_normalizer": LOG_NORMALIZER} | change
    with pytest.raises(error, match=message) as raised:
        nce(**arguments)
    assert isinstance(raised.value, tb.errors.BankError)


@pytest.mark.plain
def test_log_normalizer__of_nothing_is_refused():
    with pytest.raises(ValueError, match="0 queries and 9 noise rows"):
        nce_log_normalizer(CASE.queries[:0], CASE.bank, noise=NOISE)

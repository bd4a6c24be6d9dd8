"""The probe against closed cases and against the optimum, found in float64 by Newton's method."""

import pytest
import torch

from torchbank import evaluation
from torchbank.encoders import Encoded
from torchbank.errors import BankValueError
from torchbank.evaluation import _logistic_regression
from torchbank.evaluation._logistic_regression import PrincipalAxes, fit_logistic_regression


def blobs(n, classes, *, dim=12, seed=0, spread=1.0):
    """Noisy classes; the features are correlated, of very different lengths, and far from zero."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dim, dim, generator=torch.Generator().manual_seed(99)) * torch.logspace(0, -3, dim)
    labels = torch.arange(n) % classes
    centers = torch.randn(classes, dim, generator=torch.Generator().manual_seed(98))
    latent = centers[labels] + spread * torch.randn(n, dim, generator=generator)
    return Encoded(latent @ mixing + 5, labels, torch.arange(n))


def objective(features, labels, weight, bias, weight_decay):
    loss = torch.nn.functional.cross_entropy(features @ weight + bias, labels)
    return loss + weight_decay / 2 * weight.square().sum()


def optimum(features, labels, classes, weight_decay):
    """Newton's method in float64 on weights and bias at once; a tiny penalty pins the common shift of the biases."""
    rows = torch.cat([features.double(), torch.ones(len(features), 1, dtype=torch.float64)], dim=1)
    targets = torch.nn.functional.one_hot(labels, classes).double()
    decay = torch.full((rows.shape[1], classes), weight_decay, dtype=torch.float64)
    decay[-1] = 1e-9
    parameters = torch.zeros_like(decay)
    for _ in range(30):
        p = (rows @ parameters).softmax(dim=1)
        gradient = rows.T @ (p - targets) / len(rows) + decay * parameters
        curvature = p[:, :, None] * torch.eye(classes, dtype=torch.float64) - p[:, :, None] * p[:, None]
        hessian = torch.einsum("ni,nj,nab->iajb", rows, rows, curvature).flatten(2).flatten(0, 1) / len(rows)
        step = torch.linalg.solve(hessian + decay.flatten().diag(), gradient.flatten())
        parameters = parameters - step.view_as(parameters)
    assert gradient.norm() < 1e-9
    return float(objective(features.double(), labels, parameters[:-1], parameters[-1], weight_decay))


@pytest.mark.parametrize("weight_decay", [1e-1, 1e-3, 1e-5])
@pytest.mark.parametrize("classes", [2, 5])
def test_logistic_regression__reaches_the_optimum(classes, weight_decay):
    # Close classes, so that no weight decay leads to hard decisions, where Newton's plain steps would overshoot.
    train = blobs(300, classes, spread=2.0)
    axes = PrincipalAxes.of(train.embeddings)
    rows = axes(train.embeddings)
    found = fit_logistic_regression(
        rows, train.labels, variances=axes.variances, classes=classes, weight_decay=weight_decay
    )
    weight, bias = (part.double().requires_grad_() for part in found)
    loss = objective(rows.double(), train.labels, weight, bias, weight_decay)
    gradients = torch.autograd.grad(loss, (weight, bias))
    assert max(float(gradient.abs().max()) for gradient in gradients) < 1e-4
    standardised = (train.embeddings - train.embeddings.mean(0)) / train.embeddings.std(0, correction=0)
    # The axes are turned, which changes neither the fit nor the penalty.
    assert float(loss.detach()) == pytest.approx(optimum(standardised, train.labels, classes, weight_decay), abs=2e-6)


def test_logistic_regression__is_the_same_in_any_block_size_and_from_any_start(monkeypatch):
    train = blobs(200, 4)
    axes = PrincipalAxes.of(train.embeddings)
    options = {"variances": axes.variances, "classes": 4, "weight_decay": 1e-2}
    rows = axes(train.embeddings)
    whole = fit_logistic_regression(rows, train.labels, **options)
    monkeypatch.setattr(_logistic_regression, "BLOCK_LOGITS", 60)
    start = fit_logistic_regression(rows, train.labels, **(options | {"weight_decay": 1.0}))
    blocked = fit_logistic_regression(rows, train.labels, **options, start=start)
    torch.testing.assert_close(blocked.weight, whole.weight, rtol=0, atol=1e-2)


def test_principal_axes__standardise_and_turn():
    train = blobs(500, 3)
    axes = PrincipalAxes.of(train.embeddings)
    rows = axes(train.embeddings)
    covariance = rows.T @ rows / len(rows)
    torch.testing.assert_close(covariance, torch.diag(axes.variances), rtol=0, atol=1e-2)
    assert float(axes.variances.sum()) == pytest.approx(12, abs=1e-3)


def test_linear_probe__separable_classes_are_read_off():
    train, test = blobs(300, 5, spread=0.01), blobs(200, 5, spread=0.01, seed=1)
    assert evaluation.linear_probe(train, test).accuracy == 1.0


def test_linear_probe__labels_without_a_pattern_are_guessed():
    train, test = blobs(1_000, 2), blobs(1_000, 2, seed=1)
    noise = [
        part._replace(labels=torch.randint(0, 2, (1_000,), generator=torch.Generator().manual_seed(seed)))
        for seed, part in enumerate((train, test))
    ]
    scores = evaluation.linear_probe(*noise)
    assert abs(scores.accuracy - 0.5) < 0.06


def test_linear_probe__scale_and_offset_of_a_feature_do_not_matter():
    train, test = blobs(300, 4), blobs(300, 4, seed=1)
    scale = torch.logspace(-3, 3, 12)
    moved = [part._replace(embeddings=part.embeddings * scale + 2 * scale) for part in (train, test)]
    accuracies = [evaluation.linear_probe(*pair, weight_decays=1e-2).accuracy for pair in ((train, test), moved)]
    assert accuracies[0] == pytest.approx(accuracies[1], abs=0.01)


def test_linear_probe__dead_features_do_no_harm():
    train, test = blobs(300, 4), blobs(300, 4, seed=1)
    padded = [
        part._replace(embeddings=torch.cat([part.embeddings, torch.full((300, 3), 7.0)], dim=1))
        for part in (train, test)
    ]
    # Even where a dead feature comes to life in the test rows.
    padded[1].embeddings[:, -1] = 1e6
    accuracies = [evaluation.linear_probe(*pair, weight_decays=1e-2).accuracy for pair in ((train, test), padded)]
    assert accuracies[0] == pytest.approx(accuracies[1], abs=0.01)


def test_linear_probe__repeats_itself_and_draws_nothing():
    train, test = blobs(100, 4, spread=2.0), blobs(100, 4, spread=2.0, seed=1)
    state = torch.random.get_rng_state()
    assert evaluation.linear_probe(train, test, seed=3) == evaluation.linear_probe(train, test, seed=3)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_linear_probe__weight_decay_is_chosen_without_the_test_rows():
    train, test = blobs(120, 4, spread=2.0), blobs(100, 4, spread=2.0, seed=1)
    chosen = evaluation.linear_probe(train, test).weight_decay
    assert chosen in evaluation.WEIGHT_DECAYS
    shuffled = test._replace(labels=test.labels.flip(0))
    assert evaluation.linear_probe(train, shuffled).weight_decay == chosen
    assert evaluation.linear_probe(train, test, weight_decays=chosen) == evaluation.linear_probe(train, test)


def test_linear_probe__few_noisy_rows_want_a_large_weight_decay():
    few = blobs(24, 2, dim=12, spread=6.0)
    test = blobs(500, 2, dim=12, spread=6.0, seed=1)
    assert evaluation.linear_probe(few, test).weight_decay > 1e-3


def test_linear_probe__one_row_a_class_leaves_nothing_to_choose_by():
    train, test = blobs(4, 4, spread=0.1), blobs(40, 4, spread=0.1, seed=1)
    scores = evaluation.linear_probe(train, test)
    assert scores == evaluation.linear_probe(train, test, weight_decays=0.1)
    assert scores.accuracy > 0.8


def test_low_shot__is_a_probe_on_the_rows_of_low_shot_rows():
    train, test = blobs(1_000, 4), blobs(200, 4, seed=1)
    rows = evaluation.low_shot_rows(train.labels, fraction=0.1, seed=5)
    few = Encoded(*(part[rows] for part in train))
    scores = evaluation.low_shot(train, test, fraction=0.1, seed=5)
    assert scores == evaluation.linear_probe(few, test, seed=5)
    assert scores.train_rows == 100


TRAIN, TEST = blobs(30, 3), blobs(9, 3, seed=1)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("train", "test", "options", "message"),
    [
        (TRAIN._replace(labels=torch.zeros(30).long()), TEST, {}, "30 training rows have 1 class"),
        (TRAIN, TEST._replace(labels=TEST.labels + 1), {}, "1 of 3 test classes"),
        (TRAIN, TEST, {"weight_decays": 0.0}, r"weight_decays is \(0.0,\)"),
        (TRAIN, TEST, {"weight_decays": ()}, r"weight_decays is \(\)"),
        (TRAIN, TEST._replace(embeddings=TEST.embeddings * torch.nan), {}, "9 of 9 test embeddings are not finite,"),
    ],
)
def test_linear_probe__refuses(train, test, options, message):
    with pytest.raises(BankValueError, match=message):
        evaluation.linear_probe(train, test, **options)

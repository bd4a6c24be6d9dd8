"""Average precision is scikit-learn's, and a probe of separable labels is perfect."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from torchbank.errors import BankValueError
from torchbank.evaluation import average_precision, multi_label_probe


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=40))
def test_average_precision__is_that_of_scikit_learn(rows):
    scores = torch.tensor([float(score) for score, _ in rows])
    wanted = torch.tensor([want for _, want in rows])
    if wanted.any():
        expected = average_precision_score(wanted.numpy(), scores.numpy())
        assert average_precision(scores, wanted) == pytest.approx(expected)


def test_probe__finds_labels_that_a_plane_parts_and_skips_those_nobody_has():
    generator = torch.Generator().manual_seed(0)
    labels = torch.rand(300, 4, generator=generator) < 0.3
    labels[:, 3] = False
    features = torch.cat([labels.float(), torch.randn(300, 2, generator=generator)], dim=1)
    scores = multi_label_probe(features[:200], labels[:200], features[200:], labels[200:])
    assert scores.average_precisions == (pytest.approx(1.0), pytest.approx(1.0), pytest.approx(1.0), None)
    assert scores.mean_average_precision == pytest.approx(1.0)
    assert scores.train_rows == 200


def test_probe__of_noise_is_near_the_share_of_the_label():
    generator = torch.Generator().manual_seed(1)
    labels = torch.rand(2_000, 1, generator=generator) < 0.2
    noise = torch.randn(2_000, 5, generator=generator)
    scores = multi_label_probe(noise[:1_000], labels[:1_000], noise[1_000:], labels[1_000:])
    assert scores.mean_average_precision == pytest.approx(0.2, abs=0.06)


@pytest.mark.plain
def test_probe__refuses_what_cannot_be_scored():
    rows, labels = torch.eye(4), torch.zeros(4, 2, dtype=torch.bool)
    with pytest.raises(BankValueError, match="there is nothing to score"):
        multi_label_probe(rows, labels, rows, labels)
    with pytest.raises(BankValueError, match="of as many labels"):
        multi_label_probe(rows, labels, rows, labels[:, :1])
    with pytest.raises(BankValueError, match="weight_decay is 0"):
        multi_label_probe(rows, labels, rows, labels, weight_decay=0)
    with pytest.raises(BankValueError, match="one wanted row or more"):
        average_precision(torch.ones(3), torch.zeros(3, dtype=torch.bool))

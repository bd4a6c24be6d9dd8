"""Label audit and near-duplicates, against their definitions in plain Python."""

import numpy as np
import pytest
import torch

from torchbank import evaluation
from torchbank.errors import BankTypeError, BankValueError


def labelled(n=60, classes=9, seed=0):
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(n, 6, generator=generator, dtype=torch.float64)
    return embeddings, 10 * torch.randint(0, classes, (n,), generator=generator)


def test_audit_labels__equals_the_means():
    embeddings, labels = labelled()
    labels[7] = 999  # alone in its class
    audit = evaluation.audit_labels(embeddings, labels)
    rows = (embeddings / embeddings.norm(dim=1, keepdim=True)).numpy()
    own, other = [], []
    for row in range(60):
        means = {
            label: np.mean([rows[row] @ rows[i] for i in range(60) if i != row and labels[i] == label])
            for label in set(labels.tolist())
            if label != labels[row] or (labels == label).sum() > 1
        }
        own.append(means.pop(int(labels[row]), np.nan))
        best = max(means, key=means.get)
        other.append(means[best])
        assert audit.other_label[row] == best
    np.testing.assert_allclose(audit.own, own, rtol=0, atol=1e-12)
    np.testing.assert_allclose(audit.other, other, rtol=0, atol=1e-6)
    order = sorted((row for row in range(60) if row != 7), key=lambda row: own[row] - other[row])
    assert audit.ranking.tolist() == order


def test_audit_labels__finds_rows_that_were_given_another_label():
    generator = torch.Generator().manual_seed(0)
    true = torch.arange(40).repeat_interleave(10)
    embeddings = torch.randn(40, 32, generator=generator)[true] + 0.5 * torch.randn(400, 32, generator=generator)
    wrong = torch.randperm(400, generator=generator)[:40]
    labels = true.clone()
    labels[wrong] = (true[wrong] + torch.randint(1, 40, (40,), generator=generator)) % 40
    audit = evaluation.audit_labels(embeddings, labels)
    assert set(audit.ranking[:40].tolist()) == set(wrong.tolist())
    assert torch.equal(audit.other_label[wrong], true[wrong])


@pytest.mark.parametrize("similarity", [-1.0, 0.5, 0.8])
def test_near_duplicates__equals_all_pairs(similarity):
    embeddings, ids = labelled(n=40, classes=30, seed=2)
    found = evaluation.near_duplicates(embeddings, ids, similarity=similarity, neighbors=40)
    unit = embeddings / embeddings.norm(dim=1, keepdim=True)
    cosines = unit @ unit.T
    expected = {
        (i, j): cosines[i, j].item()
        for i in range(40)
        for j in range(i + 1, 40)
        if ids[i] != ids[j] and cosines[i, j] >= similarity
    }
    pairs = list(zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert set(pairs) == set(expected)
    assert len(pairs) == len(expected)
    np.testing.assert_allclose(found.similarity, [expected[pair] for pair in pairs], rtol=0, atol=1e-6)
    assert found.similarity.tolist() == sorted(found.similarity.tolist(), reverse=True)


def test_near_duplicates__a_row_with_many_is_found_from_them():
    # Ten copies of one row: each sees five of them, and all pairs with the first row are found by some side.
    embeddings = torch.cat([torch.ones(11, 4), torch.eye(4)[:1]])
    found = evaluation.near_duplicates(embeddings, torch.arange(12), similarity=0.99)
    assert set(found.first.tolist()) | set(found.second.tolist()) == set(range(11))


def test_near_duplicates__none_where_nothing_is_alike():
    found = evaluation.near_duplicates(torch.eye(4), torch.arange(4), similarity=0.5)
    assert [len(part) for part in found] == [0, 0, 0]


@pytest.mark.plain
def test_audit__refuses():
    with pytest.raises(BankValueError, match="the 3 rows have 1 class"):
        evaluation.audit_labels(torch.eye(3), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(BankTypeError, match=r"labels torch\.float32"):
        evaluation.near_duplicates(torch.eye(3), torch.zeros(3), similarity=0.5)
    with pytest.raises(BankValueError, match="3 of 3 embeddings are not finite or zero"):
        evaluation.audit_labels(torch.zeros(3, 3), torch.arange(3))

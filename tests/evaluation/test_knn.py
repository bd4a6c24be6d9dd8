"""Weighted k-NN against its definition in plain Python."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torchbank import evaluation
from torchbank.encoders import Encoded
from torchbank.errors import BankTypeError, BankValueError


def features(n, classes, *, dim=8, seed=0, offset=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes + offset
    return Encoded(torch.randn(n, dim, generator=generator), labels, torch.arange(n))


def slow_knn(train, test, ks, temperature):
    """One test row and one vote at a time, in float64."""
    rows, queries = (part.embeddings.double().numpy() for part in (train, test))
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    right = dict.fromkeys(ks, 0)
    for query, label in zip(queries, test.labels.tolist(), strict=True):
        scores = rows @ (query / np.linalg.norm(query))
        nearest = sorted(range(len(rows)), key=lambda row: -scores[row])
        for k in ks:
            votes = {}
            for row in nearest[:k]:
                votes[int(train.labels[row])] = votes.get(int(train.labels[row]), 0.0) + math.exp(
                    scores[row] / temperature
                )
            right[k] += max(votes, key=votes.get) == label
    return {k: count / len(test.labels) for k, count in right.items()}


@given(
    n=st.integers(10, 60),
    classes=st.integers(2, 10),
    temperature=st.sampled_from([0.05, 0.07, 0.1, 1.0, 10.0]),
    seed=st.integers(0, 1_000),
)
def test_knn__equals_the_definition(n, classes, temperature, seed):
    train, test = features(n, classes, seed=seed, offset=3), features(17, classes, seed=seed + 1, offset=3)
    ks = (1, 2, 5, n)
    scores = evaluation.knn(train, test, ks=ks, temperature=temperature)
    assert scores.accuracy == slow_knn(train, test, ks, temperature)
    assert scores.temperature == temperature


def test_knn__is_the_same_in_any_block_size(monkeypatch):
    train, test = features(300, 7), features(100, 7, seed=1)
    whole = evaluation.knn(train, test)
    monkeypatch.setattr("torchbank.evaluation._knn.BLOCK_SCORES", 1)
    assert evaluation.knn(train, test) == whole


@pytest.mark.parametrize(
    ("preset", "ks", "temperature"), [("dino", [10, 20, 100, 200], 0.07), ("instdisc", [200], 0.1)]
)
def test_knn__presets(preset, ks, temperature):
    train, test = features(210, 3), features(20, 3, seed=1)
    scores = evaluation.knn(train, test, preset=preset)
    assert list(scores.accuracy) == ks
    assert scores == evaluation.knn(train, test, ks=ks[::-1], temperature=temperature)


def test_knn__one_near_vote_beats_two_far_ones():
    angles = torch.tensor([0.1, 1.0, 1.1])
    train = SimpleNamespace(embeddings=torch.stack([angles.cos(), angles.sin()], 1), labels=torch.tensor([0, 1, 1]))
    test = SimpleNamespace(embeddings=torch.tensor([[1.0, 0.0]]), labels=torch.tensor([0]))
    # exp(0.995 / T) against exp(0.540 / T) + exp(0.454 / T): the sides change at T = 0.72.
    assert evaluation.knn(train, test, ks=(3,), temperature=0.07).accuracy == {3: 1.0}
    assert evaluation.knn(train, test, ks=(3,), temperature=1.0).accuracy == {3: 0.0}


@pytest.mark.parametrize("temperature", [1e-4, 1e4])
def test_knn__no_temperature_overflows(temperature):
    train = features(50, 5)
    assert evaluation.knn(train, train, ks=(1, 50), temperature=temperature).accuracy[1] == 1.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_knn__takes_any_floating_dtype_and_length(dtype):
    train, test = features(50, 5), features(20, 5, seed=1)
    rounded = [
        SimpleNamespace(embeddings=8 * part.embeddings.to(dtype), labels=part.labels.int()) for part in (train, test)
    ]
    expected = slow_knn(*rounded, (3, 7), 0.07)
    assert evaluation.knn(*rounded, ks=(3, 7)).accuracy == expected


TRAIN, TEST = features(30, 3), features(9, 3, seed=1)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("train", "test", "options", "error", "message"),
    [
        (TRAIN._replace(labels=torch.zeros(30).long()), TEST, {}, BankValueError, "30 training rows have 1 class"),
        (TRAIN, TEST._replace(labels=TEST.labels + 2), {}, BankValueError, r"2 of 3 test classes \(the first is 3\)"),
        (TRAIN, TEST, {}, BankValueError, r"ks is \(10, 20, 100, 200\) and there are 30 training rows"),
        (TRAIN, TEST, {"ks": (31,)}, BankValueError, r"expected neighbours from 1 to 30"),
        (TRAIN, TEST, {"ks": (0, 3)}, BankValueError, r"ks is \(0, 3\)"),
        (TRAIN, TEST, {"ks": ()}, BankValueError, r"ks is \(\)"),
        (TRAIN, TEST, {"ks": (3,), "temperature": 0.0}, BankValueError, "temperature is 0.0"),
        (TRAIN, TEST, {"preset": "moco"}, BankValueError, "preset='moco' is unknown"),
        (TRAIN, TEST._replace(embeddings=torch.ones(9, 7)), {}, BankValueError, r"\(30, 8\) on cpu .* \(9, 7\)"),
        (TRAIN._replace(labels=TRAIN.labels[:4]), TEST, {}, BankValueError, r"train embeddings .* labels \(4,\)"),
        (
            TRAIN,
            TEST._replace(labels=TEST.labels.float()),
            {},
            BankTypeError,
            "test embeddings .* labels torch.float32",
        ),
        (
            TRAIN,
            TEST._replace(embeddings=torch.zeros(9, 8)),
            {},
            BankValueError,
            "9 of 9 test embeddings are not finite",
        ),
        (
            TRAIN._replace(embeddings=TRAIN.embeddings * torch.inf),
            TEST,
            {},
            BankValueError,
            "30 of 30 train embeddings",
        ),
        (TRAIN, Encoded(*(part[:0] for part in TEST)), {}, BankValueError, "there are no test rows"),
    ],
)
def test_knn__refuses(train, test, options, error, message):
    with pytest.raises(error, match=message):
        evaluation.knn(train, test, **options)

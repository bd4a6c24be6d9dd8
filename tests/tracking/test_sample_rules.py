"""Which samples stay, against a plain list that is searched by hand."""

import itertools

import numpy as np
import pytest
import torch

from torchbank.tracking import IdentityGallery

KEPT, DIM = 4, 3


def give_up(rule, held, new):
    """The place in a full list of (step, vector), oldest first, that a new one takes the place of."""
    steps = [step for step, _ in held] + [new[0]]
    if rule == "newest":
        return 0
    if rule == "uniform":
        return min(range(1, len(held)), key=lambda place: (steps[place + 1] - steps[place - 1], place))
    vectors = [vector for _, vector in held] + [new[1]]
    pairs = list(itertools.combinations(range(len(vectors)), 2))
    return max(pairs, key=lambda pair: vectors[pair[0]] @ vectors[pair[1]])[0]


@pytest.mark.parametrize("rule", ["newest", "uniform", "diverse"])
def test_rules__keep_what_a_plain_list_keeps(rule):
    random = np.random.default_rng(0)
    gallery = IdentityGallery(DIM, 3, KEPT, rule=rule)
    lists = {}
    for number in range(60):
        vector = random.normal(size=DIM).astype(np.float32)
        vector /= np.linalg.norm(vector)
        identity = int(random.integers(1, 4))
        if identity not in lists:
            identity = gallery.enroll(vector)
            lists[identity] = []
        else:
            gallery.add(identity, vector)
        held = lists[identity]
        if len(held) == KEPT:
            del held[give_up(rule, held, (number, vector))]
        held.append((number, vector))
        for known, samples in lists.items():
            found = gallery.samples(known).embeddings.numpy()
            np.testing.assert_allclose(found, [vector for _, vector in samples], atol=1e-6)


def test_mean__scores_as_the_mean_of_all_scores():
    random = np.random.default_rng(0)
    vectors = random.normal(size=(20, DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    gallery = IdentityGallery(DIM, 2, 8, rule="mean")
    identity = gallery.enroll(vectors[:3])
    gallery.add(identity, vectors[3:])
    query = np.array([1.0, 0.0, 0.0])
    # Of length 1 or less: the mean is kept as it is.
    assert gallery.nearest(query, 1).similarities[0, 0] == pytest.approx(float((vectors @ query).mean()), abs=1e-6)


def test_uniform__is_spread_over_the_lifetime():
    gallery = IdentityGallery(2, 1, 5)
    identity = gallery.enroll(np.array([1.0, 0.0]), frame=0)
    for frame in range(1, 65):
        gallery.add(identity, np.array([1.0, 0.0]), frame=frame)
    frames = gallery.samples(identity).fields["frame"].tolist()
    assert frames[0] == 0
    assert frames[-1] == 64
    assert max(np.diff(frames)) <= 32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_samples__may_be_kept_in_half_the_bytes(dtype):
    small, large = (IdentityGallery(64, 100, dtype=kind) for kind in (dtype, torch.float32))
    assert small.bank.embeddings.nbytes == large.bank.embeddings.nbytes // 2
    identity = small.enroll(np.ones(64))
    assert small.nearest(np.ones(64), 1).similarities[0, 0] == pytest.approx(1, abs=1e-2)
    assert identity in small

"""The joint decision against all ways to decide, one by one."""

import itertools

import numpy as np
import pytest

from torchbank.tracking._assignment import NEW, assign


def every_way(tracks, identities):
    """All choices in which no identity is taken twice."""
    for choice in itertools.product([NEW, *range(identities)], repeat=tracks):
        taken = [one for one in choice if one != NEW]
        if len(set(taken)) == len(taken):
            yield choice


def worth(choice, similarities, threshold):
    return sum(threshold if c == NEW else similarities[row, c] for row, c in enumerate(choice))


@pytest.mark.parametrize("seed", range(20))
def test_assign__is_the_best_of_all_ways(seed):
    random = np.random.default_rng(seed)
    similarities = random.uniform(0, 1, (3, 4))
    similarities[random.random((3, 4)) < 0.2] = -np.inf
    found = assign(similarities, np.full(3, -np.inf), 0.6, 0.0)
    best = max(every_way(3, 4), key=lambda choice: worth(choice, similarities, 0.6))
    assert worth(found.choice, similarities, 0.6) == pytest.approx(worth(best, similarities, 0.6))


def test_assign__margin_is_what_is_lost_without_the_choice():
    similarities = np.array([[0.9, 0.7], [0.85, 0.2]])
    found = assign(similarities, np.full(2, -np.inf), 0.1, 0.0)
    assert found.choice.tolist() == [1, 0]  # 0.7 + 0.85 beats 0.9 + 0.2
    assert found.margin == pytest.approx([1.55 - 1.1, 1.55 - 1.1])
    assert assign(similarities, np.full(2, -np.inf), 0.1, 0.5).choice.tolist() == [NEW, NEW]
    # Two identities that may be one object are no alternative to each other.
    twins = np.ones((2, 2), dtype=bool)
    assert np.isinf(assign(similarities[:1], np.full(1, -np.inf), 0.1, 0.5, twins).margin[0])


def test_assign__a_rival_that_cannot_be_counts_for_the_margin():
    found = assign(np.array([[0.8]]), np.array([0.75]), 0.5, 0.1)
    assert found.choice.tolist() == [NEW]
    assert found.margin == pytest.approx([0.05])
    assert assign(np.array([[0.8]]), np.array([-np.inf]), 0.8, 0.1).choice.tolist() == [0]

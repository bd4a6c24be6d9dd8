"""Random streams go back to where they were."""

import json
import random

import numpy as np
import torch

from torchbank.training import (
    pack,
    random_state,
    restore_random_state,
    seed_everything,
    unpack,
    untouched_random_state,
)


def _draws() -> tuple:
    return random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), float(torch.rand(1))  # noqa: NPY002


def test_random_state__restored_through_a_file_gives_the_same_draws():
    seed_everything(1)
    _draws()
    tensors, form = pack(random_state())
    expected = _draws()
    restore_random_state(unpack(tensors, json.loads(json.dumps(form))))
    assert _draws() == expected


def test_seed_everything__same_seed_same_draws():
    seed_everything(2)
    first = _draws()
    seed_everything(2)
    assert _draws() == first


def test_untouched_random_state__draws_inside_do_not_count():
    seed_everything(3)
    expected = _draws()
    seed_everything(3)
    with untouched_random_state():
        _draws()
    assert _draws() == expected

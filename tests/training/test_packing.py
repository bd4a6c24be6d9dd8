"""A nested state survives tensors and JSON."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torchbank.errors import BankTypeError, FileFormatError
from torchbank.training import pack, unpack

_plain = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5))
_states = st.recursive(
    _plain,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.one_of(st.text(max_size=3), st.integers()), inner, max_size=3),
    ),
    max_leaves=12,
)


@given(_states)
def test_pack__any_nesting_survives_json(state):
    tensors, form = pack(state)
    back = unpack(tensors, json.loads(json.dumps(form)))
    assert back == state
    assert repr(back) == repr(state)  # tuples stay tuples, 1 stays 1 and 1.0 stays 1.0


def test_pack__tensors_and_arrays_keep_their_kind_and_bits():
    state = {"a": [torch.arange(3)], 5: (np.arange(2.0), torch.tensor(1.5, dtype=torch.bfloat16))}
    back = unpack(*pack(state))
    assert torch.equal(back["a"][0], state["a"][0])
    assert isinstance(back[5][0], np.ndarray)
    assert back[5][1].dtype is torch.bfloat16


def test_pack__keys_that_read_alike_do_not_collide():
    state = {"1": torch.zeros(1), 1: torch.ones(1), "a.b": torch.full((1,), 2.0), "a": {"b": torch.full((1,), 3.0)}}
    back = unpack(*pack(state))
    assert [float(back["1"]), float(back[1]), float(back["a.b"]), float(back["a"]["b"])] == [0, 1, 2, 3]


def test_pack__optimizer_state_loads_again():
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    tensors, form = pack(optimizer.state_dict())
    back = unpack(tensors, json.loads(json.dumps(form)))
    torch.optim.AdamW(layer.parameters()).load_state_dict(back)
    assert back["param_groups"] == optimizer.state_dict()["param_groups"]


def test_pack__something_else_is_refused_by_place():
    with pytest.raises(BankTypeError, match=r"holds a set at 'a\.0'"):
        pack({"a": [{1}]})


def test_unpack__missing_tensor_is_named():
    tensors, form = pack({"weights": torch.ones(1)})
    tensors.clear()
    with pytest.raises(FileFormatError, match="no tensor 'weights'"):
        unpack(tensors, form)

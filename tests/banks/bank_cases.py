"""What the bank tests share: snapshots, and pushes as a device would do them."""

import torch
from hypothesis import settings

from torchbank.banks._admission import Admitted, admit

# Files are forced to the disk at each save, which bounds how many steps are worth their time.
MACHINE = settings(max_examples=25, stateful_step_count=30)

FIELDS = {"label": torch.int64, "box": (torch.float32, (2,))}


def rows_of(numbers, dim=2):
    """Embeddings that spell their row numbers."""
    numbers = torch.as_tensor(numbers, dtype=torch.float32)
    return torch.stack([numbers + 0.25 * axis for axis in range(dim)], dim=1)


def fields_of(numbers):
    numbers = torch.as_tensor(numbers, dtype=torch.int64)
    return {"label": numbers * 10, "box": rows_of(numbers) + 0.5}


def snapshot(bank):
    return {name: value.clone() for name, value in bank.state_dict().items()}


def assert_same_state(bank, other):
    """Bit for bit, dtypes included."""
    state, expected = bank.state_dict(), other if isinstance(other, dict) else other.state_dict()
    assert state.keys() == expected.keys()
    for name, value in expected.items():
        assert state[name].dtype == value.dtype, name
        assert torch.equal(state[name], value), name


def push_as_on_device(bank, embeddings, *, step=None, **columns):
    """A push by the code for devices whose values the host cannot read: bad rows are marked, not raised."""
    stamp = bank.pushes.clone() if step is None else torch.tensor(step)
    rows, accepted = admit(embeddings, bank.dtype, bank.metric == "cosine", strict=False)
    admitted = Admitted(rows, accepted, stamp, bank.total)
    return bank._place(admitted, columns, strict=False)

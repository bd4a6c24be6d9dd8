"""A checkpoint folder is whole at every moment."""

import shutil

import pytest
import torch

from torchbank.errors import BankStateError, FileFormatError
from torchbank.io import write_tensors
from torchbank.training import load_checkpoint, recover_checkpoint, save_checkpoint


def _state(step: int) -> dict:
    return {"step": step, "weights": torch.full((3,), float(step)), "betas": (0.9, 0.999)}


def _step_of(path) -> int:
    state = load_checkpoint(path)
    assert torch.equal(state["weights"], torch.full((3,), float(state["step"])))
    return state["step"]


def test_save__replaces_the_one_before_and_leaves_nothing_beside(tmp_path):
    path = tmp_path / "checkpoint"
    for step in (1, 2, 3):
        save_checkpoint(path, _state(step))
        assert _step_of(path) == step
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint"]


def test_load__none_was_finished(tmp_path):
    assert load_checkpoint(tmp_path / "checkpoint") is None
    (tmp_path / "checkpoint.new").mkdir()
    assert load_checkpoint(tmp_path / "checkpoint") is None


@pytest.fixture
def two_checkpoints(tmp_path):
    """Whole checkpoints of steps 1 and 2, to be put where a crash would leave them."""
    for step in (1, 2):
        save_checkpoint(tmp_path / f"at-{step}", _state(step))
    return tmp_path


# Where a crash leaves the two: (place, step, whole), and the step that is found then.
_CRASHES = {
    "while the first is written": ([("checkpoint.new", 1, False)], None),
    "before the first is in place": ([("checkpoint.new", 1, True)], None),
    "while the second is written": ([("checkpoint", 1, True), ("checkpoint.new", 2, False)], 1),
    "before the exchange": ([("checkpoint", 1, True), ("checkpoint.new", 2, True)], 1),
    "in the exchange": ([("checkpoint.old", 1, True), ("checkpoint.new", 2, True)], 2),
    "before the old one is removed": ([("checkpoint", 2, True), ("checkpoint.old", 1, True)], 2),
    "while the old one is removed": ([("checkpoint", 2, True), ("checkpoint.old", 1, False)], 2),
}


@pytest.mark.parametrize("crash", _CRASHES)
def test_load__after_a_crash(two_checkpoints, crash):
    left, expected = _CRASHES[crash]
    for place, step, whole in left:
        shutil.copytree(two_checkpoints / f"at-{step}", two_checkpoints / place)
        if not whole:
            file = two_checkpoints / place / "rank-0.safetensors"
            file.write_bytes(file.read_bytes()[:20])
    path = two_checkpoints / "checkpoint"
    found = load_checkpoint(path)
    assert (found and found["step"]) == expected
    save_checkpoint(path, _state(3))
    assert _step_of(path) == 3
    assert sorted(entry.name for entry in two_checkpoints.iterdir()) == ["at-1", "at-2", "checkpoint"]


def test_load__ranks_must_match(tmp_path):
    path = tmp_path / "checkpoint"
    save_checkpoint(path, _state(1))
    with pytest.raises(BankStateError, match="is of 1 processes; resume with as many, not 2"):
        load_checkpoint(path, rank=0, ranks=2)
    with pytest.raises(BankStateError, match="no file for process 1"):
        load_checkpoint(path, rank=1, ranks=2)


def test_load__damaged_or_foreign(tmp_path):
    path = tmp_path / "checkpoint"
    save_checkpoint(path, _state(1))
    file = path / "rank-0.safetensors"
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(FileFormatError):
        load_checkpoint(path)
    write_tensors(file, {"weights": torch.ones(1)}, {"kind": "something else"})
    with pytest.raises(FileFormatError, match="is not a training checkpoint"):
        load_checkpoint(path)


def test_recover__nothing_to_do(tmp_path):
    recover_checkpoint(tmp_path / "checkpoint")
    assert not list(tmp_path.iterdir())

"""A run that diverges stops at once, says where, and leaves the last good checkpoint."""

from dataclasses import replace

import pytest
import torch
from tiny_run import TINY, tiny_split
from torch import nn

from torchbank.errors import BankStateError
from torchbank.methods import MethodOutput
from torchbank.training import LossWatch, RunFolder, fit, load_checkpoint, read_metrics

SPLIT = tiny_split()


class Breaking(nn.Module):
    """A method by duck type whose loss, or gradient, breaks at a step."""

    def __init__(self, *, at: int, what: str) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 8))
        self.bank = None
        self.at, self.what = at, what

    def forward(self, batch, *, step):
        loss = self.encoder(batch.images).square().mean()
        if step + 1 == self.at and self.what == "loss":
            loss = loss * torch.nan
        if step + 1 == self.at and self.what == "gradient":
            # The square root of 0: finite, but its slope is not.
            loss = loss + (0 * self.encoder[1].bias).square().sum().sqrt()
        return MethodOutput(loss, {})

    def wants_prefill(self, step):
        return False

    def after_step(self):
        pass


@pytest.mark.parametrize("at", [1, 6, 7, 10])
def test_fit__a_loss_that_is_nan_stops_at_its_step_and_keeps_the_checkpoint(tmp_path, at):
    folder = RunFolder.create(tmp_path / "run", {})
    method = Breaking(at=at, what="loss")
    kept = "; the checkpoint of step 5 is kept" if at > 5 else ""
    with pytest.raises(
        BankStateError, match=rf"the loss is nan at step {at}; lower the learning rate.*precision{kept}$"
    ):
        fit(method, SPLIT, TINY, folder=folder)
    # The weights are those of the step before.
    assert all(parameter.isfinite().all() for parameter in method.parameters())
    state = load_checkpoint(folder.checkpoint)
    assert (None if state is None else state["step"]) == (5 if at > 5 else None)
    assert all(line["step"] < at for line in read_metrics(folder.metrics))


def test_fit__weights_that_are_nan_are_never_written(tmp_path):
    folder = RunFolder.create(tmp_path / "run", {})
    with pytest.raises(BankStateError, match=r"weights 'encoder.1.bias' are not finite after step 10.* step 5 is kept"):
        fit(Breaking(at=10, what="gradient"), SPLIT, TINY, folder=folder)
    assert load_checkpoint(folder.checkpoint)["step"] == 5


def test_fit__resumed_knows_its_checkpoint(tmp_path):
    folder = RunFolder.create(tmp_path / "run", {})
    fit(Breaking(at=0, what="loss"), SPLIT, replace(TINY, steps=5, evaluate_every=0), folder=folder)
    with pytest.raises(BankStateError, match=r"nan at step 6.*the checkpoint of step 5 is kept"):
        fit(Breaking(at=6, what="loss"), SPLIT, replace(TINY, steps=5 + 5), folder=folder, resume=True)


def test_loss_watch__tells_the_first_of_several():
    watch = LossWatch()
    watch.add(torch.tensor(1.0), step=1)
    for step, value in ((2, torch.inf), (3, 1.0), (4, torch.nan)):
        with pytest.raises(BankStateError, match="the loss is inf at step 2"):
            watch.add(torch.tensor(value), step=step)
    with pytest.raises(BankStateError, match="the loss is inf at step 2"):
        watch.check()

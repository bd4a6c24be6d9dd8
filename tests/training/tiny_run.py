"""A run of a few seconds: small images, a small network, every part of the loop in use.

Run as a script it trains in a process of its own, to be killed:
``python tiny_run.py FOLDER tiny|longer new|resume ...``.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from torchbank import data, encoders, methods, training
from torchbank.io import read_tensors
from torchbank.training import FitResult, RunFolder, TrainingConfig

TINY = TrainingConfig(
    bank_mode=os.environ.get("BANK_MODE", "replicated"),
    steps=24,
    seed=3,
    classes_per_batch=4,
    images_per_class=2,
    learning_rate=1e-3,
    warmup_steps=3,
    augmentation="glyph",
    evaluate_every=10,
    checkpoint_every=5,
    log_every=3,
    device="cpu",
)
# Long enough to be killed in, with a checkpoint always near.
LONGER = replace(TINY, steps=60, checkpoint_every=1)


def tiny_images(classes: int, *, seed: int) -> data.ArrayImages:
    generator = torch.Generator().manual_seed(seed)
    prototypes = torch.randint(0, 200, (classes, 1, 1, 8, 8), generator=generator)
    noise = torch.randint(0, 56, (classes, 6, 1, 8, 8), generator=generator)
    pixels = (prototypes + noise).flatten(0, 1).to(torch.uint8)
    labels = torch.arange(classes).repeat_interleave(6)
    return data.ArrayImages(pixels, labels, class_names=[f"class {i}" for i in range(classes)], name="tiny")


def tiny_split() -> data.Split:
    return data.Split(train=tiny_images(10, seed=0), test=tiny_images(8, seed=1))


def tiny_method(**settings) -> nn.Module:
    """XBM whose memory starts, pre-filled, in the middle of the run."""
    training.seed_everything(TINY.seed)
    encoder = encoders.build("convnet", dim=8, image_shape=(1, 8, 8))
    given = {"dim": 8, "capacity": 0.8, "start_step": 8, "memory_normalize": "active", **settings}
    return methods.build("xbm", encoder, methods.XBMConfig(**given), dataset_size=60)


def train(folder: Path, config: TrainingConfig, *, resume: bool = False) -> FitResult:
    is_new = not resume and training.is_main_process()
    run = RunFolder.create(folder, {}) if is_new else RunFolder(folder)
    return training.fit(tiny_method(), tiny_split(), config, folder=run, resume=resume)


def assert_same_run(run: RunFolder, uninterrupted: RunFolder) -> None:
    """The same files and the same last checkpoint, bit for bit; only times may differ."""
    for name in ("metrics.jsonl", "model.safetensors"):
        assert (run.path / name).read_bytes() == (uninterrupted.path / name).read_bytes(), name
    # The header of the bank tells when it was written.
    state, expected = (
        {**_tensors_of_checkpoint(folder), **read_tensors(folder.bank)[0]} for folder in (run, uninterrupted)
    )
    assert state.keys() == expected.keys()
    assert [name for name in state if not torch.equal(state[name], expected[name])] == []


def _tensors_of_checkpoint(folder: RunFolder) -> dict[str, torch.Tensor]:
    """Weights, bank, drift record, optimiser and random streams."""
    state = training.load_checkpoint(folder.checkpoint)
    assert state is not None
    return training.pack(state)[0]


if __name__ == "__main__":
    torch.set_num_threads(1)
    path, length, *modes = sys.argv[1:]
    for mode in modes:
        train(Path(path), TINY if length == "tiny" else LONGER, resume=mode == "resume")

"""Features in a file: found again for the same weights and data, and for nothing else."""

import pytest
import torch
from torch import nn

from torchbank import data, io
from torchbank.encoders import encode, encode_once


class Counted(nn.Sequential):
    """Counts its forward passes."""

    calls = 0

    def forward(self, images):
        self.calls += 1
        return super().forward(images)


@pytest.fixture
def images():
    pixels = torch.randint(0, 256, (10, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return data.ArrayImages(pixels, torch.arange(10), class_names="abcdefghij", name="tiny")


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return Counted(nn.Flatten(), nn.Linear(16, 3), nn.BatchNorm1d(3))


@pytest.fixture
def embed(images, encoder, tmp_path):
    path = tmp_path / "features" / "tiny.safetensors"

    def run(fingerprint=images.fingerprint):
        found = encode_once(encoder, data.loader(images, batch_size=4), path, data=fingerprint)
        expected = encode(encoder, data.loader(images, batch_size=4))
        encoder.calls -= 3
        assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
        return path

    return run


def test_encode_once__embeds_once(embed, encoder):
    embed()
    assert encoder.calls == 3
    embed()
    assert encoder.calls == 3


def test_encode_once__other_data_are_embedded(embed, encoder):
    embed()
    embed(fingerprint="other")
    assert encoder.calls == 6


@pytest.mark.parametrize("change", ["weight", "statistic"])
def test_encode_once__other_weights_embed_anew(embed, encoder, change):
    embed()
    changed = encoder[1].weight if change == "weight" else encoder[2].running_mean
    with torch.no_grad():
        changed[0] += 1
    embed()
    assert encoder.calls == 6


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped", "foreign", "no tensors"])
def test_encode_once__a_damaged_or_foreign_file_is_written_anew(embed, encoder, damage):
    path = embed()
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[-70] ^= 1
    path.write_bytes({"truncated": content[:-9], "empty": b"", "foreign": b"x" * 100}.get(damage, content))
    if damage == "no tensors":
        io.write_tensors(path, {}, io.read_header(path))
    embed()
    assert encoder.calls == 6
    embed()
    assert encoder.calls == 6

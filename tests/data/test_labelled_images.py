"""Data sets held in memory: items, batches, fingerprints, refusals."""

import pytest
import torch

from torchbank.data import ArrayImages, Batch
from torchbank.errors import BankTypeError, BankValueError


def array_images(n=6, name="small", **changes):
    pixels = torch.arange(n * 2 * 3, dtype=torch.uint8).view(n, 1, 2, 3)
    arguments = {"images": pixels, "labels": torch.arange(n) // 2, "class_names": "abc", "name": name} | changes
    return ArrayImages(arguments.pop("images"), arguments.pop("labels"), **arguments)


def test_array_images__one_item_is_a_row_of_a_batch():
    dataset = array_images()
    batch = dataset.__getitems__([4, 0, 5])
    assert isinstance(batch, Batch)
    for position, index in enumerate([4, 0, 5]):
        image, label, row = dataset[index]
        assert torch.equal(batch.images[position], image)
        assert torch.equal(dataset.image(index), image)
        assert (batch.labels[position], batch.ids[position]) == (label, row)


def test_array_images__scales_white_to_one():
    dataset = array_images(images=torch.full((6, 1, 2, 3), 15, dtype=torch.uint8), white=15)
    assert torch.equal(dataset.image(0), torch.ones(1, 2, 3))


def test_array_images__takes_an_empty_batch():
    assert array_images().__getitems__([]).images.shape == (0, 1, 2, 3)


def test_array_images__negative_indices_count_from_the_end_and_others_end_iteration():
    dataset = array_images()
    assert dataset[-1][2] == 5
    assert [row for _, _, row in dataset] == list(range(6))
    with pytest.raises(IndexError, match="image 6 does not exist: small holds 6 images"):
        dataset[6]


@pytest.mark.parametrize(
    "changes",
    [
        {"images": torch.zeros(6, 1, 2, 3, dtype=torch.uint8)},
        {"images": torch.arange(36, dtype=torch.uint8).view(6, 1, 3, 2)},
        {"labels": torch.tensor([0, 0, 1, 1, 2, 1])},
        {"class_names": "abd"},
        {"white": 15},
    ],
)
def test_array_images__fingerprint_follows_every_part(changes):
    assert array_images().fingerprint == array_images(name="another name").fingerprint
    assert array_images().fingerprint != array_images(**changes).fingerprint


@pytest.mark.plain
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"images": torch.zeros(6, 1, 2, 3)}, BankTypeError, "images are torch.float32"),
        ({"labels": torch.zeros(6)}, BankTypeError, "labels are torch.float32"),
        ({"images": torch.zeros(6, 2, 3, dtype=torch.uint8)}, BankValueError, r"shape \(6, 2, 3\)"),
        ({"labels": torch.arange(5) // 2}, BankValueError, r"labels \(5,\)"),
        ({"class_names": "ab"}, BankValueError, "run from 0 to 2, but there are 2 class names"),
        ({"labels": torch.arange(6) - 1}, BankValueError, "run from -1 to 4"),
    ],
)
def test_array_images__refuses(changes, error, message):
    with pytest.raises(error, match=message):
        array_images(**changes)

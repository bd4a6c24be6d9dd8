"""The data set that ships with the package, against its card."""

import hashlib
from importlib import resources

import numpy as np
import torch

from torchbank import data

KANJI = data.load("kanji")


def test_kanji__has_the_protocol_of_its_card():
    train, test = KANJI
    assert len(train) + len(test) == 29_521
    assert len(train.class_names) == len(test.class_names) == 2_965
    assert train.image_shape == test.image_shape == (1, 32, 32)
    order = np.random.default_rng(0).permutation(2_965)
    assert set(train.labels.tolist()) == set(order[:1_482].tolist())
    assert set(test.labels.tolist()) == set(order[1_482:].tolist())


def test_kanji__every_image_is_that_of_the_file():
    with np.load(str(resources.files("torchbank.data") / "kanji" / "kanji.npz")) as arrays:
        images, characters = arrays["images"], arrays["character"]
    for part in KANJI:
        rows = np.flatnonzero(np.isin(characters, part.labels.unique().numpy()))
        assert np.array_equal(part.labels.numpy(), characters[rows])
        ours = part.images(torch.arange(len(part))).squeeze(1).mul(15).round().to(torch.uint8).numpy()
        assert np.array_equal(ours, images[rows])


def test_kanji__classes_are_the_level_1_characters_of_jis_x_0208():
    rows = range(0xB0, 0xD0)
    level_1 = [bytes([row, cell]) for row in rows for cell in range(0xA1, 0xFF)]
    decoded = [code.decode("euc_jp", errors="ignore") for code in level_1]
    assert KANJI.train.class_names == tuple(character for character in decoded if character)
    assert KANJI.train.class_names[0] == "亜"


def test_kanji__images_are_dark_ink_on_white_paper():
    images = KANJI.test.images(torch.arange(len(KANJI.test)))
    assert images.dtype == torch.float32
    assert images.min() == 0
    assert images.max() == 1
    # The margin keeps the corners white, bar few.
    assert images[:, 0, 0, 0].mean() > 0.99
    assert images.mean() > 0.5
    assert (images.flatten(1).min(dim=1).values < 0.5).all()


def test_kanji__every_class_has_eight_to_ten_images():
    counts = KANJI.train.labels.unique(return_counts=True)[1]
    assert counts.min() >= 8
    assert counts.max() == 10


def test_kanji__fingerprint_is_that_of_the_data():
    again = data.load("kanji")
    assert again.train.fingerprint == KANJI.train.fingerprint
    assert again.train.fingerprint != again.test.fingerprint
    assert len(bytes.fromhex(again.train.fingerprint)) == hashlib.sha256().digest_size

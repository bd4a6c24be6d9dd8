"""The data set `kanji`: 2,965 characters drawn in 10 very different fonts.

The arrays and their card, with the licence of each font, lie beside this file in `kanji/`.
"""

from importlib import resources

import numpy as np
import torch

from torchbank.data._labelled_images import ArrayImages, Split

__all__ = ["load_kanji"]

# The zero-shot protocol of the data card: classes are permuted with this seed, the first 1,482 train.
PROTOCOL_SEED = 0
TRAIN_CLASSES = 1_482
WHITE = 15  # 16 grey levels


def load_kanji() -> Split:
    """Load the data set `kanji` with its fixed split: half of the characters train, the other half test.

    Returns:
        Grey images `(1, 32, 32)` with black ink on white (1.0) paper: 1,482 classes to train and 1,483 to test,
        8 to 10 images (fonts) each. A class is named by its character.

    Example:
        >>> train, test = load_kanji()
        >>> len(train), len(test), train.image_shape
        (14756, 14765, (1, 32, 32))
    """
    with resources.files("torchbank.data").joinpath("kanji", "kanji.npz").open("rb") as file, np.load(file) as arrays:
        images = torch.from_numpy(arrays["images"]).unsqueeze(1)
        labels = torch.from_numpy(arrays["character"].astype(np.int64))
        characters = tuple(arrays["characters"].tolist())
    order = np.random.default_rng(PROTOCOL_SEED).permutation(len(characters))
    is_train = torch.zeros(len(characters), dtype=torch.bool)
    is_train[torch.from_numpy(order[:TRAIN_CLASSES])] = True
    parts = [
        ArrayImages(images[rows], labels[rows], class_names=characters, name="kanji", white=WHITE)
        for rows in (is_train[labels], ~is_train[labels])
    ]
    return Split(*parts)

"""Loaders of whole batches."""

from itertools import islice

import pytest
import torch

from torchbank import data
from torchbank.data import ArrayImages, Batch
from torchbank.errors import BankValueError


def dataset(n=10):
    pixels = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1)
    return ArrayImages(pixels, torch.arange(n) // 2, class_names=[str(i) for i in range(n)], name="counting", white=1)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_loader__reads_every_image_once_in_order(num_workers):
    batches = list(data.loader(dataset(), batch_size=4, num_workers=num_workers))
    assert all(isinstance(batch, Batch) for batch in batches)
    assert [len(batch.labels) for batch in batches] == [4, 4, 2]
    assert torch.equal(torch.cat([batch.images.flatten() for batch in batches]), torch.arange(10.0))
    assert torch.equal(torch.cat([batch.labels for batch in batches]), torch.arange(10) // 2)
    assert torch.equal(torch.cat([batch.ids for batch in batches]), torch.arange(10))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_loader__follows_a_sampler_and_its_resumed_twin(num_workers):
    images = dataset()

    def sampler():
        return data.PKSampler(images.labels, classes_per_batch=2, images_per_class=2, seed=5)

    expected = [sampler().batch(number) for number in range(8)]
    loader = data.loader(images, batch_sampler=sampler(), num_workers=num_workers)
    ids = [batch.ids.tolist() for batch in islice(loader, 8)]
    assert ids == expected
    twin = sampler()
    twin.load_state_dict(sampler().state_dict(next_batch=3))
    loader = data.loader(images, batch_sampler=twin, num_workers=num_workers)
    assert [batch.ids.tolist() for batch in islice(loader, 5)] == expected[3:]


def test_loader__draws_nothing_from_the_global_generator():
    before = torch.get_rng_state()
    list(data.loader(dataset(), batch_size=4))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either batch_size or batch_sampler"),
        ({"batch_size": 2, "batch_sampler": [[0]]}, "either batch_size or batch_sampler"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": 2, "num_workers": -1}, "num_workers -1"),
    ],
)
def test_loader__refuses(options, message):
    with pytest.raises(BankValueError, match=message):
        data.loader(dataset(), **options)

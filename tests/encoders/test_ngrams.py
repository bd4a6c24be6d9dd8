"""The text encoder against a loop over its tokens, and texts through `build` and `encode`."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torchbank import data, encoders
from torchbank.errors import BankTypeError, BankValueError


def encoder_of(dim=6, rows=11):
    torch.manual_seed(0)
    return encoders.NGramEncoder(dim, rows=rows, width=8)


@given(st.lists(st.lists(st.integers(1, 2**31 - 1), max_size=7), min_size=1, max_size=5))
def test_ngrams__is_the_head_of_the_mean_of_the_rows(texts):
    encoder = encoder_of()
    length = max(1, *map(len, texts)) if texts else 1
    padded = torch.tensor([text + [0] * (length - len(text)) for text in texts])
    table = encoder.rows.weight
    means = [
        torch.stack([table[1 + (token - 1) % 11] for token in text]).mean(dim=0) if text else torch.zeros(8)
        for text in texts
    ]
    torch.testing.assert_close(encoder(padded), encoder.head(torch.stack(means)))


def test_ngrams__padding_gets_no_gradient():
    encoder = encoder_of()
    encoder(torch.tensor([[3, 0, 0], [14, 5, 0]])).sum().backward()
    # 14 folds onto the row of 3.
    assert encoder.rows.weight.grad.abs().sum(dim=1).nonzero().flatten().tolist() == [3, 5]


def test_ngrams__embeds_each_side_of_pairs():
    pairs = data.TextPairs(["cat", "dog"], ["feline", "canine"], torch.arange(2), class_names="cd", name="pets")
    encoder = encoders.build("ngrams", dim=6, image_shape=None)
    words, meanings = (encoders.encode(encoder, data.loader(pairs, batch_size=1), view=view) for view in (0, 1))
    batch = pairs.__getitems__([0, 1])
    torch.testing.assert_close(words.embeddings, encoder(batch.views[0]).detach())
    torch.testing.assert_close(meanings.embeddings, encoder(batch.views[1]).detach())
    assert words.labels.tolist() == [0, 1]


@pytest.mark.plain
def test_ngrams__refuses_images_and_odd_shapes():
    encoder = encoder_of()
    with pytest.raises(BankTypeError, match=r"was given torch.float32 of shape \(2, 1, 8, 8\); expected int64 tokens"):
        encoder(torch.rand(2, 1, 8, 8))
    with pytest.raises(BankValueError, match=r"tokens of shape \(3,\); expected \(batch, length\)"):
        encoder(torch.ones(3, dtype=torch.int64))


@pytest.mark.plain
@pytest.mark.parametrize("name", ["convnet", "resnet18-small", "timm:resnet18", "hf:some/model"])
def test_build__networks_for_images_take_no_texts(name):
    with pytest.raises(BankValueError, match=f"{name} takes images, and these are texts; expected ngrams"):
        encoders.build(name, dim=6, image_shape=None)


@pytest.mark.plain
def test_build__ngrams_takes_no_images():
    with pytest.raises(BankValueError, match=r"ngrams does not take images of 1 channel .* 8 x 8 pixels: ngrams was"):
        encoders.build("ngrams", dim=6, image_shape=(1, 8, 8))

"""Embedding a data set: the same vectors as one by one, and the encoder as it was."""

import pytest
import torch
from torch import nn

from torchbank import data, encoders
from torchbank.data import ArrayImages, Batch
from torchbank.encoders import encode
from torchbank.errors import BankError, BankValueError


def images(n=10):
    pixels = torch.randint(0, 256, (n, 1, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return ArrayImages(pixels, torch.arange(n) // 2, class_names=[str(i) for i in range(n)], name="noise")


def convnet():
    encoder = encoders.build("convnet", dim=8, image_shape=(1, 16, 16))
    encoder(torch.rand(6, 1, 16, 16))
    return encoder


@pytest.mark.parametrize("batch_size", [1, 3, 10, 64])
def test_encode__equals_one_by_one_in_evaluation_mode(batch_size):
    torch.manual_seed(0)
    encoder, dataset = convnet(), images()
    encoded = encode(encoder, data.loader(dataset, batch_size=batch_size))
    encoder.eval()
    expected = torch.cat([encoder(dataset.image(i)[None]) for i in range(10)]).detach()
    torch.testing.assert_close(encoded.embeddings, expected)
    assert torch.equal(encoded.labels, dataset.labels)
    assert torch.equal(encoded.ids, torch.arange(10))
    assert not encoded.embeddings.requires_grad


def test_encode__restores_the_mode_of_every_module_and_no_statistics_move():
    encoder = convnet().train()
    encoder.blocks[0].eval()
    modes = [module.training for module in encoder.modules()]
    state = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    encode(encoder, data.loader(images(), batch_size=4))
    assert [module.training for module in encoder.modules()] == modes
    assert all(torch.equal(tensor, state[name]) for name, tensor in encoder.state_dict().items())


def test_encode__restores_the_mode_when_a_batch_fails():
    encoder = convnet().train()
    with pytest.raises(BankError):
        encode(encoder, [Batch(torch.rand(2, 3, 16, 16), torch.zeros(2).long(), torch.arange(2))])
    assert encoder.training


def test_encode__follows_the_loader_and_keeps_the_caller_in_grad_mode():
    sampler = data.PKSampler(images().labels, classes_per_batch=2, images_per_class=2)
    encoded = encode(convnet(), data.loader(images(), batch_sampler=[sampler.batch(0), sampler.batch(1)]))
    assert encoded.ids.tolist() == sampler.batch(0) + sampler.batch(1)
    assert torch.is_grad_enabled()


def test_encode__gives_float32_from_half_precision():
    class Half(nn.Module):
        def forward(self, images):
            return images.flatten(1)[:, :4].bfloat16()

    encoded = encode(Half(), data.loader(images(), batch_size=4))
    assert encoded.embeddings.dtype == torch.float32


@pytest.mark.plain
def test_encode__refuses_an_empty_loader_and_maps():
    with pytest.raises(BankValueError, match="the loader yields no batch"):
        encode(convnet(), [])
    with pytest.raises(BankValueError, match=r"shape \(4, 1, 16, 16\) for 4 images; expected one vector an image"):
        encode(nn.Identity(), data.loader(images(), batch_size=4))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_encode__sends_images_to_the_encoder_and_embeddings_back():
    encoder = convnet().cuda()
    encoded = encode(encoder, data.loader(images(), batch_size=4))
    assert encoded.embeddings.device.type == "cpu"
    expected = encode(encoder.cpu(), data.loader(images(), batch_size=4)).embeddings
    torch.testing.assert_close(encoded.embeddings, expected, rtol=1e-3, atol=1e-3)

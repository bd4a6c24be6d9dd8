"""Encoders by name, and the embedding of whole data sets."""

from torchbank.encoders._build import build
from torchbank.encoders._convnet import ConvNet
from torchbank.encoders._encode import Encoded, encode
from torchbank.encoders._encode_once import encode_once, fingerprint
from torchbank.encoders._evaluation_mode import device_of, evaluation_mode
from torchbank.encoders._ngrams import NGramEncoder
from torchbank.encoders._resnet import SmallResNet18
from torchbank.encoders._resnet50 import ResNet50
from torchbank.encoders._user_code import load_torchscript

__all__ = [
    "ConvNet",
    "Encoded",
    "NGramEncoder",
    "ResNet50",
    "SmallResNet18",
    "build",
    "device_of",
    "encode",
    "encode_once",
    "evaluation_mode",
    "fingerprint",
    "load_torchscript",
]

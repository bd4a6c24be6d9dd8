"""Data sets, samplers of batches, augmentations on batches."""

from torchbank.data._augmentation import augmentation
from torchbank.data._catalog import load
from torchbank.data._cifar import load_cifar10, load_cifar100
from torchbank.data._fashion_mnist import load_fashion_mnist
from torchbank.data._folder import FolderImages, UnreadableImageError, load_folder
from torchbank.data._hashed_text import HashedTexts
from torchbank.data._kanji import load_kanji
from torchbank.data._labelled_images import ArrayImages, Batch, LabelledExamples, LabelledImages, Split, ViewBatch
from torchbank.data._loader import loader
from torchbank.data._pk_sampler import PKSampler
from torchbank.data._shuffled_sampler import ShuffledSampler
from torchbank.data._stateful_sampler import StatefulSampler
from torchbank.data._text_pairs import TextPairs
from torchbank.data._views import VIEW_NAMES
from torchbank.data._wordnet import load_wordnet

__all__ = [
    "VIEW_NAMES",
    "ArrayImages",
    "Batch",
    "FolderImages",
    "HashedTexts",
    "LabelledExamples",
    "LabelledImages",
    "PKSampler",
    "ShuffledSampler",
    "Split",
    "StatefulSampler",
    "TextPairs",
    "UnreadableImageError",
    "ViewBatch",
    "augmentation",
    "load",
    "load_cifar10",
    "load_cifar100",
    "load_fashion_mnist",
    "load_folder",
    "load_kanji",
    "load_wordnet",
    "loader",
]

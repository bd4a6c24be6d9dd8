"""Data sets with a class split, the P x K sampler, augmentations on batches."""

from torchbank.data._augmentation import augmentation
from torchbank.data._catalog import load
from torchbank.data._folder import FolderImages, UnreadableImageError, load_folder
from torchbank.data._kanji import load_kanji
from torchbank.data._labelled_images import ArrayImages, Batch, LabelledImages, Split, ViewBatch
from torchbank.data._loader import loader
from torchbank.data._pk_sampler import PKSampler

__all__ = [
    "ArrayImages",
    "Batch",
    "FolderImages",
    "LabelledImages",
    "PKSampler",
    "Split",
    "UnreadableImageError",
    "ViewBatch",
    "augmentation",
    "load",
    "load_folder",
    "load_kanji",
    "loader",
]
